//! Paths to fields and the errors found there, worded as Kubernetes words them.
//!
//! A [`FieldPath`] is a chain of borrowed segments on the stack: walking an object allocates nothing until an error is
//! reported. A [`Field`] is a value together with its path.

use std::fmt;

use serde_json::Value;

use crate::schema::go_float;

/// Where a field stands in its object, such as `spec.containers[0].image` or `metadata.labels[app]`.
#[derive(Clone, Copy, Debug)]
pub struct FieldPath<'a> {
    parent: Option<&'a FieldPath<'a>>,
    segment: Segment<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Segment<'a> {
    Root,
    Name(&'a str),
    Index(usize),
    Key(&'a str),
}

impl<'a> FieldPath<'a> {
    /// The object itself.
    pub const ROOT: FieldPath<'static> = FieldPath { parent: None, segment: Segment::Root };

    /// A path that starts at a field named `name`.
    pub fn new(name: &'a str) -> FieldPath<'a> {
        FieldPath { parent: None, segment: Segment::Name(name) }
    }

    /// The field `name` of the structure at this path.
    pub fn child<'b>(&'b self, name: &'b str) -> FieldPath<'b> {
        FieldPath { parent: Some(self), segment: Segment::Name(name) }
    }

    /// The item at `index` of the list at this path.
    pub fn index(&self, index: usize) -> FieldPath<'_> {
        FieldPath { parent: Some(self), segment: Segment::Index(index) }
    }

    /// The entry `key` of the map at this path.
    pub fn key<'b>(&'b self, key: &'b str) -> FieldPath<'b> {
        FieldPath { parent: Some(self), segment: Segment::Key(key) }
    }

    pub(crate) fn is_root(&self) -> bool {
        matches!(self.segment, Segment::Root)
    }
}

impl fmt::Display for FieldPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.segment {
            Segment::Root => Ok(()),
            Segment::Name(name) if self.parent.is_none_or(FieldPath::is_root) => f.write_str(name),
            Segment::Name(name) => write!(f, ".{name}"),
            Segment::Index(index) => write!(f, "[{index}]"),
            Segment::Key(key) => write!(f, "[{key}]"),
        }
    }
}

/// The kind of a [`FieldError`]: what `causes[].reason` of a `metav1.Status` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldErrorKind {
    Required,
    Invalid,
    /// Invalid as a whole: the value is not shown.
    InvalidWhole,
    NotSupported,
    Duplicate,
    Forbidden,
    TooLong,
    TooMany,
    NotFound,
    TypeInvalid,
    Internal,
}

impl FieldErrorKind {
    /// The machine-readable reason (`metav1.CauseType`).
    pub fn reason(self) -> &'static str {
        match self {
            Self::Required => "FieldValueRequired",
            Self::Invalid | Self::InvalidWhole => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::NotFound => "FieldValueNotFound",
            Self::TypeInvalid => "FieldValueTypeInvalid",
            Self::Internal => "InternalError",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Required => "Required value",
            Self::Invalid | Self::InvalidWhole | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Duplicate => "Duplicate value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::NotFound => "Not found",
            Self::Internal => "Internal error",
        }
    }

    fn shows_value(self) -> bool {
        !matches!(self, Self::InvalidWhole | Self::Required | Self::Forbidden | Self::TooLong | Self::Internal)
    }
}

/// One thing that is wrong with one field.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    pub kind: FieldErrorKind,
    /// The path, as users write it.
    pub field: String,
    /// What stood there; `None` where nothing did, which Kubernetes shows as `null`.
    pub bad_value: Option<Value>,
    /// What is wrong, in words; may be empty.
    pub detail: String,
}

impl FieldError {
    fn new(kind: FieldErrorKind, path: &FieldPath, bad_value: Option<Value>, detail: impl Into<String>) -> FieldError {
        FieldError { kind, field: path.to_string(), bad_value, detail: detail.into() }
    }

    pub fn required(path: &FieldPath, detail: impl Into<String>) -> FieldError {
        FieldError::new(FieldErrorKind::Required, path, None, detail)
    }

    pub fn invalid(path: &FieldPath, value: impl Into<Value>, detail: impl Into<String>) -> FieldError {
        FieldError::new(FieldErrorKind::Invalid, path, Some(value.into()), detail)
    }

    /// Of a structure whose fields do not go together.
    pub fn invalid_whole(path: &FieldPath, detail: impl Into<String>) -> FieldError {
        FieldError::new(FieldErrorKind::InvalidWhole, path, None, detail)
    }

