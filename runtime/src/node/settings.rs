//! What a node that has just joined is told by its cluster: its range of addresses, and those of the others.

use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use k8w_kinds::core::node::WASM_CIDR;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::wait::await_condition;
use serde_json::json;

use super::object::addresses;
use super::{Machine, RETRY_MAX, RETRY_MIN, ensure};
use crate::config::NodeConfig;
use crate::identity::Error;

const NAMESPACE: &str = "kube-system";
const NAME: &str = "k8w-network";

/// What the cluster's network is to one of its nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Addresses of the node's own wasm pods.
    pub wasm_cidr: Ipv4Net,
    /// Addresses of those of all nodes.
    pub cluster_wasm_cidr: Ipv4Net,
    pub service_cidr: Ipv4Net,
    pub cluster_domain: String,
}

impl Settings {
    /// Registers the node with its addresses and waits until it is told the rest, by an API server that `client` asks as the
    /// node. What may pass is waited for; `failed` says what a request failed of.
    ///
    /// # Errors
    /// When the API server is not, or does not take this node for, what it was when the node joined.
    pub async fn of(
        client: &Client,
        config: &NodeConfig,
        failed: impl Fn(kube::Error) -> Error,
    ) -> Result<Settings, Error> {
        let machine = Machine::read(&config.root_dir);
        let mut wait = RETRY_MIN;
        loop {
            match ask(client, config, &machine).await {
                Ok(Some(settings)) => return Ok(settings),
                Ok(None) => {
                    tracing::warn!("the cluster does not say which addresses this node's pods have, asking again")
                }
                Err(error) => match failed(error) {
                    fatal @ (Error::Untrusted { .. } | Error::Unauthorized { .. }) => return Err(fatal),
                    error => tracing::warn!("{error}; trying again"),
                },
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY_MAX);
        }
    }
}

async fn ask(client: &Client, config: &NodeConfig, machine: &Machine) -> Result<Option<Settings>, kube::Error> {
    let nodes: Api<Node> = Api::all(client.clone());
    ensure(&nodes, config, machine).await?;
    let status = json!({ "status": { "addresses": addresses(config) } });
    nodes.patch_status(&config.name, &PatchParams::default(), &Patch::Strategic(status)).await?;
    let map = Api::<ConfigMap>::namespaced(client.clone(), NAMESPACE).get(NAME).await?;
    let data = map.data.unwrap_or_default();
    let read = |key: &str| data.get(key)?.parse::<Ipv4Net>().ok();
    let told = read("wasmCIDR").zip(read("serviceCIDR")).zip(data.get("clusterDomain"));
    let Some(((cluster_wasm_cidr, service_cidr), cluster_domain)) = told else { return Ok(None) };
    let has_range = |node: Option<&Node>| node.is_some_and(|node| range(node, cluster_wasm_cidr).is_some());
    let Ok(node) = await_condition(nodes, &config.name, has_range).await else { return Ok(None) };
    let wasm_cidr = node.and_then(|node| range(&node, cluster_wasm_cidr));
    let cluster_domain = cluster_domain.clone();
    Ok(wasm_cidr.map(|wasm_cidr| Settings { wasm_cidr, cluster_wasm_cidr, service_cidr, cluster_domain }))
}

/// The addresses that the controllers gave the node. Others than the cluster's are from another time.
fn range(node: &Node, cluster: Ipv4Net) -> Option<Ipv4Net> {
    let range = node.metadata.annotations.as_ref()?.get(WASM_CIDR)?.parse().ok()?;
    cluster.contains(&range).then_some(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_a_part_of_the_clusters() {
        let range = |text: &str| {
            let node = json!({"metadata": {"annotations": {WASM_CIDR: text}}});
            range(&serde_json::from_value(node).unwrap(), "10.64.0.0/11".parse().unwrap())
                .map(|range| range.to_string())
        };
        assert_eq!(range("10.64.64.0/18").as_deref(), Some("10.64.64.0/18"));
        for wrong in ["", "x", "10.0.0.0/8", "203.0.113.0/24"] {
            assert_eq!(range(wrong), None, "{wrong}");
        }
    }
}
