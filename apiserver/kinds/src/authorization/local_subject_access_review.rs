//! LocalSubjectAccessReview: what somebody may do in one namespace.

use crate::kind::KindDef;

pub fn definition() -> KindDef {
    super::review(
        "LocalSubjectAccessReview",
        "localsubjectaccessreviews",
        "io.k8s.api.authorization.v1.LocalSubjectAccessReview",
    )
}
