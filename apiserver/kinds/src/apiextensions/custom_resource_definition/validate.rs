//! Rules of a definition, in the words of `k8s.io/apiextensions-apiserver` `pkg/apis/apiextensions/validation`.
//!
//! What all versions have in common is checked once, and told at the place where the first version of this API had it:
//! `spec.validation`, `spec.subresources`, `spec.additionalPrinterColumns`.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

use super::status::{APPROVED_ANNOTATION, Approval};
use super::{ca_bundle, schemas};
use crate::admissionregistration::webhook;
use crate::field::{Field, FieldError, FieldPath};
use crate::object::{get, list, same, text};
use crate::rules;
use crate::schema::{Broken, Schema};

const COLUMN_TYPES: &str = "must be one of boolean,date,integer,number,string";
const COLUMN_FORMATS: [&str; 8] = ["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
const MAX_SELECTABLE_FIELDS: usize = 8;
const MAX_DEPRECATION_WARNING_BYTES: usize = 256;
const REVIEW_VERSIONS: [&str; 2] = ["v1", "v1beta1"];

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
    self::spec(&spec, None, &mut errors);
    stored_versions(definition, &mut errors);
    approval(definition, None, &mut errors);
    preserve_unknown_fields(definition, None, &mut errors);
    errors
}

/// Everything below `spec`. What a stored definition is let have may stay as it is in `old`.
pub fn spec(spec: &Field, old: Option<&Value>, errors: &mut Vec<FieldError>) {
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
    let versions = spec.get("versions");
    let preserve = spec.get("preserveUnknownFields");
    let preserves = preserve.bool() == Some(true);
    missing_schemas(&versions, preserves, old, errors);
    let has_default =
        |version: Field| version.get("schema").get("openAPIV3Schema").value().is_some_and(Schema::has_defaults_in_crd);
    if preserves && versions.items().any(has_default) {
        errors.push(preserve.invalid("must be false in order to use defaults in the schema"));
    }
    let let_be = schemas::let_be(spec, old);
    self::versions(&versions, let_be, old, errors);
    let spec_names = spec.get("names");
    for field in ["plural", "singular", "kind", "listKind"] {
        rules::required(&spec_names.get(field), errors);
    }
    self::names(&spec_names, errors);
    shared(spec, let_be, old, errors);
    let conversion = spec.get("conversion");
    let strategy = conversion.get("strategy");
    if preserves && conversion.is_set() && strategy.text() != "None" {
        errors.push(strategy.invalid("must be None if spec.preserveUnknownFields is true"));
    }
    self::conversion(&conversion, old, errors);
}

/// Every version has a schema. Where one had none before, those do whose objects lose all fields without it.
fn missing_schemas(versions: &Field, preserves: bool, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let has_none = |version: &Value| get(version, &["schema", "openAPIV3Schema"]).is_none_or(Value::is_null);
    let had_none = old.is_some_and(|old| super::versions(old).iter().any(has_none));
    for version in versions.items() {
        let is_let_be = had_none && (preserves || version.get("served").bool() != Some(true));
        let schema = version.get("schema");
        let schema = schema.get("openAPIV3Schema");
        if !schema.is_set() && !is_let_be {
            errors.push(schema.required(if had_none { "because otherwise all fields are pruned" } else { "" }));
        }
    }
}

/// A part of the versions that is the same in all of them: its value, which may be missing. `None` where they differ.
fn alike<'v>(versions: &Field<'v, '_>, part: &str) -> Option<Option<&'v Value>> {
    let mut all = versions.items().map(|version| version.get(part).value());
    let first = all.next()?;
    all.all(|other| same(first, other)).then_some(first)
}

