//! The only place that writes to the API.
//!
//! [`execute`] runs a plan over an [`Api`]; the API is a trait so that a simulation can stand in for it, fail any step,
//! and stop between any two.

use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{FuturesUnordered, StreamExt};
use serde_json::{Value, json};

use crate::plan::{Note, PatchKind, Plan, Propagation, Step, Target};
use crate::resource::{self, Key, Resource};
use crate::world::{Change, Object, Scale};

/// Writes of one [`Step::Together`] in flight at a time.
const MAX_BATCH_WRITES: usize = 64;
/// An answer that takes longer is taken for lost; the write may or may not have happened.
const MAX_WRITE_TIME: Duration = Duration::from_secs(30);

/// What the API server answered to one step.
#[derive(Debug)]
pub enum Answer {
    /// The object as it is now stored.
    Object(Value),
    /// The object is no longer there.
    Gone,
    /// Done, with nothing to learn from the answer.
    Done,
    /// A check's answer: the plan may go on, or not.
    Check(bool),
}

/// Why a step failed, in the API server's words (`metav1.Status`).
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// HTTP status, 0 when there was no answer.
    pub code: u16,
    pub reason: String,
    pub message: String,
}

impl Failure {
    /// The world moved on: look again rather than report.
    pub fn is_conflict(&self) -> bool {
        self.code == 409
    }

    /// Whether the write was made is not known: there was no answer, or the server failed on its way.
    pub fn leaves_open(&self) -> bool {
        self.code == 0 || self.code >= 500
    }

    fn is_gone(&self) -> bool {
        self.code == 404
    }

    /// Nothing can be created in a namespace that is going away, and nothing needs to be.
    fn namespace_is_terminating(&self) -> bool {
        self.code == 403 && self.message.contains("because it is being terminated")
    }
}

/// One API server, as the executor needs it.
#[async_trait]
pub trait Api: Send + Sync + 'static {
    /// Performs one step that is not [`Step::Together`].
    async fn perform(&self, step: &Step) -> Result<Answer, Failure>;
}

/// Takes events; never waits.
pub trait Record: Send + Sync + 'static {
    fn record(&self, note: Note);
}

/// How a plan went.
#[derive(Debug)]
pub enum Outcome {
    Done,
    /// The world was not what the plan took it for.
    Stale,
    Failed(Failure),
}

/// A plan's outcome and what its answers say about the world.
pub struct Executed {
    pub outcome: Outcome,
    pub learned: Vec<Change>,
}

pub async fn execute(plan: Plan, api: &dyn Api, notes: &dyn Record) -> Executed {
    let mut learned = Vec::new();
    for note in plan.notes {
        notes.record(note);
    }
    for step in &plan.steps {
        let result = match step {
            Step::Together(steps) => slow_start(steps, api, notes, &mut learned).await,
            step => one(step, api, notes, &mut learned).await,
        };
        if let Err(outcome) = result {
            return Executed { outcome, learned };
        }
    }
    Executed { outcome: Outcome::Done, learned }
}

/// A batch, then one of twice the size, and so on. Of what is taken away or changed each step is tried, whatever becomes of
/// the others, as long as somebody answers; of anything else the first failure is the end.
async fn slow_start(
    steps: &[Step],
    api: &dyn Api,
    notes: &dyn Record,
    learned: &mut Vec<Change>,
) -> Result<(), Outcome> {
    let mut rest = steps;
    let mut size = 1;
    let mut outcome = Ok(());
    while !rest.is_empty() {
        let (batch, later) = rest.split_at(size.min(rest.len()));
        let mut running: FuturesUnordered<_> = batch
            .iter()
            .map(|step| async move {
                let mut learned = Vec::new();
                let result = one(step, api, notes, &mut learned).await;
                (result, step.is_tried_in_any_case(), learned)
            })
            .collect();
        let mut is_over = false;
        while let Some((result, is_tried_in_any_case, more)) = running.next().await {
            learned.extend(more);
            let Err(failed) = result else { continue };
            is_over |= !is_tried_in_any_case || matches!(&failed, Outcome::Failed(failure) if failure.code == 0);
            // A failure says more than that the world moved on.
            if matches!((&outcome, &failed), (Ok(()), _) | (Err(Outcome::Stale), Outcome::Failed(_))) {
                outcome = Err(failed);
            }
        }
        if is_over {
            break;
        }
        rest = later;
        size = (size * 2).min(MAX_BATCH_WRITES);
    }
    outcome
}

