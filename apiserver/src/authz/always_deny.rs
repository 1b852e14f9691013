//! Whom nobody else allowed anything may do nothing, and is told so: for tests, in Kubernetes as here.

use crate::identity::Attributes;
use crate::plugins::{Authorizer, Decision};

pub struct AlwaysDeny;

impl Authorizer for AlwaysDeny {
    fn authorize(&self, _: &Attributes<'_>) -> Decision {
        Decision::NoOpinion("Everything is forbidden.".into())
    }
}
