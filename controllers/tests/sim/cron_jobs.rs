//! CronJobs: every run happens once, and never beside another where that is forbidden.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8w_controllers::plan::Propagation;
use k8w_controllers::resource::{CRON_JOBS, JOBS, PODS};
use serde_json::{Value, json};

use crate::cluster::{Chaos, Cluster, start, usual};
use crate::server::Server;
use crate::{MAX_STEPS, for_each_seed};

const MINUTES: u64 = 8;

/// A CronJob of every minute, whose pods run for as long.
fn cluster(seed: u64, policy: &str, pods_take: Duration, more: Value) -> Cluster {
    let mut cluster = Cluster::new(seed, Chaos::SOME, |server| {
        usual(server);
        let mut spec = more;
        spec["schedule"] = json!("* * * * *");
        spec["concurrencyPolicy"] = json!(policy);
        spec["jobTemplate"] = json!({
            "spec": {
                "backoffLimit": 1000,
                "template": {
                    "metadata": { "labels": { "cron": "tick" } },
                    "spec": { "restartPolicy": "Never", "containers": [{ "name": "c", "image": "one" }] },
                },
            },
        });
        server.create(&CRON_JOBS, "default", json!({ "metadata": { "name": "tick" }, "spec": spec })).unwrap();
    });
    cluster.pods_take = pods_take;
    cluster
}

fn name(job: &Value) -> String {
    job["metadata"]["name"].as_str().unwrap().to_owned()
}

fn is_finished(job: &Value) -> bool {
    let conditions = job["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.iter().any(|c| ["Complete", "Failed"].contains(&c["type"].as_str().unwrap()) && c["status"] == "True")
}

fn unfinished(server: &Server) -> usize {
    let staying = server.list(&JOBS).filter(|job| job["metadata"]["deletionTimestamp"].is_null());
    staying.filter(|job| !is_finished(job)).count()
}

/// The names of the runs of the first minutes.
fn runs() -> BTreeSet<String> {
    let first = start().as_second() / 60;
    (1..=MINUTES as i64).map(|minute| format!("tick-{}", first + minute)).collect()
}

#[test]
fn every_minute_has_its_job_and_no_minute_two() {
    for_each_seed(|seed| {
        let mut cluster = cluster(seed, "Allow", Duration::ZERO, json!({ "successfulJobsHistoryLimit": 2 }));
        let mut seen: BTreeMap<String, String> = BTreeMap::new();
        let mut last = String::new();
        let mut watch = |server: &Server| {
            for job in server.list(&JOBS) {
                let uid = job["metadata"]["uid"].as_str().unwrap();
                let first = seen.entry(name(job)).or_insert_with(|| uid.to_owned());
                assert_eq!(first, uid, "{} ran twice", name(job));
            }
            let cron_job = server.get(&CRON_JOBS, "default", "tick").unwrap();
            let now = cron_job["status"]["lastScheduleTime"].as_str().unwrap_or_default().to_owned();
            assert!(now >= last, "the last run was {last}, and now is {now}");
            last = now;
        };
        cluster.run_for(Duration::from_secs(60 * MINUTES + 1), &mut watch);
        cluster.calm();
        cluster.server().edit(&CRON_JOBS, "default", "tick", |cron_job| cron_job["spec"]["suspend"] = json!(true));
        assert!(cluster.run(MAX_STEPS, &mut watch), "it settles");
        assert!(seen.into_keys().collect::<BTreeSet<_>>().is_superset(&runs()));
        let server = cluster.server();
        assert_eq!(server.list(&JOBS).count(), 2, "as the history limit says");
        assert!(server.list(&JOBS).all(is_finished));
        let status = &server.get(&CRON_JOBS, "default", "tick").unwrap()["status"];
        assert!(status["active"].is_null(), "{status}");
        assert!(!status["lastSuccessfulTime"].is_null(), "{status}");
    });
}

#[test]
fn forbidden_and_replacing_runs_never_overlap() {
    for_each_seed(|seed| {
        let policy = ["Forbid", "Replace"][seed as usize % 2];
        let mut cluster = cluster(seed, policy, Duration::from_secs(90), json!({}));
        let mut seen = BTreeSet::new();
        let watch = |server: &Server| {
            let count = unfinished(server);
            assert!(count <= 1, "{count} jobs at a time");
            seen.extend(server.list(&JOBS).map(name));
        };
        cluster.run_for(Duration::from_secs(60 * MINUTES + 1), watch);
        if policy == "Replace" {
            assert!(seen.is_superset(&runs()), "every run takes the place of the one before: {seen:?}");
        } else {
            assert!(seen.len() < runs().len(), "some runs are skipped: {seen:?}");
            assert!(seen.len() >= runs().len() / 3, "but not all: {seen:?}");
        }
    });
}

#[test]
fn a_deleted_cron_job_takes_its_jobs_along() {
    for_each_seed(|seed| {
        let mut cluster = cluster(seed, "Allow", Duration::from_secs(90), json!({}));
        cluster.run_for(Duration::from_secs(200), |_| {});
        cluster.server().delete(&CRON_JOBS, "default", "tick", Propagation::Background);
        cluster.calm();
        assert!(cluster.run(MAX_STEPS, |_| {}), "it settles");
        let server = cluster.server();
        assert_eq!((server.list(&JOBS).count(), server.list(&PODS).count()), (0, 0));
    });
}
