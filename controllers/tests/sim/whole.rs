//! Whole clusters: workloads of every kind that come, change and go at random, nodes that die and return, evictions, taints,
//! and controllers that start anew; on the real object pipeline.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8w_controllers::Config;
use k8w_controllers::plan::Propagation;
use k8w_controllers::resource::{
    DAEMON_SETS, DEPLOYMENTS, ENDPOINT_SLICES, JOBS, NODES, PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES,
    POD_DISRUPTION_BUDGETS, PODS, REPLICA_SETS, Resource, SERVICES, STATEFUL_SETS, STORAGE_CLASSES,
};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::cluster::{Chaos, Cluster, is_ready, local_claim, local_class, node, start};
use crate::for_each_seed_in;
use crate::server::Server;
use crate::volumes::sound;

const NODE_NAMES: [&str; 3] = ["n1", "n2", "n3"];
const KINDS: [&Resource; 4] = [&DEPLOYMENTS, &STATEFUL_SETS, &DAEMON_SETS, &JOBS];
const IMAGES: [&str; 3] = ["one", "two", "three"];
/// How often something is asked for, and how long the world goes on before each.
const ROUNDS: usize = 10;
const MAX_ROUND_SECONDS: u64 = 40;
/// How long pods put up with a node that is not there.
const PATIENCE_SECONDS: u64 = 30;
/// Time for all to come to rest: silence, patience, and waits between attempts.
const REST: Duration = Duration::from_secs(300);

/// What runs pods, as it was last asked for.
struct App {
    kind: &'static Resource,
    name: String,
    /// Replicas, or completions.
    wanted: usize,
    /// Most of them that were ever asked for.
    most: usize,
}

struct Whole {
    rng: StdRng,
    apps: Vec<App>,
    serial: usize,
    watched: Watched,
}

