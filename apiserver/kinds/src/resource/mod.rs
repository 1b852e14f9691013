//! `resource.k8s.io`: devices that pods claim (KEP-4381).
//!
//! These kinds are stored and validated; nothing allocates devices yet.

mod allocation;
mod device;
pub mod device_class;
mod names;
mod request;
pub mod resource_claim;
pub mod resource_claim_template;
pub mod resource_slice;

pub const GROUP: &str = "resource.k8s.io";
