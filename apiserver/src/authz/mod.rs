//! Who may do what: the ordered table of authorizers.
//!
//! The first one with an opinion decides. To add one: a file, a `mod` line, a row in [`all`].

pub mod privileged;
pub mod rbac;

use std::sync::Arc;

use crate::plugins::Authorizer;
use rbac::Rbac;

/// The authorizers of a cluster, in order.
pub fn all(rbac: &Arc<Rbac>) -> Vec<Arc<dyn Authorizer>> {
    vec![Arc::new(privileged::Privileged), rbac.clone()]
}
