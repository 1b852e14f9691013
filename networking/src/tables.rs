//! Everything that is known about where connections go, immutable: built from API objects, swapped as a whole.

/// The tables of one moment.
#[derive(Debug, Default)]
pub struct Tables {}
