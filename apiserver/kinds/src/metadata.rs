//! Rules of `metadata`, the same for every kind.

use serde_json::Value;

use crate::field::{Field, FieldError, FieldPath};
use crate::kind::KindDef;
use crate::{names, object, rules};

/// All annotations of an object together, in bytes.
pub const ANNOTATIONS_MAX_BYTES: usize = 256 * 1024;
/// The text that a client may give to say who manages fields, in bytes.
const FIELD_MANAGER_MAX_BYTES: usize = 128;
/// The subresource through which fields were written, in bytes.
const SUBRESOURCE_MAX_BYTES: usize = 256;

/// Checks the metadata of a new object; its name is decided by then.
pub fn validate(kind: &KindDef, object: &Value) -> Vec<FieldError> {
    let root = Field::root(object);
    let metadata = root.get("metadata");
    let mut errors = Vec::new();
    let (name, prefix) = (metadata.get("name"), metadata.get("generateName"));
    if !prefix.is_empty() {
        let example = without_last_dash(prefix.text());
        errors.extend(kind.strategy.validate_name(&example).into_iter().map(|wrong| prefix.invalid(wrong)));
    }
    if name.is_empty() {
        errors.push(name.required("name or generateName is required"));
    } else {
        errors.extend(kind.strategy.validate_name(name.text()).into_iter().map(|wrong| name.invalid(wrong)));
    }
    let namespace = metadata.get("namespace");
    if kind.namespaced {
        rules::name(&namespace, names::dns_label, &mut errors);
    } else if !namespace.is_empty() {
        errors.push(namespace.forbidden("not allowed on this type"));
    }
    rules::not_negative(&metadata.get("generation"), &mut errors);
    labels(&metadata.get("labels"), &mut errors);
    annotations(&metadata.get("annotations"), &mut errors);
    owners(&metadata.get("ownerReferences"), &mut errors);
    let own = metadata.get("finalizers");
    finalizers(&own, &mut errors);
    managed_fields(&metadata.get("managedFields"), &mut errors);
    if !takes_any_finalizer(kind) {
        own.items().for_each(|finalizer| standard_finalizer(&finalizer, &mut errors));
    }
    errors
}

/// The prefix of a name as names are checked: what is made from it ends in a letter or digit.
fn without_last_dash(prefix: &str) -> String {
    let Some(rest) = prefix.strip_suffix('-').filter(|rest| !rest.is_empty()) else { return prefix.to_owned() };
    let mut rest = rest.to_owned();
    rest.pop();
    rest.push('a');
    rest
}

/// Checks the metadata of an update against what is stored.
pub fn validate_update(kind: &KindDef, new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = validate(kind, new);
    let (new, old) = (Field::root(new), Field::root(old));
    let (new, old) = (new.get("metadata"), old.get("metadata"));
    for name in ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        // A deletion is only ever brought about by a delete; it may be repeated, not undone
        // ([`keep_system_fields`] takes over what was left out).
        rules::immutable(&new.get(name), &old.get(name), &mut errors);
    }
    let finalizers = new.get("finalizers");
    if old.get("deletionTimestamp").is_set() {
        let before = old.get("finalizers");
        let known = |f: &Field| before.items().any(|b| b.text() == f.text());
        let added: Vec<String> = finalizers.items().filter(|f| !known(f)).map(|f| format!("{:?}", f.text())).collect();
        if !added.is_empty() {
            let detail = "no new finalizers can be added if the object is being deleted, found new finalizers ";
            errors.push(finalizers.forbidden(format!("{detail}[]string{{{}}}", added.join(", "))));
        }
    }
    let (generation, before) = (new.get("generation"), old.get("generation"));
    if generation.int().unwrap_or_default() < before.int().unwrap_or_default() {
        let shown = generation.int().unwrap_or_default();
        errors.push(FieldError::invalid(&generation.path, shown, "must not be decremented"));
    }
    errors
}

