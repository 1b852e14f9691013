//! Binding a pod to a node: `POST` of a Binding to `pods/{name}/binding`, or to `bindings`.

use super::object::{Expected, answer_success};
use super::options::WriteOptions;
use crate::ApiServer;
use crate::call::Call;
use crate::codec::{Accept, Offer};
use crate::object_store::{self, Change, Patched, Rules};
use crate::plugins::Operation;
use crate::resources::Resource;
use crate::routes::Answer;
use crate::status::Status;
use futures::future::BoxFuture;
use http::header;
use jiff::Timestamp;
use k8w_kinds::field::{FieldError, FieldPath};
use k8w_kinds::object;
use k8w_kinds::schema::Schema;
use serde_json::{Value, json};
use std::sync::Arc;

/// `bindings` is a resource that is only created: the same thing without the pod's name in the URL.
pub fn serve_bindings(server: Arc<ApiServer>, call: Call) -> BoxFuture<'static, Answer> {
    Box::pin(async move {
        if call.info.verb != "create" || call.info.namespace.is_empty() {
            return Err(Status::no_such_method());
        }
        let pods = server.resources.load().get("", "v1", "pods").cloned().ok_or_else(Status::no_such_resource)?;
        serve(&server, &pods, call).await
    })
}

pub async fn serve(server: &ApiServer, pods: &Resource, mut call: Call) -> Answer {
    // Before anything is written: whoever cannot read the answer is not to find it done.
    Accept::parse(call.header(header::ACCEPT), Offer::Fixed)?;
    let options = WriteOptions::parse(&call, "CreateOptions")?;
    let schema = Schema::builtin("io.k8s.api.core.v1.Binding").ok_or_else(Status::no_such_resource)?;
    let expected = Expected { group: "", version: "v1", kind: "Binding", schema: &schema };
    let mut warnings = Vec::new();
    let mut binding = expected.read(&mut call, options.validation, &mut warnings).await?;
    let name = object::text(&binding, &["metadata", "name"]).to_string();
    if call.info.name.is_empty() {
        call.info.name = name;
        call.info.subresource = "binding".into();
    } else if !name.is_empty() && name != call.info.name {
        return Err(Status::bad_request("name in URL does not match name in Binding object"));
    }
    validate(&binding)?;
    let mut write = options.write(server, pods, &call);
    write.warnings = warnings;
    write.admit(Operation::Create, &mut binding, None).await?;
    write.admit_validating(Operation::Create, &mut binding, None).await?;
    let now = write.now;
    let change = |old: &Value| bound(old, &binding, now);
    object_store::update(&mut write, Change::Patch(&change), Rules::Trusted).await?;
    let warnings = write.warnings;
    answer_success(&call, &warnings)
}

fn validate(binding: &Value) -> Result<(), Status> {
    let target = FieldPath::new("target");
    let mut errors = Vec::new();
    let kind = object::text(binding, &["target", "kind"]);
    if !matches!(kind, "" | "Node") {
        errors.push(FieldError::not_supported(&target.child("kind"), kind, &["Node", "<empty>"]));
    }
    if object::text(binding, &["target", "name"]).is_empty() {
        errors.push(FieldError::required(&target.child("name"), ""));
    }
    let name = object::text(binding, &["metadata", "name"]);
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid("", "Binding", name, &errors)) }
}

/// The pod on its node. A pod is bound once.
fn bound(pod: &Value, binding: &Value, now: Timestamp) -> Result<Patched, Status> {
    let name = object::text(pod, &["metadata", "name"]);
    let conflict = |why: String| Err(Status::conflict("", "pods/binding", name, why));
    if object::get(pod, &["metadata", "deletionTimestamp"]).is_some() {
        return conflict(format!("pod {name} is being deleted, cannot be assigned to a host"));
    }
    match object::text(pod, &["spec", "nodeName"]) {
        "" => {}
        node => return conflict(format!("pod {name} is already assigned to node {node:?}")),
    }
    if !object::list(pod, &["spec", "schedulingGates"]).is_empty() {
        return conflict(format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    let uid = object::text(binding, &["metadata", "uid"]);
    let found = object::text(pod, &["metadata", "uid"]);
    if !uid.is_empty() && uid != found {
        return conflict(format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {found}"));
    }
    let mut pod = pod.clone();
    pod["spec"]["nodeName"] = object::text(binding, &["target", "name"]).into();
    for field in ["annotations", "labels"] {
        for (key, value) in object::map(binding, &["metadata", field]).into_iter().flatten() {
            pod["metadata"][field][key] = value.clone();
        }
    }
    set_scheduled(&mut pod, now);
    // It is where it was promised to be, or the promise is void (KEP-5278).
    object::remove(&mut pod["status"], "nominatedNodeName");
    Ok(Patched { object: pod, tracked: false, once: false })
}

fn set_scheduled(pod: &mut Value, now: Timestamp) {
    let condition = json!({
        "type": "PodScheduled", "status": "True", "lastProbeTime": null,
        "lastTransitionTime": crate::object_store::timestamp(now),
    });
    let Some(status) = object::ensure(pod, &["status"]) else { return };
    let conditions = status.entry("conditions").or_insert_with(|| Value::Array(Vec::new()));
    let Some(conditions) = conditions.as_array_mut() else { return };
    match conditions.iter_mut().find(|found| found["type"] == "PodScheduled") {
        Some(found) if found["status"] == "True" => {}
        Some(found) => *found = condition,
        None => conditions.push(condition),
    }
}
