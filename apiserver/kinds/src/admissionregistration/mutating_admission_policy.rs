//! MutatingAdmissionPolicy: expressions that change what is written.

use serde_json::Value;

use super::{matching, policy};
use crate::field::{Field, FieldError};
use crate::kind::{KindDef, Shape, Strategy};
use crate::object::list;
use crate::rules;

pub fn definition() -> KindDef {
    let schema = "io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicy";
    super::row("MutatingAdmissionPolicy", "mutatingadmissionpolicies", schema)
        .columns(policy::columns("Mutations", |policy, _| list(policy, &["spec", "mutations"]).len().into()))
        .strategy(MutatingAdmissionPolicy)
}

struct MutatingAdmissionPolicy;

impl Strategy for MutatingAdmissionPolicy {
    fn shape(&self) -> Shape {
        Shape::SPEC
    }

    fn default(&self, policy: &mut Value) {
        policy::default(policy);
    }

    fn validate(&self, policy: &Value) -> Vec<FieldError> {
        let root = Field::root(policy);
        let spec = root.get("spec");
        let mut errors = Vec::new();
        policy::validate(&spec, true, &mut errors);
        let mutations = spec.get("mutations");
        if mutations.is_empty() {
            errors.push(mutations.required("mutations must contain at least one item"));
        }
        mutations.items().for_each(|item| mutation(&item, &mut errors));
        rules::one_of(&spec.get("reinvocationPolicy"), &["IfNeeded", "Never"], &mut errors);
        errors
    }
}

/// The patch that the type names, and no other.
fn mutation(mutation: &Field, errors: &mut Vec<FieldError>) {
    let kind = mutation.get("patchType");
    rules::one_of(&kind, &["ApplyConfiguration", "JSONPatch"], errors);
    let (wanted, other) = match kind.text() {
        "ApplyConfiguration" => ("applyConfiguration", "jsonPatch"),
        "JSONPatch" => ("jsonPatch", "applyConfiguration"),
        _ => return,
    };
    let (wanted, other) = (mutation.get(wanted), mutation.get(other));
    if wanted.is_set() {
        matching::expression(&wanted.get("expression"), "", errors);
    } else {
        errors.push(wanted.required(format!("must be specified when patchType is {}", kind.text())));
    }
    if other.is_set() {
        let shown = if kind.text() == "JSONPatch" { "{applyConfiguration}" } else { "{jsonPatch}" };
        let detail = format!("must not be specified when patchType is {}", kind.text());
        errors.push(FieldError::invalid(&other.path, shown, detail));
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::testing::check;

    #[test]
    fn rules() {
        check(
            "mutatingadmissionpolicies",
            "{metadata: {name: a}, spec: {mutations: [{patchType: JSONPatch, applyConfiguration: {expression: x}}]}}",
            expect![[r#"
                spec.matchConstraints: Required value
                spec.mutations[0].jsonPatch: Required value: must be specified when patchType is JSONPatch
                spec.mutations[0].applyConfiguration: Invalid value: "{applyConfiguration}": must not be specified when patchType is JSONPatch
                spec.reinvocationPolicy: Required value
            "#]],
        );
    }
}
