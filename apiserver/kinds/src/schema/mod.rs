//! The schema core: one compact, immutable form of a type that drives everything an API server does with an object.
//!
//! Decoding, strictness, pruning, defaulting, strategic merge patch, server-side apply, validation of custom objects and
//! OpenAPI all read the same `shape::Shape`, whether it came from a built-in kind (`builtin.rs`) or from a
//! CustomResourceDefinition (`crd/`). Nothing here does IO or reads a clock.
//!
//! ```text
//! k8s-openapi's schemas + facts.txt ─┐                ┌─ decode / check     (types, unknown and duplicate fields)
//!                                    │                ├─ to_protobuf
//!                                    ├─> Shape ──────>├─ default
//! CRD openAPIV3Schema ───────────────┘                ├─ strategic_merge
//!                                                     ├─ apply, track_update (field ownership)
//!                                                     ├─ validate           (custom objects)
//!                                                     └─ openapi
//! ```

pub mod apply;
mod builtin;
mod crd;
pub mod decode;
mod default;
mod facts;
mod go;
pub mod merge_patch;
pub mod openapi;
pub mod protobuf;
#[cfg(test)]
mod reference;
pub mod roots;
mod shape;
pub mod strategic;

use std::sync::{Arc, OnceLock};

use serde_json::{Map, Value};

use crate::field::{FieldError, FieldPath};
pub use crd::Broken;
pub(crate) use crd::Pattern;
pub use decode::{DecodeError, Decoded, Format, first_document};
use default::Zeros;
pub(crate) use go::go_float;
pub use go::{go, go_type};
use shape::{Node, Shape};
pub use strategic::PatchError;

/// The compact form of one type. Cloning is cheap: the form is shared and never changes.
#[derive(Clone, Debug)]
pub struct Schema(Arc<Root>);

#[derive(Debug)]
struct Root {
    node: Node,
    /// Whether a value that lacks its type is left to [`Schema::validate`], as for custom objects.
    lenient: bool,
    /// See [`Schema::zero`].
    zero: OnceLock<Value>,
}

impl Root {
    fn new(node: Node, lenient: bool) -> Root {
        Root { node, lenient, zero: OnceLock::new() }
    }
}

impl Schema {
    /// The schema of a built-in type by the name Kubernetes publishes it under, such as `io.k8s.api.core.v1.Pod`.
    ///
    /// Built on first use and kept for the life of the process.
    pub fn builtin(type_name: &str) -> Option<Schema> {
        builtin::find(type_name)
    }

    /// The schema of a custom kind, from `openAPIV3Schema` of one version of a CustomResourceDefinition.
    ///
    /// # Errors
    /// Everything that makes it not a structural schema, with paths relative to the given value.
    pub fn from_crd(open_api_v3_schema: &Value) -> Result<Schema, Vec<FieldError>> {
        crd::schema(open_api_v3_schema)
    }

