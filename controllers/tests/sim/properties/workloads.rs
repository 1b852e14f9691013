//! Reconcilers that run pods, and what they promise of them.

use std::time::Duration;

use k8w_controllers::plan::Propagation;
use k8w_controllers::resource::{
    CRON_JOBS, DAEMON_SETS, DEPLOYMENTS, JOBS, NODES, PERSISTENT_VOLUME_CLAIMS, POD_DISRUPTION_BUDGETS, PODS,
    REPLICA_SETS, REPLICATION_CONTROLLERS, Resource, STATEFUL_SETS, STORAGE_CLASSES,
};
use serde_json::{Value, json};

use super::{ROW, Row};
use crate::cluster::{local_claim, local_class, node, serves};
use crate::server::Server;

const REPLICAS: usize = 4;

pub const ROWS: &[Row] = &[
    Row {
        name: "Deployment",
        of: &["deployment", "replicaset"],
        prepare: |server| create(server, &DEPLOYMENTS, json!({ "strategy": rolling() })),
        changes: &[
            |server| set_image(server, &DEPLOYMENTS, "two"),
            |server| set_image(server, &DEPLOYMENTS, "three"),
            |server| scale(server, &DEPLOYMENTS, REPLICAS + 2),
            |server| scale(server, &DEPLOYMENTS, REPLICAS),
            lose_a_pod,
        ],
        promise: |server| assert!(ready(server).len() + lost(server) >= REPLICAS - 1, "too few are ready"),
        arrived: |server| all_run(server, &DEPLOYMENTS),
        ..ROW
    },
    Row {
        name: "Deployment with surge",
        of: &["deployment"],
        prepare: |server| create(server, &DEPLOYMENTS, json!({ "strategy": surging() })),
        changes: &[
            |server| set_image(server, &DEPLOYMENTS, "two"),
            |server| set_image(server, &DEPLOYMENTS, "one"),
            |server| scale(server, &DEPLOYMENTS, REPLICAS + 1),
        ],
        promise: |server| assert!(ready(server).len() >= REPLICAS, "too few are ready"),
        arrived: |server| all_run(server, &DEPLOYMENTS),
        ..ROW
    },
    Row {
        name: "ReplicaSet",
        of: &["replicaset", "scheduler"],
        prepare: |server| create(server, &REPLICA_SETS, json!({})),
        changes: &[
            |server| scale(server, &REPLICA_SETS, REPLICAS + 3),
            |server| scale(server, &REPLICA_SETS, REPLICAS),
            lose_a_pod,
            release_a_pod,
        ],
        promise: |server| assert!(ready(server).len() + lost(server) >= REPLICAS, "too few are ready"),
        arrived: |server| all_run(server, &REPLICA_SETS),
        ..ROW
    },
    Row {
        name: "ReplicationController",
        of: &["replicationcontroller"],
        prepare: |server| {
            create(server, &REPLICATION_CONTROLLERS, json!({}));
            server.edit(&REPLICATION_CONTROLLERS, "default", "app", |controller| {
                controller["spec"]["selector"] = json!({ "app": "app" });
            });
        },
        changes: &[
            |server| scale(server, &REPLICATION_CONTROLLERS, REPLICAS + 1),
            |server| scale(server, &REPLICATION_CONTROLLERS, REPLICAS),
            lose_a_pod,
        ],
        promise: |server| assert!(ready(server).len() + lost(server) >= REPLICAS, "too few are ready"),
        arrived: |server| all_run(server, &REPLICATION_CONTROLLERS),
        ..ROW
    },
    Row {
        name: "StatefulSet",
        of: &["statefulset"],
        prepare: |server| create(server, &STATEFUL_SETS, json!({ "serviceName": "app" })),
        changes: &[
            |server| set_image(server, &STATEFUL_SETS, "two"),
            |server| set_image(server, &STATEFUL_SETS, "three"),
            |server| scale(server, &STATEFUL_SETS, REPLICAS + 1),
            |server| scale(server, &STATEFUL_SETS, REPLICAS),
        ],
        promise: |server| assert!(ready(server).len() >= REPLICAS - 1, "too few are ready"),
        arrived: |server| all_run(server, &STATEFUL_SETS),
        ..ROW
    },
    Row {
        name: "StatefulSet with claims",
        of: &[
            "statefulset",
            "persistentvolumeclaim-binder",
            "persistentvolume-reclaimer",
            "local-path-class",
            "local-path-provisioner",
            "local-path-removal",
            "persistentvolumeclaim-protection",
            "persistentvolume-protection",
        ],
        prepare: |server| {
            server.create(&STORAGE_CLASSES, "", local_class("WaitForFirstConsumer")).unwrap();
            let claim = json!({ "metadata": { "name": "data" }, "spec": local_claim() });
            let more = json!({
                "serviceName": "app", "podManagementPolicy": "Parallel", "volumeClaimTemplates": [claim],
                "persistentVolumeClaimRetentionPolicy": { "whenScaled": "Delete", "whenDeleted": "Retain" },
            });
            create(server, &STATEFUL_SETS, more);
        },
        changes: &[
            |server| scale(server, &STATEFUL_SETS, 1),
            |server| scale(server, &STATEFUL_SETS, REPLICAS),
            |server| set_image(server, &STATEFUL_SETS, "two"),
        ],
        promise: |server| {
            let running = server.list(&PODS).filter(|pod| pod["status"]["phase"] == "Running");
            running.for_each(|pod| assert!(server.has_volumes(pod), "a pod runs without its volumes"));
        },
        arrived: |server| {
            all_run(server, &STATEFUL_SETS);
            let claims = server.list(&PERSISTENT_VOLUME_CLAIMS).count();
            assert!(claims >= server.list(&PODS).count(), "{claims} claims");
            assert_eq!(server.directories.len(), claims, "directories go with their claims");
        },
        ..ROW
    },
    Row {
        name: "DaemonSet",
        of: &["daemonset"],
        prepare: |server| {
            server.create(&NODES, "", node("n3", "8")).unwrap();
            let strategy = json!({ "type": "RollingUpdate", "rollingUpdate": { "maxUnavailable": 1 } });
            create(server, &DAEMON_SETS, json!({ "updateStrategy": strategy }));
        },
        changes: &[
            |server| set_image(server, &DAEMON_SETS, "two"),
            |server| set_image(server, &DAEMON_SETS, "three"),
            |server| _ = server.create(&NODES, "", node("n4", "8")),
            lose_a_pod,
        ],
        promise: |server| assert!(ready(server).len() + lost(server) >= 2, "too few are ready"),
        arrived: |server| {
            let image = &app(server, &DAEMON_SETS)["spec"]["template"]["spec"]["containers"][0]["image"];
            let mut nodes: Vec<&str> =
                ready(server).iter().filter_map(|pod| pod["spec"]["nodeName"].as_str()).collect();
            nodes.sort_unstable();
            nodes.dedup();
            assert_eq!((nodes.len(), server.list(&PODS).count()), (server.list(&NODES).count(), nodes.len()));
            assert!(ready(server).iter().all(|pod| pod["spec"]["containers"][0]["image"] == *image));
        },
        ..ROW
    },
    Row {
        name: "Job",
        of: &["job"],
        prepare: |server| {
            let more = json!({ "suspend": true, "completions": 5, "parallelism": 2, "backoffLimit": 1000 });
            create(server, &JOBS, once(more));
        },
        changes: &[
            |server| edit(server, &JOBS, |spec| spec["suspend"] = json!(true)),
            |server| edit(server, &JOBS, |spec| spec["suspend"] = json!(false)),
            |server| edit(server, &JOBS, |spec| spec["parallelism"] = json!(4)),
            lose_a_pod,
        ],
        promise: |server| {
            let ended = server.list(&PODS).filter(|pod| pod["status"]["phase"] == "Succeeded").count();
            let counted = app(server, &JOBS)["status"]["succeeded"].as_u64().unwrap_or(0) as usize;
            assert!(counted <= ended + lost(server), "{counted} completions are counted of {ended}");
        },
        rest: |server| edit(server, &JOBS, |spec| spec["suspend"] = json!(false)),
        arrived: |server| {
            let job = app(server, &JOBS);
            let status = &job["status"];
            let is_complete = has_condition(status, "Complete") && status["succeeded"].as_u64() >= Some(5);
            let is_suspended = has_condition(status, "Suspended") && status["startTime"].is_null();
            assert!(is_complete || (job["spec"]["suspend"] == true && is_suspended), "{status}");
            assert!(status["active"].is_null() && status["terminating"] == 0, "{status}");
            let is_held = |pod: &Value| pod["metadata"]["finalizers"].as_array().is_some_and(|all| !all.is_empty());
            assert!(!server.list(&PODS).any(is_held), "every pod is let go");
        },
        world: |cluster| {
            cluster.succeeds = 0.8;
            cluster.patience = Duration::from_secs(900);
        },
        ..ROW
    },
    Row {
        name: "Indexed Job",
        of: &["job"],
        prepare: |server| {
            let more = json!({
                "suspend": true, "completionMode": "Indexed", "completions": 4, "parallelism": 3, "backoffLimit": i32::MAX,
                "backoffLimitPerIndex": 1, "podReplacementPolicy": "Failed",
            });
            create(server, &JOBS, once(more));
        },
        changes: &[
            |server| edit(server, &JOBS, |spec| spec["suspend"] = json!(false)),
            |server| edit(server, &JOBS, |spec| spec["parallelism"] = json!(1)),
            lose_a_pod,
        ],
        rest: |server| edit(server, &JOBS, |spec| spec["suspend"] = json!(false)),
        arrived: |server| {
            let job = app(server, &JOBS);
            let status = &job["status"];
            if job["spec"]["suspend"] == true {
                return;
            }
            assert!(has_condition(status, "Complete") || has_condition(status, "Failed"), "{status}");
            let listed = |field: &str| status[field].as_str().unwrap_or_default().to_owned();
            assert!(!(listed("completedIndexes") + &listed("failedIndexes")).is_empty(), "{status}");
            assert!(status["active"].is_null() && status["terminating"] == 0, "{status}");
        },
        world: |cluster| {
            cluster.succeeds = 0.7;
            cluster.patience = Duration::from_secs(900);
        },
        ..ROW
    },
    Row {
        name: "a Job that is deleted",
        of: &["job-orphaned-pods"],
        prepare: |server| {
            let more = json!({ "suspend": true, "completions": 5, "parallelism": 3, "backoffLimit": 1000 });
            create(server, &JOBS, once(more));
        },
        changes: &[
            |server| edit(server, &JOBS, |spec| spec["suspend"] = json!(false)),
            |server| edit(server, &JOBS, |spec| spec["suspend"] = json!(false)),
            |server| edit(server, &JOBS, |spec| spec["suspend"] = json!(false)),
            |server| delete(server, &JOBS, Propagation::Orphan),
            |server| delete(server, &JOBS, Propagation::Background),
            |server| delete(server, &JOBS, Propagation::Foreground),
        ],
        rest: |server| edit(server, &JOBS, |spec| spec["suspend"] = json!(false)),
        arrived: |server| {
            let is_held = |pod: &Value| pod["metadata"]["finalizers"].as_array().is_some_and(|all| !all.is_empty());
            let held: Vec<&Value> = server.list(&PODS).filter(|pod| is_held(pod)).collect();
            assert!(held.is_empty(), "every pod is let go: {held:?}, {:?}", server.list(&JOBS).collect::<Vec<_>>());
            let is_there = server.list(&JOBS).next().is_some();
            let is_owned =
                |pod: &Value| pod["metadata"]["ownerReferences"].as_array().is_some_and(|all| !all.is_empty());
            assert!(is_there || !server.list(&PODS).any(is_owned), "nobody's pods are owned by nobody");
        },
        world: |cluster| {
            cluster.succeeds = 0.8;
            cluster.pods_take = Duration::from_secs(60);
            cluster.patience = Duration::from_secs(900);
        },
        ..ROW
    },
    Row {
        name: "CronJob",
        of: &["cronjob"],
        prepare: |server| {
            let job = json!({
                "backoffLimit": 1000, "selector": { "matchLabels": { "app": "app" } }, "template": template("Never"),
            });
            let spec = json!({
                "schedule": "* * * * *", "concurrencyPolicy": "Forbid", "suspend": true, "jobTemplate": { "spec": job },
                "successfulJobsHistoryLimit": 2,
            });
            server.create(&CRON_JOBS, "default", json!({ "metadata": { "name": "app" }, "spec": spec })).unwrap();
        },
        changes: &[
            |server| edit(server, &CRON_JOBS, |spec| spec["suspend"] = json!(false)),
            |server| edit(server, &CRON_JOBS, |spec| spec["suspend"] = json!(true)),
            |server| edit(server, &CRON_JOBS, |spec| spec["successfulJobsHistoryLimit"] = json!(1)),
        ],
        promise: |server| {
            let running = server.list(&JOBS).filter(|job| !has_condition(&job["status"], "Complete"));
            assert!(running.count() <= 1, "two runs overlap");
        },
        rest: |server| edit(server, &CRON_JOBS, |spec| spec["suspend"] = json!(true)),
        arrived: |server| {
            let cron_job = app(server, &CRON_JOBS);
            let most = cron_job["spec"]["successfulJobsHistoryLimit"].as_u64().unwrap() as usize;
            assert!(server.list(&JOBS).count() <= most, "the history has its limit");
            assert!(server.list(&JOBS).all(|job| has_condition(&job["status"], "Complete")));
            assert!(cron_job["status"]["active"].is_null(), "{}", cron_job["status"]);
        },
        ..ROW
    },
    Row {
        name: "PodDisruptionBudget",
        of: &["disruption"],
        prepare: |server| {
            create(server, &DEPLOYMENTS, json!({ "strategy": surging() }));
            let spec = json!({ "maxUnavailable": 1, "selector": { "matchLabels": { "app": "app" } } });
            let budget = json!({ "metadata": { "name": "app" }, "spec": spec });
            server.create(&POD_DISRUPTION_BUDGETS, "default", budget).unwrap();
        },
        changes: &[evict_one],
        promise: |server| assert!(ready(server).len() >= REPLICAS - 1, "too few are ready"),
        arrived: |server| {
            all_run(server, &DEPLOYMENTS);
            let status = &app(server, &POD_DISRUPTION_BUDGETS)["status"];
            assert_eq!(
                (&status["disruptionsAllowed"], &status["disruptedPods"]),
                (&json!(1), &Value::Null),
                "{status}"
            );
        },
        ..ROW
    },
];

