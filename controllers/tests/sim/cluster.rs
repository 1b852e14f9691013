//! A whole control plane under a seed: who goes next, what is delayed, what fails and what crashes is chance, and the same
//! seed replays it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use k8w_controllers::Config;
use k8w_controllers::engine::{Controller, Engine, Next, Turn, Wake, Work};
use k8w_controllers::execute::{Answer, Api, Executed, Failure, Outcome, Record, execute};
use k8w_controllers::plan::{Note, Plan, Step};
use k8w_controllers::resource::{self, Key, NODES, PODS, Resource};
use k8w_controllers::world::{Change, Delta, Object, Part, WATCHED, World, is_watched, watches};
use k8w_kinds::core::pod::totals;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::MAX_STEPS;
use crate::server::{Event, Server, WIDGETS, failure};

/// How unkind the world is, as probabilities of each step.
#[derive(Clone, Copy, Debug)]
pub struct Chaos {
    /// A write fails and is not made.
    pub refused: f64,
    /// A write is made, but its answer is lost.
    pub unanswered: f64,
    /// The controllers die after this write and start anew.
    pub crash: f64,
    /// Instead of what comes next, a watch delivers an earlier state of an object once more.
    pub replayed: f64,
    /// Instead of what comes next, a watch has lost its place, and all of its resource is listed.
    pub relisted: f64,
}

impl Chaos {
    pub const NONE: Chaos = Chaos { refused: 0.0, unanswered: 0.0, crash: 0.0, replayed: 0.0, relisted: 0.0 };
    pub const SOME: Chaos = Chaos { refused: 0.05, unanswered: 0.03, crash: 0.01, ..Chaos::NONE };
}

/// States of an object that may be delivered once more.
const MAX_REPLAYED: usize = 4;

struct Shared {
    server: Mutex<Server>,
    dice: Mutex<(StdRng, Chaos)>,
    notes: Mutex<Vec<Note>>,
    crashed: Mutex<bool>,
    /// How many writes of the controllers changed something.
    writes: Mutex<usize>,
}

#[derive(Clone)]
struct Access(Arc<Shared>);

#[async_trait]
impl Api for Access {
    async fn perform(&self, step: &Step) -> Result<Answer, Failure> {
        let mut crashed = self.0.crashed.lock().unwrap();
        if *crashed {
            return Err(failure(0, "there is nobody left to write"));
        }
        let (refused, unanswered, dies) = {
            let (rng, chaos) = &mut *self.0.dice.lock().unwrap();
            (rng.random_bool(chaos.refused), rng.random_bool(chaos.unanswered), rng.random_bool(chaos.crash))
        };
        if refused {
            return Err(failure(500, "no luck"));
        }
        let mut server = self.0.server.lock().unwrap();
        let before = server.revision;
        let answer = server.perform(step);
        *self.0.writes.lock().unwrap() += usize::from(server.revision != before);
        *crashed = dies;
        if unanswered || dies { Err(failure(0, "connection lost")) } else { answer }
    }
}

impl Record for Access {
    fn record(&self, note: Note) {
        self.0.notes.lock().unwrap().push(note);
    }
}

/// A controller, and whether it has ever had something to write.
struct Witnessed {
    controller: Box<dyn Controller>,
    wrote: Arc<Mutex<BTreeSet<&'static str>>>,
}

impl Controller for Witnessed {
    fn name(&self) -> &'static str {
        self.controller.name()
    }

    fn observe(&mut self, delta: &Delta, world: &World, wake: &mut Wake) {
        self.controller.observe(delta, world, wake);
    }

    fn reconcile(&mut self, key: &Key, world: &World, turn: &mut Turn<'_>) -> Plan {
        let plan = self.controller.reconcile(key, world, turn);
        if !plan.steps.is_empty() {
            self.wrote.lock().unwrap().insert(self.name());
        }
        plan
    }

    fn priority(&self, key: &Key, world: &World) -> i32 {
        self.controller.priority(key, world)
    }

    fn finished(&mut self, key: &Key, outcome: &Outcome) {
        self.controller.finished(key, outcome);
    }

    fn max_plans_in_flight(&self) -> usize {
        self.controller.max_plans_in_flight()
    }
}

