//! Controllers of the core group.

pub mod endpoints;
pub mod events;
pub mod namespace;
pub mod node_ipam;
pub mod node_lifecycle;
pub mod pod_gc;
pub mod replication_controller;
pub mod resource_quota;
pub mod root_ca;
pub mod service_account;
pub mod service_account_token;
pub mod service_account_token_cleaner;
pub mod service_load_balancer;
pub mod taint_eviction;
#[cfg(test)]
mod tests;
