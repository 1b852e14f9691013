//! Claims and volumes: each claim has one volume, which stays what it is until nobody wants it, and then goes whole.

use std::collections::BTreeMap;

use k8w_controllers::plan::Propagation;
use k8w_controllers::resource::{PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, PODS, STATEFUL_SETS, STORAGE_CLASSES};
use serde_json::{Value, json};

use crate::cluster::{Chaos, Cluster, local_claim, local_class, usual};
use crate::server::Server;
use crate::{MAX_STEPS, for_each_seed};

const CLAIMS: usize = 3;

/// A StatefulSet with a claim for each pod, of a class that makes volumes once a pod has its node, or at once.
fn cluster(seed: u64) -> Cluster {
    let mode = ["WaitForFirstConsumer", "Immediate"][seed as usize % 2];
    Cluster::new(seed, Chaos::SOME, |server| {
        usual(server);
        let mut class = local_class(mode);
        class["allowVolumeExpansion"] = true.into();
        server.create(&STORAGE_CLASSES, "", class).unwrap();
        let claim = json!({ "metadata": { "name": "data" }, "spec": local_claim() });
        let spec = json!({
            "replicas": CLAIMS, "serviceName": "db", "podManagementPolicy": "Parallel",
            "selector": { "matchLabels": { "app": "db" } },
            "template": {
                "metadata": { "labels": { "app": "db" } },
                "spec": { "containers": [{ "name": "c", "image": "one" }] },
            },
            "volumeClaimTemplates": [claim],
        });
        server.create(&STATEFUL_SETS, "default", json!({ "metadata": { "name": "db" }, "spec": spec })).unwrap();
    })
}

fn scale(cluster: &Cluster, replicas: usize) {
    cluster.server().edit(&STATEFUL_SETS, "default", "db", |set| set["spec"]["replicas"] = json!(replicas));
}

/// Claim by claim, the volume it names.
fn bound(server: &Server) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let claims = server.list(&PERSISTENT_VOLUME_CLAIMS);
    claims.filter_map(|claim| Some((text(&claim["metadata"]["name"])?, text(&claim["spec"]["volumeName"])?))).collect()
}

/// What holds at every moment.
pub fn sound(server: &Server, known: &mut BTreeMap<String, String>) {
    for claim in server.list(&PERSISTENT_VOLUME_CLAIMS).filter(|claim| claim["status"]["phase"] == "Bound") {
        let (uid, name) = (&claim["metadata"]["uid"], claim["spec"]["volumeName"].as_str().unwrap());
        let volume = server.get(&PERSISTENT_VOLUMES, "", name);
        let volume = volume.unwrap_or_else(|| panic!("{name} is gone while {uid} is bound to it"));
        assert_eq!(volume["spec"]["claimRef"]["uid"], *uid, "{name} is another claim's");
        let first = known.entry(uid.to_string()).or_insert_with(|| name.to_owned());
        assert_eq!(first, name, "{uid} has another volume than before");
    }
    for pod in server.list(&PODS).filter(|pod| pod["status"]["phase"] == "Running") {
        assert!(server.has_volumes(pod), "{} runs without its volumes", pod["metadata"]["name"]);
    }
    for volume in server.list(&PERSISTENT_VOLUMES).filter(|volume| volume["status"]["phase"] == "Bound") {
        let (name, node) = (volume["metadata"]["name"].as_str().unwrap(), &volume["spec"]["nodeAffinity"]);
        let used = server.directories.contains(name) || volume["metadata"]["deletionTimestamp"].is_null();
        assert!(used, "the directory of {name} on {node} went before its claim");
    }
}

fn settle(cluster: &mut Cluster, known: &mut BTreeMap<String, String>) {
    cluster.calm();
    assert!(cluster.run(MAX_STEPS, |server| sound(server, known)), "it settles");
}

#[test]
fn a_claim_keeps_its_volume_and_a_deleted_one_takes_it_along() {
    for_each_seed(|seed| {
        let mut known = BTreeMap::new();
        let mut cluster = cluster(seed);
        cluster.run(2_000, |server| sound(server, &mut known));
        settle(&mut cluster, &mut known);
        let before = bound(&cluster.server());
        assert_eq!((before.len(), cluster.server().directories.len()), (CLAIMS, CLAIMS));
        for replicas in [0, CLAIMS] {
            scale(&cluster, replicas);
            settle(&mut cluster, &mut known);
            assert_eq!(bound(&cluster.server()), before, "the data is found again");
        }
        let running = cluster.server().list(&PODS).filter(|pod| pod["status"]["phase"] == "Running").count();
        assert_eq!(running, CLAIMS);

        // A claim that is deleted under its pod stays until the pod goes.
        cluster.server().delete(&PERSISTENT_VOLUME_CLAIMS, "default", "data-db-2", Propagation::Background);
        settle(&mut cluster, &mut known);
        assert_eq!(bound(&cluster.server()), before);
        scale(&cluster, 2);
        settle(&mut cluster, &mut known);
        let server = cluster.server();
        assert_eq!(bound(&server).into_keys().collect::<Vec<_>>(), ["data-db-0", "data-db-1"]);
        assert_eq!(server.list(&PERSISTENT_VOLUMES).count(), 2, "its volume goes with it");
        let left: Vec<&String> = before.values().filter(|volume| server.directories.contains(*volume)).collect();
        assert_eq!(left, [&before["data-db-0"], &before["data-db-1"]], "and so does its directory");
    });
}

#[test]
fn a_claim_that_asks_for_more_gets_it() {
    for_each_seed(|seed| {
        let mut known = BTreeMap::new();
        let mut cluster = cluster(seed);
        settle(&mut cluster, &mut known);
        for size in ["2Gi", "5Gi"] {
            cluster.server().edit(&PERSISTENT_VOLUME_CLAIMS, "default", "data-db-0", |claim| {
                claim["spec"]["resources"]["requests"]["storage"] = json!(size);
            });
            cluster.run((seed % 40) as usize, |server| sound(server, &mut known));
        }
        settle(&mut cluster, &mut known);
        let server = cluster.server();
        let claim = server.get(&PERSISTENT_VOLUME_CLAIMS, "default", "data-db-0").unwrap();
        assert_eq!(claim["status"]["capacity"]["storage"], "5Gi");
        assert!(claim["status"]["conditions"].is_null(), "{}", claim["status"]);
        let volume = server.get(&PERSISTENT_VOLUMES, "", claim["spec"]["volumeName"].as_str().unwrap()).unwrap();
        assert_eq!(volume["spec"]["capacity"]["storage"], "5Gi");
    });
}
