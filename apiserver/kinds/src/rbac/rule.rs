//! What roles and bindings share: rules, role references, subjects.

use serde_json::{Map, Value};

use crate::field::{Field, FieldError};
use crate::kind::Column;
use crate::object::{self, list, text};
use crate::{names, rules};

pub const GROUP: &str = "rbac.authorization.k8s.io";

/// Checks the rules of a role; `namespaced` ones cannot speak of paths.
pub fn validate_rules(rules: &Field, namespaced: bool, errors: &mut Vec<FieldError>) {
    for rule in rules.items() {
        let (verbs, paths) = (rule.get("verbs"), rule.get("nonResourceURLs"));
        let (groups, resources, names) = (rule.get("apiGroups"), rule.get("resources"), rule.get("resourceNames"));
        if verbs.is_empty() {
            errors.push(verbs.required("verbs must contain at least one value"));
        }
        if !paths.is_empty() {
            if namespaced {
                errors.push(paths.invalid("namespaced rules cannot apply to non-resource URLs"));
            }
            if groups.len() + resources.len() + names.len() > 0 {
                errors.push(paths.invalid("rules cannot apply to both regular resources and non-resource URLs"));
            }
            continue;
        }
        if groups.is_empty() {
            errors.push(groups.required("resource rules must supply at least one api group"));
        }
        if resources.is_empty() {
            errors.push(resources.required("resource rules must supply at least one resource"));
        }
    }
}

/// Fills in the API groups that references may leave out.
pub fn default_binding(binding: &mut Value) {
    if let Some(Value::Object(reference)) = object::get_mut(binding, &["roleRef"]) {
        object::set_default_text(reference, "apiGroup", GROUP);
    }
    for subject in object::list_mut(binding, &["subjects"]).iter_mut().filter_map(Value::as_object_mut) {
        default_subject(subject);
    }
}

fn default_subject(subject: &mut Map<String, Value>) {
    if matches!(subject.get("kind").and_then(Value::as_str), Some("User" | "Group")) {
        object::set_default_text(subject, "apiGroup", GROUP);
    }
}

/// Checks a binding; `roles` are the kinds it may refer to. In a `namespaced` one a service account needs no namespace.
pub fn validate_binding(binding: &Value, roles: &[&str], namespaced: bool) -> Vec<FieldError> {
    let root = Field::root(binding);
    let reference = root.get("roleRef");
    let mut errors = Vec::new();
    if reference.get("apiGroup").text() != GROUP {
        errors.push(reference.get("apiGroup").not_supported(&[GROUP]));
    }
    if !roles.contains(&reference.get("kind").text()) {
        errors.push(reference.get("kind").not_supported(roles));
    }
    rules::name(&reference.get("name"), names::path_segment, &mut errors);
    for subject in root.get("subjects").items() {
        self::subject(&subject, namespaced, &mut errors);
    }
    errors
}

fn subject(subject: &Field, namespaced: bool, errors: &mut Vec<FieldError>) {
    let (name, group, namespace) = (subject.get("name"), subject.get("apiGroup"), subject.get("namespace"));
    rules::required(&name, errors);
    match subject.get("kind").text() {
        "ServiceAccount" => {
            rules::maybe_form(&name, names::dns_subdomain, errors);
            if !group.is_empty() {
                errors.push(group.not_supported(&[""]));
            }
            if !namespaced {
                rules::required(&namespace, errors);
            }
        }
        "User" | "Group" => {
            if group.text() != GROUP {
                errors.push(group.not_supported(&[GROUP]));
            }
        }
        _ => errors.push(subject.get("kind").not_supported(&["ServiceAccount", "User", "Group"])),
    }
}

/// The role of a binding is for life.
pub fn validate_binding_update(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let (new, old) = (Field::root(new), Field::root(old));
    let reference = new.get("roleRef");
    if !object::same(reference.value(), old.get("roleRef").value()) {
        errors.push(reference.invalid("cannot change roleRef"));
    }
}