fn template(restart: &str) -> Value {
    let container = json!({ "name": "c", "image": "one" });
    json!({ "metadata": { "labels": { "app": "app" } }, "spec": { "restartPolicy": restart, "containers": [container] } })
}

fn create(server: &mut Server, resource: &Resource, more: Value) {
    let mut spec = more;
    if spec["template"].is_null() {
        spec["template"] = template("Always");
        spec["replicas"] = json!(REPLICAS);
    }
    spec["selector"] = json!({ "matchLabels": { "app": "app" } });
    server.create(resource, "default", json!({ "metadata": { "name": "app" }, "spec": spec })).unwrap();
}

/// With pods that run to their end.
fn once(more: Value) -> Value {
    let mut spec = more;
    spec["template"] = template("Never");
    spec
}

fn rolling() -> Value {
    json!({ "type": "RollingUpdate", "rollingUpdate": { "maxSurge": 1, "maxUnavailable": 1 } })
}

fn surging() -> Value {
    json!({ "type": "RollingUpdate", "rollingUpdate": { "maxSurge": 2, "maxUnavailable": 0 } })
}

fn app<'a>(server: &'a Server, resource: &Resource) -> &'a Value {
    server.get(resource, "default", "app").unwrap()
}

fn delete(server: &mut Server, resource: &Resource, how: Propagation) {
    server.delete_if_there(resource, "default", "app", how);
}

