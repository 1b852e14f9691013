//! Which node a pod is given, and when it has to leave it again.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8w_controllers::resource::{NODES, PODS, REPLICA_SETS};
use serde_json::{Value, json};

use super::{ROW, Row};
use crate::cluster::node;
use crate::server::Server;

/// Pods of two CPUs that the two usual nodes have room for.
const ROOM: usize = 8;
/// How long pods put up with a node that is not there, or with a taint of ours.
const PATIENCE_SECONDS: i64 = 60;

pub const ROWS: &[Row] = &[
    Row {
        name: "more important pods come to full nodes",
        of: &["scheduler"],
        prepare: |server| {
            set(server, "low", ROOM, json!({ "priority": 0 }));
            set(server, "high", 0, json!({ "priority": 100 }));
        },
        changes: &[
            |server| scale(server, "high", 1),
            |server| scale(server, "high", 5),
            |server| scale(server, "low", 4),
            |server| scale(server, "low", ROOM + 2),
        ],
        promise: |server| {
            let mut pods: BTreeMap<&str, usize> = BTreeMap::new();
            for pod in server.list(&PODS).filter(|pod| pod["status"]["phase"] == "Running") {
                *pods.entry(pod["spec"]["nodeName"].as_str().unwrap()).or_default() += 1;
            }
            assert!(pods.values().all(|count| *count <= ROOM / 2), "{pods:?}");
            let is_evicted = |pod: &&Value| reason(pod) == Some("PreemptionByScheduler");
            let evicted = server.list(&PODS).filter(is_evicted);
            evicted
                .for_each(|pod| assert_eq!(pod["metadata"]["labels"]["app"], "low", "only the less important leave"));
        },
        arrived: |server| {
            let wanted = |app: &str| replicas(server, app);
            let high = wanted("high");
            assert_eq!(running(server, "high"), high, "the more important all run");
            assert_eq!(running(server, "low"), wanted("low").min(ROOM - high), "and nothing is left unused");
            let waiting = server.list(&PODS).filter(|pod| pod["spec"]["nodeName"].is_null());
            assert!(waiting.map(|pod| &pod["status"]["nominatedNodeName"]).all(Value::is_null));
        },
        ..ROW
    },
    Row {
        name: "nodes that fall silent",
        of: &["node-lifecycle-controller", "taint-eviction-controller"],
        prepare: |server| {
            server.create(&NODES, "", node("n3", "8")).unwrap();
            let gone = ["not-ready", "unreachable"].map(|name| patient(&format!("node.kubernetes.io/{name}")));
            let pressed = json!({ "key": "node.kubernetes.io/memory-pressure", "operator": "Exists" });
            let tolerations: Vec<Value> = gone.into_iter().chain([pressed]).collect();
            set(server, "web", 3, json!({ "tolerations": tolerations }));
        },
        changes: &[
            |server| _ = server.dead.insert("n1".into()),
            |server| server.dead.clear(),
            |server| server.edit(&NODES, "", "n2", |node| node["spec"]["unschedulable"] = json!(true)),
            |server| server.edit(&NODES, "", "n2", |node| node["spec"]["unschedulable"] = json!(false)),
            |server| press(server, "True"),
            |server| press(server, "False"),
        ],
        promise: |server| {
            let evicted = server.list(&PODS).filter(|pod| reason(pod) == Some("DeletionByTaintManager"));
            evicted.for_each(|pod| assert_eq!(pod["spec"]["nodeName"], "n1", "only who is on the dead node leaves"));
        },
        arrived: |server| {
            for node in server.list(&NODES) {
                let name = node["metadata"]["name"].as_str().unwrap();
                let is_dead = server.dead.contains(name);
                let states = [
                    ("unreachable", "NoExecute", is_dead),
                    ("unreachable", "NoSchedule", is_dead),
                    ("unschedulable", "NoSchedule", node["spec"]["unschedulable"] == true),
                    ("memory-pressure", "NoSchedule", condition(node, "MemoryPressure") == Some("True")),
                ];
                for (key, effect, is_so) in states {
                    let taints = node["spec"]["taints"].as_array().into_iter().flatten();
                    let key = format!("node.kubernetes.io/{key}");
                    let has = taints.into_iter().any(|taint| taint["key"] == *key && taint["effect"] == effect);
                    assert_eq!(has, is_so, "{key} of {name}: {}", node["spec"]["taints"]);
                }
                assert_eq!(condition(node, "Ready"), Some(if is_dead { "Unknown" } else { "True" }), "{name}");
            }
            let all = server.list(&PODS).filter(|pod| !server.dead.contains(pod["spec"]["nodeName"].as_str().unwrap()));
            assert_eq!(all.filter(|pod| pod["status"]["phase"] == "Running").count(), 3);
        },
        world: |cluster| cluster.nodes_report = true,
        config: |config| config.node_monitor_grace = Duration::from_secs(40),
        ..ROW
    },
    Row {
        name: "taints that evict",
        of: &["taint-eviction-controller"],
        prepare: |server| set(server, "web", 4, json!({})),
        changes: &[
            |server| {
                server.edit(&NODES, "", "n1", |node| {
                    node["spec"]["taints"] = json!([{ "key": "k", "effect": "NoExecute" }]);
                })
            },
            |server| server.edit(&NODES, "", "n1", |node| node["spec"]["taints"] = json!([])),
        ],
        arrived: |server| {
            let taints = &server.get(&NODES, "", "n1").unwrap()["spec"]["taints"];
            let is_tainted = taints.as_array().is_some_and(|taints| !taints.is_empty());
            let there = server.list(&PODS).filter(|pod| pod["spec"]["nodeName"] == "n1").count();
            assert!(!is_tainted || there == 0, "{there} pods are left");
            assert_eq!(server.list(&PODS).count(), 4);
        },
        ..ROW
    },
    Row {
        name: "pods that tolerate a taint for a while",
        of: &["taint-eviction-controller"],
        prepare: |server| set(server, "web", 4, json!({ "tolerations": [patient("k")] })),
        changes: &[
            |server| {
                let now = server.now.to_string();
                server.edit(&NODES, "", "n1", |node| {
                    if node["metadata"]["annotations"][TAINTED].is_null() {
                        node["metadata"]["annotations"][TAINTED] = json!(now);
                        // Who tolerates the first alone would come back again and again.
                        let taint = json!({ "key": "k", "effect": "NoExecute", "timeAdded": now });
                        node["spec"]["taints"] = json!([taint, { "key": "k", "effect": "NoSchedule" }]);
                    }
                });
            },
            |server| server.edit(&NODES, "", "n1", |node| node["spec"]["taints"] = json!([])),
        ],
        promise: |server| {
            let tainted = &server.get(&NODES, "", "n1").unwrap()["metadata"]["annotations"][TAINTED];
            let tainted: Option<Timestamp> = tainted.as_str().map(|at| at.parse().unwrap());
            for pod in server.list(&PODS).filter(|pod| reason(pod) == Some("DeletionByTaintManager")) {
                let stayed = server.now.duration_since(tainted.expect("nobody leaves without a taint"));
                assert!(stayed.as_secs() >= PATIENCE_SECONDS, "{} left early", pod["metadata"]["name"]);
            }
        },
        arrived: |server| {
            let taints = &server.get(&NODES, "", "n1").unwrap()["spec"]["taints"];
            let is_tainted = taints.as_array().is_some_and(|taints| !taints.is_empty());
            let there = server.list(&PODS).filter(|pod| pod["spec"]["nodeName"] == "n1").count();
            assert!(!is_tainted || there == 0, "{there} pods are left");
            assert_eq!(running(server, "web"), 4);
        },
        ..ROW
    },
];

