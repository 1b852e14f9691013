//! The published schemas of a custom kind: its CRD's schema, completed with what every object has.

use serde_json::{Map, Value, json};

use super::made::{API_VERSION, KIND, reference};
use super::{META, Members, components as builtin_components};

/// `components.schemas` of a custom kind: the kind, its list, and the built-in types they refer to.
///
/// `schema` is `openAPIV3Schema` of the version. The kind is named after its reversed group: `com.example.v1.Widget`.
pub fn components(group: &str, version: &str, kind: &str, list_kind: &str, schema: &Value) -> Map<String, Value> {
    let domain: Vec<&str> = group.rsplit('.').collect();
    let name = |kind: &str| format!("{}.{version}.{kind}", domain.join("."));
    let group_version_kind = |kind: &str| json!([{"group": group, "kind": kind, "version": version}]);

    let mut object = completed(schema, true);
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
fn completed(schema: &Value, is_object: bool) -> Members {
    let mut members = schema.as_object().cloned().unwrap_or_default();
    if let Some(Value::Object(properties)) = members.get_mut("properties") {
        properties.values_mut().for_each(complete);
    }
    for name in ["items", "additionalProperties"] {
        members.get_mut(name).into_iter().for_each(complete);
    }
    if is_object || members.get("x-kubernetes-embedded-resource") == Some(&Value::Bool(true)) {
        let properties = members.entry("properties").or_insert_with(|| json!({}));
        if let Some(properties) = properties.as_object_mut() {
            properties.insert("apiVersion".into(), json!({"description": API_VERSION, "type": "string"}));
            properties.insert("kind".into(), json!({"description": KIND, "type": "string"}));
            properties.insert("metadata".into(), described("ObjectMeta", "Standard object's metadata."));
        }
    }
    members
}

fn complete(schema: &mut Value) {
    if schema.is_object() {
        *schema = completed(schema, false).into();
    }
}