/// Sees what the controllers see: what they were told is gone does not come back, however late a watch is.
#[derive(Default)]
struct Memory {
    /// Uids of what is gone, and whether its metadata alone was watched.
    gone: BTreeSet<(String, bool)>,
}

impl Controller for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn observe(&mut self, delta: &Delta, _: &World, _: &mut Wake) {
        let object = (delta.object.uid().to_owned(), matches!(delta.object, Object::Bare(_)));
        if delta.gone {
            self.gone.insert(object);
        } else {
            assert!(!self.gone.contains(&object), "{} is back although it was gone", delta.object.key());
        }
    }

    fn reconcile(&mut self, _: &Key, _: &World, _: &mut Turn<'_>) -> Plan {
        Plan::none()
    }
}

/// A resource's watch: of whole objects, or of metadata alone.
type Watch = (Resource, bool);

pub struct Cluster {
    shared: Arc<Shared>,
    engine: Engine,
    config: Config,
    resources: Vec<Resource>,
    /// Watch events on their way, in order per watch.
    streams: BTreeMap<Watch, VecDeque<Event>>,
    /// What they have delivered of objects that are there, by uid, and whether that was metadata alone.
    delivered: BTreeMap<(String, bool), VecDeque<Object>>,
    /// Plans that were executed and whose outcome is on its way.
    outcomes: Vec<(Work, Executed)>,
    rng: StdRng,
    runtime: tokio::runtime::Runtime,
    /// Whether nodes run the pods they are given.
    pub nodes_work: bool,
    /// How likely a pod that is to end ends well.
    pub succeeds: f64,
    /// How far the clock may jump when nothing else can happen.
    pub patience: Duration,
    /// How long a pod that ends by itself runs.
    pub pods_take: Duration,
    wrote: Arc<Mutex<BTreeSet<&'static str>>>,
    /// When no pod had a step to take: at which revision and time, and which nodes were dead then.
    at_rest: Option<(u64, Timestamp, BTreeSet<String>)>,
    /// Whether nodes say every now and then that they live; then there is always something left to happen.
    pub nodes_report: bool,
    /// When they last did.
    reported: Timestamp,
}

/// Between two signs of life of a node.
const REPORT_EVERY: Duration = Duration::from_secs(10);

pub fn start() -> Timestamp {
    "2024-01-01T00:00:00Z".parse().unwrap()
}

impl Cluster {
    pub fn new(seed: u64, chaos: Chaos, prepare: impl FnOnce(&mut Server)) -> Self {
        Self::with_config(seed, chaos, Self::config(), prepare)
    }

    /// In miniature: with a custom kind, and without what every other cluster has.
    pub fn in_miniature(seed: u64, chaos: Chaos, config: Config, prepare: impl FnOnce(&mut Server)) -> Self {
        let mut server = Server::in_miniature(start());
        prepare(&mut server);
        Self::with_server(seed, chaos, config, server)
    }

    /// For nodes that never report, which are not to be taken for silent.
    pub fn config() -> Config {
        Config { node_monitor_grace: Duration::from_secs(1 << 40), ..Config::default() }
    }

    pub fn with_config(seed: u64, chaos: Chaos, config: Config, prepare: impl FnOnce(&mut Server)) -> Self {
        let mut server = Server::new(seed, start());
        prepare(&mut server);
        Self::with_server(seed, chaos, config, server)
    }

    pub fn with_server(seed: u64, chaos: Chaos, config: Config, server: Server) -> Self {
        let custom = server.is_in_miniature().then_some(&WIDGETS);
        let resources = WATCHED.iter().map(|(resource, _)| *resource).chain(custom).cloned().collect();
        let shared = Arc::new(Shared {
            server: Mutex::new(server),
            dice: Mutex::new((StdRng::seed_from_u64(seed), chaos)),
            notes: Mutex::default(),
            crashed: Mutex::new(false),
            writes: Mutex::default(),
        });
        let mut cluster = Self {
            shared,
            engine: Engine::new(Vec::new(), 0),
            config,
            resources,
            streams: BTreeMap::new(),
            delivered: BTreeMap::new(),
            outcomes: Vec::new(),
            rng: StdRng::seed_from_u64(seed ^ 0x5eed),
            runtime: tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap(),
            nodes_work: true,
            succeeds: 1.0,
            patience: Duration::from_secs(120),
            pods_take: Duration::ZERO,
            wrote: Arc::default(),
            at_rest: None,
            nodes_report: false,
            reported: start(),
        };
        cluster.restart();
        cluster
    }

