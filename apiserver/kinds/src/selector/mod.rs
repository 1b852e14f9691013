//! Selectors: which objects a client or a controller means, by label or by field.

mod field;
mod label;

pub use field::{FieldSelector, FieldSelectorError, FieldTerm};
pub use label::{LabelSelector, LabelSelectorError, Operator, Requirement};
