//! ValidatingAdmissionPolicy: expressions that a write must satisfy.

use serde_json::Value;

use super::{matching, policy};
use crate::field::{Field, FieldError};
use crate::kind::{self, KindDef, Shape, Strategy, Subresource};
use crate::object::list;
use crate::{names, rules};

const REASONS: [&str; 4] = ["Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized"];
/// Audit annotations per policy.
const MAX_AUDIT_ANNOTATIONS: usize = 20;

pub fn definition() -> KindDef {
    let schema = "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicy";
    super::row("ValidatingAdmissionPolicy", "validatingadmissionpolicies", schema)
        .subresources(vec![Subresource::status()])
        .columns(policy::columns("Validations", |policy, _| list(policy, &["spec", "validations"]).len().into()))
        .strategy(ValidatingAdmissionPolicy)
}

struct ValidatingAdmissionPolicy;

impl Strategy for ValidatingAdmissionPolicy {
    fn shape(&self) -> Shape {
        Shape::SPEC_AND_STATUS
    }

    fn prepare_for_status_update(&self, new: &mut Value, old: &Value) {
        kind::keep_all_but_status(new, old);
    }

    fn default(&self, policy: &mut Value) {
        policy::default(policy);
    }

    fn validate(&self, policy: &Value) -> Vec<FieldError> {
        let root = Field::root(policy);
        let spec = root.get("spec");
        let mut errors = Vec::new();
        policy::validate(&spec, &mut errors);
        let (validations, annotations) = (spec.get("validations"), spec.get("auditAnnotations"));
        if validations.is_empty() && annotations.is_empty() {
            let detail = "validations or auditAnnotations must contain at least one item";
            errors.extend([validations.required(detail), annotations.required(detail)]);
        }
        for validation in validations.items() {
            matching::expression(&validation, &mut errors);
            rules::maybe_one_of(&validation.get("reason"), &REASONS, &mut errors);
            let message = validation.get("message");
            if message.is_set() && message.text().trim().is_empty() {
                errors.push(message.invalid("message must be non-empty if specified"));
            } else if message.text().trim().contains('\n') {
                errors.push(message.invalid("message must not contain line breaks"));
            }
        }
        if annotations.len() > MAX_AUDIT_ANNOTATIONS {
            errors.push(FieldError::too_many(&annotations.path, annotations.len(), MAX_AUDIT_ANNOTATIONS));
        }
        for annotation in annotations.items() {
            rules::name(&annotation.get("key"), names::qualified_name, &mut errors);
            let value = annotation.get("valueExpression");
            if value.text().trim().is_empty() {
                errors.push(value.required("valueExpression is not specified"));
            }
        }
        errors
    }

    fn validate_status_update(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        let root = Field::root(new);
        let mut errors = Vec::new();
        rules::conditions(&root.get("status").get("conditions"), &mut errors);
        errors
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::testing::{check, check_row};

    #[test]
    fn rules() {
        check(
            "validatingadmissionpolicies",
            "{metadata: {name: a}, spec: {failurePolicy: Odd, paramKind: {kind: A}, matchConstraints: {}, variables: [{name: 1, expression: x}]}}",
            expect![[r#"
                spec.failurePolicy: Unsupported value: "Odd": supported values: "Fail", "Ignore"
                spec.paramKind.apiVersion: Required value
                spec.matchConstraints.resourceRules: Required value
                spec.variables[0].name: Invalid value: 1: name is not a valid CEL identifier
                spec.validations: Required value: validations or auditAnnotations must contain at least one item
                spec.auditAnnotations: Required value: validations or auditAnnotations must contain at least one item
            "#]],
        );
        check_row(
            "validatingadmissionpolicies",
            "{metadata: {name: a}, spec: {paramKind: {apiVersion: a.b/v1, kind: C}, validations: [{expression: 'true'}]}}",
            expect!["Name=a | Validations=1 | ParamKind=a.b/v1/C | Age=<unknown>"],
        );
    }
}