fn versions(versions: &Field, let_be: Broken, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let (mut storage, mut seen, mut unique, mut large_patterns) = (0, BTreeSet::new(), true, Vec::new());
    let own = |part: &str| alike(versions, part).is_none();
    for version in versions.items() {
        storage += usize::from(version.get("storage").bool() == Some(true));
        let name = version.get("name");
        unique &= seen.insert(name.text());
        let wrong = crate::names::dns1035_label(name.text());
        if !wrong.is_empty() {
            errors.push(name.invalid(wrong.join(",")));
        }
        deprecation(&version, errors);
        let schema = version.get("schema");
        let subresources = version.get("subresources");
        if own("schema") {
            let has_status = alike(versions, "subresources").unwrap_or(subresources.value());
            let has_status = has_status.is_some_and(|s| get(s, &["status"]).is_some());
            schemas::validate(&schema, has_status, let_be, &mut large_patterns, errors);
        }
        if own("subresources") {
            self::subresources(&subresources, errors);
        }
        if own("additionalPrinterColumns") {
            version.get("additionalPrinterColumns").items().for_each(|c| column(&c, errors));
        }
        let fields = version.get("selectableFields");
        if own("selectableFields") && !fields.is_empty() {
            let schema = schema.get("openAPIV3Schema");
            match schema.value().filter(|_| own("schema")) {
                Some(schema) => selectable_fields(&fields, schema, too_many_before(old, name.text(), &fields), errors),
                None => {
                    let detail = "may only be set when `version.schema.openAPIV3Schema` is not included";
                    errors.push(FieldError::invalid(&fields.path, "", detail));
                }
            }
        }
    }
    if !unique {
        errors.push(versions.invalid("must contain unique version names"));
    }
    if storage != 1 {
        errors.push(versions.invalid("must have exactly one version marked as storage version"));
    }
    if let Some(first) = versions.items().next() {
        let name = first.get("name").text();
        let wrong = crate::names::dns1035_label(name);
        if !wrong.is_empty() {
            let spec = FieldPath::new("spec");
            errors.push(FieldError::invalid(&spec.child("version"), name, wrong.join(",")));
        }
    }
}

/// What all versions have alike.
fn shared(spec: &Field, let_be: Broken, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let versions = spec.get("versions");
    let at = |part: &str| alike(&versions, part).flatten();
    let schema = at("schema");
    if let Some(schema) = schema {
        let has_status = versions.items().any(|v| v.get("subresources").get("status").is_set());
        let schema = Field::new(Some(schema), spec.path.child("validation"));
        schemas::validate(&schema, has_status, let_be, &mut Vec::new(), errors);
    }
    subresources(&Field::new(at("subresources"), spec.path.child("subresources")), errors);
    let columns = Field::new(at("additionalPrinterColumns"), spec.path.child("additionalPrinterColumns"));
    columns.items().for_each(|c| column(&c, errors));
    let fields = Field::new(at("selectableFields"), spec.path.child("selectableFields"));
    if !fields.is_empty() {
        match schema.and_then(|schema| get(schema, &["openAPIV3Schema"])) {
            Some(schema) => {
                let first = versions.items().next().map(|version| version.get("name").text()).unwrap_or_default();
                selectable_fields(&fields, schema, too_many_before(old, first, &fields), errors);
            }
            None => {
                let detail = "may only be set when validations.schema is included";
                errors.push(FieldError::invalid(&fields.path, "", detail));
            }
        }
    }
}

/// Whether a version had as many fields before, which it may keep.
fn too_many_before(old: Option<&Value>, version: &str, fields: &Field) -> bool {
    let versions = old.map(super::versions).unwrap_or_default();
    let before = versions.iter().find(|known| text(known, &["name"]) == version);
    let before = before.map(|version| list(version, &["selectableFields"])).unwrap_or_default();
    before.len() > MAX_SELECTABLE_FIELDS && fields.value().and_then(Value::as_array).is_some_and(|now| now == before)
}

