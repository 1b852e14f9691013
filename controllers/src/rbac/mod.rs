//! Controllers of the rbac.authorization.k8s.io group.

pub mod cluster_role_aggregation;
