//! SubjectAccessReview: whether somebody may do something.

use crate::kind::KindDef;

pub fn definition() -> KindDef {
    super::review("SubjectAccessReview", "subjectaccessreviews", "io.k8s.api.authorization.v1.SubjectAccessReview")
        .cluster_scoped()
}
