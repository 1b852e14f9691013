//! Every field of a policy in both directions and over both transports, against a model that reads the API's objects.

mod model;
mod values;

use std::fmt::Write as _;

use expect_test::expect;
use k8s_openapi::api::core::v1::Pod as PodObject;
use proptest::prelude::*;
use serde_json::{Value, json};

use self::model::{Actor, namespaces, policy};
use self::values::{ALLOWED_PORTS, PEERS, directions, values};
use super::*;
use crate::endpoint::PodIdentity;

/// Who there is: pods of two namespaces, one pod more that runs here and was never seen, a host, and the ingress.
const ACTORS: &str = r"
- {name: web, namespace: a, uid: web, ip: 10.64.0.2, labels: {app: web}, ports: [{name: http, containerPort: 8080}, {name: dns, containerPort: 53, protocol: UDP}]}
- {name: friend, namespace: a, uid: friend, ip: 10.64.0.3, labels: {app: friend}, ports: [{name: http, containerPort: 9000}]}
- {name: stranger, namespace: b, uid: stranger, ip: 10.64.64.4, labels: {app: friend, tier: back}, ports: [{name: dns, containerPort: 53}]}
- {name: new, namespace: b, uid: new, ip: 10.64.0.5}
- {name: host, ip: 192.0.2.7}
- {name: ingress, namespace: kube-system, ip: 198.51.100.1, labels: {app.kubernetes.io/name: k8w-ingress}}
";

const PORTS: [u16; 4] = [53, 80, 8080, 9000];
const PROTOCOLS: [(&str, Protocol); 2] = [("TCP", Protocol::Tcp), ("UDP", Protocol::Udp)];

fn actors() -> Vec<Actor> {
    serde_saphyr::from_str(ACTORS).unwrap()
}

impl Actor {
    fn pod(&self) -> Option<Arc<Pod>> {
        Pod::of(&serde_json::from_value::<PodObject>(self.object()?).unwrap()).map(Arc::new)
    }

    /// What this is to the tables. Pods of 10.64.0.0/18 run here, others are known by their address.
    fn end<'a>(&self, identity: &'a PodIdentity) -> End<'a> {
        match (self.name.as_str(), self.ip) {
            ("ingress", ip) => End::Part(&INGRESS, ip),
            ("stranger" | "host", ip) => End::Address(ip),
            _ => End::Pod(identity),
        }
    }
}

fn compile(policies: &[Value]) -> Policies {
    fn objects<K: serde::de::DeserializeOwned>(values: Vec<Value>) -> Vec<Arc<K>> {
        values.into_iter().map(|value| Arc::new(serde_json::from_value(value).unwrap())).collect()
    }
    let pods: Vec<_> = actors().iter().filter_map(Actor::pod).collect();
    Policies::build(&objects(policies.to_vec()), &objects(namespaces()), &pods)
}

/// Asks about every pair of actors, port and transport; the answers where something is allowed, by pair.
fn check(policies: &[Value]) -> String {
    let (compiled, actors) = (compile(policies), actors());
    let mut lines = String::new();
    for from in &actors {
        for to in actors.iter().filter(|to| to.name != "ingress" && to.name != from.name) {
            let (from_identity, to_identity) = (from.identity(), to.identity());
            let mut allowed = Vec::new();
            for (name, protocol) in PROTOCOLS {
                for port in PORTS {
                    let answer = compiled.allows(from.end(&from_identity), to.end(&to_identity), port, protocol);
                    let expected = model::allows(policies, from, to, port, name);
                    assert_eq!(answer, expected, "{} -> {}:{port}/{name} with {policies:#?}", from.name, to.name);
                    assert!(
                        compiled.allows(End::Node, to.end(&to_identity), port, protocol),
                        "a node reaches its pods"
                    );
                    if answer {
                        allowed.push(format!("{port}/{name}"));
                    }
                }
            }
            if !allowed.is_empty() {
                let all = allowed.len() == PORTS.len() * PROTOCOLS.len();
                writeln!(lines, "{} -> {}: {}", from.name, to.name, if all { "all".into() } else { allowed.join(" ") })
                    .unwrap();
            }
        }
    }
    lines
}