/// What was seen so far of what must not be forgotten.
#[derive(Default)]
struct Watched {
    /// Pods of Jobs that ended well.
    succeeded: BTreeSet<String>,
    /// Pods of StatefulSets by name: uid, node, and whether they ran.
    ordinals: BTreeMap<String, (String, String, bool)>,
    volumes: BTreeMap<String, String>,
    /// Most replicas of the Deployments.
    most: BTreeMap<String, u64>,
    /// What was looked at last: the revision, and how many directories there were.
    seen: (u64, usize),
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn uid(object: &Value) -> String {
    text(&object["metadata"]["uid"])
}

fn is_of(pod: &Value, app: &str) -> bool {
    pod["metadata"]["labels"]["app"] == app
}

impl Watched {
    fn watch(&mut self, server: &Server) {
        let seen = (server.revision, server.directories.len());
        if std::mem::replace(&mut self.seen, seen) == seen {
            return;
        }
        self.ordinals.retain(|name, (before, node, ran)| {
            let stays = server.get(&PODS, "default", name).is_some_and(|pod| uid(pod) == *before);
            assert!(stays || !*ran || !server.dead.contains(node), "{name} may still run on {node}");
            stays
        });
        for pod in server.list(&PODS) {
            if pod["status"]["phase"] == "Succeeded" {
                self.succeeded.insert(uid(pod));
            }
            if pod["metadata"]["ownerReferences"][0]["kind"] == "StatefulSet" {
                let name = text(&pod["metadata"]["name"]);
                let runs = pod["status"]["phase"] == "Running";
                self.ordinals.insert(name, (uid(pod), text(&pod["spec"]["nodeName"]), runs));
            }
        }
        for job in server.list(&JOBS) {
            let counted = job["status"]["succeeded"].as_u64().unwrap_or(0) as usize;
            assert!(counted <= self.succeeded.len(), "{counted} completions are counted: {}", job["status"]);
        }
        for deployment in server.list(&DEPLOYMENTS) {
            let sets = server.list(&REPLICA_SETS);
            let sets = sets.filter(|set| set["metadata"]["ownerReferences"][0]["uid"] == deployment["metadata"]["uid"]);
            let size: u64 = sets.map(|set| set["spec"]["replicas"].as_u64().unwrap_or(0)).sum();
            let most = self.most[deployment["metadata"]["name"].as_str().unwrap()];
            assert!(size <= most + 1, "{size} replicas asked for, of {most} at most and a surge of 1");
        }
        sound(server, &mut self.volumes);
    }
}

fn template(app: &str, kind: &Resource) -> Value {
    let tolerates = |key: &str| {
        let key = format!("node.kubernetes.io/{key}");
        json!({ "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": PATIENCE_SECONDS })
    };
    let tolerations = ["not-ready", "unreachable"].map(tolerates);
    json!({
        "metadata": { "labels": { "app": app } },
        "spec": {
            "restartPolicy": if *kind == JOBS { "Never" } else { "Always" },
            "containers": [{ "name": "c", "image": IMAGES[0] }],
            "tolerations": tolerations,
        },
    })
}

impl Whole {
    fn create(&mut self, server: &mut Server) {
        let kind = *KINDS.choose(&mut self.rng).unwrap();
        self.serial += 1;
        let (name, wanted) = (format!("app-{}", self.serial), self.rng.random_range(1..5));
        let labels = json!({ "app": name });
        let mut spec = json!({ "selector": { "matchLabels": labels }, "template": template(&name, kind) });
        if *kind == DEPLOYMENTS {
            spec["replicas"] = json!(wanted);
            let rolling = json!({ "maxSurge": 1, "maxUnavailable": 1 });
            spec["strategy"] = json!({ "type": "RollingUpdate", "rollingUpdate": rolling });
            self.watched.most.insert(name.clone(), wanted as u64);
        } else if *kind == STATEFUL_SETS {
            spec["replicas"] = json!(wanted);
            spec["serviceName"] = json!(name);
            spec["podManagementPolicy"] = json!(["OrderedReady", "Parallel"].choose(&mut self.rng));
            if self.rng.random_bool(0.5) {
                spec["volumeClaimTemplates"] = json!([{ "metadata": { "name": "data" }, "spec": local_claim() }]);
                let policy = json!({ "whenDeleted": "Delete", "whenScaled": "Delete" });
                spec["persistentVolumeClaimRetentionPolicy"] = policy;
            }
        } else if *kind == JOBS {
            let more = json!({ "completions": wanted, "parallelism": 2, "backoffLimit": 1000, "manualSelector": true });
            spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        }
        let metadata = json!({ "name": name });
        server.create(kind, "default", json!({ "metadata": metadata, "spec": spec })).unwrap();
        if *kind != JOBS {
            let spec = json!({ "selector": labels, "ports": [{ "port": 80, "protocol": "TCP" }] });
            server.create(&SERVICES, "default", json!({ "metadata": metadata, "spec": spec })).unwrap();
            let spec = json!({ "maxUnavailable": 1, "selector": { "matchLabels": labels } });
            server.create(&POD_DISRUPTION_BUDGETS, "default", json!({ "metadata": metadata, "spec": spec })).unwrap();
        }
        self.apps.push(App { kind, name, wanted, most: wanted });
    }

    /// Somebody asks for something, or something happens to a node.
    fn disturb(&mut self, cluster: &mut Cluster) {
        let what = self.rng.random_range(0..12);
        if what == 0 {
            return cluster.restart();
        }
        let mut server = cluster.server();
        let name = *NODE_NAMES.choose(&mut self.rng).unwrap();
        let pods: Vec<String> = server.list(&PODS).map(|pod| text(&pod["metadata"]["name"])).collect();
        let pod = pods.choose(&mut self.rng);
        match (what, pod) {
            (1, _) => self.create(&mut server),
            (2 | 3, _) => self.scale(&mut server),
            (4 | 5, _) => self.set_image(&mut server),
            (6, _) if self.apps.len() > 1 => self.delete(&mut server),
            // Refused or not, as its budget says.
            (7, Some(pod)) => _ = server.evict("default", pod),
            (8, Some(pod)) => server.delete(&PODS, "default", pod, Propagation::Background),
            (9, _) if server.dead.is_empty() => _ = server.dead.insert(name.to_owned()),
            (9, _) => server.dead.clear(),
            (10, _) => {
                server.edit(&NODES, "", name, |node| {
                    node["spec"]["unschedulable"] = json!(node["spec"]["unschedulable"] != true);
                });
            }
            (11, _) => {
                let taint = json!({ "key": "example.com/k", "effect": "NoExecute" });
                server.edit(&NODES, "", name, |node| set_taint(node, Some(taint)));
            }
            _ => {}
        }
    }

