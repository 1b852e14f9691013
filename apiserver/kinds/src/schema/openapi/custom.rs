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

/// `components.schemas` of a custom kind: the kind, its list, and the built-in types they refer to.
///
/// `schema` is `openAPIV3Schema` of the version. The kind is named after its reversed group: `com.example.v1.Widget`.
pub fn components(
    edition: Edition,
    group: &str,
    version: &str,
    kind: &str,
    list_kind: &str,
    schema: &Value,
) -> Map<String, Value> {
    let domain: Vec<&str> = group.rsplit('.').collect();
    let name = |kind: &str| format!("{}.{version}.{kind}", domain.join("."));
    let group_version_kind = |kind: &str| json!([{"group": group, "kind": kind, "version": version}]);

    let mut object = match edition {
        // Any property would make readers refuse all others.
        Edition::V2 if keeps_unknown(schema) => Members::from_iter([("type".to_owned(), "object".into())]),
        edition => completed(schema, true, edition),
    };
    object.insert("x-kubernetes-group-version-kind".into(), group_version_kind(kind));
    let list = json!({
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
    if edition == Edition::V2 {
        reduce(&mut members);
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
        name.as_str().and_then(|name| properties?.get(name)).is_some_and(|property| flag(property, "nullable"))
    };
    if let Some(Value::Array(required)) = members.get("required") {
        let required: Vec<Value> = required.iter().filter(|name| !null(name)).cloned().collect();
        match required.is_empty() {
            true => members.remove("required"),
            false => members.insert("required".to_owned(), required.into()),
        };
    }
}
