//! The kinds of `authentication.k8s.io`: answered when they are created, never stored.

pub mod self_subject_review;
pub mod token_review;

const GROUP: &str = "authentication.k8s.io";