    /// The schema of any JSON whatever, such as a patch: decoding under it records duplicate fields and nothing else.
    pub fn any() -> &'static Schema {
        static ANY: OnceLock<Schema> = OnceLock::new();
        ANY.get_or_init(|| Schema(Arc::new(Root::new(Node { nullable: true, ..Node::new(Shape::Any) }, true))))
    }

    /// Everything that is wrong with the `openAPIV3Schema` of a CRD, at `path`: what makes it not structural, and defaults
    /// that do not fit. What broke rules that came later is `let_be`. `large_patterns` are those that the definition
    /// had in schemas before, and has with this one: there may not be many.
    pub(crate) fn check_crd(
        open_api_v3_schema: &Value,
        let_be: Broken,
        path: &FieldPath,
        large_patterns: &mut Vec<Pattern>,
    ) -> Vec<FieldError> {
        crd::check(open_api_v3_schema, let_be, path, large_patterns)
    }

    /// What the `openAPIV3Schema` of a CRD breaks of the rules that came after its kind did.
    pub fn broken_in_crd(open_api_v3_schema: &Value) -> Broken {
        crd::broken(open_api_v3_schema)
    }

    /// Whether the `openAPIV3Schema` of a CRD has defaults anywhere.
    pub fn has_defaults_in_crd(open_api_v3_schema: &Value) -> bool {
        crd::has_defaults(open_api_v3_schema)
    }

    /// Whether the `openAPIV3Schema` of a CRD has keywords of Kubernetes' own anywhere.
    pub fn has_extensions_in_crd(open_api_v3_schema: &Value) -> bool {
        crd::has_extensions(open_api_v3_schema)
    }

    /// Validates the status of a custom object, when nothing else of it changes.
    pub fn validate_status(&self, value: &Value, old: &Value) -> Vec<FieldError> {
        if self.0.lenient { crd::validate_status(&self.0.node, value, old) } else { Vec::new() }
    }

    /// Whether strings of a custom object are checked against this `format`.
    pub fn knows_format(name: &str) -> bool {
        crd::knows_format(name)
    }

    /// The field that a path such as `.spec.size` leads to in the `openAPIV3Schema` of a CRD: its path as errors write it,
    /// and its schema.
    ///
    /// # Errors
    /// Why there is none.
    pub fn find_in_crd<'s>(schema: &'s Value, path: &str) -> Result<(String, Option<&'s Value>), String> {
        if let Some(why) = crd::unsupported(schema) {
            return Err(why);
        }
        crd::find_field(path, schema, false).map(|found| (found.path, found.schema))
    }

    /// Decodes an object: types are checked, unknown fields pruned and duplicates resolved to the last, both recorded.
    pub fn decode(&self, body: &[u8], format: Format) -> Result<Decoded, DecodeError> {
        decode::decode(self, body, format)
    }

    /// Applies the rules of [`Schema::decode`] to a value that is already parsed, such as the result of a patch.
    pub fn check(&self, value: Value) -> Result<Decoded, DecodeError> {
        decode::check(self, value)
    }

    /// [`Schema::check`] in the words in which Kubernetes refuses what a strategic merge patch made.
    pub fn restore(&self, value: Value) -> Result<Decoded, DecodeError> {
        decode::restore(self, value)
    }

    /// Whether objects have a form in Kubernetes' protobuf encoding: those of built-in kinds do.
    pub fn has_protobuf(&self) -> bool {
        protobuf::has_form(self)
    }

    /// An object's own message in Kubernetes' protobuf encoding; `None` for custom kinds, which have none.
    pub fn to_protobuf(&self, value: &Value) -> Option<Vec<u8>> {
        protobuf::encode(self, value)
    }

    /// Fills in what has a fixed default and is absent, and removes zeros that mean absence. Defaults that depend on other
    /// fields belong to the kind's strategy.
    pub fn default(&self, value: &mut Value) {
        // Controllers compare a status with the one that they wrote, zeros and all.
        let status = value.as_object_mut().and_then(|members| members.remove("status"));
        default::fill(&self.0.node, value, Zeros::Drop);
        if let (Some(mut status), Some(members)) = (status, value.as_object_mut()) {
            if let Some(field) = self.0.node.shape.object().and_then(|object| object.field("status")) {
                default::fill(&field.node, &mut status, Zeros::Keep);
            }
            members.insert("status".to_owned(), status);
        }
    }

    /// What an object is before its first write: a built-in kind has the parts that Go's zero value writes, with null
    /// for lists and maps; a custom object has nothing.
    fn zero(&self) -> &Value {
        self.0.zero.get_or_init(|| {
            let mut zero = Value::Object(Map::new());
            if !self.0.lenient {
                default::fill(&self.0.node, &mut zero, Zeros::Keep);
                default::add_nulls(&self.0.node, &mut zero);
            }
            zero
        })
    }

    /// Merges a `application/strategic-merge-patch+json` document into `original`.
    pub fn strategic_merge(&self, original: &Value, patch: &Value) -> Result<Value, PatchError> {
        strategic::merge(self, original, patch)
    }

    /// Validates a custom object against the rules of its CRD (`minimum`, `pattern`, `enum` …). Empty for built-in types.
    ///
    /// With an `old` object, what did not change is not held against the new one (KEP-4008).
    pub fn validate(&self, value: &Value, old: Option<&Value>, path: &FieldPath) -> Vec<FieldError> {
        if self.0.lenient { crd::validate(&self.0.node, value, old, path) } else { Vec::new() }
    }
}

#[cfg(test)]
mod tests;
