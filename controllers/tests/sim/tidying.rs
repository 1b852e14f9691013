//! What is deleted takes with it what it owns, and nothing else.

use k8w_controllers::plan::Propagation;
use k8w_controllers::resource::{
    CONFIG_MAPS, DEPLOYMENTS, ENDPOINT_SLICES, NAMESPACES, PODS, REPLICA_SETS, SERVICE_ACCOUNTS, SERVICES,
};
use serde_json::{Value, json};

use crate::cluster::{Chaos, Cluster, namespace, usual};
use crate::server::{Server, WIDGETS};
use crate::{MAX_STEPS, STRIDE_IN_MINIATURE, for_each_seed, for_each_seed_in};

fn app(server: &mut Server, namespace: &str) {
    let template = json!({
        "metadata": { "labels": { "app": "web" } },
        "spec": { "containers": [{ "name": "c", "image": "one" }] },
    });
    let spec = json!({ "replicas": 3, "selector": { "matchLabels": { "app": "web" } }, "template": template });
    server.create(&DEPLOYMENTS, namespace, json!({ "metadata": { "name": "web" }, "spec": spec })).unwrap();
    let spec = json!({ "selector": { "app": "web" }, "ports": [{ "port": 80, "targetPort": 8080 }] });
    server.create(&SERVICES, namespace, json!({ "metadata": { "name": "web" }, "spec": spec })).unwrap();
}

fn running(seed: u64) -> Cluster {
    let mut cluster = Cluster::new(seed, Chaos::SOME, |server| {
        usual(server);
        app(server, "default");
    });
    cluster.run(2_000, |_| {});
    cluster.calm();
    assert!(cluster.run(MAX_STEPS, |_| {}));
    assert_eq!(cluster.server().list(&PODS).count(), 3);
    cluster
}

/// Conformance: "Garbage Collector, delete deployment,  propagation policy background"; "Garbage Collector, delete
/// replication controller, propagation policy background".
#[test]
fn background_deletion_takes_everything_below() {
    for_each_seed(|seed| {
        let mut cluster = running(seed);
        cluster.server().delete(&DEPLOYMENTS, "default", "web", Propagation::Background);
        assert!(cluster.run(MAX_STEPS, |_| {}));
        let server = cluster.server();
        assert_eq!((server.list(&REPLICA_SETS).count(), server.list(&PODS).count()), (0, 0));
    });
}

/// Conformance: "Garbage Collector, delete replication controller, after owned pods".
#[test]
fn foreground_deletion_goes_from_the_bottom_up() {
    for_each_seed(|seed| {
        let mut cluster = running(seed);
        cluster.server().delete(&DEPLOYMENTS, "default", "web", Propagation::Foreground);
        let bottom_up = |server: &Server| {
            let (owners, sets, pods) =
                (server.list(&DEPLOYMENTS).count(), server.list(&REPLICA_SETS).count(), server.list(&PODS).count());
            assert!(owners > 0 || sets == 0, "the Deployment went before its ReplicaSet");
            assert!(sets > 0 || pods == 0, "the ReplicaSet went before its pods");
        };
        assert!(cluster.run(MAX_STEPS, bottom_up));
        assert_eq!(cluster.server().list(&DEPLOYMENTS).count(), 0);
    });
}

/// Conformance: "Garbage Collector, delete deployment, propagation policy orphan"; "Garbage Collector, delete
/// replication controller, propagation policy orphan".
#[test]
fn orphans_stay_and_are_adopted_again() {
    for_each_seed(|seed| {
        let mut cluster = running(seed);
        let names = |server: &Server| {
            let mut names: Vec<_> = server.list(&PODS).map(|p| p["metadata"]["name"].to_string()).collect();
            names.sort();
            names
        };
        let before = names(&cluster.server());
        cluster.server().delete(&DEPLOYMENTS, "default", "web", Propagation::Orphan);
        assert!(cluster.run(MAX_STEPS, |_| {}));
        assert_eq!(cluster.server().list(&DEPLOYMENTS).count(), 0);
        assert_eq!(names(&cluster.server()), before);
        let template = cluster.server().list(&REPLICA_SETS).next().unwrap()["spec"]["template"].clone();
        let spec = json!({ "replicas": 3, "selector": { "matchLabels": { "app": "web" } }, "template": template });
        let again = json!({ "metadata": { "name": "web" }, "spec": spec });
        cluster.server().create(&DEPLOYMENTS, "default", again).unwrap();
        assert!(cluster.run(MAX_STEPS, |_| {}));
        assert_eq!(names(&cluster.server()), before, "not one pod was restarted");
        let server = cluster.server();
        let set = server.list(&REPLICA_SETS).next().unwrap();
        assert_eq!(set["metadata"]["ownerReferences"][0]["kind"], "Deployment");
    });
}

