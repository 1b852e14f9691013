//! StatefulSets: a name is one pod's at a time, in order, and an update keeps to its bounds.

use k8w_controllers::resource::{CONTROLLER_REVISIONS, PERSISTENT_VOLUME_CLAIMS, PODS, STATEFUL_SETS};
use serde_json::{Value, json};

use crate::cluster::{Chaos, Cluster, local_claim, serves, usual};
use crate::server::Server;
use crate::{MAX_STEPS, for_each_seed};

fn set(replicas: u64, mut more: Value) -> Value {
    more["replicas"] = json!(replicas);
    more["serviceName"] = json!("db");
    more["selector"] = json!({ "matchLabels": { "app": "db" } });
    more["template"] = json!({
        "metadata": { "labels": { "app": "db" } },
        "spec": { "containers": [{ "name": "c", "image": "one" }] },
    });
    json!({ "metadata": { "name": "db" }, "spec": more })
}

fn cluster(seed: u64, replicas: u64, more: Value) -> Cluster {
    Cluster::new(seed, Chaos::SOME, |server| {
        usual(server);
        server.create(&STATEFUL_SETS, "default", set(replicas, more)).unwrap();
    })
}

fn settle(cluster: &mut Cluster, watch: impl FnMut(&Server)) {
    cluster.calm();
    assert!(cluster.run(MAX_STEPS, watch), "it settles");
}

fn edit(cluster: &Cluster, change: impl FnOnce(&mut Value)) {
    cluster.server().edit(&STATEFUL_SETS, "default", "db", |set| change(&mut set["spec"]));
}

fn set_image(cluster: &Cluster, image: &str) {
    edit(cluster, |spec| spec["template"]["spec"]["containers"][0]["image"] = json!(image));
}

/// Name and image of every pod that is ready.
fn ready(server: &Server) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let pods = server.list(&PODS).filter(|pod| serves(pod));
    pods.map(|pod| (text(&pod["metadata"]["name"]), text(&pod["spec"]["containers"][0]["image"]))).collect()
}

#[track_caller]
fn assert_settled(server: &Server, expected: &[(&str, &str)]) {
    let expected: Vec<_> = expected.iter().map(|(name, image)| ((*name).to_owned(), (*image).to_owned())).collect();
    assert_eq!(ready(server), expected);
    assert_eq!(server.list(&PODS).count(), expected.len(), "nothing else is left");
    let status = &server.get(&STATEFUL_SETS, "default", "db").unwrap()["status"];
    for field in ["replicas", "readyReplicas", "availableReplicas"] {
        assert_eq!(status[field].as_u64().unwrap_or(0), expected.len() as u64, "{field} of {status}");
    }
}

/// While the first pods are made, each waits for those before it.
fn in_order(server: &Server) {
    let ready: Vec<bool> =
        (0..3).map(|i| server.get(&PODS, "default", &format!("db-{i}")).is_some_and(serves)).collect();
    for i in 1..3 {
        let exists = server.get(&PODS, "default", &format!("db-{i}")).is_some();
        assert!(!exists || ready[i - 1], "db-{i} did not wait for the one before it");
    }
}

/// Conformance: "StatefulSet, Scaling".
#[test]
fn pods_come_up_in_order_and_go_down_in_order() {
    for_each_seed(|seed| {
        let mut cluster = cluster(seed, 3, json!({}));
        cluster.run(600, in_order);
        settle(&mut cluster, in_order);
        assert_settled(&cluster.server(), &[("db-0", "one"), ("db-1", "one"), ("db-2", "one")]);
        edit(&cluster, |spec| spec["replicas"] = json!(0));
        let from_the_top = |server: &Server| {
            let exists: Vec<bool> =
                (0..3).map(|i| server.get(&PODS, "default", &format!("db-{i}")).is_some()).collect();
            assert!(exists.is_sorted_by(|a, b| a >= b), "{exists:?}");
        };
        settle(&mut cluster, from_the_top);
        assert_settled(&cluster.server(), &[]);
    });
}

