//! Every case of Services and NetworkPolicies that is generated (`networking/tests/cases`), by the functions that guests have: each
//! pod listens and asks by WASI 0.2 and 0.3, by connections, datagrams, requests and look-ups.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http_body_util::{BodyExt, Full};
use k8w_networking::peers;
use k8w_networking::{Meaning, PodIdentity};
use k8w_runtime::engine::{ContainerId, ContainerSpec};
use serde_json::Value;

use crate::cases::policies::model::{self, Actor};
use crate::cases::policies::{self, Cases, hosts};
use crate::cases::services::{self, CLIENT, LAYOUTS, OTHER, PODS, Where, hear_all, ip_of, is_here};
use crate::cases::{Way, without_client};
use crate::node::{Node, probe, probe_p3, request};

/// The ports of each pod at which a guest is told what to ask: one of WASI 0.2, one of 0.3.
const ASKED_AT: [u16; 2] = [7001, 7002];
/// What guests are told where nobody listens, or may.
const REFUSED: [&str; 4] = [
    "connection-refused",
    "ErrorCode::ConnectionRefused",
    // Of a Service without endpoints, to a request.
    "ErrorCode::DestinationUnavailable",
    "ErrorCode::NameUnresolvable",
];
/// Likewise where a name would have to be asked for, and nobody may be.
const NOBODY_TO_ASK: [&str; 2] = ["temporary-resolver-failure", "ErrorCode::TemporaryResolverFailure"];

fn guest(version: usize) -> &'static [u8] {
    if version.is_multiple_of(2) { probe() } else { probe_p3() }
}

struct Pods {
    node: Node,
    way: Way,
}

impl Pods {
    fn new(way: Way) -> Pods {
        Pods { node: Node::new(), way }
    }

    /// A container of a pod that has others.
    async fn container(&self, pod: &PodIdentity, name: String, guest: &[u8]) -> ContainerSpec {
        let log = format!("{}-{name}", pod.name);
        let id = ContainerId { pod_uid: pod.uid.clone(), container: name.clone(), attempt: 0 };
        ContainerSpec { id, pod: pod.clone(), container_name: name, ..self.node.pod(&log, guest).await }
    }

    /// Has a pod say a word at each port to whoever comes.
    async fn say(&self, pod: &PodIdentity, words: &[(u16, String)], version: usize) {
        if self.way == Way::Http {
            for (port, word) in words {
                let name = format!("words-{port}");
                let mut spec = self.container(pod, name, guest(version + usize::from(*port))).await;
                spec.http_port = Some(*port);
                spec.env = vec![("WORD".to_owned(), word.clone())];
                self.node.start(spec).await;
            }
            return;
        }
        let mut spec = self.container(pod, "words".to_owned(), guest(version)).await;
        spec.force_command = true;
        spec.argv.extend(["words".to_owned(), self.way.protocol().to_lowercase()]);
        spec.argv.extend(words.iter().map(|(port, word)| format!("{port}={word}")));
        self.node.start(spec).await;
        self.node.logged(&format!("{}-words", pod.name), "listening").await;
    }

    /// Has a pod ask what it is told to.
    async fn ask_from(&self, pod: &PodIdentity) {
        for (version, port) in ASKED_AT.into_iter().enumerate() {
            let mut spec = self.container(pod, format!("asks-{port}"), guest(version)).await;
            spec.http_port = Some(port);
            self.node.start(spec).await;
        }
    }

    /// The answers to these questions, one a line, of one instance at this port of a pod.
    async fn ask(&self, pod: IpAddr, port: u16, questions: &[String]) -> Vec<String> {
        let body = Full::new(questions.join("\n").into()).map_err(|never| match never {}).boxed_unsync();
        let at = SocketAddr::new(pod, port);
        let answer = self.node.send(request("POST", &format!("http://{at}/questions"), body)).await;
        let text = answer.into_body().collect().await.expect("all questions are answered").to_bytes();
        let answers: Vec<String> = std::str::from_utf8(&text).unwrap().lines().map(str::to_owned).collect();
        assert_eq!(answers.len(), questions.len(), "{answers:#?} to {questions:#?}");
        answers
    }

    /// The question that asks at an address in the world's way.
    fn question(&self, at: SocketAddr) -> String {
        match self.way {
            Way::Tcp => format!("tcp {at}"),
            Way::Udp => format!("udp {at}"),
            Way::Http => format!("http {at}/"),
        }
    }
}

/// The word that a client has heard; `None` when it was refused.
fn heard(answer: &str, client: IpAddr) -> Option<String> {
    (!REFUSED.contains(&answer)).then(|| without_client(answer, client))
}

async fn every_policy(way: Way) {
    let pods = Pods::new(way);
    let (host_port, _hosts) = hosts(way).await;
    let cases = Cases::new(way, host_port);
    let actors: Vec<&Actor> = cases.actors.iter().filter(|actor| actor.is_pod()).collect();
    for (version, pod) in actors.iter().map(|actor| actor.identity()).enumerate() {
        let words = policies::PORTS.map(|port| (port, SocketAddr::new(pod.ip, port).to_string()));
        pods.say(&pod, &words, version).await;
        pods.ask_from(&pod).await;
    }
    let (none, specs) = (Vec::new(), policies::specs());
    let policed = specs.into_iter().map(|spec| vec![model::policy("a", spec)]);
    let mut asked = 0;
    for (turn, policies) in std::iter::once(none).chain(policed).enumerate() {
        pods.node.network.update(cases.tables(&policies));
        for (place, from) in actors.iter().enumerate() {
            asked += check(&pods, &cases, &policies, from, turn + place).await;
        }
    }
    eprintln!("{asked} questions");
}

