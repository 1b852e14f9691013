//! One step into an object, as field ownership names it.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use serde_json::{Map as JsonMap, Value};

/// A step from an object to one of its fields, or from a list to one of its items.
///
/// Ordered as Kubernetes orders the keys of `fieldsV1`.
#[derive(Clone, Debug, PartialEq)]
pub enum PathElement {
    /// `f:name`: the field of an object or the entry of a map.
    Field(Arc<str>),
    /// `k:{"name":"a"}`: the list item with these keys, sorted by name.
    Key(Vec<(Arc<str>, Value)>),
    /// `v:"a"`: the item of a set.
    Value(Value),
    /// `i:0`: the item at this index.
    Index(u64),
}

impl PathElement {
    /// Reads a key of `fieldsV1`. `None` for `.` and for what no known version writes.
    pub fn from_key(key: &str) -> Option<PathElement> {
        let (kind, content) = key.split_once(':')?;
        match kind {
            "f" => Some(PathElement::Field(content.into())),
            "k" => {
                let keys: JsonMap<String, Value> = serde_json::from_str(content).ok()?;
                Some(PathElement::Key(keys.into_iter().map(|(name, value)| (name.into(), value)).collect()))
            }
            "v" => Some(PathElement::Value(serde_json::from_str(content).ok()?)),
            "i" => Some(PathElement::Index(content.parse().ok()?)),
            _ => None,
        }
    }

    /// Writes the element as a key of `fieldsV1`.
    pub fn to_key(&self) -> String {
        match self {
            PathElement::Field(name) => ["f:", name].concat(),
            PathElement::Key(keys) => {
                let keys: Vec<String> = keys.iter().map(|(name, value)| format!("{:?}:{value}", &**name)).collect();
                format!("k:{{{}}}", keys.join(","))
            }
            PathElement::Value(value) => format!("v:{value}"),
            PathElement::Index(index) => format!("i:{index}"),
        }
    }

    fn rank(&self) -> u8 {
        match self {
            PathElement::Field(_) => 0,
            PathElement::Key(_) => 1,
            PathElement::Value(_) => 2,
            PathElement::Index(_) => 3,
        }
    }
}

impl Eq for PathElement {}

impl PartialOrd for PathElement {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for PathElement {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (PathElement::Field(a), PathElement::Field(b)) => a.cmp(b),
            (PathElement::Key(a), PathElement::Key(b)) => {
                let pairs = a.iter().zip(b).map(|((an, av), (bn, bv))| an.cmp(bn).then_with(|| compare(av, bv)));
                pairs.fold(Ordering::Equal, Ordering::then).then(a.len().cmp(&b.len()))
            }
            (PathElement::Value(a), PathElement::Value(b)) => compare(a, b),
            (PathElement::Index(a), PathElement::Index(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

/// Numbers by value, then strings, booleans and the rest by their text.
fn compare(a: &Value, b: &Value) -> Ordering {
    let rank = |value: &Value| match value {
        Value::Number(_) => 0,
        Value::String(_) => 1,
        Value::Bool(_) => 2,
        Value::Array(_) => 3,
        Value::Object(_) => 4,
        Value::Null => 5,
    };
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => match (x.as_i64(), y.as_i64()) {
            (Some(x), Some(y)) => x.cmp(&y),
            _ => x.as_f64().unwrap_or_default().total_cmp(&y.as_f64().unwrap_or_default()),
        },
        (Value::String(x), Value::String(y)) => x.cmp(y),
        (Value::Bool(x), Value::Bool(y)) => x.cmp(y),
        _ if rank(a) == rank(b) => a.to_string().cmp(&b.to_string()),
        _ => rank(a).cmp(&rank(b)),
    }
}

/// As conflicts name it: `.spec`, `[name="a"]`, `[="a"]`, `[0]`.
impl fmt::Display for PathElement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PathElement::Field(name) => write!(f, ".{name}"),
            PathElement::Key(keys) => {
                let keys: Vec<String> = keys.iter().map(|(name, value)| format!("{name}={value}")).collect();
                write!(f, "[{}]", keys.join(","))
            }
            PathElement::Value(value) => write!(f, "[={value}]"),
            PathElement::Index(index) => write!(f, "[{index}]"),
        }
    }
}
