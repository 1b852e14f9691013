//! Controllers of the certificates.k8s.io group.

pub mod cleaner;
