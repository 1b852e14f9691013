//! What a node that has just joined is told by its cluster: its range of addresses, and those of the others.

use std::time::Duration;

use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use k8w_kinds::core::node::WASM_CIDR;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::wait::{self, await_condition};
use kube::runtime::watcher;
use serde_json::json;

use super::object::addresses;
use super::{Machine, RETRY_MAX, RETRY_MIN, ensure};
use crate::config::NodeConfig;
use crate::identity::Error;

const NAMESPACE: &str = "kube-system";
const NAME: &str = "k8w-network";

/// How long the controllers may take to give the node a range before the user is told that there is none.
const RANGE_TIMEOUT: Duration = Duration::from_secs(10);

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
    let waited = tokio::time::timeout(RANGE_TIMEOUT, await_condition(nodes, &config.name, has_range)).await;
    let Ok(node) = waited else { return Ok(None) };
    let node = node.map_err(watch_failed)?;
    let wasm_cidr = node.and_then(|node| range(&node, cluster_wasm_cidr));
    let cluster_domain = cluster_domain.clone();
    Ok(wasm_cidr.map(|wasm_cidr| Settings { wasm_cidr, cluster_wasm_cidr, service_cidr, cluster_domain }))
}

/// What a watch failed of, as any other request does.
fn watch_failed(error: wait::Error) -> kube::Error {
    let wait::Error::ProbeFailed(error) = error;
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => error,
        watcher::Error::WatchError(status) => kube::Error::Api(status),
        watcher::Error::NoResourceVersion => kube::Error::Service(error.into()),
    }
}

/// The addresses that the controllers gave the node. Others than the cluster's are from another time.
fn range(node: &Node, cluster: Ipv4Net) -> Option<Ipv4Net> {
    let range = node.metadata.annotations.as_ref()?.get(WASM_CIDR)?.parse().ok()?;
    cluster.contains(&range).then_some(range)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::path::Path;

    use kube::client::Body;

    use super::*;

    /// What a node learns whose API server answers this when it is asked for the nodes.
    async fn learned(nodes: (u16, serde_json::Value)) -> Result<Option<Settings>, kube::Error> {
        let api = tower::service_fn(move |request: http::Request<Body>| {
            let (method, path) = (request.method().as_str(), request.uri().path());
            let node = json!({"metadata": {"name": "a"}});
            let (code, body) = match (method, path) {
                ("POST", "/api/v1/nodes") => (201, node),
                ("PATCH", "/api/v1/nodes/a/status") => (200, node),
                ("GET", "/api/v1/namespaces/kube-system/configmaps/k8w-network") => {
                    let data = json!({"wasmCIDR": "10.64.0.0/11", "serviceCIDR": "10.96.0.0/16", "clusterDomain": "a"});
                    (200, json!({"metadata": {"name": NAME}, "data": data}))
                }
                ("GET", "/api/v1/nodes") => nodes.clone(),
                other => panic!("{other:?}"),
            };
            async move {
                let answer = http::Response::builder().status(code).body(Body::from(body.to_string().into_bytes()));
                Ok::<_, tower::BoxError>(answer?)
            }
        });
        let config = NodeConfig::new("a", Ipv4Addr::LOCALHOST.into(), 0, "/");
        ask(&Client::new(api, "default"), &config, &Machine::read(Path::new("/"))).await
    }

    #[tokio::test]
    async fn who_gets_no_range_is_told_why() {
        let forbidden = json!({"status": "Failure", "code": 403, "reason": "Forbidden", "message": "no"});
        let error = learned((403, forbidden)).await.unwrap_err();
        assert!(matches!(&error, kube::Error::Api(status) if status.code == 403), "{error}");
        let node = json!({"metadata": {"name": "a", "annotations": {WASM_CIDR: "10.64.64.0/18"}}});
        let list = json!({"metadata": {"resourceVersion": "1"}, "items": [node]});
        let given = learned((200, list)).await.unwrap().unwrap();
        assert_eq!(given.wasm_cidr.to_string(), "10.64.64.0/18");
    }

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
