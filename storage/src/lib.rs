//! Where bytes live: cluster state, content-addressed blobs and pod volumes.
//!
//! Three modules that do not know each other, and none of them knows the Kubernetes API:
//!
//! * [`datastore`]: the cluster's state, with etcd's guarantees in every backend.

pub mod datastore;
pub mod volume;
