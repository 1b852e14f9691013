//! Controllers of the `batch` group.

pub mod job;
pub mod ttl_after_finished;
