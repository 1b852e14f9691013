//! Strategic merge patch: a merge patch that knows how lists merge
//! (<https://git.k8s.io/community/contributors/devel/sig-api-machinery/strategic-merge-patch.md>).
//!
//! Lists with patch strategy `merge` merge item by item, objects by their merge key and scalars as a set; all other
//! lists are replaced. Directives in the patch change that: `$patch: replace|delete`, `$retainKeys`,
//! `$setElementOrder/<field>` and `$deleteFromPrimitiveList/<field>`.

mod directive;
mod order;

use serde_json::{Map as JsonMap, Value};

use super::Schema;
use super::go::{go, go_list, go_type};
use super::shape::{Object, Patch, PatchStrategy, Shape};
use directive::{DELETE_FROM_LIST, PATCH, RETAIN_KEYS, SET_ORDER};

type Members = JsonMap<String, Value>;

/// Why a strategic merge patch cannot be applied, in Kubernetes' words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    #[error("expected a {expected}, but received a {received}")]
    Kind { expected: &'static str, received: &'static str },
    #[error("unable to find api field in struct {object} for the json field {field:?}")]
    UnknownField { object: String, field: String },
    #[error("map: {item} does not contain declared merge key: {key}")]
    NoMergeKey { item: String, key: String },
    #[error("unknown patch type: {directive} in map: {item}")]
    UnknownDirective { directive: String, item: String },
    #[error("merging lists cannot yet be specified in the patch")]
    MergeDirectiveInList,
    #[error("lists of lists are not supported")]
    ListOfLists,
    #[error("list element types are not identical: {0}")]
    MixedList(String),
    #[error("cannot merge lists without merge key for {0}")]
    NoKeyDeclared(String),
    #[error("invalid patch format of primitive list")]
    BadPrimitiveList,
    #[error("invalid patch format of retainKeys")]
    BadRetainKeys,
    #[error("invalid patch format of setElementOrder list")]
    BadElementOrder,
    #[error("The order in patch list:\n{patch}\n doesn't match $setElementOrder list:\n{order}\n")]
    OrderMismatch { patch: String, order: String },
}

pub(super) fn merge(schema: &Schema, original: &Value, patch: &Value) -> Result<Value, PatchError> {
    let (Value::Object(original), Value::Object(patch)) = (original, patch) else {
        let received = go_type(if original.is_object() { patch } else { original });
        return Err(PatchError::Kind { expected: "map[string]interface {}", received });
    };
    merge_object(schema.0.node.shape.resolve(), original.clone(), patch.clone()).map(Value::Object)
}

/// Merges one object. `shape` is the object's, as far as it is known.
fn merge_object(shape: &Shape, mut original: Members, mut patch: Members) -> Result<Members, PatchError> {
    if let Some(directive) = patch.remove(PATCH) {
        return match directive.as_str() {
            Some("replace") => Ok(patch),
            Some("delete") => Ok(Members::new()),
            _ => Err(PatchError::UnknownDirective { directive: go(&directive), item: go(&Value::Object(patch)) }),
        };
    }
    if let Some(keys) = patch.remove(RETAIN_KEYS) {
        directive::retain_keys(&mut original, &patch, &keys)?;
    }
    let orders: Vec<String> = patch.keys().filter(|key| key.starts_with(SET_ORDER)).cloned().collect();
    for key in orders {
        if let Some(order) = patch.remove(&key) {
            merge_in_order(shape, &mut original, &mut patch, &key[SET_ORDER.len()..], &order)?;
        }
    }
    for (key, value) in patch {
        match key.strip_prefix(DELETE_FROM_LIST) {
            Some(name) => delete_from_list(&mut original, name, &value)?,
            None => merge_member(shape, &mut original, key, value)?,
        }
    }
    Ok(original)
}

fn merge_member(shape: &Shape, original: &mut Members, key: String, value: Value) -> Result<(), PatchError> {
    if value.is_null() {
        original.remove(&key);
        return Ok(());
    }
    let merged = match (original.remove(&key), value) {
        (Some(Value::Object(old)), Value::Object(new)) => {
            let (shape, patch) = member(shape, &key)?;
            if patch.strategy == PatchStrategy::Replace {
                Some(Value::Object(new))
            } else {
                Some(Value::Object(merge_object(shape, old, new)?))
            }
        }
        (Some(Value::Array(old)), Value::Array(new)) => {
            let (shape, patch) = member(shape, &key)?;
            Some(Value::Array(merge_list(shape, patch, old, new)?))
        }
        (_, new) => directive::plain(new),
    };
    if let Some(merged) = merged {
        original.insert(key, merged);
    }
    Ok(())
}

/// `$setElementOrder/<name>`: merges the list of that name here, then orders it.
fn merge_in_order(
    shape: &Shape,
    original: &mut Members,
    patch: &mut Members,
    name: &str,
    order: &Value,
) -> Result<(), PatchError> {
    let order = list(order)?;
    let (item_shape, meta) = member(shape, name)?;
    let key = meta.merge_key.as_deref();
    let old = original.get(name).map(list).transpose()?.cloned();
    let new = patch.remove(name);
    let new = new.as_ref().map(list).transpose()?.cloned();
    directive::check_order(new.as_deref().unwrap_or_default(), order, key)?;
    let live = old.clone().unwrap_or_default();
    let merged = match (old, new) {
        (None, None) => return Ok(()),
        (Some(old), None) => old,
        (None, Some(new)) => new.into_iter().filter_map(directive::plain).collect(),
        (Some(old), Some(new)) => merge_list(item_shape, meta, old, new)?,
    };
    original.insert(name.to_owned(), Value::Array(order::arrange(merged, order, &live, key)?));
    Ok(())
}

