//! SelfSubjectAccessReview: whether one may do something oneself.

use crate::kind::KindDef;

pub fn definition() -> KindDef {
    super::review(
        "SelfSubjectAccessReview",
        "selfsubjectaccessreviews",
        "io.k8s.api.authorization.v1.SelfSubjectAccessReview",
    )
    .cluster_scoped()
}