/// What Go calls not printable: neither letter, mark, number, punctuation, symbol nor space.
static NOT_PRINTABLE: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"[^\p{L}\p{M}\p{N}\p{P}\p{S} ]").ok());

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
    if let Some(found) = NOT_PRINTABLE.as_ref().and_then(|pattern| pattern.find(text)) {
        let detail = "must only contain printable UTF-8 characters; non-printable character found at index";
        errors.push(warning.invalid(format!("{detail} {}", found.start())));
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

fn selectable_fields(fields: &Field, schema: &Value, any_number: bool, errors: &mut Vec<FieldError>) {
    let mut seen = BTreeSet::new();
    for field in fields.items() {
        let path = field.get("jsonPath");
        if !rules::required(&path, errors) {
            continue;
        }
        let (found, schema) = match Schema::find_in_crd(schema, path.text()) {
            Ok(found) => found,
            Err(why) => {
                errors.push(path.invalid(format!("is an invalid path: {why}")));
                continue;
            }
        };
        if found.split(['.', '[']).next() == Some("metadata") {
            errors.push(path.invalid("must not point to fields in metadata"));
        }
        if !schema.is_some_and(|schema| matches!(text(schema, &["type"]), "string" | "boolean" | "integer")) {
            errors.push(path.invalid(
                "must point to a field of type string, boolean or integer. Enum string fields and strings with formats \
                 are allowed.",
            ));
        }
        if !seen.insert(found) {
            errors.push(path.duplicate());
        }
    }
    if seen.len() > MAX_SELECTABLE_FIELDS && !any_number {
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
    let each = |list: &str, errors: &mut Vec<FieldError>| {
        for name in names.get(list).items() {
            let wrong = crate::names::dns1035_label(name.text());
            if !wrong.is_empty() {
                errors.push(name.invalid(wrong.join(",")));
            }
        }
    };
    each("shortNames", errors);
    let (kind, list_kind) = (names.get("kind"), names.get("listKind"));
    if !kind.is_empty() && kind.text() == list_kind.text() {
        errors.push(list_kind.invalid("kind and listKind may not be the same"));
    }
    each("categories", errors);
}

/// `status.acceptedNames`.
pub fn accepted_names(definition: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    names(&Field::root(definition).get("status").get("acceptedNames"), &mut errors);
    errors
}

fn conversion(conversion: &Field, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    if !conversion.is_set() {
        return;
    }
    let (strategy, webhook) = (conversion.get("strategy"), conversion.get("webhook"));
    rules::one_of(&strategy, &["None", "Webhook"], errors);
    let client = Field::new(webhook.get("clientConfig").value(), conversion.path.child("webhookClientConfig"));
    let reviews = webhook.get("conversionReviewVersions");
    let reviews = Field::new(reviews.value(), conversion.path.child("conversionReviewVersions"));
    if strategy.text() != "Webhook" {
        if client.is_set() {
            errors.push(client.forbidden("should not be set when strategy is not set to Webhook"));
        }
        if !reviews.is_empty() {
            errors.push(reviews.forbidden("should not be set when strategy is not set to Webhook"));
        }
        return;
    }
    let (url, service) = (client.get("url"), client.get("service"));
    if !client.is_set() {
        errors.push(client.required("required when strategy is set to Webhook"));
    } else if url.is_set() == service.is_set() {
        errors.push(client.required("exactly one of url or service is required"));
    } else if url.is_set() {
        webhook::url(&url, errors);
    } else {
        webhook::service(&service, errors);
    }
    let bundle = client.get("caBundle");
    if !bundle.is_empty()
        && old.is_some_and(|old| !ca_bundle::may_be_invalid(old))
        && let Some(why) = ca_bundle::wrong(bundle.text())
    {
        errors.push(bundle.invalid(why));
    }
    let before = list(old.unwrap_or(&Value::Null), &["spec", "conversion", "webhook", "conversionReviewVersions"]);
    let known = |version: &Value| version.as_str().is_some_and(|version| REVIEW_VERSIONS.contains(&version));
    review_versions(&reviews, before.is_empty() || before.iter().any(known), errors);
}

fn review_versions(versions: &Field, one_is_known: bool, errors: &mut Vec<FieldError>) {
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
    if one_is_known && !REVIEW_VERSIONS.iter().any(|known| seen.contains(known)) {
        errors.push(versions.invalid(format!("must include at least one of {}", REVIEW_VERSIONS.join(", "))));
    }
}

/// Objects may still be stored in any version that `status.storedVersions` names.
pub fn stored_versions(definition: &Value, errors: &mut Vec<FieldError>) {
    let root = Field::root(definition);
    let status = root.get("status");
    let stored = status.get("storedVersions");
    if stored.is_empty() {
        return errors.push(FieldError::invalid(&stored.path, Value::Null, "must have at least one stored version"));
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

pub fn preserve_unknown_fields(definition: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let root = Field::root(definition);
    let spec = root.get("spec");
    let preserve = spec.get("preserveUnknownFields");
    let before = old.and_then(|old| get(old, &["spec", "preserveUnknownFields"])) == Some(&Value::Bool(true));
    if preserve.bool() == Some(true) && !before {
        errors.push(preserve.invalid(
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead",
        ));
    }
}