/// Every port that a pod can ask at while these policies hold: by its own address or its Service's, and by either version, as the
/// turn is.
async fn check(pods: &Pods, cases: &Cases, policies: &[Value], from: &Actor, turn: usize) -> usize {
    let questions = cases.questions(policies, from).enumerate();
    let asked = questions.filter(|(place, _)| (place + place / 2 + turn / 2).is_multiple_of(2));
    let questions: Vec<_> = asked.map(|(_, question)| question).collect();
    let mut lines: Vec<String> = questions.iter().map(|question| pods.question(question.dialled)).collect();
    lines.push("name web.default".to_owned());
    // Where it may, it would ask somebody outside.
    let may_resolve = cases.may_resolve(policies, from);
    lines.extend((!may_resolve).then(|| "name elsewhere.example".to_owned()));
    let answers = pods.ask(from.ip, ASKED_AT[turn % 2], &lines).await;
    for (question, answer) in questions.iter().zip(&answers) {
        let (to, dialled) = (&question.to.name, question.dialled);
        let what = format!("{answer}: {:?} {} -> {to} by {dialled} with {policies:#?}", pods.way, from.name);
        assert_eq!(heard(answer, from.ip), question.expected, "{what}");
    }
    let names = &answers[questions.len()..];
    assert_eq!(names[0], "10.96.10.2", "names of the cluster are nobody's to refuse");
    let nobody = names.get(1).is_none_or(|answer| NOBODY_TO_ASK.contains(&answer.as_str()));
    assert!(nobody, "{names:?} to {} with {policies:#?}", from.name);
    lines.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guests_connect_where_every_policy_allows_it() {
    every_policy(Way::Tcp).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guests_call_components_where_every_policy_allows_it() {
    every_policy(Way::Http).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guests_send_datagrams_where_every_policy_allows_it() {
    every_policy(Way::Udp).await;
}

/// Services with the pods of this node.
async fn every_service(way: Way) {
    let pods = Pods::new(way);
    let identity = |name: &str, ip: IpAddr| PodIdentity {
        namespace: "default".to_owned(),
        name: name.to_owned(),
        uid: name.to_owned(),
        ip,
        service_account: "default".to_owned(),
    };
    for (version, (name, ..)) in PODS.iter().enumerate().filter(|(_, (name, ..))| is_here(name)) {
        let words = services::PORTS.map(|(port, suffix)| (port, format!("{name}{suffix}")));
        pods.say(&identity(name, ip_of(name)), &words, version).await;
    }
    pods.say(&identity("other", OTHER), &services::PORTS.map(|(port, _)| (port, "other".to_owned())), 0).await;
    pods.ask_from(&identity("client", CLIENT)).await;
    let node = |name: &str, zone: &str, range: &str| {
        Arc::new(peers::Node {
            name: name.to_owned(),
            zone: Some(zone.to_owned()),
            wasm_cidr: range.parse().ok(),
            address: None,
        })
    };
    let nodes = [node("here", "a", "10.64.0.0/18"), node("there", "b", "10.64.64.0/18")];
    let here = |layout: &[&'static str]| layout.iter().copied().filter(|pod| is_here(pod)).collect::<Vec<_>>();
    let layouts: BTreeSet<Vec<&str>> = LAYOUTS.iter().map(|layout| here(layout)).collect();
    let mut asked = 0;
    let specs = services::specs(way);
    let cases = specs.iter().flat_map(|spec| layouts.iter().map(move |layout| (spec, layout)));
    for (turn, (spec, layout)) in cases.enumerate() {
        pods.node.network.update(services::tables(spec, layout, way, &nodes));
        asked += ask_service(&pods, ASKED_AT[turn % 2], spec, layout).await;
    }
    eprintln!("{asked} questions");
}

/// Everything that the client can ask about a Service.
async fn ask_service(pods: &Pods, port: u16, spec: &Value, layout: &[&str]) -> usize {
    let what = format!("{:?} with {layout:?}, {spec} at {port}", pods.way);
    let one = async |line: String| pods.ask(CLIENT, port, &[line]).await.remove(0);
    if let Meaning::Addresses(addresses) = services::meaning(spec, layout) {
        let found = heard(&one("name web".to_owned()).await, CLIENT).unwrap_or_default();
        let expected: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
        assert_eq!(found, expected.join(" "), "{what}");
    }
    let questions = services::questions(spec, layout, pods.way);
    for question in &questions {
        let line = match &question.to {
            Where::At(at) => pods.question(*at),
            Where::Uri(uri) => format!("http {}", uri.trim_start_matches("http://")),
            // Not from a pod.
            Where::NodePort => continue,
        };
        let ask = async || heard(&one(line.clone()).await, CLIENT);
        hear_all(question, &format!("{line}, {what}"), ask).await;
    }
    questions.len() + 1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_service_leads_connections_of_guests_where_it_should() {
    every_service(Way::Tcp).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_service_leads_requests_of_guests_where_it_should() {
    every_service(Way::Http).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_service_leads_datagrams_of_guests_where_it_should() {
    every_service(Way::Udp).await;
}
