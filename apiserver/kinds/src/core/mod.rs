//! The kinds of the core group.

pub mod binding;
pub mod bootstrap_token;
pub mod component_status;
pub mod config_map;
mod data;
pub mod endpoints;
pub mod event;
pub mod limit_range;
pub mod namespace;
pub mod node;
pub mod persistent_volume;
pub mod persistent_volume_claim;
pub mod pod;
pub mod pod_template;
pub mod replication_controller;
pub mod resource_quota;
pub mod secret;
pub mod selection;
pub mod service;
pub mod service_account;
pub mod service_account_token;
pub mod taints;