fn edit(server: &mut Server, resource: &Resource, change: impl FnOnce(&mut Value)) {
    server.edit(resource, "default", "app", |object| change(&mut object["spec"]));
}

fn set_image(server: &mut Server, resource: &Resource, image: &str) {
    edit(server, resource, |spec| spec["template"]["spec"]["containers"][0]["image"] = json!(image));
}

fn scale(server: &mut Server, resource: &Resource, replicas: usize) {
    edit(server, resource, |spec| spec["replicas"] = json!(replicas));
}

fn ready(server: &Server) -> Vec<&Value> {
    server.list(&PODS).filter(|pod| serves(pod)).collect()
}

/// An annotation of the first node: how many pods somebody else has taken away.
const LOST: &str = "example.com/lost";

/// What follows from pods that were taken away is nobody's broken promise.
fn lost(server: &Server) -> usize {
    let annotations = &server.get(&NODES, "", "n1").unwrap()["metadata"]["annotations"];
    annotations[LOST].as_str().map_or(0, |count| count.parse().unwrap())
}

fn lose(server: &mut Server) {
    let count = lost(server) + 1;
    server.edit(&NODES, "", "n1", |node| node["metadata"]["annotations"][LOST] = json!(count.to_string()));
}

fn first_pod(server: &Server) -> Option<String> {
    let pod = server.list(&PODS).find(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    pod.map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned())
}