/// An annotation of a node: when it was tainted for the first time.
const TAINTED: &str = "example.com/tainted";

/// A ReplicaSet of pods of two CPUs.
fn set(server: &mut Server, name: &str, replicas: usize, more: Value) {
    let labels = json!({ "app": name });
    let mut pod = more;
    pod["containers"] = json!([{ "name": "c", "image": "one", "resources": { "requests": { "cpu": "2" } } }]);
    let template = json!({ "metadata": { "labels": labels }, "spec": pod });
    let spec = json!({ "replicas": replicas, "selector": { "matchLabels": labels }, "template": template });
    server.create(&REPLICA_SETS, "default", json!({ "metadata": { "name": name }, "spec": spec })).unwrap();
}

/// Tolerates a taint for a while.
fn patient(key: &str) -> Value {
    json!({ "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": PATIENCE_SECONDS })
}

fn scale(server: &mut Server, name: &str, replicas: usize) {
    server.edit(&REPLICA_SETS, "default", name, |set| set["spec"]["replicas"] = json!(replicas));
}

fn replicas(server: &Server, name: &str) -> usize {
    server.get(&REPLICA_SETS, "default", name).unwrap()["spec"]["replicas"].as_u64().unwrap() as usize
}

fn running(server: &Server, app: &str) -> usize {
    let pods = server.list(&PODS).filter(|pod| pod["metadata"]["labels"]["app"] == app);
    pods.filter(|pod| pod["status"]["phase"] == "Running" && pod["metadata"]["deletionTimestamp"].is_null()).count()
}

fn condition<'o>(object: &'o Value, type_: &str) -> Option<&'o str> {
    let found = object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == type_)?;
    found["status"].as_str()
}

/// Why a pod is to leave, if it is.
fn reason(pod: &Value) -> Option<&str> {
    let conditions = pod["status"]["conditions"].as_array()?;
    conditions.iter().find(|condition| condition["type"] == "DisruptionTarget")?["reason"].as_str()
}

/// Whether the memory of the third node is short.
fn press(server: &mut Server, status: &str) {
    server.edit(&NODES, "", "n3", |node| {
        let conditions = node["status"]["conditions"].as_array_mut().unwrap();
        conditions.retain(|condition| condition["type"] != "MemoryPressure");
        conditions.push(json!({ "type": "MemoryPressure", "status": status }));
    });
}
