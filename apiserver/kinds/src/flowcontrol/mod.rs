//! `flowcontrol.apiserver.k8s.io`: whose requests are served before whose.
//!
//! These kinds are stored and validated; the API server does not queue by them yet.

pub mod flow_schema;
mod mandatory;
pub mod priority_level_configuration;

pub const GROUP: &str = "flowcontrol.apiserver.k8s.io";