/// A static pod is what its mirror says, and nobody else's object says it.
#[test]
fn a_static_pod_has_its_mirrors_labels() {
    let pod = |namespace: &str, name: &str, app: &str, mirrors: &str| {
        let annotations = json!({ "kubernetes.io/config.mirror": mirrors });
        let metadata = json!({ "namespace": namespace, "name": name, "uid": format!("mirror-{name}-{namespace}"),
            "labels": { "app": app }, "annotations": annotations });
        let pod = json!({ "metadata": metadata, "spec": { "containers": [] }, "status": { "podIP": "10.64.0.9" } });
        Arc::new(Pod::of(&serde_json::from_value(pod).unwrap()).unwrap())
    };
    let identity = |name: &str, uid: &str, ip: [u8; 4]| PodIdentity {
        namespace: "a".to_owned(),
        name: name.to_owned(),
        uid: uid.to_owned(),
        ip: ip.into(),
        service_account: "default".to_owned(),
    };
    let web = json!({ "metadata": { "namespace": "a", "name": "web", "uid": "web", "labels": { "app": "web" } },
        "spec": { "containers": [] }, "status": {} });
    let web = Arc::new(Pod::of(&serde_json::from_value(web).unwrap()).unwrap());
    let from_friends = json!({ "podSelector": {}, "policyTypes": ["Ingress", "Egress"], "egress": [{}],
        "ingress": [{ "from": [{ "podSelector": { "matchLabels": { "app": "friend" } } }] }] });
    let policies = [Arc::new(serde_json::from_value(policy("a", from_friends)).unwrap())];
    let reaches = |pods: &[Arc<Pod>]| {
        let built = Policies::build(&policies, &[], &[&[web.clone()][..], pods].concat());
        let (static_pod, web) = (identity("s-n1", "hash", [10, 64, 0, 9]), identity("web", "web", [10, 64, 0, 2]));
        built.allows(End::Pod(&static_pod), End::Pod(&web), 80, Protocol::Tcp)
    };
    assert!(!reaches(&[]), "before its mirror is known");
    assert!(reaches(&[pod("a", "s-n1", "friend", "hash")]));
    assert!(!reaches(&[pod("a", "s-n1", "stranger", "hash")]));
    for foreign in [pod("b", "s-n1", "friend", "hash"), pod("a", "other", "friend", "hash")] {
        assert!(!reaches(std::slice::from_ref(&foreign)), "{foreign:?} is another");
        assert!(reaches(&[foreign.clone(), pod("a", "s-n1", "friend", "hash"), foreign]), "and changes nothing");
    }
}

/// Every value of every field of a peer, with every value of every field of a port, in both directions; `check` tries both
/// transports.
#[test]
fn every_peer_with_every_port_in_both_directions() {
    let (mut peers, mut ports) = (values(&PEERS), values(&ALLOWED_PORTS));
    peers.push(Value::Null);
    ports.push(Value::Null);
    let some = |value: &Value| if value.is_null() { json!([]) } else { json!([value]) };
    for peer in &peers {
        for port in &ports {
            for spec in directions(&some(peer), &some(port)) {
                for selector in [json!({}), json!({"matchLabels": {"app": "web"}})] {
                    let mut spec = spec.clone();
                    spec["podSelector"] = selector;
                    check(&[policy("a", spec)]);
                }
            }
        }
    }
}

