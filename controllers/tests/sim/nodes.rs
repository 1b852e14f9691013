//! Nodes that die and come back: what ran there runs elsewhere, each name once, and every node has addresses of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8w_controllers::Config;
use k8w_controllers::config::PodRange;
use k8w_controllers::plan::Propagation;
use k8w_controllers::resource::{DAEMON_SETS, NODES, PODS, REPLICA_SETS, STATEFUL_SETS};
use serde_json::{Value, json};

use crate::cluster::{Chaos, Cluster, node};
use crate::for_each_seed;
use crate::server::Server;

const GRACE: Duration = Duration::from_secs(40);
/// How long pods put up with a node that is not there.
const PATIENCE_SECONDS: u64 = 30;
/// Silence, taint, patience and eviction, and time to start anew.
const RECOVERED: Duration = Duration::from_secs(240);

fn template(app: &str) -> Value {
    let tolerates = |key: &str| json!({ "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": PATIENCE_SECONDS });
    let tolerations = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"].map(tolerates);
    json!({
        "metadata": { "labels": { "app": app } },
        "spec": { "containers": [{ "name": "c", "image": "one" }], "tolerations": tolerations },
    })
}

fn owner(app: &str, more: Value) -> Value {
    let mut spec = more;
    spec["selector"] = json!({ "matchLabels": { "app": app } });
    spec["template"] = template(app);
    json!({ "metadata": { "name": app }, "spec": spec })
}

fn cluster(seed: u64, names: &[&str], prepare: impl FnOnce(&mut Server)) -> Cluster {
    let range = PodRange { cluster: "10.42.0.0/21".parse().unwrap(), node_prefix: 24 };
    let config = Config { node_monitor_grace: GRACE, pod_ranges: vec![range], ..Config::default() };
    let mut cluster = Cluster::with_config(seed, Chaos::SOME, config, |server| {
        names.iter().for_each(|name| _ = server.create(&NODES, "", node(name, "8")).unwrap());
        prepare(server);
    });
    cluster.nodes_report = true;
    cluster
}

/// Name and uid of every pod of an app that runs on a node, and is meant to stay.
fn running(server: &Server, app: &str) -> BTreeMap<String, (String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let is_up = |pod: &&Value| {
        pod["metadata"]["labels"]["app"] == app
            && pod["metadata"]["deletionTimestamp"].is_null()
            && pod["status"]["phase"] == "Running"
    };
    let pods = server.list(&PODS).filter(is_up);
    let all = pods.map(|pod| {
        let metadata = &pod["metadata"];
        (text(&metadata["name"]), (text(&pod["spec"]["nodeName"]), text(&metadata["uid"])))
    });
    all.collect()
}

fn nodes_of(server: &Server, app: &str) -> BTreeSet<String> {
    running(server, app).into_values().map(|(node, _)| node).collect()
}

/// Ranges of different nodes have no address in common.
fn apart(server: &Server) {
    let mut taken: BTreeMap<&str, &str> = BTreeMap::new();
    for node in server.list(&NODES) {
        let (name, range) = (node["metadata"]["name"].as_str().unwrap(), node["spec"]["podCIDR"].as_str());
        if let Some(other) = range.and_then(|range| taken.insert(range, name)) {
            panic!("{other} and {name} have {range:?}");
        }
    }
}