/// Checks a map of labels.
pub fn labels(labels: &Field, errors: &mut Vec<FieldError>) {
    for (key, value) in labels.entries() {
        for wrong in names::qualified_name(key) {
            errors.push(FieldError::invalid(&labels.path, key, wrong));
        }
        for wrong in names::label_value(value.text()) {
            errors.push(FieldError::invalid(&labels.path, value.text(), wrong));
        }
    }
}

/// Checks a map of annotations.
pub fn annotations(annotations: &Field, errors: &mut Vec<FieldError>) {
    let mut bytes = 0;
    for (key, value) in annotations.entries() {
        for wrong in names::qualified_name(&key.to_lowercase()) {
            errors.push(FieldError::invalid(&annotations.path, key, wrong));
        }
        bytes += key.len() + value.text().len();
    }
    if bytes > ANNOTATIONS_MAX_BYTES {
        errors.push(FieldError::too_long(&annotations.path, ANNOTATIONS_MAX_BYTES));
    }
}

fn finalizers(finalizers: &Field, errors: &mut Vec<FieldError>) {
    for finalizer in finalizers.items() {
        errors.extend(
            names::qualified_name(finalizer.text())
                .into_iter()
                .map(|w| FieldError::invalid(&finalizers.path, finalizer.text(), w)),
        );
    }
    let has = |name: &str| finalizers.items().any(|f| f.text() == name);
    if has("orphan") && has("foregroundDeletion") {
        let detail = "finalizer orphan and foregroundDeletion cannot be both set";
        errors.push(FieldError::invalid(&finalizers.path, finalizers.value().cloned().unwrap_or_default(), detail));
    }
}

/// Kubernetes' own finalizers, which need no domain.
const STANDARD_FINALIZERS: [&str; 3] = ["foregroundDeletion", "kubernetes", "orphan"];

/// Whether a finalizer says whose it is, or is Kubernetes' own.
pub fn is_qualified(finalizer: &str) -> bool {
    finalizer.contains('/') || STANDARD_FINALIZERS.contains(&finalizer)
}

/// Kinds of servers that extend the API are not held to Kubernetes' own rule.
fn takes_any_finalizer(kind: &KindDef) -> bool {
    kind.custom.is_some() || matches!(&*kind.group, "apiextensions.k8s.io" | "apiregistration.k8s.io")
}

fn standard_finalizer(finalizer: &Field, errors: &mut Vec<FieldError>) {
    if !is_qualified(finalizer.text()) {
        errors.push(finalizer.invalid("name is neither a standard finalizer name nor is it fully qualified"));
    }
}

/// Custom objects may have finalizers without a domain; who adds one is told that others might choose the same name.
pub fn finalizer_warnings(object: &Value, old: Option<&Value>) -> Vec<String> {
    let before = old.map(|old| object::list(old, &["metadata", "finalizers"])).unwrap_or_default();
    let names = object::list(object, &["metadata", "finalizers"]).iter().filter(|name| !before.contains(name));
    let names = names.filter_map(Value::as_str);
    let unqualified = names.filter(|name| !is_qualified(name));
    let warning = |name: &str| {
        let path = if name.contains('.') { " including a path (/)" } else { "" };
        format!(
            "metadata.finalizers: {name:?}: prefer a domain-qualified finalizer name{path} to avoid accidental conflicts \
             with other finalizer writers"
        )
    };
    unqualified.map(warning).collect()
}

