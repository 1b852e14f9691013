//! Schemas of types that k8s-openapi has as generics or enums, and so has no schema for.

use serde_json::{Value, json};

use super::{META, REFERENCE};

pub(super) const API_VERSION: &str = "APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized schemas to the latest internal value, and may reject unrecognized values. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources";
pub(super) const KIND: &str = "Kind is a string value representing the REST resource this object represents. Servers may infer this from the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";

pub(super) fn reference(name: &str) -> Value {
    json!({ "$ref": format!("{REFERENCE}{name}") })
}

/// The schema of a kind's list, which k8s-openapi has no schema for.
pub(in crate::schema) fn list_of(item: &str) -> Value {
    let kind = item.rsplit('.').next().unwrap_or_default();
    json!({
        "description": format!("{kind}List is a list of {kind} objects."),
        "type": "object",
        "properties": {
            "apiVersion": {
                "description": API_VERSION,
                "type": "string",
            },
            "items": {
                "description": format!("List of {}.", plural(kind)),
                "type": "array",
                "items": reference(item),
            },
            "kind": {
                "description": KIND,
                "type": "string",
            },
            "metadata": {
                "description": "Standard list metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds",
                "$ref": format!("{REFERENCE}{META}ListMeta"),
            },
        },
        "required": ["items"],
    })
}

/// What several objects of a kind are called in paths.
fn plural(kind: &str) -> String {
    let kind = kind.to_ascii_lowercase();
    match kind.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None if kind.ends_with("points") => kind,
        None if kind.ends_with('s') => format!("{kind}es"),
        None => format!("{kind}s"),
    }
}

/// k8s-openapi's watch event is generic and has no schema either.
pub(super) fn watch_event() -> Value {
    json!({
        "description": "Event represents a single event to a watched resource.",
        "type": "object",
        "properties": {
            "object": {
                "description": "Object is:\n * If Type is Added or Modified: the new state of the object.\n * If Type is Deleted: the state of the object immediately before deletion.\n * If Type is Error: *Status is recommended; other types may make sense\n   depending on context.",
                "$ref": format!("{REFERENCE}io.k8s.apimachinery.pkg.runtime.RawExtension"),
            },
            "type": { "type": "string" },
        },
        "required": ["object", "type"],
    })
}

/// The body of a PATCH request, for which k8s-openapi has an enum.
pub(super) fn patch() -> Value {
    json!({
        "description": "Patch is provided to give a concrete name and type to the Kubernetes PATCH request body.",
        "type": "object",
    })
}
