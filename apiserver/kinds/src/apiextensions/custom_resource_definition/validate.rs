//! Rules of a definition, in the words of `k8s.io/apiextensions-apiserver` `pkg/apis/apiextensions/validation`.
//!
//! What all versions have in common is checked once, and told at the place where the first version of this API had it:
//! `spec.validation`, `spec.subresources`, `spec.additionalPrinterColumns`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::schemas;
use super::status::{APPROVED_ANNOTATION, Approval};
use crate::field::{Field, FieldError, FieldPath};
use crate::object::{get, text};
use crate::rules;

const COLUMN_TYPES: &str = "must be one of boolean,date,integer,number,string";
const COLUMN_FORMATS: [&str; 8] = ["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
const MAX_SELECTABLE_FIELDS: usize = 8;
const MAX_DEPRECATION_WARNING_BYTES: usize = 256;

/// A new definition.
pub fn new(definition: &Value) -> Vec<FieldError> {
    let root = Field::root(definition);
    let (spec, metadata) = (root.get("spec"), root.get("metadata"));
    let mut errors = Vec::new();
    let name = metadata.get("name");
    let required = format!("{}.{}", text(definition, &["spec", "names", "plural"]), spec.get("group").text());
    if name.text() != required {
        errors.push(name.invalid("must be spec.names.plural+\".\"+spec.group"));
    }
    self::spec(&spec, &mut errors);
    stored_versions(definition, &mut errors);
    approval(definition, None, &mut errors);
    preserve_unknown_fields(definition, &mut errors);
    errors
}

/// Everything below `spec`.
pub fn spec(spec: &Field, errors: &mut Vec<FieldError>) {
    let group = spec.get("group");
    if rules::required(&group, errors) {
        let wrong = crate::names::dns_subdomain(group.text());
        if !wrong.is_empty() {
            errors.push(group.invalid(wrong.join(",")));
        } else if !group.text().contains('.') {
            errors.push(group.invalid("should be a domain with at least one dot"));
        }
    }
    rules::one_of(&spec.get("scope"), &["Cluster", "Namespaced"], errors);
    versions(spec, errors);
    let spec_names = spec.get("names");
    for field in ["plural", "singular", "kind", "listKind"] {
        rules::required(&spec_names.get(field), errors);
    }
    self::names(&spec_names, errors);
    conversion(&spec.get("conversion"), errors);
}

fn versions(spec: &Field, errors: &mut Vec<FieldError>) {
    let versions = spec.get("versions");
    for version in versions.items() {
        if !version.get("schema").get("openAPIV3Schema").is_set() {
            errors.push(version.get("schema").get("openAPIV3Schema").required(""));
        }
    }
    let (mut storage, mut seen, mut unique) = (0, BTreeSet::new(), true);
    for version in versions.items() {
        storage += usize::from(version.get("storage").bool() == Some(true));
        let name = version.get("name");
        unique &= seen.insert(name.text());
        let wrong = crate::names::dns1035_label(name.text());
        if !wrong.is_empty() {
            errors.push(name.invalid(wrong.join(",")));
        }
        deprecation(&version, errors);
        selectable_fields(&version, errors);
    }
    each_or_shared(spec, "schema", "validation", errors, |schema, errors| {
        let has_status = versions.items().any(|v| v.get("subresources").get("status").is_set());
        schemas::validate(schema, has_status, errors);
    });
    each_or_shared(spec, "subresources", "subresources", errors, subresources);
    each_or_shared(spec, "additionalPrinterColumns", "additionalPrinterColumns", errors, |columns, errors| {
        columns.items().for_each(|c| column(&c, errors));
    });
    if !unique {
        errors.push(versions.invalid("must contain unique version names"));
    }
    if storage != 1 {
        errors.push(versions.invalid("must have exactly one version marked as storage version"));
    }
}

/// Checks a part of each version, or once what is the same in all of them.
fn each_or_shared(
    spec: &Field,
    field: &'static str,
    shared: &'static str,
    errors: &mut Vec<FieldError>,
    check: impl Fn(&Field, &mut Vec<FieldError>),
) {
    let versions = spec.get("versions");
    let first = versions.items().next().and_then(|version| version.get(field).value());
    let same = first.is_some() && versions.items().all(|version| version.get(field).value() == first);
    if same {
        return check(&Field::new(first, spec.path.child(shared)), errors);
    }
    for version in versions.items() {
        check(&version.get(field), errors);
    }
}

fn deprecation(version: &Field, errors: &mut Vec<FieldError>) {
    let warning = version.get("deprecationWarning");
    let Some(text) = warning.str() else { return };
    if version.get("deprecated").bool() != Some(true) {
        return errors.push(warning.invalid("can only be set for deprecated versions"));
    }
    if text.len() > MAX_DEPRECATION_WARNING_BYTES {
        errors.push(warning.invalid(format!("must be <= {MAX_DEPRECATION_WARNING_BYTES} characters long")));
    }
    if text.is_empty() {
        errors.push(warning.invalid("must not be an empty string"));
    }
    if let Some(at) = text.find(char::is_control) {
        let detail = "must only contain printable UTF-8 characters; non-printable character found at index";
        errors.push(warning.invalid(format!("{detail} {at}")));
    }
}

fn subresources(subresources: &Field, errors: &mut Vec<FieldError>) {
    let scale = subresources.get("scale");
    if !scale.is_set() {
        return;
    }
    let below = [("specReplicasPath", ".spec."), ("statusReplicasPath", ".status.")];
    for (field, prefix) in below {
        let path = scale.get(field);
        if rules::required(&path, errors) && simple_path(&path, errors) && !path.text().starts_with(prefix) {
            errors.push(path.invalid(format!("should be a json path under {}", prefix.trim_end_matches('.'))));
        }
    }
    let path = scale.get("labelSelectorPath");
    if !path.is_empty() && simple_path(&path, errors) && !below.iter().any(|(_, p)| path.text().starts_with(p)) {
        errors.push(path.invalid("should be a json path under either .spec or .status"));
    }
}

/// Says whether the path is one.
fn simple_path(path: &Field, errors: &mut Vec<FieldError>) -> bool {
    let simple = path.text().starts_with('.');
    if !simple {
        errors.push(path.invalid("must be a simple json path starting with ."));
    }
    simple
}

fn column(column: &Field, errors: &mut Vec<FieldError>) {
    rules::required(&column.get("name"), errors);
    let (kind, format) = (column.get("type"), column.get("format"));
    if kind.is_empty() {
        errors.push(kind.required(COLUMN_TYPES));
    } else if !["boolean", "date", "integer", "number", "string"].contains(&kind.text()) {
        errors.push(kind.invalid(COLUMN_TYPES));
    }
    if !format.is_empty() && !COLUMN_FORMATS.contains(&format.text()) {
        errors.push(format.invalid(format!("must be one of {}", COLUMN_FORMATS.join(","))));
    }
    let path = Field::new(column.get("jsonPath").value(), column.path.child("JSONPath"));
    if rules::required(&path, errors) {
        simple_path(&path, errors);
    }
}

fn selectable_fields(version: &Field, errors: &mut Vec<FieldError>) {
    let fields = version.get("selectableFields");
    let schema = version.value().and_then(|version| get(version, &["schema", "openAPIV3Schema"]));
    let mut seen = BTreeSet::new();
    for field in fields.items() {
        let path = field.get("jsonPath");
        if !rules::required(&path, errors) {
            continue;
        }
        let names = path.text().strip_prefix('.').unwrap_or_default();
        let found = names.split('.').try_fold(schema, |at, name| {
            let properties = get(at?, &["properties"]);
            (!name.is_empty()).then(|| properties.and_then(|properties| properties.get(name)))
        });
        match found.flatten() {
            _ if names.split('.').next() == Some("metadata") => {
                errors.push(path.invalid("must not point to fields in metadata"));
            }
            None => errors.push(path.invalid("is an invalid path: does not refer to a valid field")),
            Some(schema) if !matches!(text(schema, &["type"]), "string" | "boolean" | "integer") => {
                errors.push(path.invalid(
                    "must point to a field of type string, boolean or integer. Enum string fields and strings with \
                     formats are allowed.",
                ));
            }
            Some(_) => {}
        }
        if !seen.insert(path.text()) {
            errors.push(path.duplicate());
        }
    }
    if seen.len() > MAX_SELECTABLE_FIELDS {
        errors.push(FieldError::too_many(&fields.path, seen.len(), MAX_SELECTABLE_FIELDS));
    }
}

/// `spec.names` or `status.acceptedNames`.
fn names(names: &Field, errors: &mut Vec<FieldError>) {
    let label = |field: &Field, text: &str, lead: &str, errors: &mut Vec<FieldError>| {
        let wrong = crate::names::dns1035_label(text);
        if !text.is_empty() && !wrong.is_empty() {
            errors.push(field.invalid(format!("{lead}{}", wrong.join(","))));
        }
    };
    for name in ["plural", "singular"] {
        label(&names.get(name), names.get(name).text(), "", errors);
    }
    for name in ["kind", "listKind"] {
        let lower = names.get(name).text().to_lowercase();
        label(&names.get(name), &lower, "may have mixed case, but should otherwise match: ", errors);
    }
    for list in ["shortNames", "categories"] {
        for name in names.get(list).items() {
            let wrong = crate::names::dns1035_label(name.text());
            if !wrong.is_empty() {
                errors.push(name.invalid(wrong.join(",")));
            }
        }
    }
    let (kind, list_kind) = (names.get("kind"), names.get("listKind"));
    if !kind.is_empty() && kind.text() == list_kind.text() {
        errors.push(list_kind.invalid("kind and listKind may not be the same"));
    }
}

/// `status.acceptedNames`.
pub fn accepted_names(definition: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    names(&Field::root(definition).get("status").get("acceptedNames"), &mut errors);
    errors
}

fn conversion(conversion: &Field, errors: &mut Vec<FieldError>) {
    if !conversion.is_set() {
        return;
    }
    let (strategy, webhook) = (conversion.get("strategy"), conversion.get("webhook"));
    rules::one_of(&strategy, &["None", "Webhook"], errors);
    let client = Field::new(webhook.get("clientConfig").value(), conversion.path.child("webhookClientConfig"));
    let reviews = webhook.get("conversionReviewVersions");
    let reviews = Field::new(reviews.value(), conversion.path.child("conversionReviewVersions"));
    if strategy.text() != "Webhook" {
        for field in [&client, &reviews] {
            if !field.is_empty() {
                errors.push(field.forbidden("should not be set when strategy is not set to Webhook"));
            }
        }
        return;
    }
    let (url, service) = (client.get("url"), client.get("service"));
    if !client.is_set() {
        errors.push(client.required("required when strategy is set to Webhook"));
    } else if url.is_set() == service.is_set() {
        errors.push(client.required("exactly one of url or service is required"));
    } else if url.is_set() && !url.text().starts_with("https://") {
        errors.push(url.invalid("'https' is the only allowed URL scheme; desired format: https://host[/path]"));
    } else if service.is_set() {
        for name in ["name", "namespace"] {
            rules::required(&service.get(name), errors);
        }
    }
    review_versions(&reviews, errors);
}

fn review_versions(versions: &Field, errors: &mut Vec<FieldError>) {
    if !rules::required(versions, errors) {
        return;
    }
    let mut seen = BTreeSet::new();
    for version in versions.items() {
        if seen.insert(version.text()) {
            rules::form(&version, crate::names::dns1035_label, errors);
        } else {
            errors.push(version.invalid("duplicate version"));
        }
    }
    if !seen.contains("v1") && !seen.contains("v1beta1") {
        errors.push(versions.invalid("must include at least one of v1, v1beta1"));
    }
}

/// Objects may still be stored in any version that `status.storedVersions` names.
pub fn stored_versions(definition: &Value, errors: &mut Vec<FieldError>) {
    let root = Field::root(definition);
    let status = root.get("status");
    let stored = status.get("storedVersions");
    if stored.is_empty() {
        return errors.push(stored.invalid("must have at least one stored version"));
    }
    if let Some(storage) = super::storage_version(definition)
        && stored.items().all(|version| version.text() != storage)
    {
        errors.push(stored.invalid(format!("must have the storage version {storage}")));
    }
    for version in stored.items() {
        let name = version.text();
        if super::versions(definition).iter().all(|known| text(known, &["name"]) != name) {
            errors.push(version.invalid(format!(
                "missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions \
                 until a storage migration ensures no data remains persisted in {name} and removes {name} from \
                 status.storedVersions"
            )));
        }
    }
}

/// Kinds in Kubernetes' own groups need an annotation that says who approved them; one that lacked it before may go on.
pub fn approval(new: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let Some(approval) = Approval::of(new) else { return };
    let state = |approval: &Approval| std::mem::discriminant(approval);
    if old.and_then(Approval::of).is_some_and(|before| state(&before) == state(&approval)) {
        return;
    }
    let path = FieldPath::new("metadata");
    let path = path.child("annotations");
    let path = path.key(APPROVED_ANNOTATION);
    match approval {
        Approval::Missing(why) => errors.push(FieldError::required(&path, why)),
        Approval::Invalid(why) => {
            let found = text(new, &["metadata", "annotations", APPROVED_ANNOTATION]);
            errors.push(FieldError::invalid(&path, found, why));
        }
        Approval::Approved(_) | Approval::Bypassed(_) => {}
    }
}

pub fn preserve_unknown_fields(definition: &Value, errors: &mut Vec<FieldError>) {
    let root = Field::root(definition);
    let spec = root.get("spec");
    let preserve = spec.get("preserveUnknownFields");
    if preserve.bool() == Some(true) {
        errors.push(preserve.invalid(
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead",
        ));
    }
}