    pub fn server(&self) -> MutexGuard<'_, Server> {
        self.shared.server.lock().unwrap()
    }

    pub fn notes(&self) -> Vec<Note> {
        self.shared.notes.lock().unwrap().clone()
    }

    /// How many writes of the controllers have changed something.
    pub fn writes(&self) -> usize {
        *self.shared.writes.lock().unwrap()
    }

    /// Names of the controllers that have had something to write.
    pub fn wrote(&self) -> BTreeSet<&'static str> {
        self.wrote.lock().unwrap().clone()
    }

    /// From here on the world is kind.
    pub fn calm(&mut self) {
        self.trouble(Chaos::NONE);
    }

    /// From here on it is as unkind as this.
    pub fn trouble(&mut self, chaos: Chaos) {
        self.shared.dice.lock().unwrap().1 = chaos;
    }

    /// Starts the controllers with nothing but what the API server has.
    pub fn restart(&mut self) {
        *self.shared.crashed.lock().unwrap() = false;
        self.streams.clear();
        self.delivered.clear();
        self.outcomes.clear();
        let witnessed = |controller| Box::new(Witnessed { controller, wrote: self.wrote.clone() });
        let controllers = k8w_controllers::controllers(&self.config).into_iter();
        let controllers = controllers.map(|controller| witnessed(controller) as Box<dyn Controller>);
        let controllers = controllers.chain([Box::<Memory>::default() as Box<dyn Controller>]);
        self.engine = Engine::new(controllers.collect(), self.rng.random());
        let mut server = self.shared.server.lock().unwrap();
        server.events.clear();
        let (now, at) = (server.now, server.revision);
        self.engine.observe(Change::Discovered { resources: self.resources.clone(), scalable: BTreeSet::new() }, now);
        for (resource, part) in watches() {
            self.engine.observe(listed(&server, resource, part, at), now);
        }
        for resource in self.resources.iter().filter(|resource| is_bare(resource)) {
            self.engine.observe(listed_bare(&server, resource, at), now);
        }
    }

    /// Lets `steps` things happen, or fewer if nothing is left to happen; true if so. `watch` sees every state.
    pub fn run(&mut self, steps: usize, watch: impl FnMut(&Server)) -> bool {
        self.run_until(steps, None, watch)
    }

    /// Likewise, but `end` is when nothing more is to happen; until then time passes although nothing is left to do.
    fn run_until(&mut self, steps: usize, end: Option<Timestamp>, mut watch: impl FnMut(&Server)) -> bool {
        let mut idle = 0;
        for _ in 0..steps {
            let did = match self.rng.random_range(0..4) {
                0 => self.deliver(),
                1 => self.reconcile(),
                2 => self.report(),
                _ => self.nodes_work && self.run_pods(),
            };
            idle = if did { 0 } else { idle + 1 };
            if *self.shared.crashed.lock().unwrap() {
                self.restart();
            }
            if did {
                watch(&self.server());
            }
            // Everybody had many chances, and nobody had anything to do: only time can change that.
            if idle > 60 {
                if !self.let_time_pass(end) {
                    return true;
                }
                watch(&self.server());
                if self.nodes_report {
                    idle = 0;
                }
            }
        }
        false
    }

    /// Lets things happen until this much time has passed.
    pub fn run_for(&mut self, time: Duration, watch: impl FnMut(&Server)) {
        let end = self.server().now + time;
        assert!(self.run_until(MAX_STEPS, Some(end), watch), "there is too much to do for {time:?} to pass");
    }

    fn deliver(&mut self) -> bool {
        let mut server = self.shared.server.lock().unwrap();
        for (resource, event) in server.events.drain(..) {
            if is_bare(&resource) {
                self.streams.entry((resource.clone(), true)).or_default().push_back(event.clone());
            }
            if is_typed(&resource) {
                self.streams.entry((resource, false)).or_default().push_back(event);
            }
        }
        let now = server.now;
        drop(server);
        let waiting: Vec<_> =
            self.streams.iter().filter(|(_, s)| !s.is_empty()).map(|(watch, _)| watch.clone()).collect();
        if waiting.is_empty() {
            return false;
        }
        let watch = &waiting[self.rng.random_range(0..waiting.len())];
        let (resource, bare) = watch;
        let Chaos { replayed, relisted, .. } = self.shared.dice.lock().unwrap().1;
        if replayed > 0.0 && self.rng.random_bool(replayed) {
            return self.replay(now);
        }
        if relisted > 0.0 && self.rng.random_bool(relisted) {
            self.streams.remove(watch);
            self.delivered.clear();
            let server = self.shared.server.lock().unwrap();
            if *bare {
                self.engine.observe(listed_bare(&server, resource, server.revision), now);
                return true;
            }
            let parts = watches().filter(|(watched, _)| *watched == resource);
            parts.for_each(|(_, part)| self.engine.observe(listed(&server, resource, part, server.revision), now));
            return true;
        }
        let Some(event) = self.streams.get_mut(watch).and_then(VecDeque::pop_front) else { return false };
        let decode = |value| decoded(resource, *bare, value);
        let (change, object): (fn(Object) -> Change, _) = match event {
            Event::Put(value) => (Change::Watched, decode(value)),
            Event::Gone(value) => (Change::WatchedGone, decode(value)),
        };
        if *bare || is_watched(&object) {
            let change = change(object.clone());
            let key = (object.uid().to_owned(), *bare);
            match change {
                Change::WatchedGone(_) => _ = self.delivered.remove(&key),
                _ => {
                    let states = self.delivered.entry(key).or_default();
                    if states.len() == MAX_REPLAYED {
                        states.pop_front();
                    }
                    states.push_back(object);
                }
            }
            self.engine.observe(change, now);
        }
        true
    }

    /// Delivers once more what was delivered before, of an object that is not known to be gone.
    fn replay(&mut self, now: Timestamp) -> bool {
        if self.delivered.is_empty() {
            return true;
        }
        let at = self.rng.random_range(0..self.delivered.len());
        let states = self.delivered.values().nth(at).unwrap();
        let state = states[self.rng.random_range(0..states.len())].clone();
        self.engine.observe(Change::Watched(state), now);
        true
    }

    fn reconcile(&mut self) -> bool {
        let now = self.server().now;
        match self.engine.next(now) {
            Next::Idle => false,
            Next::Nothing => true,
            Next::Execute(work, plan) => {
                let access = Access(self.shared.clone());
                // Its timers need the runtime; a server may run on one of its own.
                let _timers = self.runtime.enter();
                let executed = futures::executor::block_on(execute(plan, &access, &access));
                self.outcomes.push((work, executed));
                true
            }
        }
    }

    fn report(&mut self) -> bool {
        if self.outcomes.is_empty() {
            return false;
        }
        let (work, executed) = self.outcomes.swap_remove(self.rng.random_range(0..self.outcomes.len()));
        let now = self.server().now;
        self.engine.finish(work, executed, now);
        true
    }

    /// One pod on its node takes one step.
    fn run_pods(&mut self) -> bool {
        let mut server = self.shared.server.lock().unwrap();
        let same = |(revision, now, dead): &(u64, Timestamp, BTreeSet<String>)| {
            (*revision, *now) == (server.revision, server.now) && *dead == server.dead
        };
        if self.at_rest.as_ref().is_some_and(same) {
            return false;
        }
        let due = server.list(&PODS).filter_map(|pod| Some((pod, step_of(pod, &server, self.pods_take)?)));
        let due: Vec<_> = due.collect();
        if due.is_empty() {
            self.at_rest = Some((server.revision, server.now, server.dead.clone()));
            return false;
        }
        let now = server.now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let (pod, step) = &due[self.rng.random_range(0..due.len())];
        let (pod, step) = ((*pod).clone(), *step);
        let text = |field: &str| pod["metadata"][field].as_str().unwrap_or_default();
        let (namespace, name) = (text("namespace"), text("name"));
        let ready = |status: &str| json!([{ "type": "Ready", "status": status, "lastTransitionTime": now }]);
        let status = match step {
            PodStep::Leave => {
                server.forget(namespace, name);
                return true;
            }
            PodStep::Recover => {
                server.edit(&PODS, namespace, name, |pod| {
                    let conditions = pod["status"]["conditions"].as_array_mut().unwrap();
                    conditions.retain(|condition| condition["type"] != "Ready");
                    conditions.insert(0, ready("True")[0].take());
                });
                return true;
            }
            PodStep::End => {
                let phase = if self.rng.random_bool(self.succeeds) { "Succeeded" } else { "Failed" };
                json!({ "phase": phase, "conditions": ready("False") })
            }
            PodStep::Start if !has_room(&server, &pod) => {
                json!({ "phase": "Failed", "reason": "OutOfcpu", "startTime": now })
            }
            PodStep::Start => {
                let address = format!("10.64.0.{}", self.rng.random_range(1..255));
                server.mount(&pod);
                json!({
                    "phase": "Running", "startTime": now, "podIP": address, "podIPs": [{ "ip": address }],
                    "conditions": ready("True"),
                })
            }
        };
        server.edit(&PODS, namespace, name, |pod| pod["status"] = status);
        true
    }

    /// Moves the clock to when something is due, or to the end; not if that is far off or has come.
    fn let_time_pass(&mut self, end: Option<Timestamp>) -> bool {
        let mut server = self.shared.server.lock().unwrap();
        let now = server.now;
        let limit = end.unwrap_or(now + self.patience);
        let pods = server.list(&PODS).filter(|pod| self.nodes_work && !server.is_dead(&pod["spec"]["nodeName"]));
        let ends = pods.filter_map(|pod| ends_at(pod, self.pods_take));
        let due = ends.chain(self.engine.next_timer()).min().filter(|at| *at <= limit);
        let passes_by_itself = end.is_some() || self.nodes_report;
        let Some(at) = due.or(passes_by_itself.then_some(limit)).filter(|_| now < limit) else { return false };
        let report = self.reported + REPORT_EVERY;
        server.now = now.max(if self.nodes_report { at.min(report) } else { at });
        if self.nodes_report && server.now >= report {
            server.report_nodes();
            self.reported = server.now;
        }
        true
    }
}

