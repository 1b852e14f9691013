//! OpenAPI v3 component schemas, named and annotated as Kubernetes publishes them.
//!
//! Structure and descriptions are generated from k8s-openapi when asked for, and annotated with
//! `facts.rs`. Callers keep the bytes; nothing is kept here.

mod custom;
mod made;

use std::collections::BTreeSet;

use k8s_openapi::schemars::SchemaGenerator;
use k8s_openapi::schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::facts::TypeFacts;
use super::roots;

pub use custom::{CustomKind, Edition, components as custom_components};
pub(super) use made::list_of;
use made::{patch, watch_event};

type Members = Map<String, Value>;

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";
const REFERENCE: &str = "#/components/schemas/";

/// `components.schemas` of an OpenAPI v3 document: the given built-in root types (lists included) and everything they
/// refer to. Names that are no root types are left out.
pub fn components(root_types: &[&str]) -> Map<String, Value> {
    let mut generator = generator();
    let mut made = Members::new();
    for name in root_types {
        if let Some(generate) = roots::find(name) {
            generate(&mut generator);
        } else if *name == format!("{META}WatchEvent") {
            let _ = generator.subschema_for::<k8s_openapi::apimachinery::pkg::runtime::RawExtension>();
            made.insert((*name).to_owned(), watch_event());
        } else if *name == format!("{META}Patch") {
            made.insert((*name).to_owned(), patch());
        } else if let Some(item) = name.strip_suffix("List").filter(|item| roots::find(item).is_some()) {
            roots::find(item)
                .into_iter()
                .chain(roots::find(&format!("{META}ListMeta")))
                .for_each(|g| g(&mut generator));
            made.insert((*name).to_owned(), list_of(item));
        }
    }
    made.extend(generator.take_definitions(false));
    let groups = published_groups(root_types);
    for (name, schema) in &mut made {
        publish(name, schema, &groups);
    }
    made
}

/// A generator whose references are those of a published document.
pub(super) fn generator() -> SchemaGenerator {
    SchemaGenerator::new(SchemaSettings::openapi3().with(|settings| settings.transforms.clear()))
}

/// Groups and versions whose lists are published: their clients also send and get what is in every group.
fn published_groups(root_types: &[&str]) -> BTreeSet<(&'static str, &'static str)> {
    let lists = root_types.iter().filter(|name| name.ends_with("List") && !name.starts_with(META));
    lists.filter_map(|name| TypeFacts::of(name).kind()).collect()
}

/// Brings a generated schema into its published form.
fn publish(name: &str, schema: &mut Value, groups: &BTreeSet<(&'static str, &'static str)>) {
    let facts = TypeFacts::of(name);
    let Some(members) = schema.as_object_mut() else { return };
    own_form(name, members);
    if facts.kind().is_some() {
        // k8s-openapi's kinds always have metadata, so it calls it required; Kubernetes mostly does not.
        set_required(members, "metadata", false);
    }
    let mut properties = members.remove("properties");
    for (field, property) in properties.as_mut().and_then(Value::as_object_mut).into_iter().flatten() {
        wrap_reference(property);
        for word in facts.field(field) {
            match word {
                "required" | "optional" => set_required(members, field, word == "required"),
                _ => annotate(property, word),
            }
        }
    }
    members.extend(properties.map(|properties| ("properties".to_owned(), properties)));
    for word in facts.own() {
        match word.split_once('=').unwrap_or((word, "")) {
            ("atomic", _) => {
                members.insert("x-kubernetes-map-type".into(), "atomic".into());
            }
            ("union", union) => {
                members.insert("x-kubernetes-unions".into(), json!([union_of(union)]));
            }
            _ => {}
        }
    }
    if let Some(own) = facts.kind() {
        let kind = name.rsplit('.').next().unwrap_or_default();
        let everywhere = name.starts_with(META) && matches!(kind, "DeleteOptions" | "WatchEvent");
        let mut versions = BTreeSet::from([own]);
        versions.extend(groups.iter().filter(|_| everywhere));
        let kinds: Vec<Value> = versions.iter().map(|(g, v)| json!({"group": g, "kind": kind, "version": v})).collect();
        members.insert("x-kubernetes-group-version-kind".into(), kinds.into());
    }
}

