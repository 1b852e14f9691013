//! Who may do what: the ordered table of authorizers.
//!
//! The first one with an opinion decides. To add one: a file, a `mod` line, its name in [`Mode`], a row in [`all`].

pub mod always_allow;
pub mod always_deny;
pub mod node;
pub mod privileged;
pub mod rbac;
pub mod review;

use std::str::FromStr;
use std::sync::Arc;

use k8w_kinds::credentials;

use crate::bootstrap;
use crate::identity::{Attributes, UserInfo};
use crate::pki::MASTERS_GROUP;
use crate::plugins::{Authorizer, Decision};
use crate::watch_cache::WatchCache;
use rbac::Rbac;

/// An authorizer that one can choose, by Kubernetes' names (`--authorization-mode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    AlwaysAllow,
    AlwaysDeny,
    Node,
    Rbac,
}

impl Mode {
    /// What a cluster has when nobody chooses.
    pub const STANDARD: [Mode; 2] = [Mode::Node, Mode::Rbac];
    const NAMES: [(&str, Mode); 4] = [
        ("AlwaysAllow", Mode::AlwaysAllow),
        ("AlwaysDeny", Mode::AlwaysDeny),
        ("Node", Mode::Node),
        ("RBAC", Mode::Rbac),
    ];
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = Self::NAMES.iter().find(|(known, _)| *known == name);
        known.map(|(_, mode)| *mode).ok_or_else(|| {
            let known = Self::NAMES.map(|(name, _)| name).join(", ");
            format!("{name:?} is not a valid mode: there are {known}")
        })
    }
}

/// The authorizers of a cluster, in order.
pub fn all(modes: &[Mode], cache: &WatchCache, rbac: &Arc<Rbac>) -> Vec<Arc<dyn Authorizer>> {
    let chosen = modes.iter().map(|mode| -> Arc<dyn Authorizer> {
        match mode {
            Mode::AlwaysAllow => Arc::new(always_allow::AlwaysAllow),
            Mode::AlwaysDeny => Arc::new(always_deny::AlwaysDeny),
            Mode::Node => Arc::new(node::Node::new(cache, bootstrap::node_rules())),
            Mode::Rbac => rbac.clone(),
        }
    });
    std::iter::once::<Arc<dyn Authorizer>>(Arc::new(privileged::Privileged)).chain(chosen).collect()
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
    named_node(user).filter(|name| !name.is_empty())
}

/// Whether the user says that it is a node, and not which: what has no node yet is not its own.
pub fn is_nameless_node(user: &UserInfo) -> bool {
    named_node(user) == Some("")
}

fn named_node(user: &UserInfo) -> Option<&str> {
    credentials::node_name(&user.name, &user.groups)
}