async fn one(step: &Step, api: &dyn Api, notes: &dyn Record, learned: &mut Vec<Change>) -> Result<(), Outcome> {
    let answer = match tokio::time::timeout(MAX_WRITE_TIME, api.perform(step)).await {
        Ok(answer) => answer,
        Err(_) => Err(Failure { message: "the API server did not answer in time".into(), ..Failure::default() }),
    };
    let (then, or_else) = step.notes();
    match answer {
        Ok(Answer::Check(true)) => Ok(()),
        Ok(Answer::Check(false)) => Err(Outcome::Stale),
        Ok(answer) => {
            if let Some(note) = then {
                notes.record(filled(note, created_name(&answer), ""));
            }
            learned.extend(lesson(step, answer));
            Ok(())
        }
        Err(failure) if failure.is_gone() && step.is_satisfied_by_absence() => {
            learned.extend(lesson(step, Answer::Gone));
            Ok(())
        }
        Err(failure) if matches!(step, Step::Create { .. }) && failure.namespace_is_terminating() => Ok(()),
        Err(failure) if failure.is_conflict() => Err(Outcome::Stale),
        Err(failure) => {
            if let Some(note) = or_else {
                notes.record(filled(note, "", &failure.message));
            }
            Err(Outcome::Failed(failure))
        }
    }
}

impl Step {
    fn notes(&self) -> (Option<&Note>, Option<&Note>) {
        match self {
            Step::Create { then, or_else, .. }
            | Step::Delete { then, or_else, .. }
            | Step::Bind { then, or_else, .. } => (then.as_ref(), or_else.as_ref()),
            Step::Update { then, .. } | Step::Patch { then, .. } => (then.as_ref(), None),
            Step::RemoveDirectory { or_else, .. } => (None, or_else.as_ref()),
            _ => (None, None),
        }
    }

    fn is_tried_in_any_case(&self) -> bool {
        matches!(self, Step::Delete { .. } | Step::DeleteAll { .. } | Step::Patch { .. })
    }

    fn is_satisfied_by_absence(&self) -> bool {
        matches!(self, Step::Delete { .. } | Step::DeleteAll { .. } | Step::Patch { .. } | Step::ReadScale(_))
    }
}

fn created_name(answer: &Answer) -> &str {
    match answer {
        Answer::Object(object) => object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default(),
        _ => "",
    }
}

fn filled(note: &Note, name: &str, error: &str) -> Note {
    let mut note = note.clone();
    note.message = note.message.replace("{name}", name).replace("{error}", error);
    note
}

/// What a step's answer says about the world.
fn lesson(step: &Step, answer: Answer) -> Option<Change> {
    let (resource, target) = match step {
        Step::Create { resource, .. } | Step::Update { resource, .. } => (resource, None),
        Step::Patch { target, .. } | Step::Delete { target, .. } | Step::ReadScale(target) => {
            (&target.resource, Some(target))
        }
        _ => return None,
    };
    match answer {
        Answer::Object(object) if matches!(step, Step::ReadScale(_)) => scaled(target?, &object),
        Answer::Object(object) if matches!(step, Step::Delete { .. }) && !lingers(&object) => removed(target?),
        Answer::Object(object) => match Object::decode(resource, object) {
            Ok(object) => Some(Change::Written(object)),
            Err(error) => {
                tracing::warn!(resource = %resource.plural, %error, "the answer to a write can't be read");
                None
            }
        },
        // It may be the subresource that is missing: the watch says when the object is gone.
        Answer::Gone if matches!(step, Step::ReadScale(_)) => None,
        Answer::Gone => removed(target?),
        Answer::Done | Answer::Check(_) => None,
    }
}