/// Checks an object inside of another: that it says what it is, and its metadata.
pub fn embedded(object: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let root = Field::new(Some(object), *path);
    let (api_version, kind) = (root.get("apiVersion"), root.get("kind"));
    for field in [&api_version, &kind] {
        if !field.is_set() {
            errors.push(field.required(""));
        } else if field.str() == Some("") {
            errors.push(field.invalid("must not be empty"));
        }
    }
    if api_version.text().matches('/').count() > 1 {
        errors.push(api_version.invalid(format!("unexpected GroupVersion string: {}", api_version.text())));
    }
    let wrong = names::dns1035_label(&kind.text().to_lowercase());
    if !kind.is_empty() && !wrong.is_empty() {
        errors.push(kind.invalid(format!("may have mixed case, but should otherwise match: {}", wrong.join(","))));
    }
    let metadata = root.get("metadata");
    let name = metadata.get("name");
    if !name.is_empty() {
        errors.extend(names::path_segment(name.text()).into_iter().map(|wrong| name.invalid(wrong)));
    }
    rules::maybe_form(&metadata.get("namespace"), names::dns_label, errors);
    labels(&metadata.get("labels"), errors);
    annotations(&metadata.get("annotations"), errors);
    finalizers(&metadata.get("finalizers"), errors);
    owners(&metadata.get("ownerReferences"), errors);
}

fn owners(owners: &Field, errors: &mut Vec<FieldError>) {
    let mut controller: Option<String> = None;
    for owner in owners.items() {
        // Kubernetes does not say which of them it is.
        let (version, kind) = (owners.path.child("apiVersion"), owner.get("kind"));
        let of = owner.get("apiVersion").text();
        let (group, number) = group_version(of);
        if number.is_empty() {
            errors.push(FieldError::invalid(&version, of, "version must not be empty"));
        }
        for name in ["kind", "name", "uid"] {
            if owner.get(name).is_empty() {
                errors.push(FieldError::invalid(&owners.path.child(name), "", "must not be empty"));
            }
        }
        if (group, number, kind.text()) == ("", "v1", "Event") {
            let shown = owner.value().cloned().unwrap_or_default();
            errors.push(FieldError::invalid(&owners.path, shown, "/v1, Kind=Event is disallowed from being an owner"));
        }
        if owner.get("controller").bool() != Some(true) {
            continue;
        }
        let name = format!("{}/{}", kind.text(), owner.get("name").text());
        match &controller {
            Some(first) => {
                let detail = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {name}"
                );
                let shown = owners.value().cloned().unwrap_or_default();
                errors.push(FieldError::invalid(&owners.path, shown, detail));
            }
            None => controller = Some(name),
        }
    }
}

/// Group and version of an `apiVersion`; nothing of one that is none.
fn group_version(api_version: &str) -> (&str, &str) {
    match api_version.split_once('/') {
        None => ("", api_version),
        Some((_, version)) if version.contains('/') => ("", ""),
        Some(both) => both,
    }
}

fn managed_fields(entries: &Field, errors: &mut Vec<FieldError>) {
    for entry in entries.items() {
        let operation = entry.get("operation");
        if !matches!(operation.text(), "Apply" | "Update") {
            errors.push(operation.invalid("must be `Apply` or `Update`"));
        }
        if !matches!(entry.get("fieldsType").text(), "" | "FieldsV1") {
            errors.push(entry.get("fieldsType").invalid("must be `FieldsV1`"));
        }
        let manager = entry.get("manager");
        errors.extend(field_manager(manager.text(), &manager.path));
        let subresource = entry.get("subresource");
        if subresource.text().len() > SUBRESOURCE_MAX_BYTES {
            errors.push(FieldError::too_long(&subresource.path, SUBRESOURCE_MAX_BYTES));
        }
    }
}

/// Checks the name of a field manager: short, and nothing but what can be printed.
pub fn field_manager(manager: &str, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if manager.len() > FIELD_MANAGER_MAX_BYTES {
        errors.push(FieldError::too_long(path, FIELD_MANAGER_MAX_BYTES));
    }
    let is_printed = |c: char| !c.is_control() && (c == ' ' || !c.is_whitespace());
    for (at, c) in manager.char_indices().filter(|(_, c)| !is_printed(*c)) {
        let detail = format!("invalid character U+{:04X} (at position {at})", u32::from(c));
        errors.push(FieldError::invalid(path, manager, detail));
    }
    errors
}