/// What a pod's node does next.
#[derive(Clone, Copy)]
enum PodStep {
    /// It starts, or is turned away.
    Start,
    /// It says that it is Ready again, whatever others took it for while its node was silent.
    Recover,
    /// It ends by itself.
    End,
    /// It has been deleted, and goes.
    Leave,
}

/// `pods_take` is how long those run that end by themselves.
fn step_of(pod: &Value, server: &Server, pods_take: Duration) -> Option<PodStep> {
    let node = &pod["spec"]["nodeName"];
    if node.is_null() || server.is_dead(node) {
        return None;
    }
    if !pod["metadata"]["deletionTimestamp"].is_null() {
        let is_known_to_be_gone = pod["metadata"]["deletionGracePeriodSeconds"] == 0;
        return (!is_known_to_be_gone).then_some(PodStep::Leave);
    }
    match pod["status"]["phase"].as_str()? {
        "Pending" => server.has_volumes(pod).then_some(PodStep::Start),
        "Running" => {
            if ends_at(pod, pods_take).is_some_and(|at| at <= server.now) {
                return Some(PodStep::End);
            }
            (!is_ready(pod)).then_some(PodStep::Recover)
        }
        _ => None,
    }
}

/// When a pod that runs ends by itself, if it does.
fn ends_at(pod: &Value, pods_take: Duration) -> Option<Timestamp> {
    let ends = pod["spec"]["restartPolicy"] == "Never" && pod["status"]["phase"] == "Running";
    let began: Timestamp = pod["status"]["startTime"].as_str().filter(|_| ends)?.parse().ok()?;
    Some(began + pods_take)
}

