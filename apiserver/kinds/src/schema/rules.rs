//! Value validation of a custom resource definition: what a value must satisfy beyond having its type.

use serde_json::Value;

/// The validation keywords of one schema node.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    pub enumeration: Vec<Value>,
}