    pub fn type_invalid(path: &FieldPath, value: impl Into<Value>, detail: impl Into<String>) -> FieldError {
        FieldError::new(FieldErrorKind::TypeInvalid, path, Some(value.into()), detail)
    }

    /// `supported` is listed as it is: sorted where Kubernetes has a set, and in an order of its own where that has a list.
    pub fn not_supported(path: &FieldPath, value: impl Into<Value>, supported: &[&str]) -> FieldError {
        let quoted: Vec<String> = supported.iter().map(|s| format!("{s:?}")).collect();
        let detail = if quoted.is_empty() { String::new() } else { format!("supported values: {}", quoted.join(", ")) };
        FieldError::new(FieldErrorKind::NotSupported, path, Some(value.into()), detail)
    }

    pub fn duplicate(path: &FieldPath, value: impl Into<Value>) -> FieldError {
        FieldError::new(FieldErrorKind::Duplicate, path, Some(value.into()), "")
    }

    pub fn forbidden(path: &FieldPath, detail: impl Into<String>) -> FieldError {
        FieldError::new(FieldErrorKind::Forbidden, path, None, detail)
    }

    pub fn too_long(path: &FieldPath, max_bytes: usize) -> FieldError {
        FieldError::new(FieldErrorKind::TooLong, path, None, format!("may not be more than {max_bytes} bytes"))
    }

    pub fn too_many(path: &FieldPath, actual: usize, max_items: usize) -> FieldError {
        let items = if max_items == 1 { "item" } else { "items" };
        let detail = format!("must have at most {max_items} {items}");
        FieldError::new(FieldErrorKind::TooMany, path, Some(actual.into()), detail)
    }

    pub fn not_found(path: &FieldPath, value: impl Into<Value>) -> FieldError {
        FieldError::new(FieldErrorKind::NotFound, path, Some(value.into()), "")
    }

    pub fn internal(path: &FieldPath, detail: impl Into<String>) -> FieldError {
        FieldError::new(FieldErrorKind::Internal, path, None, detail)
    }

    /// The message without its path: what `causes[].message` of a `metav1.Status` says.
    pub fn body(&self) -> String {
        let mut body = self.kind.words().to_owned();
        if self.kind.shows_value() {
            body.push_str(": ");
            match &self.bad_value {
                None => body.push_str("null"),
                Some(Value::Number(number)) if number.is_f64() => {
                    body.push_str(&go_float(number.as_f64().unwrap_or_default()));
                }
                Some(value) => body.push_str(&value.to_string()),
            }
        }
        if !self.detail.is_empty() {
            body.push_str(": ");
            body.push_str(&self.detail);
        }
        body
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() {
            return f.write_str(&self.body());
        }
        write!(f, "{}: {}", self.field, self.body())
    }
}

impl std::error::Error for FieldError {}

/// A value with its path. A missing field is a `Field` without a value, so that rules read the same for both.
#[derive(Clone, Copy, Debug)]
pub struct Field<'v, 'p> {
    value: Option<&'v Value>,
    pub path: FieldPath<'p>,
}

impl<'v, 'p> Field<'v, 'p> {
    /// The object itself.
    pub fn root(value: &'v Value) -> Field<'v, 'p> {
        Field { value: Some(value), path: FieldPath::ROOT }
    }

    pub fn new(value: Option<&'v Value>, path: FieldPath<'p>) -> Field<'v, 'p> {
        Field { value: value.filter(|v| !v.is_null()), path }
    }

