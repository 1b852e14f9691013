//! What an access review must say to be answered (`k8s.io/kubernetes` `pkg/apis/authorization/validation`).

use serde_json::Value;

use crate::field::{Field, FieldError};
use crate::{names, rules};

/// Whose access a review asks about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    Own,
    Anybody,
    /// Of anybody, in one namespace.
    In,
}

/// Rules of a review that was sent to `namespace`, if to any.
pub fn validate(subject: Subject, review: &Value, namespace: &str) -> Vec<FieldError> {
    let root = Field::root(review);
    let (spec, metadata) = (root.get("spec"), root.get("metadata"));
    let (resource, path) = (spec.get("resourceAttributes"), spec.get("nonResourceAttributes"));
    let mut errors = Vec::new();
    if resource.is_set() && path.is_set() {
        errors.push(path.invalid("cannot be specified in combination with resourceAttributes"));
    }
    if !resource.is_set() && !path.is_set() {
        let detail = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
        errors.push(FieldError { bad_value: None, ..resource.invalid(detail) });
    }
    let user = spec.get("user");
    if subject != Subject::Own && user.is_empty() && spec.get("groups").is_empty() {
        errors.push(user.invalid("at least one of user or group must be specified"));
    }
    for name in ["fieldSelector", "labelSelector"] {
        selector(&resource.get(name), name == "labelSelector", &mut errors);
    }
    let is_local = subject == Subject::In;
    let is_own = |name: &str| name == "managedFields" || (is_local && name == "namespace");
    if metadata.entries().any(|(name, value)| !is_own(name) && !value.is_empty()) {
        let detail = if is_local { "must be empty except for namespace" } else { "must be empty" };
        errors.push(metadata.invalid(detail));
    }
    if is_local && resource.is_set() && resource.get("namespace").text() != namespace {
        errors.push(resource.get("namespace").invalid("must match metadata.namespace"));
    }
    if is_local && path.is_set() {
        errors.push(path.invalid("disallowed on this kind of request"));
    }
    errors
}

/// A selector, in one of two forms. An operator that is not known is let be: it is the client's, who may be newer.
fn selector(selector: &Field, of_labels: bool, errors: &mut Vec<FieldError>) {
    if !selector.is_set() {
        return;
    }
    let (raw, requirements) = (selector.get("rawSelector"), selector.get("requirements"));
    if !raw.is_empty() && !requirements.is_empty() {
        errors.push(raw.invalid("may not specified at the same time as requirements"));
    }
    if raw.is_empty() && requirements.is_empty() {
        let why = format!("when {} is specified, requirements or rawSelector is required", selector.path);
        errors.push(requirements.required(why));
    }
    for requirement in requirements.items() {
        let (key, values) = (requirement.get("key"), requirement.get("values"));
        if !of_labels && key.is_empty() {
            errors.push(key.required("must be specified"));
        }
        if matches!(requirement.get("operator").text(), "In" | "NotIn" | "Exists" | "DoesNotExist") {
            rules::selector_operator(&requirement, errors);
        }
        if of_labels {
            rules::form(&key, names::qualified_name, errors);
            values.items().for_each(|value| rules::form(&value, names::label_value, errors));
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::testing::yaml;

    fn check(subject: Subject, review: &str, expected: Expect) {
        let errors = validate(subject, &yaml(review), "here");
        expected.assert_eq(&errors.iter().map(|error| format!("{error}\n")).collect::<String>());
    }

    #[test]
    fn rules() {
        check(
            Subject::Own,
            "{metadata: {creationTimestamp: null}, spec: {resourceAttributes: {verb: get}}}",
            expect![[""]],
        );
        check(
            Subject::Own,
            "{metadata: {name: a}, spec: {}}",
            expect![[r#"
                spec.resourceAttributes: Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes must be specified
                metadata: Invalid value: {"name":"a"}: must be empty
            "#]],
        );
        check(
            Subject::In,
            "{metadata: {namespace: here, labels: {a: b}}, spec: {resourceAttributes: {namespace: there}, nonResourceAttributes: {path: /}}}",
            expect![[r#"
                spec.nonResourceAttributes: Invalid value: {"path":"/"}: cannot be specified in combination with resourceAttributes
                spec.user: Invalid value: "": at least one of user or group must be specified
                metadata: Invalid value: {"labels":{"a":"b"},"namespace":"here"}: must be empty except for namespace
                spec.resourceAttributes.namespace: Invalid value: "there": must match metadata.namespace
                spec.nonResourceAttributes: Invalid value: {"path":"/"}: disallowed on this kind of request
            "#]],
        );
        check(
            Subject::Anybody,
            "{spec: {groups: [g], resourceAttributes: {fieldSelector: {}, labelSelector: {rawSelector: a, requirements: [
              {key: a, operator: In}, {key: b, operator: Newer}, {key: '', operator: Exists, values: [a]}]}}}}",
            expect![[r#"
                spec.resourceAttributes.fieldSelector.requirements: Required value: when spec.resourceAttributes.fieldSelector is specified, requirements or rawSelector is required
                spec.resourceAttributes.labelSelector.rawSelector: Invalid value: "a": may not specified at the same time as requirements
                spec.resourceAttributes.labelSelector.requirements[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'
                spec.resourceAttributes.labelSelector.requirements[2].values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'
                spec.resourceAttributes.labelSelector.requirements[2].key: Invalid value: "": name part must be non-empty
                spec.resourceAttributes.labelSelector.requirements[2].key: Invalid value: "": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            "#]],
        );
    }
}
