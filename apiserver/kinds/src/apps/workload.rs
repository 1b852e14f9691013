//! What Deployments and ReplicaSets (and their kin) share.

use serde_json::Value;

use crate::core::pod::template;
use crate::field::{Field, FieldError};
use crate::intstr::{self, Round};
use crate::kind::Column;
use crate::object::{get, int, text};
use crate::{names, rules};

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

/// What the writer of a new workload is told whose name its pods' host names cannot begin with.
pub fn name_warnings(object: &Value) -> Vec<String> {
    let wrong = names::dns_label(text(object, &["metadata", "name"]));
    let warning = || {
        format!(
            "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is \
             recommended: [{}]",
            wrong.join(" ")
        )
    };
    if wrong.is_empty() { Vec::new() } else { vec![warning()] }
}

/// The warnings of an update: there are some only where it changes what the generation counts.
pub fn if_generation_moved(new: &Value, old: &Value, warnings: impl FnOnce() -> Vec<String>) -> Vec<String> {
    let generation = |object| int(object, &["metadata", "generation"]);
    if generation(new) == generation(old) { Vec::new() } else { warnings() }
}

/// What is allowed in the template of a workload, but likely not meant.
pub fn template_warnings(object: &Value) -> Vec<String> {
    template::warnings(&Field::root(object).get("spec").get("template"))
}

/// How many pods an amount stands for, or per cent of them; 0 where it cannot be read.
pub fn amount(field: &Field) -> i64 {
    let read = |value: &Value| intstr::scaled(value, 100, Round::Up).or_else(|| value.as_str()?.parse().ok());
    field.value().and_then(read).unwrap_or_default()
}

/// The count of clashes of names is never taken back.
pub fn validate_collisions(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let (root, path) = (Field::root(new), ["status", "collisionCount"]);
    let (count, before) = (int(new, &path), int(old, &path));
    if get(old, &path).is_some() && (get(new, &path).is_none() || count < before) {
        let status = root.get("status");
        errors.push(FieldError::invalid(&status.path.child("collisionCount"), count, "cannot be decremented"));
    }
}

/// Counts of a status are never below zero, and none is above `replicas`.
///
/// `ready` is what errors call the count of ready pods.
pub fn validate_counts(status: &Field, counts: &[&str], ready: &str, errors: &mut Vec<FieldError>) {
    for name in counts {
        rules::not_negative(&status.get(name), errors);
    }
    let replicas = status.get("replicas").int().unwrap_or_default();
    let at_most = |count: &Field, limit: i64, of: &str, errors: &mut Vec<FieldError>| {
        if count.int().unwrap_or_default() > limit {
            errors.push(count.invalid(format!("cannot be greater than {of}")));
        }
    };
    let are_parts =
        |name: &&&str| name.ends_with("Replicas") && !matches!(**name, "unavailableReplicas" | "terminatingReplicas");
    for name in counts.iter().filter(are_parts) {
        at_most(&status.get(name), replicas, "status.replicas", errors);
    }
    let number = status.get("readyReplicas").int().unwrap_or_default();
    at_most(&status.get("availableReplicas"), number, ready, errors);
}
