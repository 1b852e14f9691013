//! Naive models of what the server does cleverly, or leaves to a library.

use serde_json::{Map, Value};

/// RFC 7396, section 2, word for word.
pub fn merge_patch(target: Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else { return patch.clone() };
    let mut members = match target {
        Value::Object(members) => members,
        _ => Map::new(),
    };
    for (name, value) in patch {
        if value.is_null() {
            members.remove(name);
        } else {
            let old = members.get(name).cloned().unwrap_or(Value::Null);
            members.insert(name.clone(), merge_patch(old, value));
        }
    }
    Value::Object(members)
}

/// RFC 6902: the document after all operations, or `None` when one of them fails.
pub fn json_patch(mut document: Value, operations: &[Value]) -> Option<Value> {
    for operation in operations {
        let path = |name: &str| operation.get(name).and_then(Value::as_str).and_then(pointer);
        let to = path("path")?;
        match operation.get("op")?.as_str()? {
            "add" => add(&mut document, &to, operation.get("value")?.clone())?,
            "remove" => drop(remove(&mut document, &to)?),
            "replace" => *find(&mut document, &to)? = operation.get("value")?.clone(),
            "move" => {
                let from = path("from")?;
                if to.len() > from.len() && to.starts_with(&from) {
                    return None;
                }
                let moved = remove(&mut document, &from)?;
                add(&mut document, &to, moved)?;
            }
            "copy" => {
                let copied = find(&mut document, &path("from")?)?.clone();
                add(&mut document, &to, copied)?;
            }
            "test" => (find(&mut document, &to)? == operation.get("value")?).then_some(())?,
            _ => return None,
        }
    }
    Some(document)
}

/// RFC 6901.
fn pointer(text: &str) -> Option<Vec<String>> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    let tokens = text.strip_prefix('/')?.split('/');
    Some(tokens.map(|token| token.replace("~1", "/").replace("~0", "~")).collect())
}

fn find<'d>(document: &'d mut Value, path: &[String]) -> Option<&'d mut Value> {
    path.iter().try_fold(document, |at, token| match at {
        Value::Object(members) => members.get_mut(token),
        Value::Array(items) => items.get_mut(index(token)?),
        _ => None,
    })
}

fn add(document: &mut Value, path: &[String], value: Value) -> Option<()> {
    let Some((last, parents)) = path.split_last() else {
        *document = value;
        return Some(());
    };
    match find(document, parents)? {
        Value::Object(members) => drop(members.insert(last.clone(), value)),
        Value::Array(items) => {
            let at = if last == "-" { items.len() } else { index(last)? };
            (at <= items.len()).then(|| items.insert(at, value))?;
        }
        _ => return None,
    }
    Some(())
}

fn remove(document: &mut Value, path: &[String]) -> Option<Value> {
    let (last, parents) = path.split_last()?;
    match find(document, parents)? {
        Value::Object(members) => members.remove(last),
        Value::Array(items) => {
            let at = index(last)?;
            (at < items.len()).then(|| items.remove(at))
        }
        _ => None,
    }
}

/// Digits without a leading zero.
fn index(token: &str) -> Option<usize> {
    let is_index = token.bytes().all(|byte| byte.is_ascii_digit()) && (token == "0" || !token.starts_with('0'));
    token.parse().ok().filter(|_| is_index)
}
