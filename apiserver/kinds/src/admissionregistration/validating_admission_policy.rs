//! ValidatingAdmissionPolicy: expressions that a write must satisfy.

use jiff::Timestamp;
use serde_json::Value;

use super::{matching, policy};
use crate::field::{Field, FieldError};
use crate::kind::{self, KindDef, Shape, Strategy, Subresource};
use crate::object::{self, list};
use crate::{names, rules};

const REASONS: [&str; 3] = ["Forbidden", "Invalid", "RequestEntityTooLarge"];
/// Audit annotations per policy.
const MAX_AUDIT_ANNOTATIONS: usize = 20;
const MAX_AUDIT_EXPRESSION_BYTES: usize = 5 * 1024;

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

    fn prepare_for_status_update(&self, new: &mut Value, old: &Value, _now: Timestamp) {
        kind::keep_all_but_status(new, old);
    }

    fn default(&self, policy: &mut Value) {
        policy::default(policy);
    }

    fn validate(&self, policy: &Value) -> Vec<FieldError> {
        let root = Field::root(policy);
        let spec = root.get("spec");
        let mut errors = Vec::new();
        policy::validate(&spec, false, &mut errors);
        let (validations, annotations) = (spec.get("validations"), spec.get("auditAnnotations"));
        if validations.is_empty() && annotations.is_empty() {
            let detail = "validations or auditAnnotations must contain at least one item";
            errors.extend([validations.required(detail), annotations.required(detail)]);
        }
        validations.items().for_each(|item| validation(&item, &mut errors));
        if annotations.len() > MAX_AUDIT_ANNOTATIONS {
            let detail = format!("must not have more than {MAX_AUDIT_ANNOTATIONS} auditAnnotations");
            errors.push(annotations.invalid(detail));
        }
        let mut seen = Vec::new();
        for annotation in annotations.items() {
            audit_annotation(object::text(policy, &["metadata", "name"]), &annotation, &mut errors);
            let key = annotation.get("key");
            if seen.contains(&key.text()) {
                errors.push(key.duplicate());
            }
            seen.push(key.text());
        }
        errors
    }

    fn validate_status_update(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        let root = Field::root(new);
        let status = root.get("status");
        let mut errors = Vec::new();
        for warning in status.get("typeChecking").get("expressionWarnings").items() {
            rules::required(&warning.get("warning"), &mut errors);
            matching::expression(&warning.get("fieldRef"), "", &mut errors);
        }
        rules::conditions(&status.get("conditions"), &mut errors);
        errors
    }
}

fn validation(validation: &Field, errors: &mut Vec<FieldError>) {
    matching::expression(&validation.get("expression"), "expression is not specified", errors);
    let is_blank = |field: &Field| !field.is_empty() && field.text().trim().is_empty();
    let expression = validation.get("messageExpression");
    if is_blank(&expression) {
        errors.push(expression.invalid("must be non-empty if specified"));
    }
    let message = validation.get("message");
    if is_blank(&message) {
        errors.push(message.invalid("message must be non-empty if specified"));
    } else if message.text().trim().contains(['\n', '\r']) {
        errors.push(message.invalid("message must not contain line breaks"));
    }
    rules::maybe_one_of(&validation.get("reason"), &REASONS, errors);
}

/// The key is that of an annotation whose domain is the policy's name.
fn audit_annotation(policy: &str, annotation: &Field, errors: &mut Vec<FieldError>) {
    let (key, value) = (annotation.get("key"), annotation.get("valueExpression"));
    if policy.is_empty() {
        errors.push(key.invalid("requires metadata.name be non-empty"));
    } else {
        let full = format!("{policy}/{}", key.text());
        let wrong = names::qualified_name(&full).into_iter();
        errors.extend(wrong.map(|wrong| FieldError::invalid(&key.path, full.as_str(), wrong)));
    }
    matching::expression(&value, "valueExpression is not specified", errors);
    if value.text().trim().len() > MAX_AUDIT_EXPRESSION_BYTES {
        errors.push(value.required(format!("must not exceed {MAX_AUDIT_EXPRESSION_BYTES} bytes in length")));
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
            "{metadata: {name: a}, spec: {failurePolicy: Odd, paramKind: {kind: A}, matchConstraints: {}, variables: [{name: '1', expression: x}]}}",
            expect![[r#"
                spec.failurePolicy: Unsupported value: "Odd": supported values: "Fail", "Ignore"
                spec.paramKind.apiVersion: Required value
                spec.matchConstraints.resourceRules: Required value
                spec.variables[0].name: Invalid value: "1": name is not a valid CEL identifier
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

    #[test]
    fn expressions() {
        check(
            "validatingadmissionpolicies",
            "{metadata: {name: a}, spec: {paramKind: {apiVersion: A/v/1, kind: B_}, matchConstraints: {resourceRules: [{resourceNames: [a/b, x, x],
              apiGroups: ['*', a], apiVersions: [v1], resources: [b], operations: [CREATE]}]}, matchConditions: [{name: c}, {name: c, expression: x}],
              variables: [{name: in}, {}], validations: [{messageExpression: ' ', message: \"a\\nb\", reason: Unauthorized}, {expression: x, message: ' '}],
              auditAnnotations: [{key: 'k k'}, {key: k, valueExpression: x}, {key: k, valueExpression: x}]}}",
            expect![[r#"
                spec.paramKind.apiVersion: Invalid value: "A/v/1": unexpected GroupVersion string: A/v/1
                spec.paramKind.kind: Invalid value: "B_": may have mixed case, but should otherwise match: a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')
                spec.matchConstraints.resourceRules[0].resourceNames[0]: Invalid value: "a/b": may not contain '/'
                spec.matchConstraints.resourceRules[0].resourceNames[2]: Duplicate value: "x"
                spec.matchConstraints.resourceRules[0].apiGroups: Invalid value: ["*","a"]: if '*' is present, must not specify other API groups
                spec.matchConditions[0].expression: Required value
                spec.matchConditions[1].name: Duplicate value: "c"
                spec.variables[0].name: Invalid value: "in": name is not a valid CEL identifier
                spec.variables[0].expression: Required value: expression is not specified
                spec.variables[1].name: Required value: name is not specified
                spec.variables[1].expression: Required value: expression is not specified
                spec.validations[0].expression: Required value: expression is not specified
                spec.validations[0].messageExpression: Invalid value: " ": must be non-empty if specified
                spec.validations[0].message: Invalid value: "a\nb": message must not contain line breaks
                spec.validations[0].reason: Unsupported value: "Unauthorized": supported values: "Forbidden", "Invalid", "RequestEntityTooLarge"
                spec.validations[1].message: Invalid value: " ": message must be non-empty if specified
                spec.auditAnnotations[0].key: Invalid value: "a/k k": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
                spec.auditAnnotations[0].valueExpression: Required value: valueExpression is not specified
                spec.auditAnnotations[2].key: Duplicate value: "k"
            "#]],
        );
    }
}
