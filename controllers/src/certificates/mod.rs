//! Controllers of the certificates.k8s.io group.

pub mod approver;
pub mod cleaner;
mod request;
pub mod signing;
