//! Built-in types: structure from k8s-openapi's JSON schemas, the rest from `facts.rs`.
//!
//! A root type is built with everything it refers to when it is first asked for, and kept for the life of the process.
//! Descriptions are dropped; [`openapi`](super::openapi) generates them again when asked to publish.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use k8s_openapi::schemars::SchemaGenerator;
use serde_json::Value;

use super::facts::TypeFacts;
use super::shape::{Field, List, ListKind, Map, Named, Node, Object, PatchStrategy, Scalar, Shape};
use super::{Root, Schema, openapi, protobuf, roots};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";

struct Types {
    /// Generates only what it has no definition of yet; what is built is a definition without content.
    generator: SchemaGenerator,
    named: HashMap<Box<str>, &'static Named>,
    roots: HashMap<Box<str>, Schema>,
}

/// The schema of a root type, or of the list of a root type.
pub(super) fn find(type_name: &str) -> Option<Schema> {
    with_types(|types| types.root(type_name))
}

/// A root type as something to refer to.
pub(super) fn named(type_name: &str) -> Option<&'static Named> {
    with_types(|types| {
        types.root(type_name)?;
        types.named.get(type_name).copied()
    })
}

fn with_types<T>(use_types: impl FnOnce(&mut Types) -> T) -> T {
    static TYPES: OnceLock<Mutex<Types>> = OnceLock::new();
    let types = TYPES.get_or_init(|| {
        Mutex::new(Types { generator: openapi::generator(), named: HashMap::new(), roots: HashMap::new() })
    });
    use_types(&mut types.lock().unwrap_or_else(PoisonError::into_inner))
}

impl Types {
    fn root(&mut self, type_name: &str) -> Option<Schema> {
        if let Some(schema) = self.roots.get(type_name) {
            return Some(schema.clone());
        }
        let shape = match roots::find(type_name) {
            Some(generate) => {
                generate(&mut self.generator);
                self.build_definitions();
                Shape::Named(self.named(type_name))
            }
            None => self.list_of(type_name.strip_suffix("List")?)?,
        };
        let schema = Schema(Arc::new(Root::new(Node::new(shape), false)));
        self.roots.insert(type_name.into(), schema.clone());
        Some(schema)
    }

    /// k8s-openapi has one generic list, so the list of a kind is made here.
    fn list_of(&mut self, item_name: &str) -> Option<Shape> {
        roots::find(item_name)?;
        self.root(item_name)?;
        self.root(&format!("{META}ListMeta"))?;
        let name = format!("{item_name}List");
        Some(self.shape(&name, &openapi::list_of(item_name)))
    }

    /// Builds all types that the generator has made since the last time.
    fn build_definitions(&mut self) {
        let made: Vec<(String, Value)> = self
            .generator
            .definitions_mut()
            .iter_mut()
            .filter(|(_, schema)| schema.is_object())
            .map(|(name, schema)| (name.clone(), std::mem::replace(schema, Value::Bool(true))))
            .collect();
        for (name, schema) in made {
            let shape = self.shape(&name, &schema);
            // Only this function sets shapes, and only for definitions that were not built before.
            let _ = self.named(&name).shape.set(shape);
        }
    }

