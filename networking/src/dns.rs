//! Cluster names: what a name means inside a namespace, answered from the tables.
//!
//! The rules are those of the Kubernetes DNS specification (kubernetes/dns, `docs/specification.md`), with the search path
//! of a pod (`<namespace>.svc.<domain>`, `svc.<domain>`, `<domain>`) applied to names that do not end in a dot.

use std::net::IpAddr;

/// What a name means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// The addresses behind the name: one virtual address, or the pods of a headless Service.
    Addresses(Vec<IpAddr>),
    /// An ExternalName Service: look up this name instead.
    Alias(String),
    /// Not a name of the cluster: ask the node's resolver.
    NotCluster,
    /// A name under the cluster's domain that does not exist.
    NoSuchName,
}
