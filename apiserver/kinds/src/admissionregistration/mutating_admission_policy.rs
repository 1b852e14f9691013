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
        policy::validate(&spec, &mut errors);
        rules::one_of(&spec.get("reinvocationPolicy"), &["IfNeeded", "Never"], &mut errors);
        let mutations = spec.get("mutations");
        if mutations.is_empty() {
            errors.push(mutations.required("mutations must contain at least one item"));
        }
        for mutation in mutations.items() {
            let type_ = mutation.get("patchType");
            rules::one_of(&type_, &["ApplyConfiguration", "JSONPatch"], &mut errors);
            for (name, field) in [("ApplyConfiguration", "applyConfiguration"), ("JSONPatch", "jsonPatch")] {
                let patch = mutation.get(field);
                if name == type_.text() && !patch.is_set() {
                    errors.push(patch.required(format!("{field} is required when patchType is {name}")));
                } else if name == type_.text() {
                    matching::expression(&patch, &mut errors);
                } else if patch.is_set() {
                    errors.push(patch.forbidden(format!("{field} is forbidden when patchType is not {name}")));
                }
            }
        }
        errors
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
                spec.reinvocationPolicy: Required value
                spec.mutations[0].applyConfiguration: Forbidden: applyConfiguration is forbidden when patchType is not ApplyConfiguration
                spec.mutations[0].jsonPatch: Required value: jsonPatch is required when patchType is JSONPatch
            "#]],
        );
    }
}