/// Conformance: "StatefulSet, Rolling Update".
#[test]
fn an_update_goes_from_the_top_one_at_a_time() {
    for_each_seed(|seed| {
        let parallel = if seed % 2 == 0 { "Parallel" } else { "OrderedReady" };
        let mut cluster = cluster(seed, 3, json!({ "podManagementPolicy": parallel }));
        settle(&mut cluster, |_| {});
        for image in ["two", "three"] {
            set_image(&cluster, image);
            let two_are_ready = |server: &Server| {
                let ready = ready(server);
                assert!(ready.len() >= 2, "{ready:?}");
            };
            settle(&mut cluster, two_are_ready);
            assert_settled(&cluster.server(), &[("db-0", image), ("db-1", image), ("db-2", image)]);
        }
        let server = cluster.server();
        let status = &server.get(&STATEFUL_SETS, "default", "db").unwrap()["status"];
        assert_eq!(status["currentRevision"], status["updateRevision"]);
        assert_eq!(server.list(&CONTROLLER_REVISIONS).count(), 3);
    });
}

/// Conformance: "StatefulSet, Rolling Update with Partition"; "StatefulSet, Recreate Failed Pod".
#[test]
fn a_partition_holds_and_a_lost_pod_below_it_comes_back_as_it_was() {
    for_each_seed(|seed| {
        let strategy = json!({ "type": "RollingUpdate", "rollingUpdate": { "partition": 2 } });
        let mut cluster = cluster(seed, 3, json!({ "updateStrategy": strategy }));
        settle(&mut cluster, |_| {});
        set_image(&cluster, "two");
        settle(&mut cluster, |_| {});
        let expected = [("db-0", "one"), ("db-1", "one"), ("db-2", "two")];
        assert_settled(&cluster.server(), &expected);
        for name in ["db-0", "db-2"] {
            cluster.server().delete(&PODS, "default", name, k8w_controllers::plan::Propagation::Background);
        }
        settle(&mut cluster, |_| {});
        assert_settled(&cluster.server(), &expected);
    });
}

#[test]
fn claims_outlive_their_pods_and_are_found_again() {
    for_each_seed(|seed| {
        let claims = json!([{ "metadata": { "name": "data" }, "spec": local_claim() }]);
        let mut cluster =
            cluster(seed, 3, json!({ "volumeClaimTemplates": claims, "podManagementPolicy": "Parallel" }));
        settle(&mut cluster, |_| {});
        let uids = |server: &Server| -> Vec<String> {
            server.list(&PERSISTENT_VOLUME_CLAIMS).map(|claim| claim["metadata"]["uid"].to_string()).collect()
        };
        let before = uids(&cluster.server());
        assert_eq!(before.len(), 3);
        for replicas in [0, 3] {
            edit(&cluster, |spec| spec["replicas"] = json!(replicas));
            settle(&mut cluster, |_| {});
        }
        assert_eq!(uids(&cluster.server()), before);
        let policy = json!({ "whenScaled": "Delete", "whenDeleted": "Retain" });
        edit(&cluster, |spec| spec["persistentVolumeClaimRetentionPolicy"] = policy);
        edit(&cluster, |spec| spec["replicas"] = json!(1));
        settle(&mut cluster, |_| {});
        assert_eq!(uids(&cluster.server()), before[..1]);
    });
}

#[test]
fn changes_in_the_middle_of_others_end_where_the_last_one_says() {
    for_each_seed(|seed| {
        let mut cluster = cluster(seed, 2, json!({}));
        for (replicas, image) in [(4, "two"), (1, "three"), (3, "one")] {
            cluster.run(250, |_| {});
            edit(&cluster, |spec| spec["replicas"] = json!(replicas));
            set_image(&cluster, image);
        }
        settle(&mut cluster, |_| {});
        assert_settled(&cluster.server(), &[("db-0", "one"), ("db-1", "one"), ("db-2", "one")]);
    });
}