/// `None` when the answer does not say of which revision of the object it is.
fn scaled(target: &Target, scale: &Value) -> Option<Change> {
    let of = |field: &str| scale["metadata"][field].as_str().unwrap_or_default();
    let replicas = scale["spec"]["replicas"].as_i64().and_then(|replicas| i32::try_from(replicas).ok());
    let Ok(revision) = of("resourceVersion").parse() else {
        tracing::warn!(resource = %target.resource.plural, key = %target.key, "the scale can't be read");
        return None;
    };
    let scale = Scale { uid: of("uid").to_owned(), revision, replicas: replicas.unwrap_or_default() };
    Some(Change::Scaled { resource: target.resource.clone(), key: target.key.clone(), scale })
}

fn removed(target: &Target) -> Option<Change> {
    let uid = target.uid.clone()?;
    Some(Change::Removed { resource: target.resource.clone(), key: target.key.clone(), uid })
}

/// Whether an object answered to a DELETE is still stored: it waits for finalizers or for its grace period.
fn lingers(object: &Value) -> bool {
    let metadata = &object["metadata"];
    let has_finalizers = metadata["finalizers"].as_array().is_some_and(|f| !f.is_empty());
    has_finalizers || metadata["deletionGracePeriodSeconds"].as_i64().is_some_and(|seconds| seconds > 0)
}

/// The API behind a `kube::Client`.
pub struct KubeApi {
    client: kube::Client,
}

impl KubeApi {
    pub fn new(client: kube::Client) -> Self {
        Self { client }
    }

    async fn send(&self, method: &str, path: String, media: &str, body: Value) -> Result<Value, Failure> {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let request = http::Request::builder().method(method).uri(path).header(http::header::CONTENT_TYPE, media);
        let request = request.body(body).map_err(failure)?;
        self.client.request::<Value>(request).await.map_err(from_kube)
    }

    async fn get(&self, target: &Target) -> Result<Option<Value>, Failure> {
        match self.send("GET", item(&target.resource, &target.key, ""), JSON, Value::Null).await {
            Ok(object) => Ok(Some(object)),
            Err(failure) if failure.is_gone() => Ok(None),
            Err(failure) => Err(failure),
        }
    }
}

const JSON: &str = "application/json";

