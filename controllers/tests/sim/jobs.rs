//! Jobs: every completion counts once, whatever fails between a pod's end and the Job's.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8w_controllers::plan::Propagation;
use k8w_controllers::resource::{JOBS, PODS};
use serde_json::{Value, json};

use crate::cluster::{Chaos, Cluster, usual};
use crate::server::Server;
use crate::{MAX_STEPS, STRIDE_IN_MINIATURE, for_each_seed, for_each_seed_in};

const FINALIZER: &str = "batch.kubernetes.io/job-tracking";

/// A Job with this spec, beside what the API server would add.
fn job(mut spec: Value) -> Value {
    spec["manualSelector"] = json!(true);
    spec["selector"] = json!({ "matchLabels": { "job": "work" } });
    spec["template"] = json!({
        "metadata": { "labels": { "job": "work" } },
        "spec": { "restartPolicy": "Never", "containers": [{ "name": "c", "image": "one" }] },
    });
    json!({ "metadata": { "name": "work" }, "spec": spec })
}

fn cluster(seed: u64, succeeds: f64, spec: Value) -> Cluster {
    let mut cluster = Cluster::new(seed, Chaos::SOME, |server| {
        usual(server);
        server.create(&JOBS, "default", job(spec)).unwrap();
    });
    cluster.succeeds = succeeds;
    cluster.patience = Duration::from_secs(900);
    cluster
}

fn status(server: &Server) -> Value {
    server.get(&JOBS, "default", "work").unwrap()["status"].clone()
}

fn count(value: &Value) -> i64 {
    value.as_i64().unwrap_or(0)
}

fn is_tracked(pod: &Value) -> bool {
    pod["metadata"]["finalizers"].as_array().is_some_and(|all| all.contains(&json!(FINALIZER)))
}

fn ended_with(server: &Server, type_: &str) -> bool {
    let conditions = status(server)["conditions"].as_array().cloned().unwrap_or_default();
    conditions.iter().any(|c| c["type"] == type_ && c["status"] == "True")
}

/// Uids of the pods that ended in `phase` while the Job was still to account for them.
fn note(server: &Server, phase: &str, seen: &mut BTreeSet<String>) {
    for pod in server.list(&PODS).filter(|pod| is_tracked(pod) && pod["status"]["phase"] == phase) {
        seen.insert(pod["metadata"]["uid"].as_str().unwrap().to_owned());
    }
}

/// A pod that has ended is told of once, until it is counted.
fn told_once(server: &Server) {
    let told = &status(server)["uncountedTerminatedPods"];
    let lists = ["succeeded", "failed"].map(|list| told[list].as_array().cloned().unwrap_or_default());
    let uids: Vec<String> = lists.concat().iter().map(Value::to_string).collect();
    assert_eq!(uids.iter().collect::<BTreeSet<_>>().len(), uids.len(), "a pod is told of twice: {told}");
}

/// Conformance: "Jobs, completion after task failure".
#[test]
fn every_completion_counts_exactly_once() {
    for_each_seed(|seed| {
        let spec = json!({ "completions": 6, "parallelism": 1 + seed % 4, "backoffLimit": 1000 });
        let mut cluster = cluster(seed, 0.8, spec);
        let (mut succeeded, mut before) = (BTreeSet::new(), 0);
        let mut watch = |server: &Server| {
            told_once(server);
            note(server, "Succeeded", &mut succeeded);
            let counted = count(&status(server)["succeeded"]);
            assert!(counted >= before, "a completion was lost: {before} became {counted}");
            assert!(counted <= succeeded.len() as i64, "{counted} counted of {}", succeeded.len());
            before = counted;
        };
        cluster.run(1_500, &mut watch);
        cluster.calm();
        assert!(cluster.run(MAX_STEPS, &mut watch), "it settles");
        let server = cluster.server();
        assert!(ended_with(&server, "Complete"), "{}", status(&server));
        assert!(before >= 6 && before == succeeded.len() as i64, "{before} of {}", succeeded.len());
        assert!(!server.list(&PODS).any(is_tracked), "every pod is let go");
    });
}

/// Conformance: "Ensure Pods of an Indexed Job get a unique index.".
#[test]
fn each_index_completes() {
    for_each_seed(|seed| {
        let mut spec = json!({
            "completionMode": "Indexed", "completions": 7, "parallelism": 1 + seed % 5, "backoffLimit": 1000,
        });
        if seed % 2 == 0 {
            spec["backoffLimitPerIndex"] = json!(1000);
        }
        let mut cluster = cluster(seed, 0.8, spec);
        cluster.run(1_500, |_| {});
        cluster.calm();
        assert!(cluster.run(MAX_STEPS, |_| {}), "it settles");
        let server = cluster.server();
        assert!(ended_with(&server, "Complete"), "{}", status(&server));
        assert_eq!(status(&server)["completedIndexes"], "0-6");
        assert!(!server.list(&PODS).any(is_tracked), "every pod is let go");
    });
}

