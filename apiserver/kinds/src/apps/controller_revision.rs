//! ControllerRevision: what a DaemonSet or StatefulSet looked like once.

use serde_json::Value;

use crate::field::{Field, FieldError};
use crate::kind::{Column, KindDef, Strategy};
use crate::object::{list, text};
use crate::rules;

pub fn definition() -> KindDef {
    let schema = "io.k8s.api.apps.v1.ControllerRevision";
    KindDef::builtin("apps", "v1", "ControllerRevision", "controllerrevisions", schema)
        .columns(vec![
            Column::name(),
            Column::text("Controller", |revision, _| controller(revision).into()).describe("Controller of the object"),
            Column::at("Revision", "string", "revision")
                .describe("Revision indicates the revision of the state represented by Data."),
            Column::age(),
        ])
        .strategy(ControllerRevision)
}

/// `daemonset.apps/name`, or `<none>`.
fn controller(revision: &Value) -> String {
    let owners = list(revision, &["metadata", "ownerReferences"]);
    let Some(owner) = owners.iter().find(|o| o.get("controller") == Some(&Value::Bool(true))) else {
        return "<none>".to_owned();
    };
    let (kind, name) = (text(owner, &["kind"]).to_lowercase(), text(owner, &["name"]));
    match text(owner, &["apiVersion"]).split_once('/') {
        Some((group, _)) => format!("{kind}.{group}/{name}"),
        None => format!("{kind}/{name}"),
    }
}

struct ControllerRevision;

impl Strategy for ControllerRevision {
    fn validate(&self, revision: &Value) -> Vec<FieldError> {
        let root = Field::root(revision);
        let mut errors = Vec::new();
        if !root.get("data").is_set() {
            errors.push(root.get("data").required("data is mandatory"));
        }
        rules::not_negative(&root.get("revision"), &mut errors);
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.validate(new);
        rules::immutable(&Field::root(new).get("data"), &Field::root(old).get("data"), &mut errors);
        errors
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::testing::{check_row, check_update};

    #[test]
    fn data_stays() {
        check_update(
            "controllerrevisions",
            "{metadata: {name: a, namespace: b}, data: {x: 1}, revision: 1}",
            "{metadata: {name: a, namespace: b}, data: {x: 2}, revision: -1}",
            expect![[r#"
                revision: Invalid value: -1: must be greater than or equal to 0
                data: Invalid value: {"x":2}: field is immutable
            "#]],
        );
        check_row(
            "controllerrevisions",
            "{metadata: {name: a, ownerReferences: [{apiVersion: apps/v1, kind: DaemonSet, name: d, controller: true}]}, revision: 2}",
            expect!["Name=a | Controller=daemonset.apps/d | Revision=2 | Age=<unknown>"],
        );
    }
}
