//! Priority: a pod's priority class becomes a number, which later writes need not repeat; one class at most is the default.

use async_trait::async_trait;
use k8w_kinds::object::{get, int, text};
use k8w_kinds::scheduling::priority_class::is_system;
use serde_json::Value;

use super::{forbidden, is, is_kind};
use crate::plugins::{Admission, AdmissionRequest, GroupResource, Operation};
use crate::status::Status;

const GROUP: &str = "scheduling.k8s.io";
const PLURAL: &str = "priorityclasses";
const DEFAULT_PRIORITY: i64 = 0;
const DEFAULT_PREEMPTION: &str = "PreemptLowerPriority";

pub struct Priority;

#[async_trait]
impl Admission for Priority {
    fn name(&self) -> &'static str {
        "Priority"
    }

    fn resources(&self) -> Option<&'static [GroupResource]> {
        Some(&[("", "pods"), (GROUP, PLURAL)])
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), Status> {
        if !is_kind(request, "", "pods") {
            return Ok(());
        }
        if is(request, Operation::Update) {
            keep(request);
            return Ok(());
        }
        if !is(request, Operation::Create) || !request.object["spec"].is_object() {
            return Ok(());
        }
        let class = class_of(request).await?;
        let priority = class.as_ref().map_or(DEFAULT_PRIORITY, |class| int(class, &["value"]));
        let given = get(request.object, &["spec", "priority"]).and_then(Value::as_i64);
        if let Some(given) = given.filter(|given| *given != priority) {
            let why = format!(
                "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller \
                 computed {priority} from the given PriorityClass name"
            );
            return Err(forbidden(request, why));
        }
        let preemption =
            class.as_ref().map(|class| text(class, &["preemptionPolicy"])).filter(|policy| !policy.is_empty());
        let spec = &mut request.object["spec"];
        if let Some(class) = &class {
            spec["priorityClassName"] = text(class, &["metadata", "name"]).into();
        }
        spec["priority"] = priority.into();
        if get(spec, &["preemptionPolicy"]).is_none() {
            spec["preemptionPolicy"] = preemption.unwrap_or(DEFAULT_PREEMPTION).into();
        }
        Ok(())
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> Result<(), Status> {
        if is(request, Operation::Delete) && is_kind(request, GROUP, PLURAL) && is_system(request.name) {
            return Err(forbidden(request, "this is a system priority class and cannot be deleted"));
        }
        let writes = is(request, Operation::Create) || is(request, Operation::Update);
        if !writes || !is_kind(request, GROUP, PLURAL) || request.object["globalDefault"] != true {
            return Ok(());
        }
        let default = default_class(request);
        let default = default.as_ref().map(|class| text(class, &["metadata", "name"]));
        match default.filter(|name| request.operation == Operation::Create || *name != request.name) {
            None => Ok(()),
            Some(name) => {
                let why = format!("PriorityClass {name} is already marked as default. Only one default can exist");
                Err(forbidden(request, why))
            }
        }
    }
}

/// The cluster's default class; of several the lowest.
fn default_class(request: &AdmissionRequest<'_>) -> Option<Value> {
    let (classes, _) = request.view.kind(GROUP, PLURAL).list(None);
    let defaults = classes.iter().map(|record| record.value()).filter(|class| class["globalDefault"] == true);
    defaults.min_by_key(|class| int(class, &["value"]))
}

/// What a create set stays where an update leaves it out; validation refuses any other change.
fn keep(request: &mut AdmissionRequest<'_>) {
    let Some(old) = request.old else { return };
    let Some(spec) = request.object["spec"].as_object_mut() else { return };
    for field in ["priority", "preemptionPolicy"] {
        if let (None, Some(value)) = (spec.get(field), get(old, &["spec", field])) {
            spec.insert(field.into(), value.clone());
        }
    }
}

/// The class that the pod names, or else the cluster's default one.
async fn class_of(request: &AdmissionRequest<'_>) -> Result<Option<Value>, Status> {
    let name = text(request.object, &["spec", "priorityClassName"]);
    if name.is_empty() {
        return Ok(default_class(request));
    }
    let look = || request.view.get(GROUP, PLURAL, "", name);
    let class = match look() {
        Some(class) => Some(class),
        None => request.view.catch_up().await.map(|_| look())?,
    };
    match class {
        Some(class) => Ok(Some(class.value())),
        None => Err(forbidden(request, format!("no PriorityClass with name {name} was found"))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::World;
    use super::*;

    fn pod(spec: Value) -> Value {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "a"}, "spec": spec})
    }

    #[tokio::test]
    async fn an_update_that_leaves_the_priority_out_keeps_it() {
        let world = World::new([]).await;
        let old = world.create(&Priority, pod(json!({}))).await.unwrap();
        assert_eq!(old["spec"], json!({"priority": 0, "preemptionPolicy": "PreemptLowerPriority"}));
        let new = world.update(&Priority, old.clone(), pod(json!({}))).await.unwrap();
        assert_eq!(new["spec"], old["spec"]);
        let given = world.update(&Priority, old, pod(json!({"priority": 7}))).await.unwrap();
        assert_eq!(given["spec"]["priority"], 7);
    }

    #[tokio::test]
    async fn the_classes_of_every_cluster_stay() {
        let world = World::new([]).await;
        let class = |name: &str| json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}});
        let refused = world.delete(&Priority, class("system-node-critical")).await.unwrap_err();
        assert_eq!(
            refused.message,
            "priorityclasses.scheduling.k8s.io \"system-node-critical\" is forbidden: this is a system priority class and \
             cannot be deleted"
        );
        assert!(world.delete(&Priority, class("mine")).await.is_ok());
    }

    #[tokio::test]
    async fn one_class_at_most_is_the_default() {
        let class = |name: &str, value: i64, default: bool| {
            json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name},
                "value": value, "globalDefault": default})
        };
        let world = World::new([class("a", 10, true)]).await;
        assert_eq!(world.create(&Priority, pod(json!({}))).await.unwrap()["spec"]["priorityClassName"], "a");
        assert!(world.create(&Priority, class("b", 1, false)).await.is_ok());
        let refused = world.create(&Priority, class("b", 1, true)).await.unwrap_err();
        assert_eq!(
            refused.message,
            "priorityclasses.scheduling.k8s.io \"b\" is forbidden: PriorityClass a is already marked as default. Only one \
             default can exist"
        );
        assert!(world.update(&Priority, class("a", 10, true), class("a", 10, true)).await.is_ok());
        assert!(world.update(&Priority, class("b", 1, false), class("b", 1, true)).await.is_err());
    }
}