/// The columns of both kinds of bindings.
pub fn binding_columns() -> Vec<Column> {
    vec![
        Column::name(),
        Column::text("Role", |binding, _| {
            format!("{}/{}", text(binding, &["roleRef", "kind"]), text(binding, &["roleRef", "name"])).into()
        })
        .describe("RoleRef can reference a Role in the current namespace or a ClusterRole in the global namespace."),
        Column::age(),
        Column::text("Users", |binding, _| subjects(binding, "User").into())
            .describe("Users in the roleBinding")
            .wide(),
        Column::text("Groups", |binding, _| subjects(binding, "Group").into())
            .describe("Groups in the roleBinding")
            .wide(),
        Column::text("ServiceAccounts", |binding, _| subjects(binding, "ServiceAccount").into())
            .describe("ServiceAccounts in the roleBinding")
            .wide(),
    ]
}

fn subjects(binding: &Value, kind: &str) -> String {
    let subjects = list(binding, &["subjects"]).iter().filter(|s| text(s, &["kind"]) == kind);
    let shown = subjects.map(|s| match (kind, text(s, &["namespace"])) {
        ("ServiceAccount", namespace) if !namespace.is_empty() => format!("{namespace}/{}", text(s, &["name"])),
        _ => text(s, &["name"]).to_owned(),
    });
    shown.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::testing::{check, check_default, check_row, check_update};

    #[test]
    fn rules() {
        check(
            "roles",
            "{metadata: {name: a, namespace: b}, rules: [{}, {verbs: [get], nonResourceURLs: [/x], resources: [pods]}]}",
            expect![[r#"
                rules[0].verbs: Required value: verbs must contain at least one value
                rules[0].apiGroups: Required value: resource rules must supply at least one api group
                rules[0].resources: Required value: resource rules must supply at least one resource
                rules[1].nonResourceURLs: Invalid value: ["/x"]: namespaced rules cannot apply to non-resource URLs
                rules[1].nonResourceURLs: Invalid value: ["/x"]: rules cannot apply to both regular resources and non-resource URLs
            "#]],
        );
        check(
            "clusterroles",
            "{metadata: {name: 'system:a'}, rules: [{verbs: [get], nonResourceURLs: [/x]}]}",
            expect![[r#""#]],
        );
    }

    #[test]
    fn bindings() {
        let binding = "{metadata: {name: a, namespace: b}, roleRef: {kind: Role, name: r}, subjects: [{kind: User, name: u}, {kind: ServiceAccount, name: s, namespace: ns}]}";
        check_default(
            "rolebindings",
            binding,
            expect![[r#"
            metadata:
              name: a
              namespace: b
            roleRef:
              apiGroup: rbac.authorization.k8s.io
              kind: Role
              name: r
            subjects:
            - apiGroup: rbac.authorization.k8s.io
              kind: User
              name: u
            - kind: ServiceAccount
              name: s
              namespace: ns
        "#]],
        );
        check_row(
            "rolebindings",
            binding,
            expect!["Name=a | Role=Role/r | Age=<unknown> | Users=u | Groups= | ServiceAccounts=ns/s"],
        );
        check(
            "clusterrolebindings",
            "{metadata: {name: a/b}, roleRef: {kind: Role}, subjects: [{kind: Odd}, {kind: ServiceAccount, name: s}]}",
            expect![[r#"
                metadata.name: Invalid value: "a/b": may not contain '/'
                roleRef.kind: Unsupported value: "Role": supported values: "ClusterRole"
                roleRef.name: Required value
                subjects[0].name: Required value
                subjects[0].kind: Unsupported value: "Odd": supported values: "ServiceAccount", "User", "Group"
                subjects[1].namespace: Required value
            "#]],
        );
        check(
            "rolebindings",
            "{metadata: {name: a, namespace: b}, roleRef: {kind: Odd, name: r}, subjects: [{kind: ServiceAccount, name: s}]}",
            expect![[r#"
                roleRef.kind: Unsupported value: "Odd": supported values: "Role", "ClusterRole"
            "#]],
        );
        check_update(
            "rolebindings",
            binding,
            "{metadata: {name: a, namespace: b}, roleRef: {kind: Role, name: s}}",
            expect![[r#"
                roleRef: Invalid value: {"apiGroup":"rbac.authorization.k8s.io","kind":"Role","name":"s"}: cannot change roleRef
            "#]],
        );
    }
}