#[async_trait]
impl Api for KubeApi {
    async fn perform(&self, step: &Step) -> Result<Answer, Failure> {
        match step {
            Step::Create { resource, namespace, object, .. } => {
                self.send("POST", resource.path(namespace), JSON, object.clone()).await.map(Answer::Object)
            }
            Step::Update { resource, key, subresource, object, .. } => {
                self.send("PUT", item(resource, key, subresource), JSON, object.clone()).await.map(Answer::Object)
            }
            Step::Patch { target, subresource, kind, patch, .. } => {
                let mut path = item(&target.resource, &target.key, subresource);
                let media = match kind {
                    PatchKind::Merge => "application/merge-patch+json",
                    PatchKind::Strategic => "application/strategic-merge-patch+json",
                    PatchKind::Apply { manager } => {
                        path.push_str(&format!("?fieldManager={manager}&force=true"));
                        "application/apply-patch+yaml"
                    }
                };
                self.send("PATCH", path, media, with_preconditions(patch.clone(), target)).await.map(Answer::Object)
            }
            Step::Delete { target, propagation, grace_seconds, .. } => {
                let path = item(&target.resource, &target.key, "");
                let options = delete_options(target, *propagation, *grace_seconds);
                let answer = self.send("DELETE", path, JSON, options).await?;
                Ok(if answer["kind"] == "Status" { Answer::Gone } else { Answer::Object(answer) })
            }
            Step::DeleteAll { resource, namespace } => {
                let options = json!({ "apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background" });
                self.send("DELETE", resource.path(namespace), JSON, options).await.map(|_| Answer::Done)
            }
            Step::Bind { pod, node, .. } => {
                let binding = json!({
                    "apiVersion": "v1", "kind": "Binding",
                    "metadata": { "namespace": &*pod.key.namespace, "name": &*pod.key.name, "uid": pod.uid },
                    "target": { "apiVersion": "v1", "kind": "Node", "name": node },
                });
                let path = item(&resource::PODS, &pod.key, "binding");
                self.send("POST", path, JSON, binding).await.map(|_| Answer::Done)
            }
            Step::RemoveDirectory { node, volume, .. } => {
                let path = format!("{}/proxy/volumes/{volume}", item(&resource::NODES, &Key::new("", node), ""));
                self.send("DELETE", path, JSON, Value::Null).await.map(|_| Answer::Done)
            }
            Step::ReadScale(target) => {
                let path = item(&target.resource, &target.key, "scale");
                self.send("GET", path, JSON, Value::Null).await.map(Answer::Object)
            }
            Step::CheckAbsent(target) => {
                let found = self.get(target).await?;
                let is_it = |object: Value| {
                    target.uid.as_deref().is_none_or(|uid| object["metadata"]["uid"].as_str() == Some(uid))
                };
                Ok(Answer::Check(!found.is_some_and(is_it)))
            }
            Step::CheckAlive(target) => {
                let alive = self.get(target).await?.is_some_and(|object| {
                    let metadata = &object["metadata"];
                    metadata["uid"].as_str() == target.uid.as_deref() && metadata["deletionTimestamp"].is_null()
                });
                Ok(Answer::Check(alive))
            }
            Step::CheckNoneLeft { resource, namespace } => {
                let path = format!("{}?limit=1", resource.path(namespace));
                let list = self.send("GET", path, JSON, Value::Null).await?;
                Ok(Answer::Check(list["items"].as_array().is_none_or(Vec::is_empty)))
            }
            Step::CheckAllowed(reviews) => {
                for spec in reviews {
                    let review =
                        json!({ "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec });
                    let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews".to_owned();
                    if self.send("POST", path, JSON, review).await?["status"]["allowed"] == true {
                        return Ok(Answer::Check(true));
                    }
                }
                Ok(Answer::Check(false))
            }
            Step::Together(steps) => Err(Failure {
                message: format!("{} steps at once are the executor's to split", steps.len()),
                ..Failure::default()
            }),
        }
    }
}

fn item(resource: &Resource, key: &Key, subresource: &str) -> String {
    let path = format!("{}/{}", resource.path(&key.namespace), key.name);
    if subresource.is_empty() { path } else { format!("{path}/{subresource}") }
}

/// A patch that names uid or resource version is refused with a conflict when they are not the stored ones.
fn with_preconditions(mut patch: Value, target: &Target) -> Value {
    if let Some(uid) = &target.uid {
        patch["metadata"]["uid"] = json!(uid);
    }
    if let Some(version) = &target.resource_version {
        patch["metadata"]["resourceVersion"] = json!(version);
    }
    patch
}

fn delete_options(target: &Target, propagation: Option<Propagation>, grace_seconds: Option<i64>) -> Value {
    let mut options = json!({ "apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {} });
    if let Some(uid) = &target.uid {
        options["preconditions"]["uid"] = json!(uid);
    }
    if let Some(version) = &target.resource_version {
        options["preconditions"]["resourceVersion"] = json!(version);
    }
    if let Some(seconds) = grace_seconds {
        options["gracePeriodSeconds"] = json!(seconds);
    }
    if let Some(propagation) = propagation {
        options["propagationPolicy"] = json!(format!("{propagation:?}"));
    }
    options
}

fn failure(error: impl std::fmt::Display) -> Failure {
    Failure { message: error.to_string(), ..Failure::default() }
}

fn from_kube(error: kube::Error) -> Failure {
    match error {
        kube::Error::Api(status) => {
            Failure { code: status.code, reason: status.reason.clone(), message: status.message.clone() }
        }
        other => failure(other),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Refuses what concerns these objects, with this status, and remembers whom it was asked about.
    struct Refusing {
        names: &'static [&'static str],
        code: u16,
        asked: Mutex<Vec<String>>,
    }

    #[async_trait]
    impl Api for Refusing {
        async fn perform(&self, step: &Step) -> Result<Answer, Failure> {
            let name = match step {
                Step::Delete { target, .. } => target.key.name.to_string(),
                Step::Create { object, .. } => object["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
                step => panic!("{step:?}"),
            };
            let is_refused = self.names.contains(&&*name);
            self.asked.lock().unwrap().push(name);
            let refusal = Failure { code: self.code, message: "no".into(), ..Failure::default() };
            if is_refused { Err(refusal) } else { Ok(Answer::Done) }
        }
    }

    impl Record for Refusing {
        fn record(&self, _: Note) {}
    }

    /// Of the objects `a` to `d`, those that are written together while these are refused; and how the plan ends.
    fn written(step: fn(&str) -> Step, names: &'static [&'static str], code: u16) -> (String, &'static str) {
        let api = Refusing { names, code, asked: Mutex::default() };
        let plan = Plan { steps: vec![Step::Together(["a", "b", "c", "d"].map(step).into())], ..Plan::none() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let outcome = match runtime.block_on(execute(plan, &api, &api)).outcome {
            Outcome::Done => "done",
            Outcome::Stale => "stale",
            Outcome::Failed(_) => "failed",
        };
        let asked = api.asked.lock().unwrap().join(" ");
        (asked, outcome)
    }

    #[test]
    fn what_is_taken_away_is_tried_each_for_itself_and_what_is_made_is_not() {
        let delete = |name: &str| Step::Delete {
            target: Target::named(&resource::PODS, Key::new("ns", name), None),
            propagation: None,
            grace_seconds: None,
            then: None,
            or_else: None,
        };
        let create = |name: &str| crate::plan::create(&resource::PODS, "ns", &json!({ "metadata": { "name": name } }));
        let told = |asked: &str, outcome| (asked.to_owned(), outcome);
        assert_eq!(written(delete, &[], 0), told("a b c d", "done"));
        assert_eq!(written(delete, &["a", "c"], 403), told("a b c d", "failed"));
        assert_eq!(written(delete, &["b"], 409), told("a b c d", "stale"));
        assert_eq!(written(delete, &["a"], 404), told("a b c d", "done"));
        assert_eq!(written(delete, &["a"], 0), told("a", "failed"), "nobody answers");
        assert_eq!(written(create, &[], 0), told("a b c d", "done"));
        assert_eq!(written(create, &["a"], 403), told("a", "failed"));
        assert_eq!(written(create, &["b"], 403), told("a b c", "failed"));
    }

    #[test]
    fn what_a_scale_says_is_learned_and_nothing_of_one_that_is_not_there() {
        let target = Target::named(&resource::DEPLOYMENTS, Key::new("ns", "web"), Some("web-uid".into()));
        let read = Step::ReadScale(target.clone());
        let scale = |version: &str| {
            Answer::Object(json!({
                "metadata": { "uid": "web-uid", "resourceVersion": version }, "spec": { "replicas": 3 },
            }))
        };
        let Some(Change::Scaled { key, scale: learned, .. }) = lesson(&read, scale("7")) else { panic!() };
        assert_eq!(key, target.key);
        assert_eq!(learned, Scale { uid: "web-uid".into(), revision: 7, replicas: 3 });
        assert!(lesson(&read, scale("")).is_none(), "nothing is known of which revision it is");
        assert!(lesson(&read, Answer::Gone).is_none(), "the object may be there without a scale");
    }
}