    /// The field `name`; without a value where this is no object or has none.
    pub fn get<'b>(&'b self, name: &'b str) -> Field<'v, 'b> {
        Field::new(self.value.and_then(|v| v.get(name)), self.path.child(name))
    }

    /// The entry `key` of a map with free keys (its path reads `labels[key]`).
    pub fn key<'b>(&'b self, key: &'b str) -> Field<'v, 'b> {
        Field::new(self.value.and_then(|v| v.get(key)), self.path.key(key))
    }

    /// The items of a list; nothing where it is missing.
    pub fn items(&self) -> impl Iterator<Item = Field<'v, '_>> {
        let items = self.value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        items.iter().enumerate().map(|(i, v)| Field::new(Some(v), self.path.index(i)))
    }

    /// The entries of a map with free keys; nothing where it is missing.
    pub fn entries(&self) -> impl Iterator<Item = (&'v str, Field<'v, '_>)> {
        let entries = self.value.and_then(Value::as_object);
        entries.into_iter().flatten().map(|(k, v)| (k.as_str(), Field::new(Some(v), self.path.key(k))))
    }

    pub fn value(&self) -> Option<&'v Value> {
        self.value
    }

    pub fn str(&self) -> Option<&'v str> {
        self.value.and_then(Value::as_str)
    }

    /// The string, or `""` where it is missing: Kubernetes treats both alike.
    pub fn text(&self) -> &'v str {
        self.str().unwrap_or_default()
    }

    pub fn int(&self) -> Option<i64> {
        self.value.and_then(Value::as_i64)
    }

    pub fn bool(&self) -> Option<bool> {
        self.value.and_then(Value::as_bool)
    }

    /// How many items or entries; 0 where it is missing.
    pub fn len(&self) -> usize {
        match self.value {
            Some(Value::Array(items)) => items.len(),
            Some(Value::Object(entries)) => entries.len(),
            _ => 0,
        }
    }

    pub fn is_set(&self) -> bool {
        self.value.is_some()
    }

    /// Missing, or the empty string, list or map.
    pub fn is_empty(&self) -> bool {
        match self.value {
            None => true,
            Some(Value::String(s)) => s.is_empty(),
            Some(Value::Array(_) | Value::Object(_)) => self.len() == 0,
            Some(_) => false,
        }
    }

    pub fn required(&self, detail: impl Into<String>) -> FieldError {
        FieldError::required(&self.path, detail)
    }

    /// A missing string is shown as `""`, as a Go string would be.
    pub fn invalid(&self, detail: impl Into<String>) -> FieldError {
        FieldError::invalid(&self.path, self.value.cloned().unwrap_or_else(|| "".into()), detail)
    }

    pub fn not_supported(&self, supported: &[&str]) -> FieldError {
        FieldError::not_supported(&self.path, self.value.cloned().unwrap_or_else(|| "".into()), supported)
    }

    pub fn duplicate(&self) -> FieldError {
        FieldError::duplicate(&self.path, self.value.cloned().unwrap_or_default())
    }

    pub fn forbidden(&self, detail: impl Into<String>) -> FieldError {
        FieldError::forbidden(&self.path, detail)
    }

    pub fn not_found(&self) -> FieldError {
        FieldError::not_found(&self.path, self.value.cloned().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    #[test]
    fn errors_read_as_kubernetes_words_them() {
        let spec = FieldPath::new("spec");
        let containers = spec.child("containers");
        let first = containers.index(0);
        let labels = spec.child("labels");
        let errors = [
            FieldError::required(&first.child("image"), ""),
            FieldError::invalid(&spec.child("replicas"), -1, "must be greater than or equal to 0"),
            FieldError::invalid(&spec.child("selector"), json!({"a": "b"}), "field is immutable"),
            FieldError::invalid(&spec.child("labels"), Value::Null, "a map that is missing"),
            FieldError { bad_value: None, ..FieldError::invalid(&spec.child("selector"), "", "field is immutable") },
            FieldError::not_supported(&first.child("restartPolicy"), "x", &["OnFailure", "Never"]),
            FieldError::duplicate(&first.child("name"), "a"),
            FieldError::too_long(&labels.key("k/a"), 63),
            FieldError::too_many(&containers, 3, 1),
            FieldError::not_found(&first.child("name"), "v"),
            FieldError::forbidden(&FieldPath::ROOT, "no"),
            FieldError::invalid_whole(&first, "one of two is required"),
        ];
        let text: Vec<String> = errors.iter().map(ToString::to_string).collect();
        expect![[r#"
            spec.containers[0].image: Required value
            spec.replicas: Invalid value: -1: must be greater than or equal to 0
            spec.selector: Invalid value: {"a":"b"}: field is immutable
            spec.labels: Invalid value: null: a map that is missing
            spec.selector: Invalid value: null: field is immutable
            spec.containers[0].restartPolicy: Unsupported value: "x": supported values: "OnFailure", "Never"
            spec.containers[0].name: Duplicate value: "a"
            spec.labels[k/a]: Too long: may not be more than 63 bytes
            spec.containers: Too many: 3: must have at most 1 item
            spec.containers[0].name: Not found: "v"
            Forbidden: no
            spec.containers[0]: Invalid value: one of two is required"#]]
        .assert_eq(&text.join("\n"));
    }
}