/// Takes over from what is stored what writes of an object do not decide (`rest.BeforeUpdate` in `k8s.io/apiserver`):
/// since when it is, and how it is being deleted. What is left of a client's own values [`validate_update`] refuses.
pub fn keep_system_fields(new: &mut Value, old: &Value) {
    let Some(old) = old.get("metadata") else { return };
    let Some(metadata) = object::ensure(new, &["metadata"]) else { return };
    metadata.remove("selfLink");
    let is_set = |value: Option<&Value>| value.is_some_and(|value| !value.is_null() && value.as_str() != Some(""));
    for name in ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        let fixed = matches!(name, "creationTimestamp" | "deletionTimestamp");
        if let Some(value) = old.get(name).filter(|value| is_set(Some(value)))
            && (fixed || !is_set(metadata.get(name)))
        {
            metadata.insert(name.to_owned(), value.clone());
        }
    }
    match old.get("generation") {
        Some(generation) => metadata.insert("generation".to_owned(), generation.clone()),
        None => metadata.remove("generation"),
    };
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::testing::{check, check_update};

    #[test]
    fn names_labels_and_annotations() {
        check(
            "configmaps",
            "{metadata: {name: A_b, labels: {'a b': c, d: '-'}, annotations: {'/x': y}, finalizers: [mine, a/b]}}",
            expect![[r#"
                metadata.name: Invalid value: "A_b": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
                metadata.namespace: Required value
                metadata.labels: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
                metadata.labels: Invalid value: "-": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')
                metadata.annotations: Invalid value: "/x": prefix part must be non-empty
                metadata.finalizers[0]: Invalid value: "mine": name is neither a standard finalizer name nor is it fully qualified
            "#]],
        );
        check(
            "configmaps",
            "{metadata: {namespace: A}}",
            expect![[r#"
            metadata.name: Required value: name or generateName is required
            metadata.namespace: Invalid value: "A": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
        "#]],
        );
    }

    #[test]
    fn owners() {
        check(
            "configmaps",
            r#"
            metadata:
              name: a
              namespace: b
              ownerReferences:
              - {apiVersion: v1, kind: Pod, name: p, uid: u, controller: true}
              - {apiVersion: v1, kind: Pod, name: q, uid: v, controller: true}
              - {}
              - {apiVersion: a/b/c, kind: Pod, name: r, uid: w}
              - {apiVersion: v1, kind: Event, name: e, uid: x}
            "#,
            expect![[r#"
                metadata.ownerReferences: Invalid value: [{"apiVersion":"v1","controller":true,"kind":"Pod","name":"p","uid":"u"},{"apiVersion":"v1","controller":true,"kind":"Pod","name":"q","uid":"v"},{"apiVersion":"","kind":"","name":"","uid":""},{"apiVersion":"a/b/c","kind":"Pod","name":"r","uid":"w"},{"apiVersion":"v1","kind":"Event","name":"e","uid":"x"}]: Only one reference can have Controller set to true. Found "true" in references for Pod/p and Pod/q
                metadata.ownerReferences.apiVersion: Invalid value: "": version must not be empty
                metadata.ownerReferences.kind: Invalid value: "": must not be empty
                metadata.ownerReferences.name: Invalid value: "": must not be empty
                metadata.ownerReferences.uid: Invalid value: "": must not be empty
                metadata.ownerReferences.apiVersion: Invalid value: "a/b/c": version must not be empty
                metadata.ownerReferences: Invalid value: {"apiVersion":"v1","kind":"Event","name":"e","uid":"x"}: /v1, Kind=Event is disallowed from being an owner
            "#]],
        );
    }

    #[test]
    fn what_an_update_may_not_change() {
        check_update(
            "configmaps",
            "{metadata: {name: a, namespace: b, uid: u, deletionTimestamp: '2026-01-01T00:00:00Z', finalizers: [a/b]}}",
            "{metadata: {name: c, namespace: b, uid: v, deletionTimestamp: '2026-01-01T00:00:00Z', finalizers: [a/b, c/d]}}",
            expect![[r#"
                metadata.name: Invalid value: "c": field is immutable
                metadata.uid: Invalid value: "v": field is immutable
                metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{"c/d"}
            "#]],
        );
    }
}
