//! From a Deployment to running pods, and from one template to the next.

use k8w_controllers::resource::{DEPLOYMENTS, PODS, REPLICA_SETS};
use serde_json::{Value, json};

use crate::cluster::{Chaos, Cluster, serves, usual};
use crate::server::Server;
use crate::{MAX_STEPS, for_each_seed};

fn deployment(name: &str, replicas: i64, strategy: Value) -> Value {
    json!({
        "metadata": { "name": name },
        "spec": {
            "replicas": replicas,
            "progressDeadlineSeconds": 600,
            "revisionHistoryLimit": 10,
            "selector": { "matchLabels": { "app": name } },
            "strategy": strategy,
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": { "containers": [{ "name": "c", "image": "one" }] },
            },
        },
    })
}

fn rolling(surge: impl Into<Value>, unavailable: impl Into<Value>) -> Value {
    json!({
        "type": "RollingUpdate",
        "rollingUpdate": { "maxSurge": surge.into(), "maxUnavailable": unavailable.into() },
    })
}

fn set_image(server: &mut Server, image: &str) {
    server.edit(&DEPLOYMENTS, "default", "web", |d| {
        d["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image);
    });
}

fn count(value: &Value) -> i64 {
    value.as_i64().unwrap_or(0)
}

/// Image of each pod that is meant to stay, and is ready.
fn ready_images(server: &Server) -> Vec<String> {
    let pods = server.list(&PODS).filter(|pod| serves(pod));
    pods.map(|pod| pod["spec"]["containers"][0]["image"].as_str().unwrap().to_owned()).collect()
}

fn status(server: &Server) -> Value {
    server.get(&DEPLOYMENTS, "default", "web").unwrap()["status"].clone()
}

fn condition(status: &Value, type_: &str) -> String {
    let conditions = status["conditions"].as_array().unwrap();
    let found = conditions.iter().find(|c| c["type"] == type_).unwrap();
    format!("{}/{}", found["status"].as_str().unwrap(), found["reason"].as_str().unwrap())
}

#[track_caller]
fn assert_settled(server: &Server, replicas: usize, image: &str) {
    assert_eq!(ready_images(server), vec![image.to_owned(); replicas]);
    assert_eq!(server.list(&PODS).count(), replicas, "nothing else is left");
    let status = status(server);
    for field in ["replicas", "updatedReplicas", "readyReplicas", "availableReplicas"] {
        assert_eq!(count(&status[field]), replicas as i64, "{field} of {status}");
    }
    assert_eq!(condition(&status, "Available"), "True/MinimumReplicasAvailable");
    assert_eq!(condition(&status, "Progressing"), "True/NewReplicaSetAvailable");
}

/// Conformance: "Deployment RollingUpdate".
#[test]
fn a_rolling_update_keeps_its_bounds_and_arrives_whatever_fails() {
    for_each_seed(|seed| {
        let bounds = [(1, 0), (0, 1), (2, 2), (3, 0), (0, 4), (10, 10)];
        let (surge, unavailable) = bounds[seed as usize % bounds.len()];
        let mut cluster = Cluster::new(seed, Chaos::SOME, |server| {
            usual(server);
            let object = deployment("web", 6, rolling(surge, unavailable));
            server.create(&DEPLOYMENTS, "default", object).unwrap();
        });
        cluster.run(3_000, |_| {});
        cluster.calm();
        assert!(cluster.run(MAX_STEPS, |_| {}), "it settles");
        assert_settled(&cluster.server(), 6, "one");

        set_image(&mut cluster.server(), "two");
        let within_bounds = |server: &Server| {
            let sizes: i64 = server.list(&REPLICA_SETS).map(|set| count(&set["spec"]["replicas"])).sum();
            assert!(sizes <= 6 + surge, "{sizes} replicas asked for");
            let ready = ready_images(server).len() as i64;
            assert!(ready >= 6 - unavailable, "{ready} pods ready");
        };
        assert!(cluster.run(MAX_STEPS, within_bounds), "it settles");
        assert_settled(&cluster.server(), 6, "two");
    });
}

/// Conformance: "Deployment Rollover".
#[test]
fn failures_and_crashes_during_an_update_only_delay_it() {
    for_each_seed(|seed| {
        let mut cluster = Cluster::new(seed, Chaos::SOME, |server| {
            usual(server);
            server.create(&DEPLOYMENTS, "default", deployment("web", 5, rolling("25%", "25%"))).unwrap();
        });
        for image in ["two", "three", "one"] {
            cluster.run(400, |server| {
                let sizes: i64 = server.list(&REPLICA_SETS).map(|set| count(&set["spec"]["replicas"])).sum();
                assert!(sizes <= 7, "{sizes} replicas asked for");
            });
            set_image(&mut cluster.server(), image);
        }
        cluster.calm();
        assert!(cluster.run(MAX_STEPS, |_| {}), "it settles");
        assert_settled(&cluster.server(), 5, "one");
    });
}

/// Conformance: "Deployment Recreate".
#[test]
fn recreate_never_mixes_templates() {
    for_each_seed(|seed| {
        let mut cluster = Cluster::new(seed, Chaos::NONE, |server| {
            usual(server);
            server.create(&DEPLOYMENTS, "default", deployment("web", 3, json!({ "type": "Recreate" }))).unwrap();
        });
        assert!(cluster.run(MAX_STEPS, |_| {}));
        set_image(&mut cluster.server(), "two");
        let one_template = |server: &Server| {
            let mut images: Vec<_> = server.list(&PODS).map(|p| p["spec"]["containers"][0]["image"].clone()).collect();
            images.dedup();
            assert!(images.len() <= 1, "{images:?}");
        };
        assert!(cluster.run(MAX_STEPS, one_template));
        assert_settled(&cluster.server(), 3, "two");
    });
}

#[test]
fn an_undone_rollout_goes_back_to_its_replica_set_with_a_new_revision() {
    for_each_seed(|seed| {
        let mut cluster = Cluster::new(seed, Chaos::NONE, |server| {
            usual(server);
            server.create(&DEPLOYMENTS, "default", deployment("web", 2, rolling(1, 0))).unwrap();
        });
        let revision = |server: &Server| {
            let annotations = &server.get(&DEPLOYMENTS, "default", "web").unwrap()["metadata"]["annotations"];
            annotations["deployment.kubernetes.io/revision"].as_str().unwrap().to_owned()
        };
        for (image, expected) in [("one", "1"), ("two", "2"), ("one", "3")] {
            set_image(&mut cluster.server(), image);
            assert!(cluster.run(MAX_STEPS, |_| {}));
            assert_settled(&cluster.server(), 2, image);
            assert_eq!(revision(&cluster.server()), expected);
        }
        let server = cluster.server();
        let sets: Vec<_> = server.list(&REPLICA_SETS).collect();
        assert_eq!(sets.len(), 2, "the old ReplicaSet is used again");
        let history = |set: &Value| set["metadata"]["annotations"]["deployment.kubernetes.io/revision-history"].clone();
        assert!(sets.iter().any(|set| history(set) == "1"), "and remembers that it was revision 1");
    });
}

/// Conformance: "Deployment Proportional Scaling".
#[test]
fn scaling_in_the_middle_of_a_stuck_rollout_is_proportional() {
    for_each_seed(|seed| {
        let mut cluster = Cluster::new(seed, Chaos::NONE, |server| {
            usual(server);
            server.create(&DEPLOYMENTS, "default", deployment("web", 10, rolling(3, 2))).unwrap();
        });
        assert!(cluster.run(MAX_STEPS, |_| {}));
        cluster.nodes_work = false;
        set_image(&mut cluster.server(), "broken");
        cluster.run(20_000, |_| {});
        let sizes = |cluster: &Cluster| {
            let server = cluster.server();
            let mut sizes: Vec<_> = server.list(&REPLICA_SETS).map(|set| count(&set["spec"]["replicas"])).collect();
            sizes.sort();
            sizes
        };
        assert_eq!(sizes(&cluster), [5, 8]);
        cluster.server().edit(&DEPLOYMENTS, "default", "web", |d| d["spec"]["replicas"] = json!(15));
        cluster.run(20_000, |_| {});
        assert_eq!(sizes(&cluster), [7, 11], "the example of the Deployment page: 18 = 15 + 3 in shares of 8 and 5");
    });
}

/// Conformance: "Deployment RevisionHistoryLimit".
#[test]
fn only_the_newest_revisions_are_kept() {
    for_each_seed(|seed| {
        let mut cluster = Cluster::new(seed, Chaos::NONE, |server| {
            usual(server);
            let mut object = deployment("web", 1, rolling(1, 0));
            object["spec"]["revisionHistoryLimit"] = json!(2);
            server.create(&DEPLOYMENTS, "default", object).unwrap();
        });
        for image in ["one", "two", "three", "four", "five"] {
            set_image(&mut cluster.server(), image);
            assert!(cluster.run(MAX_STEPS, |_| {}));
        }
        let server = cluster.server();
        let image =
            |set: &Value| set["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap().to_owned();
        let mut images: Vec<_> = server.list(&REPLICA_SETS).map(image).collect();
        images.sort();
        assert_eq!(images, ["five", "four", "three"]);
    });
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll() {
    for_each_seed(|seed| {
        let mut cluster = Cluster::new(seed, Chaos::NONE, |server| {
            usual(server);
            server.create(&DEPLOYMENTS, "default", deployment("web", 2, rolling(1, 0))).unwrap();
        });
        assert!(cluster.run(MAX_STEPS, |_| {}));
        cluster.server().edit(&DEPLOYMENTS, "default", "web", |d| {
            d["spec"]["paused"] = json!(true);
            d["spec"]["replicas"] = json!(4);
        });
        set_image(&mut cluster.server(), "two");
        assert!(cluster.run(MAX_STEPS, |_| {}));
        assert_eq!(ready_images(&cluster.server()), ["one"; 4]);
        assert_eq!(condition(&status(&cluster.server()), "Progressing"), "Unknown/DeploymentPaused");
        cluster.server().edit(&DEPLOYMENTS, "default", "web", |d| d["spec"]["paused"] = json!(false));
        assert!(cluster.run(MAX_STEPS, |_| {}));
        assert_settled(&cluster.server(), 4, "two");
    });
}

#[test]
fn a_rollout_that_goes_nowhere_misses_its_deadline() {
    let mut cluster = Cluster::new(1, Chaos::NONE, |server| {
        usual(server);
        let mut object = deployment("web", 1, rolling(1, 0));
        object["spec"]["progressDeadlineSeconds"] = json!(30);
        server.create(&DEPLOYMENTS, "default", object).unwrap();
    });
    cluster.nodes_work = false;
    cluster.run(5_000, |_| {});
    assert_eq!(condition(&status(&cluster.server()), "Progressing"), "False/ProgressDeadlineExceeded");
}

#[test]
fn every_step_is_told_as_an_event() {
    let mut cluster = Cluster::new(1, Chaos::NONE, |server| {
        usual(server);
        server.create(&DEPLOYMENTS, "default", deployment("web", 1, rolling(1, 0))).unwrap();
    });
    assert!(cluster.run(MAX_STEPS, |_| {}));
    let (set, pod) = {
        let server = cluster.server();
        let name = |object: &Value| object["metadata"]["name"].as_str().unwrap().to_owned();
        (name(server.list(&REPLICA_SETS).next().unwrap()), name(server.list(&PODS).next().unwrap()))
    };
    let told: Vec<_> = cluster.notes().into_iter().map(|note| (note.reason, note.message)).collect();
    assert!(told.contains(&("ScalingReplicaSet", format!("Scaled up replica set {set} from 0 to 1"))), "{told:?}");
    assert!(told.contains(&("SuccessfulCreate", format!("Created pod: {pod}"))), "{told:?}");
    let assigned = |(reason, message): &(&str, String)| {
        *reason == "Scheduled" && message.starts_with(&format!("Successfully assigned default/{pod} to n"))
    };
    assert!(told.iter().any(assigned), "{told:?}");
}
