//! Where bytes live: cluster state, content-addressed blobs and pod volumes.
//!
//! Three modules that do not know each other, and none of them knows the Kubernetes API:
//!
//! * [`datastore`]: the cluster's state, with etcd's guarantees in every backend;
//! * [`blob`]: content-addressed files, such as image layers and compiled components;
//! * [`volume`]: directories for pods, from inputs that were already resolved.

pub mod blob;
pub mod datastore;
pub mod volume;
