//! Other clients, unmodified, against the real binary: a module for each.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod helm;
mod kube_rs;

use std::sync::Arc;

use k8w_testkit::{TestCluster, shared};

fn cluster() -> Arc<TestCluster> {
    shared(env!("CARGO_BIN_EXE_k8w"))
}
