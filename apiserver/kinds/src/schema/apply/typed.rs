//! What a value is to field ownership: a leaf that is owned as a whole, an object of fields, or a list of items.

use std::sync::Arc;

use serde_json::{Map as JsonMap, Value};

use super::super::shape::{Field, List, ListKind, Scalar, Shape};
use super::path::PathElement;

/// A place in a schema.
#[derive(Clone, Copy)]
pub(super) struct Typed<'s> {
    shape: &'s Shape,
    /// What the field says over its type.
    atomic: Option<bool>,
}

const ANYTHING: Typed<'static> = Typed { shape: &Shape::Any, atomic: None };

/// How a value divides into owned parts.
pub(super) enum Parts<'v> {
    /// Not at all.
    Leaf,
    Object(&'v JsonMap<String, Value>),
    List(&'v [Value]),
}

/// The step to a member: the field's own name where there is one.
pub(super) fn member_element(name: &str, field: Option<&Arc<str>>) -> PathElement {
    PathElement::Field(field.cloned().unwrap_or_else(|| name.into()))
}

impl<'s> Typed<'s> {
    pub fn new(shape: &'s Shape) -> Typed<'s> {
        Typed { shape: shape.resolve(), atomic: None }
    }

    fn of_field(field: &'s Field) -> Typed<'s> {
        Typed { shape: field.node.shape.resolve(), atomic: field.atomic }
    }

    pub fn parts(self, value: &Value) -> Parts<'_> {
        match (self.shape, value) {
            (Shape::Object(object), Value::Object(members)) if !self.atomic.unwrap_or(object.atomic) => {
                Parts::Object(members)
            }
            (Shape::Map(map), Value::Object(members)) if !self.atomic.unwrap_or(map.atomic) => Parts::Object(members),
            (Shape::Any, Value::Object(members)) => Parts::Object(members),
            (Shape::List(list), Value::Array(items)) if list.kind != ListKind::Atomic => Parts::List(items),
            _ => Parts::Leaf,
        }
    }

    /// The place of a member, and its name where the type names it as a field (and not as a map entry).
    pub fn member(self, name: &str) -> (Typed<'s>, Option<&'s Arc<str>>) {
        match self.shape {
            Shape::Object(object) => match object.field(name) {
                Some(field) => (Typed::of_field(field), Some(&field.name)),
                None => (ANYTHING, None),
            },
            Shape::Map(map) => (Typed::new(&map.value.shape), None),
            _ => (ANYTHING, None),
        }
    }

    /// The place that an element of a set leads to.
    pub fn step(self, element: &PathElement) -> (Typed<'s>, bool) {
        match (element, self.shape) {
            (PathElement::Field(name), _) => {
                let (place, field) = self.member(name);
                (place, field.is_some())
            }
            (_, Shape::List(list)) => (Typed::new(&list.item.shape), false),
            _ => (ANYTHING, false),
        }
    }

    /// Whether a member of this name may be there.
    pub fn knows(self, name: &str) -> bool {
        match self.shape {
            Shape::Object(object) => object.keep_unknown || object.field(name).is_some(),
            _ => true,
        }
    }

    /// What should stand here instead of `value`; `None` when it fits.
    pub fn misfit(self, value: &Value) -> Option<&'static str> {
        let (fits, expected) = match self.shape {
            Shape::Scalar(scalar) => match scalar {
                Scalar::Int32 | Scalar::Int64 | Scalar::Number => (value.is_number(), "numeric (int or float)"),
                Scalar::Bool => (value.is_boolean(), "boolean"),
                Scalar::IntOrString | Scalar::Quantity => (value.is_number() || value.is_string(), "any scalar"),
                Scalar::String | Scalar::Bytes | Scalar::Time | Scalar::MicroTime => (value.is_string(), "string"),
            },
            Shape::List(_) => (value.is_array(), "list"),
            Shape::Map(_) | Shape::Object(_) => (value.is_object(), "map"),
            Shape::Any | Shape::Named(_) => return None,
        };
        (!fits && !value.is_null()).then_some(expected)
    }

    pub fn list(self) -> Option<&'s List> {
        match self.shape {
            Shape::List(list) => Some(list),
            _ => None,
        }
    }
}

impl<'v> Parts<'v> {
    pub fn members(&self) -> Option<&'v JsonMap<String, Value>> {
        match self {
            Parts::Object(members) => Some(members),
            _ => None,
        }
    }

    pub fn items(&self) -> &'v [Value] {
        match self {
            Parts::List(items) => items,
            _ => &[],
        }
    }
}

/// What identifies an item of a list.
///
/// # Errors
/// Why it has no identity, in the words of structured-merge-diff.
pub(super) fn identity(list: &List, item: &Value) -> Result<PathElement, String> {
    let keys = match (&list.kind, item) {
        (ListKind::Map(keys), Value::Object(_)) => keys,
        (ListKind::Map(_), Value::Null) => return Err("associative list with keys may not have a null element".into()),
        (ListKind::Map(_), _) => return Err("associative list with keys may not have non-map elements".into()),
        (_, Value::Object(_)) => return Err("associative list without keys has an element that's a map type".into()),
        (_, Value::Array(_)) => return Err("not supported: associative list with lists as elements".into()),
        (_, Value::Null) => return Err("associative list without keys has an element that's an explicit null".into()),
        (_, scalar) => return Ok(PathElement::Value(scalar.clone())),
    };
    let object = list.item.shape.object();
    let default = |key: &str| object?.field(key)?.node.default.as_deref();
    let mut found: Vec<(Arc<str>, Value)> =
        keys.iter().filter_map(|key| Some((key.clone(), item.get(&**key).or_else(|| default(key))?.clone()))).collect();
    if found.is_empty() {
        let keys: Vec<String> = keys.iter().map(|key| format!("{key:?}")).collect();
        return Err(format!(
            "associative list with keys has an element that omits all key fields [{}] (and doesn't have default values for any key fields)",
            keys.join(" ")
        ));
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(PathElement::Key(found))
}
