//! Who may do what: the ordered table of authorizers.
//!
//! The first one with an opinion decides. To add one: a file, a `mod` line, a row in [`all`].

pub mod node;
pub mod privileged;
pub mod rbac;
pub mod review;

use std::sync::Arc;

use crate::bootstrap;
use crate::identity::{Attributes, UserInfo};
use crate::pki::MASTERS_GROUP;
use crate::plugins::{Authorizer, Decision};
use crate::watch_cache::WatchCache;
use rbac::Rbac;

/// The group of all nodes, and what their names begin with.
pub(crate) const NODES_GROUP: &str = "system:nodes";
pub(crate) const NODE_PREFIX: &str = "system:node:";

/// The authorizers of a cluster, in order.
pub fn all(cache: &WatchCache, rbac: &Arc<Rbac>) -> Vec<Arc<dyn Authorizer>> {
    vec![Arc::new(privileged::Privileged), Arc::new(node::Node::new(cache, bootstrap::node_rules())), rbac.clone()]
}

/// What the table as a whole says: the first opinion, or the reasons for having none.
pub fn decide(authorizers: &[Arc<dyn Authorizer>], attributes: &Attributes<'_>) -> Decision {
    let mut reasons = Vec::new();
    for authorizer in authorizers {
        match authorizer.authorize(attributes) {
            Decision::NoOpinion(reason) if reason.is_empty() => {}
            Decision::NoOpinion(reason) => reasons.push(reason),
            decision => return decision,
        }
    }
    Decision::NoOpinion(reasons.join(", "))
}

/// Whether RBAC never refuses the user.
pub fn is_master(user: &UserInfo) -> bool {
    user.groups.iter().any(|group| group == MASTERS_GROUP)
}

/// The node that the user is, if it is one.
pub fn node_name(user: &UserInfo) -> Option<&str> {
    let name = user.name.strip_prefix(NODE_PREFIX)?;
    user.groups.iter().any(|group| group == NODES_GROUP).then_some(name)
}
