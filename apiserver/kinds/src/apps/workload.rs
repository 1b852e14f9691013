//! What Deployments and ReplicaSets (and their kin) share.

use serde_json::Value;

use crate::core::pod::template;
use crate::field::{Field, FieldError};
use crate::kind::Column;
use crate::object::get;
use crate::rules;

/// The three columns that `-o wide` adds: names, images and the selector.
pub fn wide_columns() -> Vec<Column> {
    vec![
        Column::text("Containers", |object, _| template::containers(template_of(object), "name").into())
            .describe("Names of each container in the template.")
            .wide(),
        Column::text("Images", |object, _| template::containers(template_of(object), "image").into())
            .describe("Images referenced by each container in the template.")
            .wide(),
        Column::text("Selector", |object, _| template::selector(get(object, &["spec", "selector"])).into())
            .describe("A label query over pods that the workload counts.")
            .wide(),
    ]
}

fn template_of(object: &Value) -> &Value {
    get(object, &["spec", "template"]).unwrap_or(&Value::Null)
}

/// Counts of a status are never below zero, and none is above `replicas`.
pub fn validate_counts(status: &Field, counts: &[&str], errors: &mut Vec<FieldError>) {
    for name in counts {
        rules::not_negative(&status.get(name), errors);
    }
    let replicas = status.get("replicas").int().unwrap_or_default();
    let at_most = |count: &Field, limit: i64, of: &str, errors: &mut Vec<FieldError>| {
        if count.int().unwrap_or_default() > limit {
            errors.push(count.invalid(format!("cannot be greater than {of}")));
        }
    };
    for name in counts.iter().filter(|n| n.ends_with("Replicas") && **n != "unavailableReplicas") {
        at_most(&status.get(name), replicas, "status.replicas", errors);
    }
    let ready = status.get("readyReplicas").int().unwrap_or_default();
    at_most(&status.get("availableReplicas"), ready, "readyReplicas", errors);
}
