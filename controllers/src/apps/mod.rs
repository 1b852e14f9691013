//! Controllers of the `apps` group.

pub mod replica_set;
