//! Members of `system:masters` may do everything, whatever RBAC says: the way back in for an administrator who locked
//! everybody out.

use crate::identity::Attributes;
use crate::pki::MASTERS_GROUP;
use crate::plugins::{Authorizer, Decision};

pub struct Privileged;

impl Authorizer for Privileged {
    fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        if attributes.user.groups.iter().any(|group| group == MASTERS_GROUP) {
            Decision::Allow
        } else {
            Decision::NoOpinion(String::new())
        }
    }
}