/// Types that k8s-openapi describes otherwise than Kubernetes does.
fn own_form(name: &str, members: &mut Members) {
    let mut keep = |form: Value| {
        members.retain(|key, _| key == "description");
        if let Value::Object(form) = form {
            members.extend(form);
        }
    };
    match name.rsplit('.').next().unwrap_or_default() {
        "Quantity" => keep(json!({"oneOf": [{"type": "string"}, {"type": "number"}]})),
        "IntOrString" => keep(json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]})),
        "JSON" | "JSONSchemaPropsOrArray" | "JSONSchemaPropsOrBool" | "JSONSchemaPropsOrStringArray" => keep(json!({})),
        _ => {}
    }
}

/// OpenAPI 3.0 ignores what stands beside `$ref`.
fn wrap_reference(property: &mut Value) {
    if let Some(members) = property.as_object_mut()
        && members.len() > 1
        && let Some(reference) = members.remove("$ref")
    {
        members.insert("allOf".into(), json!([{ "$ref": reference }]));
    }
}

fn annotate(property: &mut Value, word: &str) {
    let Some(property) = property.as_object_mut() else { return };
    let (key, value) = word.split_once('=').unwrap_or((word, ""));
    let is = |key: &str, value: &str| property.get(key).is_some_and(|found| found == value);
    // Bytes are a list in Go.
    let is_list = is("type", "array") || is("format", "byte");
    match key {
        "" => {
            let default = serde_json::from_str(value).unwrap_or(Value::Null);
            property.insert("default".into(), default);
            wrap_bare_reference(property);
        }
        "atomic" | "set" if is_list => {
            property.insert("x-kubernetes-list-type".into(), key.into());
        }
        "atomic" | "granular" => {
            property.insert("x-kubernetes-map-type".into(), key.into());
        }
        "keys" => {
            property.insert("x-kubernetes-list-type".into(), "map".into());
            property.insert("x-kubernetes-list-map-keys".into(), value.split(',').collect::<Vec<_>>().into());
        }
        "merge" | "replace" | "retainKeys" => {
            let strategy = match property.get("x-kubernetes-patch-strategy").and_then(Value::as_str) {
                Some(first) => format!("{first},{key}"),
                None => key.to_owned(),
            };
            property.insert("x-kubernetes-patch-strategy".into(), strategy.into());
            if !value.is_empty() {
                property.insert("x-kubernetes-patch-merge-key".into(), value.into());
            }
        }
        _ => {}
    }
}

fn wrap_bare_reference(property: &mut Members) {
    if let Some(reference) = property.remove("$ref") {
        property.insert("allOf".into(), json!([{ "$ref": reference }]));
    }
}

/// `discriminator:field=Value,…` as the extension says it.
fn union_of(text: &str) -> Value {
    let (discriminator, fields) = text.split_once(':').unwrap_or(("", text));
    let fields: Members =
        fields.split(',').filter_map(|f| f.split_once('=')).map(|(f, v)| (f.into(), v.into())).collect();
    let mut union = Members::new();
    if !discriminator.is_empty() {
        union.insert("discriminator".into(), discriminator.into());
    }
    union.insert("fields-to-discriminateBy".into(), fields.into());
    union.into()
}

fn set_required(members: &mut Members, field: &str, is_required: bool) {
    let mut required = match members.remove("required") {
        Some(Value::Array(names)) => names,
        _ => Vec::new(),
    };
    required.retain(|name| name != field);
    if is_required {
        required.push(field.into());
    }
    if !required.is_empty() {
        members.insert("required".into(), required.into());
    }
}
