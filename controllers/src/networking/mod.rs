//! Controllers of the `networking.k8s.io` group.

pub mod ingress;
