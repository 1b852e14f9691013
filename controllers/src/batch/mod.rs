//! Controllers of the `batch` group.

pub mod cron_job;
pub mod job;
pub mod ttl_after_finished;