/// Conformance: "namespace-deletion-removes-pods"; "namespace-deletion-removes-services".
#[test]
fn a_namespace_goes_with_all_that_is_in_it() {
    for_each_seed(|seed| {
        let mut cluster = Cluster::new(seed, Chaos::SOME, |server| {
            usual(server);
            server.create(&NAMESPACES, "", namespace("doomed")).unwrap();
            app(server, "doomed");
            app(server, "default");
        });
        cluster.run(1_500, |_| {});
        cluster.server().delete(&NAMESPACES, "", "doomed", Propagation::Background);
        cluster.run(1_500, |_| {});
        cluster.calm();
        assert!(cluster.run(MAX_STEPS, |_| {}));
        let server = cluster.server();
        assert!(server.get(&NAMESPACES, "", "doomed").is_none());
        for resource in [&PODS, &REPLICA_SETS, &DEPLOYMENTS, &SERVICES, &SERVICE_ACCOUNTS] {
            let left: Vec<_> = server.list(resource).filter(|o| o["metadata"]["namespace"] == "doomed").collect();
            assert!(left.is_empty(), "{left:?}");
        }
        assert_eq!(server.list(&PODS).count(), 3, "the neighbour keeps its pods");
    });
}

#[test]
fn endpoints_follow_the_pods() {
    for_each_seed(|seed| {
        let mut cluster = running(seed);
        let addresses = |server: &Server| {
            let slices: Vec<_> = server.list(&ENDPOINT_SLICES).cloned().collect();
            assert_eq!(slices.len(), 1);
            assert_eq!(slices[0]["ports"][0]["port"], 8080);
            let endpoints = slices[0]["endpoints"].as_array().unwrap().clone();
            let mut names: Vec<_> = endpoints.iter().map(|e| e["targetRef"]["name"].clone().to_string()).collect();
            names.sort();
            names
        };
        let pods = |server: &Server| {
            let mut names: Vec<_> = server.list(&PODS).map(|p| p["metadata"]["name"].to_string()).collect();
            names.sort();
            names
        };
        let agree = |server: &Server, count: usize| {
            assert_eq!(addresses(server).len(), count);
            assert_eq!(addresses(server), pods(server));
        };
        agree(&cluster.server(), 3);
        for replicas in [5, 2] {
            cluster.server().edit(&DEPLOYMENTS, "default", "web", |d| d["spec"]["replicas"] = json!(replicas));
            assert!(cluster.run(MAX_STEPS, |_| {}));
            agree(&cluster.server(), replicas);
        }
    });
}

/// Conformance: "Garbage Collector, multiple owners".
#[test]
fn who_has_an_owner_left_stays_though_the_watches_are_late() {
    for_each_seed_in(STRIDE_IN_MINIATURE, |seed| {
        let mut cluster = Cluster::in_miniature(seed, Chaos::SOME, Cluster::config(), usual);
        let is_alive = |object: &Value| object["metadata"]["deletionTimestamp"].is_null();
        // Named after its owners' uids.
        let stays = |server: &Server| {
            for owner in server.list(&WIDGETS).filter(|owner| is_alive(owner)) {
                let uid = owner["metadata"]["uid"].as_str().unwrap();
                let mut owned = server.list(&CONFIG_MAPS).map(|map| map["metadata"]["name"].as_str().unwrap());
                assert!(owned.any(|name| name.contains(uid)), "what {uid} owns is gone");
            }
        };
        for round in 0..6 {
            let mut server = cluster.server();
            let owners = [0, 1].map(|_| {
                let owner =
                    server.create(&WIDGETS, "default", json!({ "metadata": { "generateName": "w-" } })).unwrap();
                let metadata = owner["metadata"].clone();
                json!({
                    "apiVersion": WIDGETS.api_version(), "kind": WIDGETS.kind,
                    "name": metadata["name"], "uid": metadata["uid"],
                })
            });
            let name = owners.each_ref().map(|owner| owner["uid"].as_str().unwrap()).join("-");
            let map = json!({ "metadata": { "name": name, "ownerReferences": owners } });
            server.create(&CONFIG_MAPS, "default", map).unwrap();
            let gone = server.list(&WIDGETS).filter(|owner| is_alive(owner)).nth(seed as usize % 2);
            let gone = gone.map(|owner| owner["metadata"]["name"].as_str().unwrap().to_owned()).unwrap();
            let how = [Propagation::Background, Propagation::Foreground, Propagation::Orphan][round % 3];
            server.delete(&WIDGETS, "default", &gone, how);
            drop(server);
            cluster.run(40, stays);
        }
        cluster.calm();
        assert!(cluster.run(MAX_STEPS, stays), "it settles");
        let server = cluster.server();
        let uids: Vec<&Value> = server.list(&WIDGETS).map(|owner| &owner["metadata"]["uid"]).collect();
        let owners = server.list(&CONFIG_MAPS).flat_map(|map| map["metadata"]["ownerReferences"].as_array()).flatten();
        owners.into_iter().for_each(|owner| assert!(uids.contains(&&owner["uid"]), "{owner} is gone"));
    });
}