/// Whether a pod says so.
pub fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// Whether a pod is ready, and meant to stay.
pub fn serves(pod: &Value) -> bool {
    pod["metadata"]["deletionTimestamp"].is_null() && is_ready(pod)
}

/// Whether a pod fits on its node beside those that have begun there: a scheduler may not have known of them.
fn has_room(server: &Server, pod: &Value) -> bool {
    let place = &pod["spec"]["nodeName"];
    let Some(node) = place.as_str().and_then(|name| server.get(&NODES, "", name)) else { return true };
    let is_neighbour = |other: &&Value| other["spec"]["nodeName"] == *place && other["status"]["phase"] == "Running";
    let mut used = totals::requests_with_overhead(pod);
    for neighbour in server.list(&PODS).filter(is_neighbour) {
        totals::add(&mut used, &totals::requests_with_overhead(neighbour));
    }
    let allocatable = totals::of_list(node, &["status", "allocatable"]);
    used.iter().all(|(name, amount)| allocatable.get(name).is_none_or(|most| amount <= most))
}

fn is_typed(resource: &Resource) -> bool {
    WATCHED.iter().any(|(watched, _)| *watched == resource)
}

/// Whether there is a watch of the resource's metadata: where not all of its objects are watched as a whole.
fn is_bare(resource: &Resource) -> bool {
    !WATCHED.iter().any(|(watched, parts)| parts.is_empty() && *watched == resource)
}

