//! Every field of a policy in both directions and over both transports, against a model that reads the API's objects.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use expect_test::expect;
use k8s_openapi::api::core::v1::Pod as PodObject;
use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use proptest::prelude::*;
use serde_json::{Value, json};

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

const NAMESPACES: [(&str, &str); 2] = [("a", "red"), ("b", "blue")];
const PORTS: [u16; 4] = [53, 80, 8080, 9000];
const PROTOCOLS: [(&str, Protocol); 2] = [("TCP", Protocol::Tcp), ("UDP", Protocol::Udp)];

#[derive(Clone, Debug, serde::Deserialize)]
struct Actor {
    name: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    uid: String,
    ip: IpAddr,
    labels: Option<Value>,
    #[serde(default)]
    ports: Vec<Value>,
}

fn actors() -> Vec<Actor> {
    serde_saphyr::from_str(ACTORS).unwrap()
}

impl Actor {
    fn identity(&self) -> PodIdentity {
        PodIdentity {
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            uid: self.uid.clone(),
            ip: self.ip,
            service_account: "default".into(),
        }
    }

    fn pod(&self) -> Option<Arc<Pod>> {
        let labels = self.labels.as_ref().filter(|_| !self.uid.is_empty())?;
        let object = json!({
            "metadata": {"namespace": self.namespace, "uid": self.uid, "labels": labels},
            "spec": {"containers": [{"name": "main", "ports": self.ports}]},
            "status": {"podIP": self.ip},
        });
        Pod::of(&serde_json::from_value::<PodObject>(object).unwrap()).map(Arc::new)
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

fn policy(namespace: &str, spec: Value) -> Value {
    json!({"metadata": {"namespace": namespace}, "spec": spec})
}

fn compile(policies: &[Value]) -> Policies {
    fn objects<K: serde::de::DeserializeOwned>(values: Vec<Value>) -> Vec<Arc<K>> {
        values.into_iter().map(|value| Arc::new(serde_json::from_value(value).unwrap())).collect()
    }
    let namespaces = NAMESPACES.map(|(name, team)| {
        json!({"metadata": {"name": name, "labels": {"team": team, "kubernetes.io/metadata.name": name}}})
    });
    let pods: Vec<_> = actors().iter().filter_map(Actor::pod).collect();
    Policies::build(&objects(policies.to_vec()), &objects(namespaces.to_vec()), &pods)
}

/// The model: what the API reference says, word by word, about objects as they are written.
mod model {
    use super::*;

    fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
        value[key].as_array().map_or(&[], Vec::as_slice)
    }

    fn selects(selector: &Value, labels: &Value) -> bool {
        let exact = selector["matchLabels"].as_object().into_iter().flatten().all(|(key, value)| labels[key] == *value);
        exact
            && list(selector, "matchExpressions").iter().all(|expression| {
                let value = &labels[expression["key"].as_str().unwrap()];
                match expression["operator"].as_str().unwrap() {
                    "In" => list(expression, "values").contains(value),
                    "NotIn" => !list(expression, "values").contains(value),
                    "Exists" => !value.is_null(),
                    _ => value.is_null(),
                }
            })
    }

    fn within(range: &Value, ip: IpAddr) -> bool {
        range.as_str().unwrap().parse::<ipnet::IpNet>().unwrap().contains(&ip)
    }

    fn is_peer(peer: &Value, own_namespace: &str, other: &Actor) -> bool {
        if !peer["ipBlock"].is_null() {
            let block = &peer["ipBlock"];
            return within(&block["cidr"], other.ip) && !list(block, "except").iter().any(|e| within(e, other.ip));
        }
        let team = NAMESPACES.iter().find(|(name, _)| *name == other.namespace).map(|(_, team)| *team);
        let namespace = json!({"kubernetes.io/metadata.name": other.namespace, "team": team});
        let in_namespace = match &peer["namespaceSelector"] {
            Value::Null => other.namespace == own_namespace,
            selector => selects(selector, &namespace),
        };
        let is_pod = !other.namespace.is_empty()
            && other.labels.as_ref().is_some_and(|labels| selects(&peer["podSelector"], labels));
        // Of a pod that was never seen the labels are not known: it is meant only where no label is asked for.
        let asks_nothing = peer["podSelector"] == Value::Null || peer["podSelector"] == json!({});
        let is_new_pod = other.labels.is_none() && !other.namespace.is_empty() && asks_nothing;
        in_namespace && (is_pod || is_new_pod)
    }

    fn is_port(allowed: &Value, to: &Actor, port: u16, protocol: &str) -> bool {
        let of = |value: &Value| value["protocol"].as_str().unwrap_or("TCP").to_owned();
        let matches = match &allowed["port"] {
            Value::Null => true,
            Value::String(name) => to.ports.iter().any(|named| {
                named["name"] == **name
                    && named["containerPort"] == port
                    && of(named) == protocol
                    && to.labels.is_some()
            }),
            first => {
                let end = if allowed["endPort"].is_null() { first } else { &allowed["endPort"] };
                (first.as_u64().unwrap()..=end.as_u64().unwrap()).contains(&port.into())
            }
        };
        matches && of(allowed) == protocol
    }

    fn one_way(
        policies: &[Value],
        way: [&str; 3],
        subject: &Actor,
        peer: &Actor,
        to: &Actor,
        port: u16,
        protocol: &str,
    ) -> bool {
        let [kind, rules, peers] = way;
        let is_about = |spec: &Value| match list(spec, "policyTypes") {
            [] => kind == "Ingress" || !list(spec, "egress").is_empty(),
            types => types.contains(&json!(kind)),
        };
        let mut about = policies
            .iter()
            .filter(|policy| {
                !subject.uid.is_empty()
                    && policy["metadata"]["namespace"] == *subject.namespace
                    && is_about(&policy["spec"])
                    && subject.labels.as_ref().is_none_or(|labels| selects(&policy["spec"]["podSelector"], labels))
            })
            .peekable();
        let rule_allows = |rule: &Value| {
            let (who, what) = (list(rule, peers), list(rule, "ports"));
            (who.is_empty() || who.iter().any(|allowed| is_peer(allowed, &subject.namespace, peer)))
                && (what.is_empty() || what.iter().any(|allowed| is_port(allowed, to, port, protocol)))
        };
        about.peek().is_none()
            || (subject.labels.is_some() && about.any(|policy| list(&policy["spec"], rules).iter().any(rule_allows)))
    }

    pub fn allows(policies: &[Value], from: &Actor, to: &Actor, port: u16, protocol: &str) -> bool {
        from.name == to.name
            || (one_way(policies, ["Egress", "egress", "to"], from, to, to, port, protocol)
                && one_way(policies, ["Ingress", "ingress", "from"], to, from, to, port, protocol))
    }
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

/// Values of each field of a peer, alone and together where the API lets them.
const PEERS: [(&str, &[&str]); 3] = [
    (
        "podSelector",
        &[
            "{podSelector: {}}",
            "{podSelector: {matchLabels: {app: friend}}}",
            "{podSelector: {matchExpressions: [{key: tier, operator: DoesNotExist}, {key: app, operator: In, values: [friend, web]}]}}",
        ],
    ),
    (
        "namespaceSelector",
        &[
            "{namespaceSelector: {}}",
            "{namespaceSelector: {matchLabels: {team: blue}}}",
            "{namespaceSelector: {matchExpressions: [{key: kubernetes.io/metadata.name, operator: NotIn, values: [a]}]}}",
            "{namespaceSelector: {matchLabels: {team: blue}}, podSelector: {matchExpressions: [{key: tier, operator: Exists}]}}",
            "{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}, podSelector: {matchLabels: {app.kubernetes.io/name: k8w-ingress}}}",
        ],
    ),
    (
        "ipBlock",
        &[
            "{ipBlock: {cidr: 192.0.2.0/24}}",
            "{ipBlock: {cidr: 0.0.0.0/0, except: [10.64.0.0/18, 198.51.100.1/32]}}",
            "{ipBlock: {cidr: 10.64.0.3/32}}",
        ],
    ),
];

/// Likewise of a port.
const ALLOWED_PORTS: [(&str, &[&str]); 3] = [
    ("protocol", &["{protocol: TCP}", "{protocol: UDP}", "{protocol: SCTP}"]),
    (
        "port",
        &["{port: 8080}", "{port: 53, protocol: UDP}", "{port: http}", "{port: dns, protocol: UDP}", "{port: dns}"],
    ),
    ("endPort", &["{port: 80, endPort: 8080}", "{port: 53, endPort: 80, protocol: UDP}"]),
];

fn values(table: &[(&str, &[&str])]) -> Vec<Value> {
    table.iter().flat_map(|(_, texts)| *texts).map(|text| serde_saphyr::from_str(text).unwrap()).collect()
}

/// The fields of a type of the API.
fn fields<T: schemars::JsonSchema>() -> BTreeSet<String> {
    let schema = schemars::schema_for!(T);
    schema.as_value()["properties"].as_object().unwrap().keys().cloned().collect()
}

fn names(table: &[(&str, &[&str])]) -> BTreeSet<String> {
    table.iter().map(|(field, _)| (*field).to_owned()).collect()
}

/// A rule in each direction that has these peers and ports.
fn directions(peers: &[Value], ports: &[Value]) -> [Value; 2] {
    [
        json!({"policyTypes": ["Ingress"], "ingress": [{"from": peers, "ports": ports}]}),
        json!({"policyTypes": ["Egress"], "egress": [{"to": peers, "ports": ports}]}),
    ]
}

/// A new field of the API is not silently left out: the tables above have every one.
#[test]
fn every_field_has_its_values() {
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(fields::<NetworkPolicyPeer>(), names(&PEERS));
    assert_eq!(fields::<NetworkPolicyPort>(), names(&ALLOWED_PORTS));
    assert_eq!(fields::<IPBlock>(), set(&["cidr", "except"]));
    assert_eq!(fields::<NetworkPolicyIngressRule>(), set(&["from", "ports"]));
    assert_eq!(fields::<NetworkPolicyEgressRule>(), set(&["to", "ports"]));
    assert_eq!(fields::<NetworkPolicySpec>(), set(&["egress", "ingress", "podSelector", "policyTypes"]));
}

/// Every value of every field of a peer, with every value of every field of a port, in both directions; `check` tries both
/// transports.
#[test]
fn every_peer_with_every_port_in_both_directions() {
    let (mut peers, mut ports) = (values(&PEERS), values(&ALLOWED_PORTS));
    peers.push(Value::Null);
    ports.push(Value::Null);
    let some = |value: &Value| if value.is_null() { Vec::new() } else { vec![value.clone()] };
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
