//! The order of a merged list: the patch's items in the patch's order, the others where they stood.

use serde_json::Value;

use super::{PatchError, merge_key};

/// Orders `merged`: items named in `order` follow it; the rest keep the order of `live` and go before the first item
/// of the patch that stood behind them.
pub(super) fn arrange(
    merged: Vec<Value>,
    order: &[Value],
    live: &[Value],
    key: Option<&str>,
) -> Result<Vec<Value>, PatchError> {
    let position = |list: &[Value], item: &Value| match key {
        Some(key) => list.iter().position(|other| other.get(key) == item.get(key)),
        None => list.iter().position(|other| other == item),
    };
    if let Some(key) = key {
        merged.iter().chain(order).try_for_each(|item| merge_key(item, key).map(|_| ()))?;
    }
    let (mut patched, mut others): (Vec<Value>, Vec<Value>) =
        merged.into_iter().partition(|item| position(order, item).is_some());
    patched.sort_by_key(|item| position(order, item));
    others.sort_by_key(|item| position(live, item));

    let mut arranged = Vec::with_capacity(patched.len() + others.len());
    let mut others = others.into_iter().peekable();
    for item in patched {
        let here = position(live, &item);
        while let Some(other) =
            others.next_if(|other| matches!((position(live, other), here), (Some(o), Some(h)) if o < h))
        {
            arranged.push(other);
        }
        arranged.push(item);
    }
    arranged.extend(others);
    Ok(arranged)
}
