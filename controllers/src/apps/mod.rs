//! Controllers of the `apps` group.

pub mod daemon_set;
pub mod deployment;
mod hash;
mod history;
pub mod replica_set;
pub mod stateful_set;
