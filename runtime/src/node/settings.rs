//! What a node that has just joined is told by its cluster: its range of addresses, and those of the others.

use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::runtime::wait::await_condition;
use serde_json::json;

use super::object::{WASM_CIDR, addresses, node};
use super::{Machine, RETRY_MAX, RETRY_MIN};
use crate::config::NodeConfig;
use crate::identity::{Error, Joined};

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
    /// Registers the node with its addresses and waits until it is told the rest. What may pass is waited for.
    ///
    /// # Errors
    /// When the API server is not, or does not take this node for, what it was when the node joined.
    pub async fn of(joined: &Joined, config: &NodeConfig) -> Result<Settings, Error> {
        let (client, machine) = (joined.client(), Machine::read(&config.root_dir));
        let mut wait = RETRY_MIN;
        loop {
            match ask(&client, config, &machine).await {
                Ok(Some(settings)) => return Ok(settings),
                Ok(None) => {
                    tracing::warn!("the cluster does not say which addresses this node's pods have, asking again")
                }
                Err(error) => match joined.failed(error) {
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
    let mut wanted = node(config, machine);
    // The range is not the node's to choose.
    wanted.metadata.annotations.get_or_insert_default().remove(WASM_CIDR);
    match nodes.create(&PostParams::default(), &wanted).await {
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let labels = json!({ "metadata": { "labels": wanted.metadata.labels } });
            nodes.patch(&config.name, &PatchParams::default(), &Patch::Merge(labels)).await?;
        }
        other => _ = other?,
    }
    let status = json!({ "status": { "addresses": addresses(config) } });
    nodes.patch_status(&config.name, &PatchParams::default(), &Patch::Strategic(status)).await?;
    let has_range = |node: Option<&Node>| node.is_some_and(|node| range(node).is_some());
    let Ok(node) = await_condition(nodes, &config.name, has_range).await else { return Ok(None) };
    let map = Api::<ConfigMap>::namespaced(client.clone(), NAMESPACE).get(NAME).await?;
    let data = map.data.unwrap_or_default();
    let settings = || {
        let read = |key: &str| data.get(key)?.parse::<Ipv4Net>().ok();
        Some(Settings {
            wasm_cidr: range(&node?)?,
            cluster_wasm_cidr: read("wasmCIDR")?,
            service_cidr: read("serviceCIDR")?,
            cluster_domain: data.get("clusterDomain")?.clone(),
        })
    };
    Ok(settings())
}

fn range(node: &Node) -> Option<Ipv4Net> {
    node.metadata.annotations.as_ref()?.get(WASM_CIDR)?.parse().ok()
}