/// A user deletes a pod.
fn lose_a_pod(server: &mut Server) {
    if let Some(name) = first_pod(server) {
        server.delete(&PODS, "default", &name, Propagation::Background);
        lose(server);
    }
}

/// A user takes a pod out of its set by its label, and ends it.
fn release_a_pod(server: &mut Server) {
    if let Some(name) = first_pod(server) {
        server.edit(&PODS, "default", &name, |pod| pod["metadata"]["labels"]["app"] = json!("other"));
        server.delete(&PODS, "default", &name, Propagation::Background);
        lose(server);
    }
}

fn evict_one(server: &mut Server) {
    if let Some(name) = first_pod(server) {
        // Refused or not, as the budget says.
        let _ = server.evict("default", &name);
    }
}

fn has_condition(status: &Value, type_: &str) -> bool {
    let conditions = status["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    conditions.iter().any(|c| c["type"] == type_ && c["status"] == "True")
}

/// As many pods as are asked for are ready, of the template that is asked for, and nothing else is left.
fn all_run(server: &Server, resource: &Resource) {
    let spec = &app(server, resource)["spec"];
    let wanted = spec["replicas"].as_u64().unwrap() as usize;
    let image = &spec["template"]["spec"]["containers"][0]["image"];
    let ready = ready(server);
    assert!(ready.iter().all(|pod| pod["spec"]["containers"][0]["image"] == *image), "all are of the last template");
    assert_eq!((ready.len(), server.list(&PODS).count()), (wanted, wanted));
    let status = &app(server, resource)["status"];
    assert_eq!(status["readyReplicas"].as_u64(), Some(wanted as u64), "{status}");
}
