//! Custom kinds: the compact form of an `openAPIV3Schema`
//! (<https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema>).
//!
//! A custom object differs from a built-in one in three ways: a value that lacks its type is decoded as it is and
//! refused by validation, null is a value where the schema says so, and values have [`Rules`].

mod broken;
mod complete;
mod correlate;
mod defaults;
mod field_path;
mod format;
mod identities;
mod keywords;
mod pattern;
mod rules;
mod structural;
mod validate;
mod visit;
mod whole;

use std::sync::Arc;

use serde_json::Value;

use super::shape::{Field, List, ListKind, Map, Node, Object, Scalar, Shape};
use super::{Root, Schema};
use crate::field::{FieldError, FieldPath};
pub use broken::Broken;
pub(super) use broken::of as broken;
pub(super) use field_path::find as find_field;
pub(super) use format::is_known as knows_format;
pub(crate) use pattern::Pattern;
use rules::Kind;
pub(crate) use rules::Rules;

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

pub(super) fn schema(source: &Value) -> Result<Schema, Vec<FieldError>> {
    // They stay compiled until the schema has them.
    let mut large = Vec::new();
    let errors = match structural::unsupported(source) {
        Some(why) => vec![FieldError::invalid(&FieldPath::ROOT, "", why)],
        None => structural::check(source, &FieldPath::ROOT, &mut large),
    };
    if !errors.is_empty() {
        return Err(errors);
    }
    Ok(Schema(Arc::new(Root::new(node(source, true), true))))
}

/// Everything that is wrong with a schema: that it is not structural, or else with its defaults, and with its keywords.
/// What broke rules that came later is `let_be`. `large` are the large patterns of a definition so far.
pub(super) fn check(source: &Value, let_be: Broken, path: &FieldPath, large: &mut Vec<Pattern>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let unsupported = structural::unsupported(source).filter(|_| !let_be.structure);
    if unsupported.is_none() && !let_be.structure {
        errors = structural::check(source, path, large);
        if errors.is_empty() {
            defaults::check(source, let_be, true, path, &mut errors);
        }
    }
    keywords::check(source, let_be, path, &mut errors);
    match unsupported {
        // What has words of its own is told by them.
        Some(why) if errors.is_empty() => vec![FieldError::invalid(path, "", why)],
        _ => errors,
    }
}

/// Whether a schema, or one below, has what Kubernetes adds to JSON schema, which only a structural one may have.
pub(super) fn has_extensions(source: &Value) -> bool {
    broken::has(source, &keywords::has_extensions)
}

/// Whether a schema, or one below, has a default.
pub(super) fn has_defaults(source: &Value) -> bool {
    broken::has(source, &|schema| schema.get("default").is_some_and(|default| !default.is_null()))
}

/// Why a schema cannot be structural, where it has a keyword that no structural schema has.
pub(super) fn unsupported(source: &Value) -> Option<String> {
    structural::unsupported(source)
}

/// Everything that is wrong with a value. What is as it was in `old` is let be.
pub(super) fn validate(node: &Node, value: &Value, old: Option<&Value>, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = validate::validate(node, value, old, path);
    errors.extend(whole::validate(node, value, path));
    errors.extend(identities::validate(node, value, old, path));
    errors
}

/// Everything that is wrong with the status of an object, when nothing else of it changes.
pub(super) fn validate_status(node: &Node, value: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let field = node.shape.object().and_then(|object| object.field("status"));
    if let (Some(field), Some(status)) = (field, value.get("status")) {
        errors = validate::validate(&field.node, status, old.get("status"), &FieldPath::new("status"));
    }
    errors.extend(identities::validate(node, value, Some(old), &FieldPath::ROOT));
    errors
}

pub(super) fn flag(schema: &Value, name: &str) -> bool {
    schema.get(name) == Some(&Value::Bool(true))
}

fn members<'v>(schema: &'v Value, name: &str) -> impl Iterator<Item = (&'v String, &'v Value)> {
    schema.get(name).and_then(Value::as_object).into_iter().flatten()
}

/// The node of a schema that is known to be structural. `is_object` says that it is a whole object: a kind, or one
/// embedded in another.
fn node(source: &Value, is_object: bool) -> Node {
    node_within(source, is_object, false)
}

