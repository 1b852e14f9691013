//! Merging an applied configuration into the live object.

use serde_json::{Map as JsonMap, Value};

use super::super::shape::List;
use super::path::PathElement;
use super::typed::{Parts, Typed, identity};

/// Merges `config` into `live`: leaves are taken from the configuration, objects merge member by member, lists with
/// identities item by item, in the order of the configuration.
///
/// # Errors
/// An item of a list without its keys, or two with the same.
pub(super) fn merge(typed: Typed<'_>, live: &Value, config: &Value) -> Result<Value, String> {
    match (typed.parts(live), typed.parts(config)) {
        (Parts::Object(live), Parts::Object(config)) if !(live.is_empty() && config.is_empty()) => {
            let mut merged = JsonMap::new();
            for (name, live) in live {
                let value = match config.get(name) {
                    Some(config) => merge(typed.member(name).0, live, config)?,
                    None => live.clone(),
                };
                merged.insert(name.clone(), value);
            }
            let new = config.iter().filter(|(name, _)| !live.contains_key(*name));
            merged.extend(new.map(|(name, value)| (name.clone(), value.clone())));
            Ok(Value::Object(merged))
        }
        (Parts::List(live), Parts::List(config)) if !(live.is_empty() && config.is_empty()) => match typed.list() {
            Some(list) => Ok(Value::Array(merge_items(list, live, config)?)),
            None => Ok(Value::Array(config.to_vec())),
        },
        _ => Ok(config.clone()),
    }
}

/// Items of both are in the order of the configuration; the others stay behind the item they stood behind.
fn merge_items(list: &List, live: &[Value], config: &[Value]) -> Result<Vec<Value>, String> {
    let live = identities(list, live)?;
    let config = identities(list, config)?;
    let typed = Typed::new(&list.item.shape);
    let mut shared = config.iter().map(|(element, _)| element).filter(|element| contains(&live, element)).peekable();

    let mut merged = Vec::with_capacity(live.len().max(config.len()));
    let mut rest = live.iter().peekable();
    for (element, item) in &config {
        while let Some((other, live_item)) = rest.peek() {
            if !contains(&config, other) {
                merged.push((*live_item).clone());
            } else if shared.peek() == Some(&other) {
                break;
            } else if shared.peek().is_none() {
                rest.next();
                break;
            }
            // Others of both come up in the configuration's order.
            rest.next();
        }
        let mut same = live.iter().filter(|(other, _)| other == element);
        match (same.next(), same.next()) {
            (Some((_, live)), None) => merged.push(merge(typed, live, item)?),
            // Live items that share an identity are replaced together.
            _ => merged.push((*item).clone()),
        }
        if shared.next_if_eq(&element).is_some() {
            rest.next_if(|(other, _)| other == element);
        }
    }
    merged.extend(rest.filter(|(element, _)| !contains(&config, element)).map(|(_, item)| (*item).clone()));
    Ok(merged)
}

fn contains(items: &[(PathElement, &Value)], element: &PathElement) -> bool {
    items.iter().any(|(other, _)| other == element)
}

fn identities<'v>(list: &List, items: &'v [Value]) -> Result<Vec<(PathElement, &'v Value)>, String> {
    let identified = |(i, item)| Ok((identity(list, item).map_err(|e| format!("element {i}: {e}"))?, item));
    items.iter().enumerate().map(identified).collect()
}
