//! The published schemas of a custom kind: its CRD's schema, completed with what every object has.

use serde_json::{Map, Value, json};

use super::super::crd::flag;
use super::made::{API_VERSION, KIND, reference};
use super::{META, Members, components as builtin_components};

/// Which document a schema is published in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edition {
    V3,
    /// With what its readers, old versions of kubectl, stumble over left out
    /// (`k8s.io/apiextensions-apiserver` `pkg/controller/openapi/v2`).
    V2,
}

/// A custom kind, as far as it is published.
#[derive(Clone, Debug)]
pub struct CustomKind<'k> {
    pub group: &'k str,
    pub version: &'k str,
    pub kind: &'k str,
    pub list_kind: &'k str,
    /// Paths of the fields that objects are selected by.
    pub selectable_fields: Vec<&'k str>,
    /// `openAPIV3Schema` of the version.
    pub schema: &'k Value,
}

/// `components.schemas` of a custom kind: the kind, its list, and the built-in types they refer to. It is named after its
/// reversed group: `com.example.v1.Widget`.
pub fn components(edition: Edition, published: &CustomKind) -> Map<String, Value> {
    let CustomKind { group, version, kind, list_kind, schema, .. } = *published;
    let domain: Vec<&str> = group.rsplit('.').collect();
    let name = |kind: &str| format!("{}.{version}.{kind}", domain.join("."));
    let group_version_kind = |kind: &str| json!([{"group": group, "kind": kind, "version": version}]);

    // Any property would make readers refuse all others.
    let is_open = !schema.is_object() || edition == Edition::V2 && keeps_unknown(schema);
    let mut object = match is_open {
        true => Members::from_iter([("type".to_owned(), "object".into())]),
        false => completed(schema, true, edition),
    };
    object.insert("x-kubernetes-group-version-kind".into(), group_version_kind(kind));
    let mut list = json!({
        "description": format!("{list_kind} is a list of {kind}"),
        "type": "object",
        "properties": {
            "apiVersion": {"description": API_VERSION, "type": "string"},
            "items": {"description": format!("List of {kind} objects."), "type": "array", "items": reference(&name(kind))},
            "kind": {"description": KIND, "type": "string"},
            "metadata": described("ListMeta", "Standard list metadata."),
        },
        "required": ["items"],
        "x-kubernetes-group-version-kind": group_version_kind(list_kind),
    });
    if !published.selectable_fields.is_empty() {
        let field = |path: &&str| json!({ "fieldPath": path });
        let fields: Value = published.selectable_fields.iter().map(field).collect();
        object.insert("x-kubernetes-selectable-fields".into(), fields.clone());
        list["x-kubernetes-selectable-fields"] = fields;
    }
    let [object_meta, list_meta] = ["ObjectMeta", "ListMeta"].map(|name| format!("{META}{name}"));
    let mut components = builtin_components(&[&object_meta, &list_meta]);
    components.insert(name(kind), object.into());
    components.insert(name(list_kind), list);
    components
}

fn described(meta: &str, description: &str) -> Value {
    json!({"allOf": [reference(&format!("{META}{meta}"))], "description": description})
}

/// The schema with `apiVersion`, `kind` and `metadata` wherever it describes a whole object.
fn completed(schema: &Value, is_object: bool, edition: Edition) -> Members {
    let mut members = schema.as_object().cloned().unwrap_or_default();
    match edition {
        Edition::V3 => unfold(&mut members),
        Edition::V2 => reduce(&mut members),
    }
    if let Some(Value::Object(properties)) = members.get_mut("properties") {
        properties.values_mut().for_each(|property| complete(property, edition));
    }
    for name in ["items", "additionalProperties"] {
        members.get_mut(name).into_iter().for_each(|schema| complete(schema, edition));
    }
    let embedded = flag(schema, "x-kubernetes-embedded-resource");
    if embedded && edition == Edition::V2 && keeps_unknown(schema) {
        return members;
    }
    if embedded && let Value::Array(required) = members.entry("required").or_insert_with(|| json!([])) {
        for name in ["kind", "apiVersion"] {
            if !required.iter().any(|known| known == name) {
                required.push(name.into());
            }
        }
    }
    if is_object || embedded {
        let properties = members.entry("properties").or_insert_with(|| json!({}));
        if let Some(properties) = properties.as_object_mut() {
            properties.insert("apiVersion".into(), json!({"description": API_VERSION, "type": "string"}));
            properties.insert("kind".into(), json!({"description": KIND, "type": "string"}));
            properties.insert("metadata".into(), described("ObjectMeta", "Standard object's metadata."));
        }
    }
    members
}

fn complete(schema: &mut Value, edition: Edition) {
    if schema.is_object() {
        *schema = completed(schema, false, edition).into();
    }
}

fn keeps_unknown(schema: &Value) -> bool {
    flag(schema, "x-kubernetes-preserve-unknown-fields")
}

/// Says of a value that is an integer or a string what its keyword says, for readers that do not know that.
fn unfold(members: &mut Members) {
    let says = |all: Option<&Value>| all == Some(&json!([{"type": "integer"}, {"type": "string"}]));
    let first_of_all = members.get("allOf").and_then(|all| all.get(0)?.get("anyOf"));
    if members.get("x-kubernetes-int-or-string") != Some(&Value::Bool(true))
        || says(members.get("anyOf"))
        || says(first_of_all)
    {
        return;
    }
    let either = json!([{"type": "integer"}, {"type": "string"}]);
    if members.get("anyOf").is_none_or(Value::is_null) {
        members.insert("anyOf".to_owned(), either);
    } else if let Value::Array(all) = members.entry("allOf").or_insert_with(|| json!([])) {
        all.insert(0, json!({ "anyOf": either }));
    }
}

/// Leaves out what OpenAPI v2 has no words for: combined schemas, null, and members beside unknown ones.
fn reduce(members: &mut Members) {
    let is = |members: &Members, name: &str| members.get(name) == Some(&Value::Bool(true));
    members.retain(|name, _| !matches!(name.as_str(), "allOf" | "anyOf" | "oneOf" | "not"));
    let (nullable, open) = (is(members, "nullable"), is(members, "x-kubernetes-preserve-unknown-fields"));
    let mut left_out = Vec::new();
    if nullable || open {
        left_out.extend(["items", "properties"]);
    }
    if nullable || open && members.get("type").is_some_and(|kind| kind == "object" || kind == "array") {
        left_out.push("type");
    }
    members.retain(|name, _| !left_out.contains(&name.as_str()) && name != "nullable");
    let null = |name: &Value| {
        let properties = members.get("properties");
        let property = name.as_str().and_then(|name| properties?.get(name));
        property.or_else(|| members.get("additionalProperties")).is_some_and(|schema| flag(schema, "nullable"))
    };
    if let Some(Value::Array(required)) = members.get("required") {
        let required: Vec<Value> = required.iter().filter(|name| !null(name)).cloned().collect();
        match required.is_empty() {
            true => members.remove("required"),
            false => members.insert("required".to_owned(), required.into()),
        };
    }
}
