//! FlowSchema: which requests make a flow, and at which priority level.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::mandatory;
use crate::field::{Field, FieldError};
use crate::kind::{self, Column, KindDef, Shape, Strategy, Subresource};
use crate::object::{self, int, list, text};
use crate::{names, rules};

/// The precedence of a schema that does not say its own.
const DEFAULT_PRECEDENCE: i64 = 1000;
const MAX_PRECEDENCE: i64 = 10_000;
const VERBS: [&str; 9] = ["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];

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

    fn prepare_for_status_update(&self, new: &mut Value, old: &Value, _now: Timestamp) {
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
            errors.push(FieldError::invalid(&precedence.path, number, "must be a positive value"));
        }
        if number > MAX_PRECEDENCE {
            errors.push(precedence.invalid(format!("must not be greater than {MAX_PRECEDENCE}")));
        }
        if number == 1 && text(schema, &["metadata", "name"]) != "exempt" {
            errors.push(precedence.invalid("only the schema named 'exempt' may have matchingPrecedence 1"));
        }
        let method = spec.get("distinguisherMethod");
        let kind = method.get("type");
        let methods = ["ByNamespace", "ByUser"];
        if method.is_set() && !methods.contains(&kind.text()) {
            // Kubernetes shows the whole.
            errors.push(FieldError::not_supported(&kind.path, json!({"Type": kind.text()}), &methods));
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
        mandatory::check_flow_schema(text(schema, &["metadata", "name"]), &spec, &mut errors);
        errors
    }

    fn validate_status_update(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        let root = Field::root(new);
        let mut errors = Vec::new();
        mandatory::conditions(&root.get("status"), &mut errors);
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
    resources.items().for_each(|rule| resource_rule(&rule, errors));
    for rule in others.items() {
        verbs(&rule.get("verbs"), errors);
        let urls = rule.get("nonResourceURLs");
        if alone(&urls, "nonResourceURLs must contain at least one value", "non-resource URLs", errors) {
            urls.items().for_each(|url| non_resource_url(&url, errors));
        }
    }
}

fn resource_rule(rule: &Field, errors: &mut Vec<FieldError>) {
    verbs(&rule.get("verbs"), errors);
    alone(&rule.get("apiGroups"), "resource rules must supply at least one api group", "api groups", errors);
    alone(&rule.get("resources"), "resource rules must supply at least one resource", "resources", errors);
    let (namespaces, cluster) = (rule.get("namespaces"), rule.get("clusterScope"));
    if namespaces.is_empty() && cluster.bool() == Some(true) {
        return;
    }
    let required = "resource rules that are not cluster scoped must supply at least one namespace";
    if alone(&namespaces, required, "namespaces", errors) {
        for namespace in namespaces.items() {
            let wrong = names::dns_label(namespace.text()).into_iter();
            let lead = "each member of this list must be '*' or a DNS-1123 label; ";
            errors.extend(wrong.map(|wrong| namespace.invalid(format!("{lead}{wrong}"))));
        }
    }
}

/// A path, of which the last part may be `*`.
fn non_resource_url(url: &Field, errors: &mut Vec<FieldError>) {
    let path = url.text();
    let stars = path.matches('*').count();
    let wrong = match path {
        "" => "must not be empty",
        "/" => return,
        _ if !path.starts_with('/') => "must start with slash",
        _ if path.contains(' ') => "must not contain white-space",
        _ if path.contains("//") => "must not contain double slash",
        _ if stars > 1 || (stars == 1 && !path.ends_with("/*")) => "wildcard can only do suffix matching",
        _ => return,
    };
    errors.push(url.invalid(wrong));
}

fn subject(subject: &Field, errors: &mut Vec<FieldError>) {
    let kind = subject.get("kind");
    let kinds = [("Group", "group"), ("ServiceAccount", "serviceAccount"), ("User", "user")];
    let Some((name, field)) = kinds.into_iter().find(|(name, _)| *name == kind.text()) else {
        return errors.push(kind.not_supported(&kinds.map(|(name, _)| name)));
    };
    let part = subject.get(field);
    if part.is_set() {
        subject_name(name, &part, errors);
    } else {
        errors.push(part.required(format!("{field} is required when subject kind is '{name}'")));
    }
    for (name, field) in kinds.into_iter().filter(|(other, _)| *other != name) {
        let part = subject.get(field);
        if part.is_set() {
            errors.push(part.forbidden(format!("{field} is forbidden when subject kind is not '{name}'")));
        }
    }
}

fn subject_name(kind: &str, part: &Field, errors: &mut Vec<FieldError>) {
    let (name, namespace) = (part.get("name"), part.get("namespace"));
    rules::required(&name, errors);
    if kind != "ServiceAccount" {
        return;
    }
    if name.text() != "*" {
        rules::maybe_form(&name, names::dns_subdomain, errors);
    }
    if namespace.is_empty() {
        errors.push(namespace.required("must specify namespace for service account"));
    } else {
        rules::form(&namespace, names::dns_label, errors);
    }
}

fn verbs(verbs: &Field, errors: &mut Vec<FieldError>) {
    let has_unknown = alone(verbs, "verbs must contain at least one value", "verbs", errors)
        && verbs.items().any(|verb| !VERBS.contains(&verb.text()));
    if has_unknown {
        errors.push(verbs.not_supported(&VERBS));
    }
}

/// A list that must not be empty, and in which `*` stands alone. Whether it has items other than that.
fn alone(list: &Field, required: &str, others: &str, errors: &mut Vec<FieldError>) -> bool {
    if list.is_empty() {
        errors.push(list.required(required));
        return false;
    }
    let has_all = list.items().any(|item| item.text() == "*");
    if has_all && list.len() > 1 {
        errors.push(list.invalid(format!("if '*' is present, must not specify other {others}")));
    }
    !has_all
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
                spec.rules[1].subjects[0].user: Required value: user is required when subject kind is 'User'
                spec.rules[1].subjects[0].group: Forbidden: group is forbidden when subject kind is not 'Group'
                spec.rules[1].resourceRules[0].verbs: Unsupported value: ["get","odd"]: supported values: "create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"
                spec.rules[1].resourceRules[0].apiGroups: Invalid value: ["*","a"]: if '*' is present, must not specify other api groups
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

    #[test]
    fn who_and_what_a_rule_is_about() {
        check(
            "flowschemas",
            "{metadata: {name: a}, spec: {matchingPrecedence: 10001, distinguisherMethod: {type: Odd}, priorityLevelConfiguration: {name: A},
              rules: [{subjects: [{kind: Odd}, {kind: ServiceAccount, serviceAccount: {name: A, namespace: ''}, user: {name: x}}],
                resourceRules: [{verbs: ['*', get], apiGroups: [], resources: [], namespaces: [A]}],
                nonResourceRules: [{verbs: [], nonResourceURLs: [a, '/a*', '/a//b', '/']}]}]}}",
            expect![[r#"
                spec.matchingPrecedence: Invalid value: 10001: must not be greater than 10000
                spec.distinguisherMethod.type: Unsupported value: {"Type":"Odd"}: supported values: "ByNamespace", "ByUser"
                spec.priorityLevelConfiguration.name: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
                spec.rules[0].subjects[0].kind: Unsupported value: "Odd": supported values: "Group", "ServiceAccount", "User"
                spec.rules[0].subjects[1].serviceAccount.name: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
                spec.rules[0].subjects[1].serviceAccount.namespace: Required value: must specify namespace for service account
                spec.rules[0].subjects[1].user: Forbidden: user is forbidden when subject kind is not 'User'
                spec.rules[0].resourceRules[0].verbs: Invalid value: ["*","get"]: if '*' is present, must not specify other verbs
                spec.rules[0].resourceRules[0].apiGroups: Required value: resource rules must supply at least one api group
                spec.rules[0].resourceRules[0].resources: Required value: resource rules must supply at least one resource
                spec.rules[0].resourceRules[0].namespaces[0]: Invalid value: "A": each member of this list must be '*' or a DNS-1123 label; a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
                spec.rules[0].nonResourceRules[0].verbs: Required value: verbs must contain at least one value
                spec.rules[0].nonResourceRules[0].nonResourceURLs[0]: Invalid value: "a": must start with slash
                spec.rules[0].nonResourceRules[0].nonResourceURLs[1]: Invalid value: "/a*": wildcard can only do suffix matching
                spec.rules[0].nonResourceRules[0].nonResourceURLs[2]: Invalid value: "/a//b": must not contain double slash
            "#]],
        );
    }

    #[test]
    fn what_a_cluster_cannot_do_without_is_fixed() {
        check(
            "flowschemas",
            "{metadata: {name: catch-all}, spec: {matchingPrecedence: 10000, priorityLevelConfiguration: {name: catch-all}}}",
            expect![[r#"
                spec: Invalid value: {"matchingPrecedence":10000,"priorityLevelConfiguration":{"name":"catch-all"}}: spec of 'catch-all' must equal the fixed value
            "#]],
        );
    }
}
