//! Waits for a node to be ready.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Node;
use k8w_runtime::node::is_ready;
use kube::Client;
use kube::api::Api;
use kube::runtime::wait::await_condition;

/// How long a node may take to report that it is ready.
const NODE_TIMEOUT: Duration = Duration::from_secs(30);

/// Waits for the node's Ready condition.
pub async fn node(client: &Client, name: &str) -> Result<()> {
    let api: Api<Node> = Api::all(client.clone());
    let ready = await_condition(api, name, |node: Option<&Node>| is_ready(node.and_then(|node| node.status.as_ref())));
    match tokio::time::timeout(NODE_TIMEOUT, ready).await {
        Ok(outcome) => outcome.map(|_| ()).with_context(|| format!("cannot watch node {name}")),
        Err(_) => bail!("node {name} did not become ready within {} s", NODE_TIMEOUT.as_secs()),
    }
}