#[test]
fn too_many_failures_end_the_job_and_all_its_pods() {
    for_each_seed(|seed| {
        let limit = (seed % 4) as i64;
        let spec = json!({ "completions": 9, "parallelism": 3, "backoffLimit": limit });
        let mut cluster = cluster(seed, 0.0, spec);
        cluster.run(1_500, |_| {});
        cluster.calm();
        assert!(cluster.run(MAX_STEPS, |_| {}), "it settles");
        let server = cluster.server();
        assert!(ended_with(&server, "Failed") && ended_with(&server, "FailureTarget"), "{}", status(&server));
        assert!(count(&status(&server)["failed"]) > limit);
        assert!(!server.list(&PODS).any(|pod| is_tracked(pod) || pod["status"]["phase"] == "Running"));
    });
}

#[test]
fn each_failure_doubles_the_wait_before_the_next_pod() {
    for_each_seed(|seed| {
        let mut cluster = cluster(seed, 0.0, json!({ "completions": 1, "backoffLimit": 4 }));
        // Who does not know of a pod that it made makes another; here nothing but the watches is late.
        cluster.calm();
        let (mut made, mut failed) = (BTreeSet::new(), BTreeMap::new());
        let watch = |server: &Server| {
            for pod in server.list(&PODS) {
                let uid = pod["metadata"]["uid"].to_string();
                if made.insert(uid.clone())
                    && let Some(last) = failed.values().max()
                {
                    let waited = server.now.duration_since(*last).as_secs();
                    // Kubernetes' times are to the second.
                    assert!(waited + 1 >= 10 << (failed.len() - 1), "{waited} s after {} failures", failed.len());
                }
                if pod["status"]["phase"] == "Failed" {
                    failed.entry(uid).or_insert(server.now);
                }
            }
        };
        assert!(cluster.run(MAX_STEPS, watch), "it settles");
        assert_eq!(made.len(), 5, "one more than the limit");
    });
}

/// Conformance: "Jobs, manage lifecycle".
#[test]
fn a_job_that_is_suspended_resumed_and_resized_still_completes() {
    for_each_seed_in(STRIDE_IN_MINIATURE, |seed| {
        let spec = json!({ "completions": 8, "parallelism": 4, "backoffLimit": 1000 });
        let mut cluster = Cluster::in_miniature(seed, Chaos::SOME, Cluster::config(), |server| {
            usual(server);
            server.create(&JOBS, "default", job(spec)).unwrap();
        });
        cluster.succeeds = 0.9;
        cluster.patience = Duration::from_secs(900);
        for (suspend, parallelism) in [(true, 4), (false, 2), (false, 5), (true, 5)] {
            cluster.run(150, |_| {});
            cluster.server().edit(&JOBS, "default", "work", |job| {
                job["spec"]["suspend"] = json!(suspend);
                job["spec"]["parallelism"] = json!(parallelism);
            });
        }
        cluster.calm();
        assert!(cluster.run(MAX_STEPS, |_| {}), "it settles");
        let is_over = ended_with(&cluster.server(), "Complete");
        let running = |server: &Server| server.list(&PODS).filter(|pod| pod["status"]["phase"] == "Running").count();
        assert!(is_over || ended_with(&cluster.server(), "Suspended"));
        assert_eq!(running(&cluster.server()), 0);
        cluster.server().edit(&JOBS, "default", "work", |job| job["spec"]["suspend"] = json!(false));
        assert!(cluster.run(MAX_STEPS, |_| {}), "it settles");
        assert!(ended_with(&cluster.server(), "Complete"), "{}", status(&cluster.server()));
    });
}

/// Conformance: "Jobs, active pods, graceful termination".
#[test]
fn a_deleted_job_leaves_nothing_behind() {
    for_each_seed(|seed| {
        let how = [Propagation::Background, Propagation::Foreground][seed as usize % 2];
        let mut cluster = cluster(seed, 0.5, json!({ "completions": 9, "parallelism": 3, "backoffLimit": 1000 }));
        cluster.run(300, |_| {});
        cluster.server().delete(&JOBS, "default", "work", how);
        cluster.run(300, |_| {});
        cluster.calm();
        assert!(cluster.run(MAX_STEPS, |_| {}), "it settles");
        let server = cluster.server();
        assert_eq!((server.list(&JOBS).count(), server.list(&PODS).count()), (0, 0));
    });
}
