//! `admissionregistration.k8s.io`: who is asked about writes, and by which rules they are judged.
//!
//! These kinds are stored and validated; nothing asks webhooks or evaluates policies yet, so that their expressions are
//! not compiled either.

pub mod matching;
pub mod mutating_admission_policy;
pub mod mutating_admission_policy_binding;
pub mod mutating_webhook_configuration;
pub mod policy;
pub mod validating_admission_policy;
pub mod validating_admission_policy_binding;
pub mod validating_webhook_configuration;
pub mod webhook;

use crate::kind::KindDef;

pub const GROUP: &str = "admissionregistration.k8s.io";

/// What the rows of the group have in common.
fn row(kind: &'static str, plural: &'static str, schema: &'static str) -> KindDef {
    KindDef::builtin(GROUP, "v1", kind, plural, schema).cluster_scoped().categories(&["api-extensions"])
}
