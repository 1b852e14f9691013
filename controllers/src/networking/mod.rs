//! Controllers of the `networking.k8s.io` group.

pub mod ingress;
pub mod service_addresses;
pub mod service_cidr;
