//! The kinds that a CustomResourceDefinition defines, one per version that it serves.
//!
//! They are made of the same parts as the built-in kinds, so that nothing above has to know the difference.

mod strategy;
mod version;

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::Value;

use super::custom_resource_definition::{status, storage_version, versions};
use crate::kind::{ALL_VERBS, Column, Custom, KindDef, ScalePaths, SelectableField, StoredAs, Subresource};
use crate::object::{get, list, text};
use crate::schema::Schema;
use crate::{jsonpath::JsonPath, kind::Cell};
use strategy::CustomResource;
use version::Version;

/// What is left while the objects are being deleted.
const TERMINATING_VERBS: &[&str] = &["delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// A version of a definition that is not served, though it says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unserved {
    pub version: String,
    pub reason: String,
}

/// What a definition defines.
#[derive(Default)]
pub struct Kinds {
    pub served: Vec<KindDef>,
    pub unserved: Vec<Unserved>,
}

/// The kinds of an established definition; nothing of any other.
pub fn kinds(definition: &Value) -> Kinds {
    let mut kinds = Kinds::default();
    if !status::is_established(definition) {
        return kinds;
    }
    let storage = storage_version(definition).unwrap_or_default();
    let converts = text(definition, &["spec", "conversion", "strategy"]) == "Webhook";
    for version in versions(definition).iter().filter(|v| get(v, &["served"]) == Some(&Value::Bool(true))) {
        let name = text(version, &["name"]);
        let kind = if converts && name != storage {
            let own = text(definition, &["status", "acceptedNames", "kind"]);
            let group = text(definition, &["spec", "group"]);
            Err(format!(
                "conversion webhook for {group}/{name}, Kind={own} failed: conversion webhooks are not supported yet"
            ))
        } else {
            kind(definition, version, storage)
        };
        match kind {
            Ok(kind) => kinds.served.push(kind),
            Err(reason) => kinds.unserved.push(Unserved { version: name.to_owned(), reason }),
        }
    }
    kinds
}

/// The kind that the objects of a definition are stored as, whether it is served or not: what deletes them all.
pub fn storage_kind(definition: &Value) -> Option<KindDef> {
    let storage = storage_version(definition)?;
    let version = versions(definition).iter().find(|version| text(version, &["name"]) == storage)?;
    kind(definition, version, storage).ok()
}

/// # Errors
/// Why the version's schema cannot be used, which validation should have said before.
fn kind(definition: &Value, version: &Value, storage: &str) -> Result<KindDef, String> {
    let owned = |value: &str| Cow::Owned(value.to_owned());
    let names = |path: &str| {
        let found = list(definition, &["status", "acceptedNames", path]).iter().filter_map(Value::as_str);
        found.map(owned).collect::<Vec<_>>()
    };
    let accepted = |path: &str| owned(text(definition, &["status", "acceptedNames", path]));
    let (group, name) = (text(definition, &["spec", "group"]), text(version, &["name"]));
    let source = get(version, &["schema", "openAPIV3Schema"]).cloned().unwrap_or_default();
    let schema = Schema::from_crd(&source).map_err(|errors| {
        errors.first().map_or_else(String::new, |error| format!("its schema is not structural: {error}"))
    })?;
    let has_status = get(version, &["subresources", "status"]).is_some();
    let scale = get(version, &["subresources", "scale"]).map(scale_paths);
    let kind = accepted("kind");
    let domain: Vec<&str> = group.rsplit('.').collect();
    let conversion = Version::new(group, name, storage, schema.clone());
    let terminating = status::is_terminating(definition);
    let mut subresources = Vec::new();
    if has_status {
        subresources.push(Subresource::status());
    }
    if let Some(paths) = scale.clone() {
        subresources.push(Subresource { scale: Some(paths), ..Subresource::scale() });
    }
    let mut made = KindDef::builtin("", "", "", "", "");
    made.schema_name = format!("{}.{name}.{kind}", domain.join(".")).into();
    made.group = owned(group);
    made.version = owned(name);
    made.kind = kind;
    made.list_kind = accepted("listKind");
    made.plural = accepted("plural");
    made.singular = accepted("singular");
    made.short_names = names("shortNames");
    made.categories = names("categories");
    made.namespaced = text(definition, &["spec", "scope"]) == "Namespaced";
    made.verbs = if terminating { TERMINATING_VERBS } else { ALL_VERBS };
    made.subresources = subresources;
    made.columns = columns(version);
    made.selectable_fields = selectable_fields(version);
    made.strategy = Arc::new(CustomResource { has_status, scale });
    made.stored_as = Some(StoredAs { group: owned(group), version: owned(storage), conversion: Arc::new(conversion) });
    made.deprecation = deprecation(definition, version).map(Cow::Owned);
    Ok(made.with_schema(schema, Custom { open_api_v3_schema: Arc::new(source) }))
}

