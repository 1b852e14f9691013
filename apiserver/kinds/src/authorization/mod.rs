//! The kinds of `authorization.k8s.io`: answered when they are created, never stored.

pub mod access_review;
pub mod local_subject_access_review;
pub mod self_subject_access_review;
pub mod self_subject_rules_review;
pub mod subject_access_review;

use crate::kind::KindDef;

/// A review of the group; all are alike but for their names and scope.
fn review(kind: &'static str, plural: &'static str, schema_name: &'static str) -> KindDef {
    KindDef::builtin("authorization.k8s.io", "v1", kind, plural, schema_name).verbs(&["create"])
}