/// `$deleteFromPrimitiveList/<name>`: removes scalars from the list of that name.
fn delete_from_list(original: &mut Members, name: &str, values: &Value) -> Result<(), PatchError> {
    let values = values.as_array().ok_or(PatchError::BadPrimitiveList)?;
    if let Some(Value::Array(items)) = original.get_mut(name) {
        items.retain(|item| !values.contains(item));
    }
    Ok(())
}

fn merge_list(shape: &Shape, meta: &Patch, old: Vec<Value>, new: Vec<Value>) -> Result<Vec<Value>, PatchError> {
    if meta.strategy != PatchStrategy::Merge {
        return Ok(new);
    }
    if old.is_empty() && new.is_empty() {
        return Ok(old);
    }
    if !of_objects(&old, &new)? {
        let mut merged = Vec::with_capacity(old.len() + new.len());
        for item in old.iter().chain(&new) {
            if !merged.contains(item) {
                merged.push(item.clone());
            }
        }
        return order::arrange(merged, &new, &old, None);
    }
    let Shape::List(list) = shape else { return Ok(new) };
    let item = list.item.shape.resolve();
    let Some(key) = meta.merge_key.as_deref() else {
        return Err(PatchError::NoKeyDeclared(object_name(item)));
    };
    let (mut merged, new) = apply_item_directives(old, new, key)?;
    let live = merged.clone();
    for patch in new.iter().cloned() {
        let identity = merge_key(&patch, key)?.clone();
        match merged.iter_mut().find(|m| m.get(key) == Some(&identity)) {
            Some(found) => {
                if let (Value::Object(old), Value::Object(new)) = (found.take(), patch) {
                    *found = Value::Object(merge_object(item, old, new)?);
                }
            }
            None => merged.extend(directive::plain(patch)),
        }
    }
    order::arrange(merged, &new, &live, Some(key))
}

/// Items with `$patch` delete their like or replace the whole list; the others are left to merge.
fn apply_item_directives(
    mut old: Vec<Value>,
    new: Vec<Value>,
    key: &str,
) -> Result<(Vec<Value>, Vec<Value>), PatchError> {
    let mut plain = Vec::with_capacity(new.len());
    let mut replace = false;
    for item in new {
        match item.get(PATCH).map(Value::as_str) {
            None => plain.push(item),
            Some(Some("delete")) => {
                let identity = merge_key(&item, key)?;
                old.retain(|o| o.get(key) != Some(identity));
            }
            Some(Some("replace")) => replace = true,
            Some(Some("merge")) => return Err(PatchError::MergeDirectiveInList),
            Some(_) => {
                return Err(PatchError::UnknownDirective { directive: go(&item[PATCH]), item: go(&item) });
            }
        }
    }
    Ok(if replace { (plain.into_iter().filter_map(directive::plain).collect(), Vec::new()) } else { (old, plain) })
}

fn merge_key<'v>(item: &'v Value, key: &str) -> Result<&'v Value, PatchError> {
    item.get(key).ok_or_else(|| PatchError::NoMergeKey { item: go(item), key: key.to_owned() })
}

/// Whether the items are objects; all have to be of one kind, and not lists.
fn of_objects(old: &[Value], new: &[Value]) -> Result<bool, PatchError> {
    let mut kinds = old.iter().chain(new).map(go_type);
    let first = kinds.next();
    if kinds.any(|k| Some(k) != first) {
        return Err(PatchError::MixedList(format!("[{} {}]", go_list(old), go_list(new))));
    }
    match first {
        Some("[]interface {}") => Err(PatchError::ListOfLists),
        other => Ok(other == Some("map[string]interface {}")),
    }
}

/// The shape and patch strategy of a member. What lies in free-form JSON has none.
fn member<'s>(shape: &'s Shape, key: &str) -> Result<(&'s Shape, &'s Patch), PatchError> {
    static NONE: Patch = Patch { strategy: PatchStrategy::Default, retain_keys: false, merge_key: None };
    match shape {
        Shape::Object(object) => match object.field(key) {
            Some(field) => Ok((field.node.shape.resolve(), &field.patch)),
            None if object.keep_unknown => Ok((&Shape::Any, &NONE)),
            None => Err(unknown_field(object, key)),
        },
        Shape::Map(map) => Ok((map.value.shape.resolve(), &NONE)),
        _ => Ok((&Shape::Any, &NONE)),
    }
}

fn unknown_field(object: &Object, key: &str) -> PatchError {
    PatchError::UnknownField { object: object.short_name().to_owned(), field: key.to_owned() }
}

fn object_name(shape: &Shape) -> String {
    shape.object().map(|o| o.short_name().to_owned()).unwrap_or_default()
}

fn list(value: &Value) -> Result<&Vec<Value>, PatchError> {
    value.as_array().ok_or_else(|| PatchError::Kind { expected: "[]interface {}", received: go_type(value) })
}

#[cfg(test)]
mod tests;
