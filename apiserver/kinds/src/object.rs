//! Small readers and writers for objects held as [`Value`].

use serde_json::{Map, Value};

/// The value at `path`; `None` where anything on the way is missing or null.
pub fn get<'v>(value: &'v Value, path: &[&str]) -> Option<&'v Value> {
    path.iter().try_fold(value, |v, name| v.get(name)).filter(|v| !v.is_null())
}

/// The string at `path`, or `""`.
pub fn text<'v>(value: &'v Value, path: &[&str]) -> &'v str {
    get(value, path).and_then(Value::as_str).unwrap_or_default()
}

/// The integer at `path`, or 0.
pub fn int(value: &Value, path: &[&str]) -> i64 {
    get(value, path).and_then(Value::as_i64).unwrap_or_default()
}

/// The list at `path`, or nothing.
pub fn list<'v>(value: &'v Value, path: &[&str]) -> &'v [Value] {
    get(value, path).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// The map at `path`, where there is one.
pub fn map<'v>(value: &'v Value, path: &[&str]) -> Option<&'v Map<String, Value>> {
    get(value, path).and_then(Value::as_object)
}

/// The object at `path`, made where it is missing. A value of another type on the way stays as it is and yields `None`.
pub fn ensure<'v>(value: &'v mut Value, path: &[&str]) -> Option<&'v mut Map<String, Value>> {
    let mut at = value.as_object_mut()?;
    for name in path {
        let next = at.entry(*name).or_insert_with(|| Value::Object(Map::new()));
        if next.is_null() {
            *next = Value::Object(Map::new());
        }
        at = next.as_object_mut()?;
    }
    Some(at)
}

/// The value at `path`, to be changed; `None` where anything on the way is missing or null.
pub fn get_mut<'v>(value: &'v mut Value, path: &[&str]) -> Option<&'v mut Value> {
    path.iter().try_fold(value, |v, name| v.get_mut(name)).filter(|v| !v.is_null())
}

/// The items of the list at `path`, to be changed.
pub fn list_mut<'v>(value: &'v mut Value, path: &[&str]) -> &'v mut [Value] {
    match get_mut(value, path) {
        Some(Value::Array(items)) => items,
        _ => &mut [],
    }
}

/// Sets `name` to `default` where `object` has no such field (or null).
pub fn set_default(object: &mut Map<String, Value>, name: &str, default: impl Into<Value>) {
    match object.get_mut(name) {
        Some(Value::Null) => object.insert(name.to_owned(), default.into()),
        Some(_) => None,
        None => object.insert(name.to_owned(), default.into()),
    };
}

/// Like [`set_default`], also where the field is the empty string.
pub fn set_default_text(object: &mut Map<String, Value>, name: &str, default: &str) {
    if object.get(name).and_then(Value::as_str).is_none_or(str::is_empty) {
        object.insert(name.to_owned(), default.into());
    }
}

/// Whether two values mean the same: a missing value, null, an empty list and an empty map all count as nothing.
pub fn same(a: Option<&Value>, b: Option<&Value>) -> bool {
    match (a.filter(|v| !is_nothing(v)), b.filter(|v| !is_nothing(v))) {
        (None, None) => true,
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            a.iter().all(|(k, v)| same(Some(v), b.get(k))) && b.iter().all(|(k, v)| a.contains_key(k) || is_nothing(v))
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(Some(a), Some(b)))
        }
        (Some(a), Some(b)) => a == b,
        _ => false,
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.is_empty(),
        _ => false,
    }
}

/// Copies the top-level field from `old` to `new`, or removes it where `old` has none.
pub fn keep(new: &mut Value, old: &Value, field: &str) {
    let Some(object) = new.as_object_mut() else { return };
    match old.get(field) {
        Some(value) => object.insert(field.to_owned(), value.clone()),
        None => object.remove(field),
    };
}

/// Removes a top-level field.
pub fn remove(object: &mut Value, field: &str) {
    if let Some(object) = object.as_object_mut() {
        object.remove(field);
    }
}
