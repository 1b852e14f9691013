//! Members of `system:masters` may do everything, whatever RBAC says: the way back in for an administrator who locked
//! everybody out.

use super::is_master;
use crate::identity::Attributes;
use crate::plugins::{Authorizer, Decision};

pub struct Privileged;

impl Authorizer for Privileged {
    fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        if is_master(attributes.user) { Decision::Allow } else { Decision::NoOpinion(String::new()) }
    }
}
