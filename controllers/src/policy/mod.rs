//! Controllers of the `policy` group.

pub mod pod_disruption_budget;
pub mod stale_disruption;