/// `open` says that the list which this is the item of keeps unknown fields.
fn node_within(source: &Value, is_object: bool, open: bool) -> Node {
    let flag = |name: &str| source.get(name).and_then(Value::as_bool).unwrap_or(false);
    let is_object = is_object || flag("x-kubernetes-embedded-resource");
    let mut rules = Rules::of(source);
    let shape = shape(source, is_object, open || flag("x-kubernetes-preserve-unknown-fields"));
    if matches!(shape, Shape::Any) && source.get("type").is_some_and(|kind| kind == "object") {
        rules.kind = Some(Kind::Object);
    }
    let rules = (!rules.is_empty()).then(|| Box::new(rules));
    let mut node = Node { shape, nullable: flag("nullable"), default: None, rules };
    // A default from before unknown fields were refused in it counts without them.
    let default = source.get("default").filter(|default| !default.is_null()).cloned();
    node.default = default.map(|default| Box::new(super::decode::prune(&node, default)));
    node
}

fn shape(source: &Value, is_object: bool, keep_unknown: bool) -> Shape {
    let text = |name: &str| source.get(name).and_then(Value::as_str).unwrap_or_default();
    if source.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) {
        return Shape::Scalar(Scalar::IntOrString);
    }
    match text("type") {
        "object" => object(source, is_object, keep_unknown),
        "array" => {
            let item = |items| node_within(items, false, keep_unknown);
            let item = source.get("items").map_or_else(|| Node::new(Shape::Any), item);
            Shape::List(Box::new(List { item, kind: list_kind(source) }))
        }
        // Formats are checked, not brought into another form: a custom object is stored as it was sent.
        "string" => Shape::Scalar(Scalar::String),
        "integer" => Shape::Scalar(Scalar::Int64),
        "number" => Shape::Scalar(Scalar::Number),
        "boolean" => Shape::Scalar(Scalar::Bool),
        _ if source.get("properties").is_some() => object(source, is_object, keep_unknown),
        _ => Shape::Any,
    }
}

fn object(source: &Value, is_object: bool, keep_unknown: bool) -> Shape {
    let atomic = source.get("x-kubernetes-map-type").is_some_and(|kind| kind == "atomic");
    match source.get("additionalProperties") {
        Some(value) if value.is_object() => return Shape::Map(Box::new(Map { value: node(value, false), atomic })),
        Some(Value::Bool(true)) if members(source, "properties").next().is_none() => {
            return Shape::Map(Box::new(Map { value: Node { nullable: true, ..Node::new(Shape::Any) }, atomic }));
        }
        _ => {}
    }
    // Beside properties, this says of the others only that they are no mistake.
    let keep_unknown =
        keep_unknown || source.get("additionalProperties").is_some_and(|additional| !additional.is_null());
    let properties = source.get("properties").and_then(Value::as_object);
    let mut fields: Vec<Field> =
        properties.into_iter().flatten().map(|(name, schema)| field(name, schema, source)).collect();
    if is_object {
        add_object_fields(&mut fields, properties.and_then(|properties| properties.get("metadata")));
    }
    if fields.is_empty() && keep_unknown && !atomic {
        return Shape::Any;
    }
    fields.sort_by(|a, b| a.name.cmp(&b.name));
    Shape::Object(Box::new(Object { name: "".into(), fields: fields.into(), atomic, keep_unknown }))
}

fn field(name: &str, schema: &Value, parent: &Value) -> Field {
    let required = parent.get("required").and_then(Value::as_array);
    Field {
        node: node(schema, false),
        required: required.is_some_and(|names| names.iter().any(|n| n == name)),
        ..Field::new(name, Shape::Any)
    }
}

/// `apiVersion`, `kind` and `metadata`, which a schema need not (and for metadata, must not) describe.
fn add_object_fields(fields: &mut Vec<Field>, metadata: Option<&Value>) {
    for name in ["apiVersion", "kind"] {
        if fields.iter().all(|field| &*field.name != name) {
            fields.push(Field { implied: true, ..Field::new(name, Shape::Scalar(Scalar::String)) });
        }
    }
    let Some(meta) = super::builtin::named(OBJECT_META) else { return };
    fields.retain(|field| &*field.name != "metadata");
    let mut field = Field { implied: true, ..Field::new("metadata", Shape::Named(meta)) };
    // A schema may restrict the name, but not say what metadata is.
    field.node.rules = metadata.map(|source| Box::new(Rules::nested(source)));
    fields.push(field);
}

fn list_kind(source: &Value) -> ListKind {
    match source.get("x-kubernetes-list-type").and_then(Value::as_str) {
        Some("set") => ListKind::Set,
        Some("map") => {
            let keys = source.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
            ListKind::Map(keys.into_iter().flatten().filter_map(Value::as_str).map(Into::into).collect())
        }
        _ => ListKind::Atomic,
    }
}

#[cfg(test)]
mod tests;