    fn scale(&mut self, server: &mut Server) {
        let wanted = self.rng.random_range(0..6);
        let scalable = self.apps.iter_mut().filter(|app| [&DEPLOYMENTS, &STATEFUL_SETS].contains(&app.kind));
        let mut scalable: Vec<&mut App> = scalable.collect();
        if scalable.is_empty() {
            return;
        }
        let chosen = self.rng.random_range(0..scalable.len());
        let app = &mut scalable[chosen];
        (app.wanted, app.most) = (wanted, app.most.max(wanted));
        self.watched.most.insert(app.name.clone(), app.most as u64);
        server.edit(app.kind, "default", &app.name, |object| object["spec"]["replicas"] = json!(wanted));
    }

    fn set_image(&mut self, server: &mut Server) {
        let image = *IMAGES.choose(&mut self.rng).unwrap();
        if let Some(app) = self.apps.choose(&mut self.rng).filter(|app| *app.kind != JOBS) {
            server.edit(app.kind, "default", &app.name, |object| {
                object["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image);
            });
        }
    }

    fn delete(&mut self, server: &mut Server) {
        let app = self.apps.swap_remove(self.rng.random_range(0..self.apps.len()));
        let how = [Propagation::Background, Propagation::Foreground];
        server.delete(app.kind, "default", &app.name, *how.choose(&mut self.rng).unwrap());
        if *app.kind != JOBS {
            server.delete(&SERVICES, "default", &app.name, Propagation::Background);
            server.delete(&POD_DISRUPTION_BUDGETS, "default", &app.name, Propagation::Background);
        }
    }
}

fn set_taint(node: &mut Value, taint: Option<Value>) {
    let mut taints = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
    taints.retain(|taint| taint["key"] != "example.com/k");
    taints.extend(taint);
    node["spec"]["taints"] = json!(taints);
}

/// What holds when all is done: what was asked for last is there, and nothing else.
fn arrived(server: &Server, apps: &[App]) {
    for app in apps {
        let pods: Vec<&Value> = server.list(&PODS).filter(|pod| is_of(pod, &app.name)).collect();
        let object = server.get(app.kind, "default", &app.name).unwrap();
        let status = &object["status"];
        if *app.kind == JOBS {
            assert_eq!(
                status["succeeded"].as_u64(),
                Some(app.wanted as u64),
                "{} lost completions: {status}",
                app.name
            );
            assert!(
                pods.iter().all(|pod| pod["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty)),
                "{}: every pod is let go",
                app.name
            );
            continue;
        }
        let image = &object["spec"]["template"]["spec"]["containers"][0]["image"];
        let is_right = |pod: &&Value| is_ready(pod) && pod["spec"]["containers"][0]["image"] == *image;
        let mut names: BTreeSet<String> =
            pods.iter().filter(|pod| is_right(pod)).map(|pod| text(&pod["metadata"]["name"])).collect();
        assert_eq!(names.len(), pods.len(), "{}: each pod is Ready and of the last template: {pods:?}", app.name);
        if *app.kind == STATEFUL_SETS {
            assert_eq!(names, (0..app.wanted).map(|ordinal| format!("{}-{ordinal}", app.name)).collect());
        } else if *app.kind == DAEMON_SETS {
            names = pods.iter().map(|pod| text(&pod["spec"]["nodeName"])).collect();
            assert_eq!(names, NODE_NAMES.map(str::to_owned).into(), "{}", app.name);
        }
        let wanted = if *app.kind == DAEMON_SETS { NODE_NAMES.len() } else { app.wanted };
        assert_eq!(pods.len(), wanted, "{}", app.name);
        let slices = server.list(&ENDPOINT_SLICES);
        let slices = slices.filter(|slice| slice["metadata"]["labels"]["kubernetes.io/service-name"] == *app.name);
        let endpoints: usize = slices.filter_map(|slice| slice["endpoints"].as_array()).map(Vec::len).sum();
        assert_eq!(endpoints, wanted, "endpoints of {}", app.name);
    }
    let is_wanted = |pod: &Value| apps.iter().any(|app| is_of(pod, &app.name));
    assert!(server.list(&PODS).all(is_wanted), "no pod is left of what is gone");
    let uids: BTreeSet<String> = server.all().map(uid).collect();
    for object in server.all() {
        for owner in object["metadata"]["ownerReferences"].as_array().into_iter().flatten() {
            assert!(uids.contains(owner["uid"].as_str().unwrap()), "{} is orphaned", object["metadata"]["name"]);
        }
        assert!(object["metadata"]["deletionTimestamp"].is_null(), "{} does not go", object["metadata"]["name"]);
    }
    let claims = server.list(&PERSISTENT_VOLUME_CLAIMS).map(|claim| text(&claim["spec"]["volumeName"]));
    let volumes: BTreeSet<String> =
        server.list(&PERSISTENT_VOLUMES).map(|volume| text(&volume["metadata"]["name"])).collect();
    assert_eq!(claims.collect::<BTreeSet<_>>(), volumes, "each claim has its volume");
    assert_eq!(server.directories, volumes, "and each volume its directory");
    let is_untainted = |node: &Value| node["spec"]["taints"].as_array().is_none_or(Vec::is_empty);
    assert!(server.list(&NODES).all(is_untainted), "every node is taken for what it is");
}

/// The whole story of a seed; what the revision was after each step.
fn run(seed: u64) -> Vec<u64> {
    let config = Config { node_monitor_grace: Duration::from_secs(40), ..Config::default() };
    let mut server = Server::new(seed, start());
    NODE_NAMES.iter().for_each(|name| _ = server.create(&NODES, "", node(name, "8")).unwrap());
    server.create(&STORAGE_CLASSES, "", local_class("WaitForFirstConsumer")).unwrap();
    let rng = StdRng::seed_from_u64(seed);
    let mut whole = Whole { rng, apps: Vec::new(), serial: 0, watched: Watched::default() };
    (0..3).for_each(|_| whole.create(&mut server));
    let chaos = Chaos { replayed: 0.02, relisted: 0.005, ..Chaos::SOME };
    let mut cluster = Cluster::with_server(seed, chaos, config, server);
    cluster.nodes_report = true;
    cluster.succeeds = 0.8;
    cluster.pods_take = Duration::from_secs(5);
    let mut history = Vec::new();
    for _ in 0..ROUNDS {
        let time = Duration::from_secs(whole.rng.random_range(0..MAX_ROUND_SECONDS));
        cluster.run_for(time, |server| {
            history.push(server.revision);
            whole.watched.watch(server);
        });
        whole.disturb(&mut cluster);
    }
    {
        let mut server = cluster.server();
        server.dead.clear();
        for name in NODE_NAMES {
            server.edit(&NODES, "", name, |node| {
                node["spec"]["unschedulable"] = json!(false);
                set_taint(node, None);
            });
        }
    }
    cluster.calm();
    cluster.succeeds = 1.0;
    let mut watch = |server: &Server| {
        history.push(server.revision);
        whole.watched.watch(server);
    };
    cluster.run_for(REST, &mut watch);
    arrived(&cluster.server(), &whole.apps);
    let before = cluster.writes();
    cluster.restart();
    cluster.run_for(Duration::from_secs(60), &mut watch);
    assert_eq!(cluster.writes(), before, "whoever starts anew writes nothing");
    history
}

#[test]
fn random_workloads_end_as_they_were_last_asked_for() {
    for_each_seed_in(1, |seed| _ = run(seed));
}

#[test]
fn a_seed_replays_exactly() {
    for seed in [1, 2] {
        assert_eq!(run(seed), run(seed));
    }
}
