//! FlowSchema: which requests make a flow, and at which priority level.

use serde_json::Value;

use crate::field::{Field, FieldError};
use crate::kind::{self, Column, KindDef, Shape, Strategy, Subresource};
use crate::object::{self, int, list, text};
use crate::{names, rules};

/// The precedence of a schema that does not say its own.
const DEFAULT_PRECEDENCE: i64 = 1000;
const MAX_PRECEDENCE: i64 = 10_000;
const VERBS: [&str; 11] =
    ["*", "create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "use", "watch"];

pub fn definition() -> KindDef {
    KindDef::builtin(super::GROUP, "v1", "FlowSchema", "flowschemas", "io.k8s.api.flowcontrol.v1.FlowSchema")
        .cluster_scoped()
        .subresources(vec![Subresource::status()])
        .columns(vec![
            Column::name(),
            Column::at("PriorityLevel", "string", "spec.priorityLevelConfiguration.name"),
            Column::text("MatchingPrecedence", |schema, _| int(schema, &["spec", "matchingPrecedence"]).into()),
            Column::text("DistinguisherMethod", |schema, _| {
                match text(schema, &["spec", "distinguisherMethod", "type"]) {
                    "" => "<none>".into(),
                    method => method.into(),
                }
            }),
            Column::age(),
            Column::text("MissingPL", |schema, _| {
                let conditions = list(schema, &["status", "conditions"]).iter();
                let dangling = conditions.filter(|condition| text(condition, &["type"]) == "Dangling");
                dangling.map(|condition| text(condition, &["status"])).next_back().unwrap_or("?").into()
            }),
        ])
        .strategy(FlowSchema)
}

struct FlowSchema;

impl Strategy for FlowSchema {
    fn shape(&self) -> Shape {
        Shape::SPEC_AND_STATUS
    }

    fn prepare_for_status_update(&self, new: &mut Value, old: &Value) {
        kind::keep_all_but_status(new, old);
    }

    fn default(&self, schema: &mut Value) {
        let Some(spec) = object::ensure(schema, &["spec"]) else { return };
        if spec.get("matchingPrecedence").and_then(Value::as_i64).unwrap_or_default() == 0 {
            spec.insert("matchingPrecedence".to_owned(), DEFAULT_PRECEDENCE.into());
        }
    }

    fn validate(&self, schema: &Value) -> Vec<FieldError> {
        let root = Field::root(schema);
        let spec = root.get("spec");
        let mut errors = Vec::new();
        let precedence = spec.get("matchingPrecedence");
        let number = precedence.int().unwrap_or_default();
        if number <= 0 {
            errors.push(precedence.invalid("must be a positive value"));
        } else if number > MAX_PRECEDENCE {
            errors.push(precedence.invalid(format!("must not be greater than {MAX_PRECEDENCE}")));
        } else if number == 1 && text(schema, &["metadata", "name"]) != "exempt" {
            errors.push(precedence.invalid("only the schema named 'exempt' may have matchingPrecedence 1"));
        }
        let method = spec.get("distinguisherMethod");
        if method.is_set() {
            rules::one_of(&method.get("type"), &["ByNamespace", "ByUser"], &mut errors);
        }
        let level = spec.get("priorityLevelConfiguration");
        let level = level.get("name");
        if level.is_empty() {
            errors.push(level.required("must reference a priority level"));
        } else {
            rules::form(&level, names::dns_subdomain, &mut errors);
        }
        for rule in spec.get("rules").items() {
            self::rule(&rule, &mut errors);
        }
        errors
    }
}

fn rule(rule: &Field, errors: &mut Vec<FieldError>) {
    let subjects = rule.get("subjects");
    if subjects.is_empty() {
        errors.push(subjects.required("subjects must contain at least one value"));
    }
    for subject in subjects.items() {
        self::subject(&subject, errors);
    }
    let (resources, others) = (rule.get("resourceRules"), rule.get("nonResourceRules"));
    if resources.is_empty() && others.is_empty() {
        errors.push(FieldError::required(
            &rule.path,
            "at least one of resourceRules and nonResourceRules has to be non-empty",
        ));
    }
    for rule in resources.items() {
        verbs(&rule.get("verbs"), errors);
        for name in ["apiGroups", "resources"] {
            alone(&rule.get(name), errors);
        }
        let (namespaces, cluster) = (rule.get("namespaces"), rule.get("clusterScope"));
        if namespaces.is_empty() && cluster.bool() != Some(true) {
            errors.push(
                namespaces.required("resource rules that are not cluster scoped must supply at least one namespace"),
            );
        }
        if namespaces.len() > 1 && namespaces.items().any(|namespace| namespace.text() == "*") {
            errors.push(namespaces.invalid("if '*' is present, must not specify other namespaces"));
        }
    }
    for rule in others.items() {
        verbs(&rule.get("verbs"), errors);
        alone(&rule.get("nonResourceURLs"), errors);
    }
}

fn subject(subject: &Field, errors: &mut Vec<FieldError>) {
    let kind = subject.get("kind");
    rules::one_of(&kind, &["Group", "ServiceAccount", "User"], errors);
    for (name, field) in [("Group", "group"), ("ServiceAccount", "serviceAccount"), ("User", "user")] {
        let part = subject.get(field);
        if name != kind.text() {
            if part.is_set() {
                errors.push(part.forbidden(format!("{field} is forbidden when subject kind is not '{name}'")));
            }
        } else if !part.is_set() {
            errors.push(part.required(format!("{field} is required when subject kind is '{name}'")));
        } else {
            rules::required(&part.get("name"), errors);
            if name == "ServiceAccount" {
                rules::required(&part.get("namespace"), errors);
            }
        }
    }
}

fn verbs(verbs: &Field, errors: &mut Vec<FieldError>) {
    alone(verbs, errors);
    for verb in verbs.items().filter(|verb| !VERBS.contains(&verb.text())) {
        errors.push(verb.not_supported(&VERBS));
    }
}

/// A list that must not be empty, and in which `*` stands alone.
fn alone(list: &Field, errors: &mut Vec<FieldError>) {
    if rules::required(list, errors) && list.len() > 1 && list.items().any(|item| item.text() == "*") {
        errors.push(list.invalid("if '*' is present, must not specify other values"));
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::testing::{check, check_row};

    #[test]
    fn rules() {
        check(
            "flowschemas",
            "{metadata: {name: a}, spec: {matchingPrecedence: 1, rules: [{}, {subjects: [{kind: User, group: {name: x}}], resourceRules: [{verbs: [get, odd], apiGroups: ['*', a], resources: ['*']}]}]}}",
            expect![[r#"
                spec.matchingPrecedence: Invalid value: 1: only the schema named 'exempt' may have matchingPrecedence 1
                spec.priorityLevelConfiguration.name: Required value: must reference a priority level
                spec.rules[0].subjects: Required value: subjects must contain at least one value
                spec.rules[0]: Required value: at least one of resourceRules and nonResourceRules has to be non-empty
                spec.rules[1].subjects[0].group: Forbidden: group is forbidden when subject kind is not 'Group'
                spec.rules[1].subjects[0].user: Required value: user is required when subject kind is 'User'
                spec.rules[1].resourceRules[0].verbs[1]: Unsupported value: "odd": supported values: "*", "create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "use", "watch"
                spec.rules[1].resourceRules[0].apiGroups: Invalid value: ["*","a"]: if '*' is present, must not specify other values
                spec.rules[1].resourceRules[0].namespaces: Required value: resource rules that are not cluster scoped must supply at least one namespace
            "#]],
        );
        check_row(
            "flowschemas",
            "{metadata: {name: a}, spec: {matchingPrecedence: 5, priorityLevelConfiguration: {name: l}, distinguisherMethod: {type: ByUser}}}",
            expect![
                "Name=a | PriorityLevel=l | MatchingPrecedence=5 | DistinguisherMethod=ByUser | Age=<unknown> | MissingPL=?"
            ],
        );
    }
}
