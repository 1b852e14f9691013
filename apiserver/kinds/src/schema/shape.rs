//! The compact form itself: what a value of a type looks like, and the facts that every operation reads from it.

use std::sync::{Arc, OnceLock};

use serde_json::Value;

use super::crd::Rules;

/// A value's place in a type: its shape, and what a custom resource definition adds to it.
#[derive(Debug)]
pub(crate) struct Node {
    pub shape: Shape,
    /// `nullable` of a CRD: null is a value, not an absence.
    pub nullable: bool,
    /// What stands here where nothing does.
    pub default: Option<Box<Value>>,
    /// Value validation of a CRD; `None` for built-in types, whose rules are code.
    pub rules: Option<Box<Rules>>,
}

#[derive(Debug)]
pub(crate) enum Shape {
    /// A built-in type, shared by everything that refers to it (and possibly by itself).
    Named(&'static Named),
    /// Any JSON at all.
    Any,
    Scalar(Scalar),
    List(Box<List>),
    Map(Box<Map>),
    Object(Box<Object>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scalar {
    String,
    /// Base64 in JSON.
    Bytes,
    /// RFC 3339 to the second.
    Time,
    /// RFC 3339 to the microsecond.
    MicroTime,
    Int32,
    Int64,
    Number,
    Bool,
    IntOrString,
    /// A number or string on input, always a canonical string when stored.
    Quantity,
}

#[derive(Debug)]
pub(crate) struct List {
    pub item: Node,
    pub kind: ListKind,
}

/// `x-kubernetes-list-type`. Without one a list is atomic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ListKind {
    Atomic,
    /// Scalars, each at most once.
    Set,
    /// Objects identified by these fields (`x-kubernetes-list-map-keys`).
    Map(Box<[Arc<str>]>),
}

/// An object with free keys.
#[derive(Debug)]
pub(crate) struct Map {
    pub value: Node,
    pub atomic: bool,
}

/// An object with known fields.
#[derive(Debug, Default)]
pub(crate) struct Object {
    /// The name it is published under; empty for an object written inline in a CRD.
    pub name: Box<str>,
    /// Sorted by name.
    pub fields: Box<[Field]>,
    /// `x-kubernetes-map-type: atomic`.
    pub atomic: bool,
    /// `x-kubernetes-preserve-unknown-fields`.
    pub keep_unknown: bool,
}

#[derive(Debug)]
pub(crate) struct Field {
    /// Shared with the sets of fields that name it.
    pub name: Arc<str>,
    pub node: Node,
    pub required: bool,
    /// Of a whole custom object, whether or not its schema speaks of it.
    pub implied: bool,
    /// Go cannot tell zero from absence here, and writes neither.
    pub zero_is_absence: bool,
    /// `x-kubernetes-map-type` on the field, which overrides the one of its type.
    pub atomic: Option<bool>,
    pub patch: Patch,
}

/// How a strategic merge patch treats a field (`x-kubernetes-patch-strategy`, `-merge-key`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Patch {
    pub strategy: PatchStrategy,
    pub retain_keys: bool,
    /// Identifies the items of a merged list of objects.
    pub merge_key: Option<Box<str>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum PatchStrategy {
    /// None given: objects merge, lists are replaced.
    #[default]
    Default,
    Merge,
    Replace,
}

/// A built-in type that is built once and lives as long as the process.
#[derive(Debug, Default)]
pub(crate) struct Named {
    /// Filled before the type that led here is handed out.
    pub shape: OnceLock<Shape>,
}

static ANY: Shape = Shape::Any;

impl Node {
    pub fn new(shape: Shape) -> Node {
        Node { shape, nullable: false, default: None, rules: None }
    }
}

impl Shape {
    /// Follows a reference to the shape it stands for.
    pub fn resolve(&self) -> &Shape {
        match self {
            Shape::Named(named) => named.shape.get().unwrap_or(&ANY),
            other => other,
        }
    }

    /// Whether a zero is nothing but a zero: a quantity or a time says more.
    pub fn has_plain_zero(&self) -> bool {
        use Scalar::{Bool, Bytes, Int32, Int64, Number, String};
        matches!(self, Shape::Scalar(String | Bytes | Int32 | Int64 | Number | Bool))
    }

    pub fn object(&self) -> Option<&Object> {
        match self.resolve() {
            Shape::Object(object) => Some(object),
            _ => None,
        }
    }
}

impl Object {
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.position(name).map(|i| &self.fields[i])
    }

    pub fn position(&self, name: &str) -> Option<usize> {
        self.fields.binary_search_by(|f| (*f.name).cmp(name)).ok()
    }

    /// The type's name as Go prints it in errors: `v1.PodSpec`.
    pub fn go_name(&self) -> &str {
        let mut dots = self.name.rmatch_indices('.').map(|(i, _)| i).skip(1);
        dots.next().map_or(&self.name, |i| &self.name[i + 1..])
    }

    /// The last part of the type's name: `PodSpec`.
    pub fn short_name(&self) -> &str {
        self.name.rsplit('.').next().unwrap_or_default()
    }
}

impl Field {
    pub fn new(name: &str, shape: Shape) -> Field {
        Field {
            name: name.into(),
            node: Node::new(shape),
            required: false,
            implied: false,
            zero_is_absence: false,
            atomic: None,
            patch: Patch::default(),
        }
    }
}
