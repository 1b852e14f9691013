//! The part of `metadata` that belongs to the server.

use jiff::Timestamp;
use k8w_kinds::object;
use serde_json::{Map, Value};
use std::collections::HashSet;

/// How many random characters make a name of `generateName`.
const SUFFIX_CHARS: usize = 5;
/// A generated name is at most this long.
const NAME_LIMIT_CHARS: usize = 63;
/// No vowels and nothing that looks like another, as in `k8s.io/apimachinery` `pkg/util/rand`.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// RFC 3339 in UTC, to the second.
pub fn timestamp(time: Timestamp) -> String {
    format!("{time:.0}")
}

pub fn get<'v>(object: &'v Value, field: &str) -> Option<&'v Value> {
    object::get(object, &["metadata", field])
}

pub fn text<'v>(object: &'v Value, field: &str) -> &'v str {
    object::text(object, &["metadata", field])
}

/// `metadata`, made if it is missing.
pub fn metadata(object: &mut Value) -> &mut Map<String, Value> {
    if !object.get("metadata").is_some_and(Value::is_object) {
        object["metadata"] = Value::Object(Map::new());
    }
    match object.get_mut("metadata") {
        Some(Value::Object(metadata)) => metadata,
        _ => unreachable!("it was just made an object"),
    }
}

pub fn set(object: &mut Value, field: &str, value: impl Into<Value>) {
    metadata(object).insert(field.to_string(), value.into());
}

pub fn remove(object: &mut Value, field: &str) {
    if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
        metadata.remove(field);
    }
}

/// A name that begins with `base` and that nobody else is likely to have, if nobody can foresee these bits.
pub fn generate_name(base: &str, mut bits: u128) -> String {
    let kept = base.char_indices().nth(NAME_LIMIT_CHARS - SUFFIX_CHARS).map_or(base, |(end, _)| &base[..end]);
    let letters = ALPHABET.len() as u128;
    let mut name = String::with_capacity(kept.len() + SUFFIX_CHARS);
    name.push_str(kept);
    for _ in 0..SUFFIX_CHARS {
        name.push(ALPHABET[(bits % letters) as usize] as char);
        bits /= letters;
    }
    name
}

/// Names each owner once, and says which UIDs were named more often.
pub fn dedup_owners(object: &mut Value) -> Vec<String> {
    let mut seen = HashSet::new();
    let owners = object::list(object, &["metadata", "ownerReferences"]);
    let (first, again): (Vec<&Value>, Vec<&Value>) = owners.iter().partition(|owner| seen.insert(owner.to_string()));
    let again: Vec<String> = again.into_iter().map(|owner| object::text(owner, &["uid"]).to_owned()).collect();
    if !again.is_empty() {
        let first: Vec<Value> = first.into_iter().cloned().collect();
        set(object, "ownerReferences", first);
    }
    again
}

/// Whether two states of an object differ in nothing but bookkeeping: the resource version and the times in
/// `managedFields`.
pub fn same(a: &Value, b: &Value) -> bool {
    let (Some(a), Some(b)) = (a.as_object(), b.as_object()) else { return a == b };
    let spec_and_all = |object: &Map<String, Value>| object.iter().filter(|(name, _)| *name != "metadata").count();
    spec_and_all(a) == spec_and_all(b)
        && a.iter().filter(|(name, _)| *name != "metadata").all(|(name, value)| b.get(name) == Some(value))
        && same_metadata(a.get("metadata"), b.get("metadata"))
}

fn same_metadata(a: Option<&Value>, b: Option<&Value>) -> bool {
    let (Some(Value::Object(a)), Some(Value::Object(b))) = (a, b) else { return a == b };
    let counted = |name: &str| !matches!(name, "resourceVersion" | "managedFields");
    a.keys().filter(|name| counted(name)).count() == b.keys().filter(|name| counted(name)).count()
        && a.iter().filter(|(name, _)| counted(name)).all(|(name, value)| b.get(name) == Some(value))
        && same_managers(a.get("managedFields"), b.get("managedFields"))
}

fn same_managers(a: Option<&Value>, b: Option<&Value>) -> bool {
    let entries = |list: Option<&Value>| list.and_then(Value::as_array).map(Vec::len).unwrap_or_default();
    let (Some(Value::Array(a)), Some(Value::Array(b))) = (a, b) else { return entries(a) == entries(b) };
    let timeless = |entry: &Value| -> Vec<(String, Value)> {
        let fields = entry.as_object().into_iter().flatten().filter(|(name, _)| *name != "time");
        fields.map(|(name, value)| (name.clone(), value.clone())).collect()
    };
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a == b || timeless(a) == timeless(b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn generated_names_keep_within_the_limit() {
        for base in ["web-", "", &"a".repeat(80), &"ä".repeat(80)] {
            let name = generate_name(base, u128::MAX);
            assert!(name.chars().count() <= NAME_LIMIT_CHARS);
            assert!(base.starts_with(&name[..name.len() - SUFFIX_CHARS]));
        }
    }

    #[test]
    fn bookkeeping_does_not_make_a_difference() {
        let object = |version: &str, time: &str, data: &str| {
            json!({"metadata": {"name": "x", "resourceVersion": version, "managedFields": [{"manager": "m", "time": time}]},
                   "data": data})
        };
        assert!(same(&object("1", "a", "d"), &object("2", "b", "d")));
        assert!(!same(&object("1", "a", "d"), &object("1", "a", "e")));
        assert!(!same(&json!({"metadata": {}}), &json!({"metadata": {"name": "x"}})));
        assert!(same(&json!({"metadata": {"managedFields": []}}), &json!({"metadata": {}})));
    }
}
