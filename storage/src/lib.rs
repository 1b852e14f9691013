//! Where bytes live: cluster state, content-addressed blobs and pod volumes.
//!
//! Three modules that do not know each other, and none of them knows the Kubernetes API:
//!
//! * [`datastore`]: the cluster's state, with etcd's guarantees in every backend;
//! * [`blob`]: content-addressed files, such as image layers and compiled components;
//! * [`volume`]: directories for pods, from inputs that were already resolved.
//!
//! Beside them [`tree`] removes and measures directories that a guest has filled, and [`metered`] bounds what is read.

pub mod blob;
pub mod datastore;
pub mod metered;
pub mod tree;
pub mod volume;
