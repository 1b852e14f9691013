//! Controllers of the core group.

pub mod events;
