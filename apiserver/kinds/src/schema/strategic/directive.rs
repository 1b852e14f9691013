//! What a patch says about itself: members whose names begin with `$`.

use serde_json::Value;

use super::{Members, PatchError, merge_key};
use crate::schema::go::go_list;

pub(super) const PATCH: &str = "$patch";
pub(super) const RETAIN_KEYS: &str = "$retainKeys";
pub(super) const SET_ORDER: &str = "$setElementOrder/";
pub(super) const DELETE_FROM_LIST: &str = "$deleteFromPrimitiveList/";

/// `$retainKeys`: drops what the list does not name. The patch may only set what it names.
pub(super) fn retain_keys(original: &mut Members, patch: &Members, keys: &Value) -> Result<(), PatchError> {
    let keys = keys.as_array().ok_or(PatchError::BadRetainKeys)?;
    let retained = |name: &str| keys.iter().any(|key| key == name);
    let directive = |name: &str| name.starts_with(DELETE_FROM_LIST) || name.starts_with(SET_ORDER);
    if patch.iter().any(|(name, value)| !value.is_null() && !directive(name) && !retained(name)) {
        return Err(PatchError::BadRetainKeys);
    }
    original.retain(|name, _| retained(name));
    Ok(())
}

/// A new value as it is stored: without directives and nulls; `None` for what says how it is to be merged, because there
/// is nothing to merge it with.
pub(super) fn plain(value: Value) -> Option<Value> {
    match value {
        Value::Object(members) => {
            if members.contains_key(PATCH) {
                return None;
            }
            let is_directive = |name: &str| {
                name == PATCH
                    || name == RETAIN_KEYS
                    || name.starts_with(SET_ORDER)
                    || name.starts_with(DELETE_FROM_LIST)
            };
            let members = members.into_iter().filter(|(name, value)| !value.is_null() && !is_directive(name));
            Some(Value::Object(members.filter_map(|(name, value)| Some((name, plain(value)?))).collect()))
        }
        Value::Array(items) => Some(Value::Array(items.into_iter().filter_map(plain).collect())),
        other => Some(other),
    }
}

/// The patch's items have to appear in `order`, in the same order; deletions do not count.
pub(super) fn check_order(patch: &[Value], order: &[Value], key: Option<&str>) -> Result<(), PatchError> {
    if patch.is_empty() || order.is_empty() {
        return Ok(());
    }
    let mut rest = order.iter();
    for item in patch.iter().filter(|item| item.get(PATCH).is_none()) {
        let identity = |value| key.map_or(Ok(value), |key| merge_key(value, key));
        let wanted = identity(item)?;
        let mut found = false;
        for candidate in rest.by_ref() {
            if identity(candidate)? == wanted {
                found = true;
                break;
            }
        }
        if !found {
            return Err(PatchError::OrderMismatch { patch: go_list(patch), order: go_list(order) });
        }
    }
    Ok(())
}