fn scale_paths(scale: &Value) -> ScalePaths {
    let path = |name: &str| text(scale, &[name]).trim_start_matches('.').to_owned();
    ScalePaths {
        spec_replicas: path("specReplicasPath").into(),
        status_replicas: path("statusReplicasPath").into(),
        selector: path("labelSelectorPath").into(),
        selector_is_map: false,
    }
}

fn selectable_fields(version: &Value) -> Vec<SelectableField> {
    let fields = list(version, &["selectableFields"]).iter();
    fields.map(|field| SelectableField::at(text(field, &["jsonPath"]).trim_start_matches('.').to_owned())).collect()
}

/// The name, and what the version adds; its age where it adds nothing.
fn columns(version: &Value) -> Vec<Column> {
    let own = list(version, &["additionalPrinterColumns"]);
    let mut columns = vec![Column::name()];
    if own.is_empty() {
        let mut age = Column::at("Age", "date", "").describe(
            "CreationTimestamp is a timestamp representing the server time when this object was created. It is not \
             guaranteed to be set in happens-before order across separate operations. Clients may not set this value. \
             It is represented in RFC3339 form and is in UTC.",
        );
        age.cell = Cell::JsonPath(JsonPath::member(&["metadata", "creationTimestamp"]));
        columns.push(age);
    }
    columns.extend(own.iter().map(column));
    columns
}

fn column(source: &Value) -> Column {
    let owned = |name: &str| Cow::Owned(text(source, &[name]).to_owned());
    let path = text(source, &["jsonPath"]);
    let description = match text(source, &["description"]) {
        "" => format!("Custom resource definition column (in JSONPath format): {path}"),
        description => description.to_owned(),
    };
    Column {
        name: owned("name"),
        type_: owned("type"),
        format: owned("format"),
        description: description.into(),
        priority: i32::try_from(crate::object::int(source, &["priority"])).unwrap_or_default(),
        // A path that is not understood shows nothing, as in Kubernetes.
        cell: JsonPath::parse(path).map_or(Cell::Computed(|_, _| Value::Null), Cell::JsonPath),
    }
}

/// What clients of a deprecated version are told: its own words, or which version to use.
fn deprecation(definition: &Value, version: &Value) -> Option<String> {
    let is_deprecated = |version: &Value| get(version, &["deprecated"]) == Some(&Value::Bool(true));
    if !is_deprecated(version) {
        return None;
    }
    if let Some(own) = get(version, &["deprecationWarning"]).and_then(Value::as_str) {
        return Some(own.to_owned());
    }
    let (group, kind) = (text(definition, &["spec", "group"]), text(definition, &["spec", "names", "kind"]));
    let name = text(version, &["name"]);
    let is_served = |version: &&Value| get(version, &["served"]) == Some(&Value::Bool(true)) && !is_deprecated(version);
    let newer = versions(definition).iter().filter(is_served).map(|version| text(version, &["name"]));
    let newest = newer.max_by_key(|version| crate::names::version_priority(version));
    let newest = newest.filter(|v| crate::names::version_priority(v) > crate::names::version_priority(name));
    Some(match newest {
        None => format!("{group}/{name} {kind} is deprecated"),
        Some(newest) => format!("{group}/{name} {kind} is deprecated; use {group}/{newest} {kind}"),
    })
}

#[cfg(test)]
mod tests;
