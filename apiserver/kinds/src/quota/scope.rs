//! The scopes of a ResourceQuota: which objects it is about.

use serde_json::Value;

use crate::object::{list, text};

/// One condition; a quota is about what fulfils all of them.
#[derive(Debug)]
pub struct Scope<'q> {
    pub name: &'q str,
    operator: &'q str,
    values: &'q [Value],
}

impl Scope<'_> {
    /// Whether the class that an object has (empty: none) is one that the scope selects.
    pub fn selects(&self, class: &str) -> bool {
        let listed = || self.values.iter().any(|value| value == class);
        match self.operator {
            "Exists" => !class.is_empty(),
            "DoesNotExist" => class.is_empty(),
            "In" => !class.is_empty() && listed(),
            "NotIn" => class.is_empty() || !listed(),
            _ => false,
        }
    }
}

/// The scopes of a quota: those that are named, and those of its selector.
pub fn of(quota: &Value) -> Vec<Scope<'_>> {
    let named = list(quota, &["spec", "scopes"]).iter().filter_map(Value::as_str);
    let named = named.map(|name| Scope { name, operator: "Exists", values: &[] });
    let selected = list(quota, &["spec", "scopeSelector", "matchExpressions"]).iter().map(|expression| Scope {
        name: text(expression, &["scopeName"]),
        operator: text(expression, &["operator"]),
        values: list(expression, &["values"]),
    });
    named.chain(selected).collect()
}
