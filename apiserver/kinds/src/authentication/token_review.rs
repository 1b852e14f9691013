//! TokenReview: whose a token is.

use crate::kind::KindDef;

pub fn definition() -> KindDef {
    KindDef::builtin(super::GROUP, "v1", "TokenReview", "tokenreviews", "io.k8s.api.authentication.v1.TokenReview")
        .cluster_scoped()
        .verbs(&["create"])
}
