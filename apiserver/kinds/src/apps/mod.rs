//! The kinds of `apps`.

pub mod deployment;
pub mod replica_set;
mod workload;
