//! What differs between two states of an object, for errors about what may not change.

use serde_json::Value;

use crate::field::FieldPath;
use crate::object;

/// Changes that are listed; of more it is only said that there are.
const MAX_CHANGES: usize = 10;
/// A value that is longer is cut.
const MAX_VALUE_CHARS: usize = 200;

/// A line for what was and one for what would be, of every leaf beneath `path` that differs.
pub fn lines(old: Option<&Value>, new: Option<&Value>, path: &FieldPath) -> String {
    let mut changes = Vec::new();
    compare(old, new, &path.to_string(), &mut changes);
    let more = changes.len() > MAX_CHANGES;
    changes.truncate(MAX_CHANGES);
    changes.concat() + if more { "...\n" } else { "" }
}

fn compare(old: Option<&Value>, new: Option<&Value>, path: &str, changes: &mut Vec<String>) {
    if changes.len() > MAX_CHANGES || object::same(old, new) {
        return;
    }
    match (old, new) {
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            let added = new.keys().filter(|key| !old.contains_key(*key));
            for key in old.keys().chain(added) {
                compare(old.get(key), new.get(key), &format!("{path}.{key}"), changes);
            }
        }
        (Some(Value::Array(old)), Some(Value::Array(new))) => {
            for i in 0..old.len().max(new.len()) {
                compare(old.get(i), new.get(i), &format!("{path}[{i}]"), changes);
            }
        }
        _ => {
            let line = |sign, value: &Value| format!("{sign} {path}: {}\n", cut(&value.to_string()));
            let (old, new) = (old.map(|old| line('-', old)), new.map(|new| line('+', new)));
            changes.push(old.unwrap_or_default() + &new.unwrap_or_default());
        }
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_VALUE_CHARS) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    #[test]
    fn leaves_that_differ_are_listed() {
        let old =
            json!({"same": [1], "none": null, "name": "a", "list": [{"x": 1}, 2], "map": {"gone": true}, "kind": 1});
        let new =
            json!({"same": [1], "name": "b", "list": [{"x": 1}], "map": {"new": {}, "come": {"y": 1}}, "kind": []});
        expect![[r#"
            - spec.kind: 1
            + spec.kind: []
            - spec.list[1]: 2
            - spec.map.gone: true
            + spec.map.come: {"y":1}
            - spec.name: "a"
            + spec.name: "b"
        "#]]
        .assert_eq(&lines(Some(&old), Some(&new), &FieldPath::new("spec")));
        assert_eq!(lines(None, None, &FieldPath::new("spec")), "");
    }

    #[test]
    fn what_is_told_is_bounded() {
        let (old, new) = (json!(vec![0; MAX_CHANGES + 5]), json!(vec![1; MAX_CHANGES + 5]));
        let told = lines(Some(&old), Some(&new), &FieldPath::new("a"));
        assert_eq!((told.lines().count(), told.lines().last()), (2 * MAX_CHANGES + 1, Some("...")));
        let long = json!("ä".repeat(2 * MAX_VALUE_CHARS));
        let told = lines(None, Some(&long), &FieldPath::new("a"));
        assert_eq!(told.chars().count(), "+ a: ...\n".len() + MAX_VALUE_CHARS);
    }
}
