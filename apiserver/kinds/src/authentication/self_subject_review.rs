//! SelfSubjectReview: who the server takes one for.

use crate::kind::KindDef;

pub fn definition() -> KindDef {
    KindDef::builtin(
        super::GROUP,
        "v1",
        "SelfSubjectReview",
        "selfsubjectreviews",
        "io.k8s.api.authentication.v1.SelfSubjectReview",
    )
    .cluster_scoped()
    .verbs(&["create"])
}
