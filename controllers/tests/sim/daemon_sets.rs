//! DaemonSets: one pod on every node that fits, through updates and as nodes come and go.

use k8w_controllers::plan::Propagation;
use k8w_controllers::resource::{DAEMON_SETS, NODES, PODS};
use serde_json::{Value, json};

use crate::cluster::{Chaos, Cluster, node, serves, usual};
use crate::server::Server;
use crate::{MAX_STEPS, for_each_seed};

fn cluster(seed: u64, limits: Value) -> Cluster {
    Cluster::new(seed, Chaos::SOME, |server| {
        usual(server);
        server.create(&NODES, "", node("n3", "8")).unwrap();
        let spec = json!({
            "selector": { "matchLabels": { "app": "agent" } },
            "updateStrategy": { "type": "RollingUpdate", "rollingUpdate": limits },
            "template": {
                "metadata": { "labels": { "app": "agent" } },
                "spec": { "containers": [{ "name": "c", "image": "one" }] },
            },
        });
        server.create(&DAEMON_SETS, "default", json!({ "metadata": { "name": "agent" }, "spec": spec })).unwrap();
    })
}

fn settle(cluster: &mut Cluster, watch: impl FnMut(&Server)) {
    cluster.calm();
    assert!(cluster.run(MAX_STEPS, watch), "it settles");
}

fn set_image(cluster: &Cluster, image: &str) {
    cluster.server().edit(&DAEMON_SETS, "default", "agent", |set| {
        set["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image);
    });
}

/// Node and image of every pod that is ready and meant to stay, in order.
fn ready(server: &Server) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let pods = server.list(&PODS).filter(|pod| serves(pod));
    let mut all: Vec<_> =
        pods.map(|pod| (text(&pod["spec"]["nodeName"]), text(&pod["spec"]["containers"][0]["image"]))).collect();
    all.sort();
    all
}

#[track_caller]
fn assert_settled(server: &Server, nodes: &[&str], image: &str) {
    let expected: Vec<_> = nodes.iter().map(|node| ((*node).to_owned(), image.to_owned())).collect();
    assert_eq!(ready(server), expected);
    assert_eq!(server.list(&PODS).count(), nodes.len(), "nothing else is left");
    let status = &server.get(&DAEMON_SETS, "default", "agent").unwrap()["status"];
    for field in ["desiredNumberScheduled", "currentNumberScheduled", "numberReady", "updatedNumberScheduled"] {
        assert_eq!(status[field], nodes.len(), "{field} of {status}");
    }
}

/// Conformance: "DaemonSet-Creation"; "DaemonSet-RollingUpdate".
#[test]
fn an_update_keeps_its_bounds_whatever_fails() {
    for_each_seed(|seed| {
        let (surge, unavailable) = [(0, 1), (0, 2), (1, 0), (2, 0)][seed as usize % 4];
        let mut cluster = cluster(seed, json!({ "maxSurge": surge, "maxUnavailable": unavailable }));
        cluster.run(600, |_| {});
        settle(&mut cluster, |_| {});
        assert_settled(&cluster.server(), &["n1", "n2", "n3"], "one");
        set_image(&cluster, "two");
        settle(&mut cluster, |server| {
            let mut served: Vec<String> = ready(server).into_iter().map(|(node, _)| node).collect();
            served.dedup();
            assert!(served.len() >= 3 - unavailable, "only {served:?} are served");
            let staying = server.list(&PODS).filter(|pod| pod["metadata"]["deletionTimestamp"].is_null()).count();
            assert!(staying <= 3 + surge, "{staying} pods");
        });
        assert_settled(&cluster.server(), &["n1", "n2", "n3"], "two");
    });
}

#[test]
fn nodes_that_come_get_a_pod_and_nodes_that_close_lose_it() {
    for_each_seed(|seed| {
        let mut cluster = cluster(seed, json!({ "maxUnavailable": 1 }));
        cluster.run(200, |_| {});
        cluster.server().create(&NODES, "", node("n4", "8")).unwrap();
        let taint = json!([{ "key": "k", "effect": "NoExecute" }]);
        cluster.server().edit(&NODES, "", "n1", |node| node["spec"]["taints"] = taint);
        cluster.run(200, |_| {});
        settle(&mut cluster, |_| {});
        assert_settled(&cluster.server(), &["n2", "n3", "n4"], "one");
    });
}

/// Conformance: "DaemonSet-FailedPodCreation".
#[test]
fn failed_and_deleted_daemons_come_back() {
    for_each_seed(|seed| {
        let mut cluster = cluster(seed, json!({ "maxUnavailable": 1 }));
        settle(&mut cluster, |_| {});
        let names: Vec<String> = {
            let server = cluster.server();
            server.list(&PODS).map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned()).collect()
        };
        cluster.server().edit(&PODS, "default", &names[0], |pod| pod["status"]["phase"] = json!("Failed"));
        cluster.server().delete(&PODS, "default", &names[1], Propagation::Background);
        settle(&mut cluster, |_| {});
        assert_settled(&cluster.server(), &["n1", "n2", "n3"], "one");
    });
}
