//! Preemption: who is more important runs, nodes are never given more than they have, and nobody leaves in vain.

use std::collections::{BTreeMap, BTreeSet};

use k8w_controllers::resource::{NODES, POD_DISRUPTION_BUDGETS, PODS, REPLICA_SETS};
use serde_json::{Value, json};

use crate::cluster::{Chaos, Cluster, node};
use crate::server::Server;
use crate::{MAX_STEPS, STRIDE_IN_MINIATURE, for_each_seed_in};

const NODES_CPUS: [(&str, i64); 2] = [("n1", 3), ("n2", 2)];

fn set(name: &str, replicas: usize, priority: i64) -> Value {
    let labels = json!({ "app": name });
    let container = json!({ "name": "c", "image": "one", "resources": { "requests": { "cpu": "1" } } });
    json!({
        "metadata": { "name": name },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels },
                "spec": { "priority": priority, "containers": [container] },
            },
        },
    })
}

/// In miniature, where pods say themselves how important they are.
fn cluster(seed: u64, prepare: impl FnOnce(&mut Server)) -> Cluster {
    Cluster::in_miniature(seed, Chaos::SOME, Cluster::config(), prepare)
}

/// Each pod asks for one CPU, from when it is bound until it has ended.
fn within_capacity(server: &Server) {
    let mut used: BTreeMap<&str, i64> = BTreeMap::new();
    for pod in server.list(&PODS) {
        let counts = pod["status"]["phase"] != "Failed";
        if let Some(node) = pod["spec"]["nodeName"].as_str().filter(|_| counts) {
            *used.entry(node).or_default() += 1;
        }
    }
    for (node, cpus) in NODES_CPUS {
        let used = used.get(node).copied().unwrap_or(0);
        assert!(used <= cpus, "{used} pods on {node} of {cpus} CPUs");
    }
}

fn running(server: &Server, app: &str) -> usize {
    let pods = server.list(&PODS).filter(|pod| pod["metadata"]["labels"]["app"] == app);
    pods.filter(|pod| pod["status"]["phase"] == "Running" && pod["metadata"]["deletionTimestamp"].is_null()).count()
}

#[test]
fn the_more_important_pods_run_and_no_node_is_overcommitted() {
    for_each_seed_in(STRIDE_IN_MINIATURE, |seed| {
        let mut cluster = cluster(seed, |server| {
            for (name, cpus) in NODES_CPUS {
                server.create(&NODES, "", node(name, &cpus.to_string())).unwrap();
            }
            server.create(&REPLICA_SETS, "default", set("low", 6, 0)).unwrap();
        });
        let room: usize = NODES_CPUS.iter().map(|(_, cpus)| *cpus as usize).sum();
        assert!(cluster.run(MAX_STEPS, within_capacity), "it settles");
        assert_eq!(running(&cluster.server(), "low"), room);

        let wanted = 1 + seed as usize % 4;
        cluster.server().create(&REPLICA_SETS, "default", set("high", wanted, 100)).unwrap();
        let mut victims = BTreeSet::new();
        let mut watch = |server: &Server| {
            within_capacity(server);
            for pod in server.list(&PODS) {
                let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
                let is_victim = conditions.iter().any(|c| c["reason"] == "PreemptionByScheduler");
                if is_victim && !pod["metadata"]["deletionTimestamp"].is_null() {
                    assert_eq!(pod["metadata"]["labels"]["app"], "low", "only the less important leave");
                    victims.insert(pod["metadata"]["uid"].to_string());
                }
            }
        };
        cluster.run(2_000, &mut watch);
        cluster.calm();
        assert!(cluster.run(MAX_STEPS, &mut watch), "it settles");
        let server = cluster.server();
        assert_eq!((running(&server, "high"), running(&server, "low")), (wanted, room - wanted));
        assert!(victims.len() >= wanted, "{victims:?}");
        let nominated = server.list(&PODS).filter(|pod| pod["spec"]["nodeName"].is_null());
        assert!(
            nominated.map(|pod| &pod["status"]["nominatedNodeName"]).all(Value::is_null),
            "nobody waits for nothing"
        );
    });
}

#[test]
fn equals_and_the_polite_wait_for_room() {
    for_each_seed_in(STRIDE_IN_MINIATURE, |seed| {
        let mut cluster = cluster(seed, |server| {
            server.create(&NODES, "", node("n2", "2")).unwrap();
            server.create(&REPLICA_SETS, "default", set("first", 2, 50)).unwrap();
        });
        assert!(cluster.run(MAX_STEPS, within_capacity), "it settles");
        let mut second = set("second", 2, 50 + (seed as i64 % 2) * 50);
        second["spec"]["template"]["spec"]["preemptionPolicy"] = json!("Never");
        cluster.server().create(&REPLICA_SETS, "default", second).unwrap();
        cluster.run(1_000, within_capacity);
        cluster.calm();
        cluster.run(MAX_STEPS / 4, within_capacity);
        let run = |cluster: &Cluster| ["first", "second"].map(|app| running(&cluster.server(), app));
        assert_eq!(run(&cluster), [2, 0]);
        cluster.server().edit(&REPLICA_SETS, "default", "first", |set| set["spec"]["replicas"] = json!(1));
        cluster.run(MAX_STEPS / 4, within_capacity);
        assert_eq!(run(&cluster), [1, 1]);
    });
}

#[test]
fn pods_that_a_budget_guards_leave_last() {
    for_each_seed_in(STRIDE_IN_MINIATURE, |seed| {
        let mut cluster = cluster(seed, |server| {
            for (name, cpus) in NODES_CPUS {
                server.create(&NODES, "", node(name, &cpus.to_string())).unwrap();
            }
            server.create(&REPLICA_SETS, "default", set("free", 3, 0)).unwrap();
            server.create(&REPLICA_SETS, "default", set("guarded", 2, 0)).unwrap();
            let spec = json!({ "maxUnavailable": 0, "selector": { "matchLabels": { "app": "guarded" } } });
            let budget = json!({ "metadata": { "name": "guarded" }, "spec": spec });
            server.create(&POD_DISRUPTION_BUDGETS, "default", budget).unwrap();
        });
        assert!(cluster.run(MAX_STEPS, within_capacity), "it settles");
        let wanted = 1 + seed as usize % 3;
        cluster.server().create(&REPLICA_SETS, "default", set("high", wanted, 100)).unwrap();
        // A ReplicaSet whose creates are answered by nothing may make one more for a while, and then somebody must leave.
        let mut seen = BTreeSet::new();
        let mut watch = |server: &Server| {
            within_capacity(server);
            let high = server.list(&PODS).filter(|pod| pod["metadata"]["labels"]["app"] == "high");
            seen.extend(high.map(|pod| pod["metadata"]["uid"].to_string()));
            if seen.len() <= 3 {
                assert_eq!(running(server, "guarded"), 2, "who is guarded stays while others can leave");
            }
        };
        cluster.run(1_000, &mut watch);
        cluster.calm();
        assert!(cluster.run(MAX_STEPS, &mut watch), "it settles");
        let server = cluster.server();
        assert_eq!(running(&server, "high"), wanted);
        assert_eq!(running(&server, "free") + running(&server, "guarded"), 5 - wanted);
        if seen.len() <= 3 {
            assert_eq!(running(&server, "free"), 3 - wanted);
        }
    });
}