fn decoded(resource: &Resource, bare: bool, value: Value) -> Object {
    if bare { Object::bare(&Arc::new(resource.clone()), value) } else { Object::decode(resource, value) }.unwrap()
}

/// What a list of the resource, or of this part of it, has at this revision.
fn listed(server: &Server, resource: &Resource, part: Option<Part>, at: u64) -> Change {
    let items = server.list(resource).map(|o| decoded(resource, false, o.clone()));
    let objects = items.filter(|o| part.is_none_or(|part| part.holds(o))).collect();
    Change::Relisted { resource: Arc::new(resource.clone()), bare: false, part, objects, at }
}

/// What a list of the resource's metadata has at this revision.
fn listed_bare(server: &Server, resource: &Resource, at: u64) -> Change {
    let objects = server.list(resource).map(|o| decoded(resource, true, o.clone())).collect();
    Change::Relisted { resource: Arc::new(resource.clone()), bare: true, part: None, objects, at }
}

pub fn node(name: &str, cpu: &str) -> Value {
    json!({
        "metadata": {
            "name": name,
            "labels": { "kubernetes.io/hostname": name },
            "annotations": { "k8w.io/local-path-directory": "/volumes" },
        },
        "status": {
            "allocatable": { "cpu": cpu, "memory": "8Gi", "pods": "110" },
            "conditions": [{ "type": "Ready", "status": "True", "lastHeartbeatTime": "2024-01-01T00:00:00Z" }],
        },
    })
}

pub fn namespace(name: &str) -> Value {
    json!({ "metadata": { "name": name }, "spec": { "finalizers": ["kubernetes"] }, "status": { "phase": "Active" } })
}

/// The class whose volumes are made here, when it binds as this says.
pub fn local_class(volume_binding_mode: &str) -> Value {
    json!({
        "metadata": { "name": "local" }, "provisioner": "k8w.io/local-path", "reclaimPolicy": "Delete",
        "volumeBindingMode": volume_binding_mode,
    })
}

/// What claims of that class ask for.
pub fn local_claim() -> Value {
    json!({
        "accessModes": ["ReadWriteOnce"], "storageClassName": "local",
        "resources": { "requests": { "storage": "1Gi" } },
    })
}

/// A cluster with two nodes.
pub fn usual(server: &mut Server) {
    server.create(&resource::NODES, "", node("n1", "8")).unwrap();
    server.create(&resource::NODES, "", node("n2", "8")).unwrap();
}
