//! SelfSubjectRulesReview: all that one may do oneself in a namespace.

use crate::kind::KindDef;

pub fn definition() -> KindDef {
    super::review(
        "SelfSubjectRulesReview",
        "selfsubjectrulesreviews",
        "io.k8s.api.authorization.v1.SelfSubjectRulesReview",
    )
    .cluster_scoped()
}