/// What the model says is right, seen by eye on the policies that everybody writes.
#[test]
fn well_known_policies() {
    let spec = |yaml: &str| serde_saphyr::from_str::<Value>(yaml).unwrap();
    let mut answers = String::new();
    for (what, policies) in [
        ("default deny of ingress", vec![policy("a", spec("{podSelector: {}}"))]),
        ("default deny of both", vec![policy("a", spec("{podSelector: {}, policyTypes: [Ingress, Egress]}"))]),
        (
            "web takes its own port from friends of any team, and from the ingress",
            vec![
                policy("a", spec("{podSelector: {}}")),
                policy(
                    "a",
                    spec(
                        "{podSelector: {matchLabels: {app: web}}, ingress: [{ports: [{port: http}], from: [{podSelector: {}}, \
                        {namespaceSelector: {matchLabels: {team: blue}}, podSelector: {matchLabels: {app: friend}}}, \
                        {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}}]}]}",
                    ),
                ),
            ],
        ),
        (
            "egress to DNS and one range only",
            vec![policy(
                "a",
                spec(
                    "{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: 53, protocol: UDP}]}, \
                    {to: [{ipBlock: {cidr: 192.0.2.0/24}}], ports: [{port: 80, endPort: 9000}]}]}",
                ),
            )],
        ),
    ] {
        writeln!(answers, "{what}").unwrap();
        // Pods of the other namespace have no policies.
        let about = |line: &&str| ["web", "friend"].iter().any(|pod| line.contains(pod));
        check(&policies).lines().filter(about).for_each(|line| writeln!(answers, "  {line}").unwrap());
    }
    expect![[r#"
        default deny of ingress
          web -> stranger: all
          web -> new: all
          web -> host: all
          friend -> stranger: all
          friend -> new: all
          friend -> host: all
        default deny of both
        web takes its own port from friends of any team, and from the ingress
          web -> stranger: all
          web -> new: all
          web -> host: all
          friend -> web: 8080/TCP
          friend -> stranger: all
          friend -> new: all
          friend -> host: all
          stranger -> web: 8080/TCP
          ingress -> web: 8080/TCP
        egress to DNS and one range only
          web -> friend: 53/UDP
          web -> stranger: 53/UDP
          web -> new: 53/UDP
          web -> host: 80/TCP 8080/TCP 9000/TCP 53/UDP
          friend -> web: 53/UDP
          friend -> stranger: 53/UDP
          friend -> new: 53/UDP
          friend -> host: 80/TCP 8080/TCP 9000/TCP 53/UDP
          stranger -> web: all
          stranger -> friend: all
          new -> web: all
          new -> friend: all
          host -> web: all
          host -> friend: all
          ingress -> web: all
          ingress -> friend: all
    "#]]
    .assert_eq(&answers);
}

#[test]
fn the_resolver_is_a_peer_like_cluster_dns_elsewhere() {
    let pod = actors()[0].identity();
    let may = |spec: &str| {
        let policies = compile(&[policy("a", serde_saphyr::from_str(spec).unwrap())]);
        policies.allows(End::Pod(&pod), End::Part(&DNS, "10.96.0.10".parse().unwrap()), 53, Protocol::Udp)
    };
    let dns = "namespaceSelector: {}, podSelector: {matchLabels: {k8s-app: kube-dns}}";
    assert!(!may("{podSelector: {}, policyTypes: [Egress]}"));
    assert!(may(&format!("{{podSelector: {{}}, policyTypes: [Egress], egress: [{{to: [{{{dns}}}]}}]}}")));
    assert!(!may(&format!(
        "{{podSelector: {{}}, policyTypes: [Egress], egress: [{{to: [{{{dns}}}], ports: [{{port: 80, protocol: UDP}}]}}]}}"
    )));
    assert!(may("{podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 10.96.0.10/32}}]}]}"));
}

fn specs() -> impl Strategy<Value = Value> {
    let some = |table: &[(&str, &[&str])]| proptest::sample::subsequence(values(table), 0..=2);
    let rules = |peers: &'static str| {
        let rule =
            (some(&PEERS), some(&ALLOWED_PORTS)).prop_map(move |(who, ports)| json!({peers: who, "ports": ports}));
        proptest::collection::vec(rule, 0..3)
    };
    let types = prop_oneof![
        Just(json!([])),
        Just(json!(["Ingress"])),
        Just(json!(["Egress"])),
        Just(json!(["Ingress", "Egress"]))
    ];
    let selectors = prop_oneof![Just(json!({})), Just(json!({"matchLabels": {"app": "friend"}}))];
    (types, selectors, rules("from"), rules("to")).prop_map(|(types, selector, ingress, egress)| {
        json!({"policyTypes": types, "podSelector": selector, "ingress": ingress, "egress": egress})
    })
}

proptest! {
    // A case asks a few hundred questions.
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Several policies of both namespaces together.
    #[test]
    fn policies_add_up(specs in proptest::collection::vec((prop_oneof![Just("a"), Just("b")], specs()), 0..5)) {
        check(&specs.into_iter().map(|(namespace, spec)| policy(namespace, spec)).collect::<Vec<_>>());
    }
}
