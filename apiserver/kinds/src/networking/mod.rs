//! The kinds of `networking.k8s.io`.

pub mod ingress;
pub mod ingress_class;