    fn named(&mut self, name: &str) -> &'static Named {
        if let Some(named) = self.named.get(name) {
            return named;
        }
        let named: &'static Named = Box::leak(Box::default());
        self.named.insert(name.into(), named);
        named
    }

    /// The shape of a named type's definition.
    fn shape(&mut self, name: &str, schema: &Value) -> Shape {
        if let Some(shape) = well_known(name) {
            return shape;
        }
        let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
            return Shape::Any;
        };
        let facts = TypeFacts::of(name);
        let required = |field: &str| {
            if field == "metadata" && facts.kind().is_some() {
                return false;
            }
            let names = schema.get("required").and_then(Value::as_array).into_iter().flatten();
            names.filter_map(Value::as_str).any(|n| n == field)
        };
        let plain = protobuf::plain_fields(name);
        // serde_json's map is sorted, and so are the fields.
        let fields = properties.iter().map(|(field_name, schema)| {
            let mut field = Field::new(field_name, self.inline(schema));
            field.required = required(field_name);
            facts.field(field_name).for_each(|word| add_fact(&mut field, word));
            field.zero_is_absence =
                !field.required && plain.contains(&field_name.as_str()) && field.node.shape.has_plain_zero();
            field
        });
        let fields = fields.collect();
        let atomic = facts.own().any(|word| word == "atomic");
        Shape::Object(Box::new(Object { name: name.into(), fields, atomic, keep_unknown: false }))
    }

    /// The shape of a field, item or map value.
    fn inline(&mut self, schema: &Value) -> Shape {
        if let Some(reference) = reference(schema) {
            return well_known(reference).unwrap_or_else(|| Shape::Named(self.named(reference)));
        }
        let format = schema.get("format").and_then(Value::as_str);
        match (schema.get("type").and_then(Value::as_str), format) {
            (Some("string"), Some("byte")) => Shape::Scalar(Scalar::Bytes),
            (Some("string"), _) => Shape::Scalar(Scalar::String),
            (Some("integer"), Some("int32")) => Shape::Scalar(Scalar::Int32),
            (Some("integer"), _) => Shape::Scalar(Scalar::Int64),
            (Some("number"), _) => Shape::Scalar(Scalar::Number),
            (Some("boolean"), _) => Shape::Scalar(Scalar::Bool),
            (Some("array"), _) => {
                let item = Node::new(schema.get("items").map_or(Shape::Any, |s| self.inline(s)));
                Shape::List(Box::new(List { item, kind: ListKind::Atomic }))
            }
            (Some("object"), _) if schema.get("additionalProperties").is_some_and(Value::is_object) => {
                let value = Node::new(self.inline(&schema["additionalProperties"]));
                Shape::Map(Box::new(Map { value, atomic: false }))
            }
            _ => Shape::Any,
        }
    }
}

/// The type a schema refers to: `$ref` itself, or the only member of `allOf`.
fn reference(schema: &Value) -> Option<&str> {
    let direct = schema.get("$ref").or_else(|| schema.get("allOf")?.get(0)?.get("$ref"))?;
    direct.as_str()?.rsplit('/').next()
}

/// Types whose JSON form their schema does not tell.
fn well_known(name: &str) -> Option<Shape> {
    let scalar = match name {
        "io.k8s.apimachinery.pkg.api.resource.Quantity" => Scalar::Quantity,
        "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime" => Scalar::MicroTime,
        "io.k8s.apimachinery.pkg.apis.meta.v1.Time" => Scalar::Time,
        "io.k8s.apimachinery.pkg.util.intstr.IntOrString" => Scalar::IntOrString,
        _ => return None,
    };
    Some(Shape::Scalar(scalar))
}

fn add_fact(field: &mut Field, word: &'static str) {
    let (key, value) = word.split_once('=').unwrap_or((word, ""));
    match (key, &mut field.node.shape) {
        // The table is part of this crate; a test reads every default in it.
        ("", _) => field.node.default = serde_json::from_str(value).ok().map(Box::new),
        ("atomic", Shape::Map(map)) => map.atomic = true,
        ("atomic", Shape::List(_)) => {}
        ("atomic", _) => field.atomic = Some(true),
        ("granular", _) => field.atomic = Some(false),
        ("set", Shape::List(list)) => list.kind = ListKind::Set,
        ("keys", Shape::List(list)) => list.kind = ListKind::Map(value.split(',').map(Into::into).collect()),
        ("merge", _) => {
            field.patch.strategy = PatchStrategy::Merge;
            field.patch.merge_key = (!value.is_empty()).then(|| value.into());
        }
        ("replace", _) => field.patch.strategy = PatchStrategy::Replace,
        ("required", _) => field.required = true,
        ("optional", _) => field.required = false,
        ("retainKeys", _) => field.patch.retain_keys = true,
        _ => {}
    }
}