#[test]
fn replicas_of_a_dead_node_run_elsewhere() {
    for_each_seed(|seed| {
        let mut cluster = cluster(seed, &["n1", "n2", "n3"], |server| {
            server.create(&REPLICA_SETS, "default", owner("web", json!({ "replicas": 6 }))).unwrap();
        });
        cluster.run_for(Duration::from_secs(60), apart);
        let dead = ["n1", "n2", "n3"][seed as usize % 3];
        let before = running(&cluster.server(), "web");
        assert_eq!(before.len(), 6);
        cluster.server().dead.insert(dead.to_owned());
        cluster.run_for(RECOVERED, apart);
        let after = running(&cluster.server(), "web");
        assert_eq!(after.len(), 6, "{after:?}");
        assert!(after.values().all(|(node, _)| node != dead), "{after:?}");
        let moved = before.iter().filter(|(name, _)| !after.contains_key(*name));
        assert!(moved.into_iter().all(|(_, (node, _))| node == dead), "only pods of the dead node move");

        cluster.server().dead.clear();
        cluster.calm();
        cluster.run_for(RECOVERED, apart);
        let server = cluster.server();
        assert_eq!(running(&server, "web"), after, "nobody moves because it is back");
        assert_eq!(server.list(&PODS).count(), 6, "and what was left there is gone");
        let spec = &server.get(&NODES, "", dead).unwrap()["spec"];
        assert!(spec["taints"].as_array().is_none_or(Vec::is_empty), "{spec}");
    });
}

#[test]
fn a_short_silence_moves_nobody() {
    for_each_seed(|seed| {
        let mut cluster = cluster(seed, &["n1", "n2"], |server| {
            server.create(&REPLICA_SETS, "default", owner("web", json!({ "replicas": 4 }))).unwrap();
        });
        cluster.run_for(Duration::from_secs(60), apart);
        let before = running(&cluster.server(), "web");
        cluster.server().dead.insert("n1".to_owned());
        cluster.run_for(Duration::from_secs(20 + seed % 30), apart);
        cluster.server().dead.clear();
        cluster.run_for(RECOVERED, apart);
        assert_eq!(running(&cluster.server(), "web"), before);
    });
}

#[test]
fn the_pod_of_an_ordinal_is_replaced_only_once_its_node_is_known_to_be_gone() {
    for_each_seed(|seed| {
        let mut cluster = cluster(seed, &["n1", "n2"], |server| {
            let spec = json!({ "replicas": 2, "serviceName": "db", "podManagementPolicy": "Parallel" });
            server.create(&STATEFUL_SETS, "default", owner("db", spec)).unwrap();
        });
        cluster.run_for(Duration::from_secs(60), apart);
        let before = running(&cluster.server(), "db");
        assert_eq!(before.len(), 2);
        let (name, (node, uid)) = before.iter().next().unwrap();
        cluster.server().dead.insert(node.clone());
        let stays = |server: &Server| {
            let pod = server.get(&PODS, "default", name);
            assert!(pod.is_some_and(|pod| pod["metadata"]["uid"] == **uid), "{name} may still run on {node}");
        };
        cluster.run_for(RECOVERED, stays);
        cluster.server().delete(&NODES, "", node, Propagation::Background);
        cluster.calm();
        cluster.run_for(RECOVERED, apart);
        let after = running(&cluster.server(), "db");
        assert_eq!(after.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
        assert!(after.values().all(|(at, _)| at != node), "{after:?}");
    });
}

#[test]
fn daemons_follow_nodes_that_come_and_go() {
    for_each_seed(|seed| {
        let mut cluster = cluster(seed, &["n1", "n2", "n3"], |server| {
            server.create(&DAEMON_SETS, "default", owner("agent", json!({}))).unwrap();
        });
        cluster.run_for(Duration::from_secs(30), apart);
        let names: Vec<String> = (4..8).map(|i| format!("n{i}")).collect();
        for (round, name) in names.iter().enumerate() {
            cluster.server().create(&NODES, "", node(name, "8")).unwrap();
            cluster.run_for(Duration::from_secs(seed % 20), apart);
            let gone = format!("n{}", round + 1);
            cluster.server().delete(&NODES, "", &gone, Propagation::Background);
            cluster.run_for(Duration::from_secs(20), apart);
        }
        cluster.calm();
        cluster.run_for(RECOVERED, apart);
        let server = cluster.server();
        let left: BTreeSet<String> = ["n5", "n6", "n7"].map(str::to_owned).into();
        assert_eq!(nodes_of(&server, "agent"), left);
        assert_eq!(server.list(&PODS).count(), left.len(), "those of nodes that are gone are gone");
        assert!(server.list(&NODES).all(|node| !node["spec"]["podCIDR"].is_null()), "each node has its addresses");
    });
}
