//! Strategic merge patch.

use serde_json::Value;

use super::Schema;

/// Why a strategic merge patch cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    #[error("{0}")]
    Invalid(String),
}

pub(super) fn merge(_schema: &Schema, original: &Value, patch: &Value) -> Result<Value, PatchError> {
    let mut merged = original.clone();
    super::merge_patch::merge_patch(&mut merged, patch.clone());
    Ok(merged)
}
