//! PodDisruptionBudgets: however often pods are evicted, as many stay healthy as a budget promises.

use std::cell::Cell;

use k8w_controllers::resource::{DEPLOYMENTS, NODES, POD_DISRUPTION_BUDGETS, PODS};
use serde_json::{Value, json};

use crate::cluster::{Chaos, Cluster, serves, usual};
use crate::server::Server;
use crate::{MAX_STEPS, for_each_seed};

const REPLICAS: usize = 5;

fn healthy(server: &Server) -> usize {
    server.list(&PODS).filter(|pod| serves(pod)).count()
}

/// A Deployment with a budget, all of whose pods run.
fn cluster(seed: u64, budget: Value) -> Cluster {
    let mut cluster = Cluster::new(seed, Chaos::SOME, |server| {
        usual(server);
        let template = json!({
            "metadata": { "labels": { "app": "web" } },
            "spec": { "containers": [{ "name": "c", "image": "one" }] },
        });
        let selector = json!({ "matchLabels": { "app": "web" } });
        let spec = json!({ "replicas": REPLICAS, "selector": selector, "template": template });
        server.create(&DEPLOYMENTS, "default", json!({ "metadata": { "name": "web" }, "spec": spec })).unwrap();
        let mut spec = budget;
        spec["selector"] = selector;
        let budget = json!({ "metadata": { "name": "web" }, "spec": spec });
        server.create(&POD_DISRUPTION_BUDGETS, "default", budget).unwrap();
    });
    assert!(cluster.run(MAX_STEPS, |_| {}), "it settles");
    assert_eq!(healthy(&cluster.server()), REPLICAS);
    cluster
}

#[test]
fn evictions_never_take_more_than_a_budget_spares() {
    let budgets = [
        (json!({ "minAvailable": 3 }), 3),
        (json!({ "maxUnavailable": 1 }), 4),
        (json!({ "minAvailable": "50%" }), 3),
        (json!({ "maxUnavailable": "40%" }), 3),
    ];
    for_each_seed(|seed| {
        let (budget, least) = &budgets[seed as usize % budgets.len()];
        let mut cluster = cluster(seed, budget.clone());
        let keeps = |server: &Server| {
            let healthy = healthy(server);
            assert!(healthy >= *least, "only {healthy} are healthy");
        };
        let evicted = Cell::new(0);
        for round in 0..50 {
            cluster.run(80, keeps);
            let mut server = cluster.server();
            let names: Vec<String> =
                server.list(&PODS).map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned()).collect();
            let name = &names[(seed as usize + round) % names.len()];
            evicted.set(evicted.get() + usize::from(server.evict("default", name).is_ok()));
            keeps(&server);
        }
        cluster.calm();
        assert!(cluster.run(MAX_STEPS, keeps), "it settles");
        let server = cluster.server();
        assert_eq!(healthy(&server), REPLICAS);
        assert!(evicted.get() >= REPLICAS, "only {} evictions were let through", evicted.get());
        let status = &server.get(&POD_DISRUPTION_BUDGETS, "default", "web").unwrap()["status"];
        assert_eq!(status["disruptionsAllowed"], REPLICAS - least, "{status}");
        assert!(status["disruptedPods"].is_null(), "{status}");
    });
}

#[test]
fn a_drain_ends_however_tight_the_budget_is() {
    for_each_seed(|seed| {
        let mut cluster = cluster(seed, json!({ "maxUnavailable": 1 }));
        let taint = json!([{ "key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule" }]);
        cluster.server().edit(&NODES, "", "n1", |node| {
            node["spec"] = json!({ "unschedulable": true, "taints": taint });
        });
        cluster.calm();
        let left = |server: &Server| -> Vec<String> {
            let here = server.list(&PODS).filter(|pod| pod["spec"]["nodeName"] == "n1");
            here.map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned()).collect()
        };
        for _ in 0..300 {
            let names = left(&cluster.server());
            if names.is_empty() {
                break;
            }
            for name in names {
                // Refused or not: kubectl tries again.
                let _ = cluster.server().evict("default", &name);
            }
            cluster.run(80, |server| assert!(healthy(server) >= REPLICAS - 1));
        }
        assert!(left(&cluster.server()).is_empty(), "the node is empty");
        assert!(cluster.run(MAX_STEPS, |_| {}), "it settles");
        assert_eq!(healthy(&cluster.server()), REPLICAS);
    });
}
