//! Rollouts that are undone halfway: what was not updated yet is not touched, and the history says what happened.

use std::collections::BTreeMap;

use k8w_controllers::resource::{
    CONTROLLER_REVISIONS, DAEMON_SETS, DEPLOYMENTS, PODS, REPLICA_SETS, Resource, STATEFUL_SETS,
};
use serde_json::{Value, json};

use crate::cluster::{Chaos, Cluster, usual};
use crate::server::Server;
use crate::{MAX_STEPS, for_each_seed};

fn cluster(seed: u64, resource: &Resource, more: Value) -> Cluster {
    let mut cluster = Cluster::new(seed, Chaos::SOME, |server| {
        usual(server);
        let mut spec = more;
        spec["selector"] = json!({ "matchLabels": { "app": "app" } });
        spec["template"] = json!({
            "metadata": { "labels": { "app": "app" } },
            "spec": { "containers": [{ "name": "c", "image": "one" }] },
        });
        server.create(resource, "default", json!({ "metadata": { "name": "app" }, "spec": spec })).unwrap();
    });
    assert!(cluster.run(MAX_STEPS, |_| {}), "it settles");
    cluster
}

fn set_image(server: &mut Server, resource: &Resource, image: &str) {
    server.edit(resource, "default", "app", |owner| {
        owner["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image);
    });
}

/// Image and whether it stays, by uid.
fn pods(server: &Server) -> BTreeMap<String, (String, bool)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let pods = server.list(&PODS).map(|pod| {
        let stays = pod["metadata"]["deletionTimestamp"].is_null();
        (text(&pod["metadata"]["uid"]), (text(&pod["spec"]["containers"][0]["image"]), stays))
    });
    pods.collect()
}

/// Undoes a rollout after a while, and checks that the pods which still had the old template then have stayed.
fn undo_halfway(seed: u64, resource: &Resource, more: Value, replicas: usize) {
    let mut cluster = cluster(seed, resource, more);
    set_image(&mut cluster.server(), resource, "two");
    cluster.run(40 + (seed as usize * 37) % 400, |_| {});
    let untouched: Vec<String> = {
        let mut server = cluster.server();
        set_image(&mut server, resource, "one");
        let pods = pods(&server).into_iter().filter(|(_, (image, stays))| image == "one" && *stays);
        pods.map(|(uid, _)| uid).collect()
    };
    // What the controller had decided before it heard of that still comes, for at most as many pods as an update takes.
    cluster.calm();
    assert!(cluster.run(MAX_STEPS, |_| {}), "it settles");
    let server = cluster.server();
    let after = pods(&server);
    assert_eq!(after.values().filter(|(image, stays)| image == "one" && *stays).count(), replicas, "{after:?}");
    assert_eq!(after.len(), replicas);
    let lost = untouched.iter().filter(|uid| !after.contains_key(*uid)).count();
    assert!(lost <= 1, "{lost} pods were restarted for nothing");
    let mut revisions: Vec<i64> =
        server.list(&CONTROLLER_REVISIONS).map(|revision| revision["revision"].as_i64().unwrap()).collect();
    revisions.sort_unstable();
    assert!(revisions == [1] || revisions == [2, 3], "{revisions:?}");
}

#[test]
fn a_daemon_set_is_undone_without_needless_restarts() {
    for_each_seed(|seed| {
        let strategy = json!({ "type": "RollingUpdate", "rollingUpdate": { "maxUnavailable": 1 } });
        undo_halfway(seed, &DAEMON_SETS, json!({ "updateStrategy": strategy }), 2);
    });
}

#[test]
fn a_stateful_set_is_undone_without_needless_restarts() {
    for_each_seed(|seed| undo_halfway(seed, &STATEFUL_SETS, json!({ "replicas": 4, "serviceName": "app" }), 4));
}

#[test]
fn an_earlier_revision_is_brought_back_by_its_number() {
    for_each_seed(|seed| {
        let mut cluster = cluster(seed, &DEPLOYMENTS, json!({ "replicas": 2, "revisionHistoryLimit": 10 }));
        cluster.calm();
        for image in ["two", "three"] {
            set_image(&mut cluster.server(), &DEPLOYMENTS, image);
            assert!(cluster.run(MAX_STEPS, |_| {}));
        }
        let wanted = 1 + seed % 2;
        cluster.server().edit(&DEPLOYMENTS, "default", "app", |deployment| {
            deployment["metadata"]["annotations"]["deprecated.deployment.rollback.to"] = json!(wanted.to_string());
        });
        assert!(cluster.run(MAX_STEPS, |_| {}));
        let server = cluster.server();
        let image = ["one", "two"][seed as usize % 2];
        assert!(pods(&server).values().all(|(found, _)| found == image), "{:?}", pods(&server));
        let annotations = &server.get(&DEPLOYMENTS, "default", "app").unwrap()["metadata"]["annotations"];
        assert_eq!(annotations["deployment.kubernetes.io/revision"], "4");
        assert!(annotations["deprecated.deployment.rollback.to"].is_null(), "{annotations}");
        assert_eq!(server.list(&REPLICA_SETS).count(), 3);
    });
}
