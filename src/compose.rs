//! The only wiring of crates: a control plane and one node in this process, or a control plane alone.
//!
//! ```text
//! datastore <- API server <- in-process clients <- controllers, agent, network tables
//!                  |                                   |
//!             TLS listener           wasm engine <- network <- ingress, node ports
//! ```

mod control_plane;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use async_trait::async_trait;
use ipnet::Ipv4Net;
use k8w_apiserver::pki::{Pki, TokenKey};
use k8w_apiserver::plugins::{ConnectError, NodeConnector};
use k8w_apiserver::{ApiServer, UserInfo};
use k8w_controllers::config::IngressAddress;
use k8w_controllers::core::service_account_token::TokenSigner;
use k8w_kinds::core::service_account_token::SecretClaims;
use k8w_networking::{Network, ingress};
use k8w_runtime::agent::Node;
use k8w_runtime::image::LocalImages;
use k8w_runtime::server::NodeService;
use k8w_runtime::wasm::{WasmConfig, WasmEngine};
use k8w_runtime::{NodeConfig, network_sync, node_ports};
use k8w_storage::blob::BlobStore;
use k8w_storage::datastore::embedded::Embedded;
use kube::Client;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::data_dir::DataDir;
use crate::foreign_tls;
pub use control_plane::{ControlPlane, ControlPlaneConfig, Store, Tls};

/// Events of the engine that wait for the agent.
const MAX_ENGINE_EVENTS: usize = 4_096;

/// Who the parts of this process are to the API server.
const CONTROLLERS: &str = "system:kube-controller-manager";
/// What Kubernetes' users know as parts of their own, and is one of ours.
const CONTROLLER_PARTS: &[&str] = &["controller-manager", "scheduler"];
const NETWORK: &str = "k8w:network";
const MASTERS: &str = "system:masters";

/// What is chosen from outside.
pub struct ClusterConfig {
    pub control_plane: ControlPlaneConfig,
    pub ingress_http_port: u16,
    pub ingress_https_port: u16,
    pub kubelet_port: u16,
    pub node_name: String,
    pub wasm_cidr: Ipv4Net,
    pub insecure_registries: Vec<String>,
    pub max_pods: u32,
    pub static_pod_path: Option<PathBuf>,
}

impl ClusterConfig {
    /// Address that everything listens on.
    fn address(&self) -> IpAddr {
        self.control_plane.address
    }
}

/// A running cluster of one node.
pub struct Cluster {
    config: ClusterConfig,
    client: Client,
    kubeconfig: String,
    images: LocalImages,
    ingress_http: SocketAddr,
    ingress_https: SocketAddr,
    tasks: JoinSet<()>,
    shutdown: CancellationToken,
}

impl Cluster {
    /// Starts everything; when this returns, the API answers and the node is registering.
    ///
    /// # Errors
    /// A port that is taken, data that cannot be read, keys that cannot be made.
    pub async fn start(config: ClusterConfig, data_dir: &DataDir) -> Result<Self> {
        // One TLS provider for every user of rustls in this process; a second installation changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = config.control_plane.listen().await?;
        let ingress_http = listen(config.address(), config.ingress_http_port, "--ingress-http-port").await?;
        let ingress_https = listen(config.address(), config.ingress_https_port, "--ingress-https-port").await?;
        let (api_address, http_address) = (listener.local_addr()?, ingress_http.local_addr()?);
        let https_address = ingress_https.local_addr()?;
        let kubelet = listen(config.address(), config.kubelet_port, "--kubelet-port").await?;

        let (shutdown, mut tasks) = (CancellationToken::new(), JoinSet::new());
        let (pki, node_tls, datastore, blobs, client_tls) = open_stores(&config, data_dir).await?;
        let datastore = Arc::new(datastore);
        let api = config.control_plane.serve(listener, &pki, datastore, &mut tasks, &shutdown).await?;

        let network = Network::new(network_config(&config, client_tls));
        // The Service `kubernetes` and its endpoint lead to this very process, whatever they mean to the outside.
        let kubernetes = SocketAddr::new(first_address(config.control_plane.service_cidr), 443);
        // A loopback address is the pod's own, to each pod.
        let advertised = Some(api.config.advertise).filter(|address| !address.ip().is_loopback());
        let registrations: Vec<_> = std::iter::once(kubernetes)
            .chain(advertised)
            .map(|address| network.register_address(address, api_address))
            .collect();
        let (events, engine_events) = mpsc::channel(MAX_ENGINE_EVENTS);
        let engine = WasmEngine::new(WasmConfig::new(data_dir.join("wasm")), network.clone(), events)
            .context("cannot start the wasm engine")?;
        let node = Node::new(
            NodeConfig {
                port: kubelet.local_addr()?.port(),
                max_instances: engine.max_instances(),
                ..node_config(&config, data_dir)
            },
            client(&api, &format!("system:node:{}", config.node_name), "system:nodes", "kubelet"),
            Arc::new(engine),
            engine_events,
            blobs.clone(),
            network.clone(),
        )?;
        api.connect_nodes(Box::new(InProcessNode { name: config.node_name.clone(), service: node.service() }));
        tasks.spawn(node.service().listen(kubelet, node_tls, shutdown.clone()));
        tasks.spawn(ended("node agent", node.run(shutdown.clone())));

        let network_client = client(&api, NETWORK, "system:authenticated", "k8w-network");
        let sync =
            network_sync::run(network_client.clone(), network.clone(), config.node_name.clone(), shutdown.clone());
        tasks.spawn(async move {
            sync.await;
            drop(registrations);
        });
        let doors = ingress::serve(
            network.clone(),
            ingress::Config::default(),
            Some(ingress_http),
            Some(ingress_https),
            shutdown.clone(),
        );
        tasks.spawn(ended("ingress", doors));
        let name = config.node_name.clone();
        tasks.spawn(node_ports::run(network_client, network, vec![config.address()], name, shutdown.clone()));
        let controllers = controllers_config(&config, &pki);
        let controllers = k8w_controllers::run(
            client(&api, CONTROLLERS, MASTERS, "kube-controller-manager"),
            controllers,
            shutdown.clone(),
        );
        let parts = api.runs_beside(CONTROLLER_PARTS);
        tasks.spawn(async move {
            ended("controllers", controllers).await;
            drop(parts);
        });

        Ok(Self {
            client: client(&api, "kubernetes-admin", MASTERS, "k8w-up"),
            kubeconfig: pki.admin_kubeconfig("k8w", &format!("https://{api_address}")),
            images: LocalImages::new(blobs),
            config,
            ingress_http: http_address,
            ingress_https: https_address,
            tasks,
            shutdown,
        })
    }

    /// Acts as the cluster's administrator.
    pub fn client(&self) -> &Client {
        &self.client
    }

    pub fn node_name(&self) -> &str {
        &self.config.node_name
    }

    /// The address that node ports listen on.
    pub fn address(&self) -> IpAddr {
        self.config.address()
    }

    pub fn ingress_http(&self) -> SocketAddr {
        self.ingress_http
    }

    pub fn ingress_https(&self) -> SocketAddr {
        self.ingress_https
    }

    /// The images on the node.
    pub fn images(&self) -> &LocalImages {
        &self.images
    }

    /// The administrator's kubeconfig, as YAML.
    pub fn kubeconfig(&self) -> &str {
        &self.kubeconfig
    }

    /// Stops everything and waits for it.
    pub async fn stop(mut self) {
        self.shutdown.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

/// How components speak TLS to foreign hosts, if they can.
type ClientTls = Option<Arc<rustls::ClientConfig>>;

/// How the node shows itself to those who ask it directly.
type NodeTls = Arc<rustls::ServerConfig>;

/// Opens what lies on disk. Blocks, so it runs beside the async tasks.
async fn open_stores(
    config: &ClusterConfig,
    data_dir: &DataDir,
) -> Result<(Pki, NodeTls, Embedded, Arc<BlobStore>, ClientTls)> {
    let names = config.control_plane.names(&[&config.node_name]);
    let node_name = config.node_name.clone();
    let node_names = [config.address().to_string(), config.control_plane.advertise.to_string(), "localhost".to_owned()];
    let [pki, datastore, blobs] = ["pki", "datastore", "images"].map(|name| data_dir.join(name));
    tokio::task::spawn_blocking(move || {
        let pki = Pki::open(&pki, &names)?;
        let node_tls = pki.node(&node_name, &node_names)?.server_config(pki.ca())?;
        let datastore = Embedded::open(&datastore)?;
        let blobs = BlobStore::open(&blobs).with_context(|| format!("cannot open {}", blobs.display()))?;
        Ok((pki, node_tls, datastore, Arc::new(blobs), foreign_tls::client_config()))
    })
    .await?
}

fn network_config(config: &ClusterConfig, client_tls: ClientTls) -> k8w_networking::Config {
    k8w_networking::Config {
        service_cidr: config.control_plane.service_cidr.into(),
        pod_cidrs: vec![config.wasm_cidr.into()],
        wasm_cidr: Some(config.wasm_cidr.into()),
        cluster_domain: config.control_plane.cluster_domain.clone(),
        node_name: config.node_name.clone(),
        client_tls,
    }
}

fn node_config(config: &ClusterConfig, data_dir: &DataDir) -> NodeConfig {
    NodeConfig {
        wasm_cidr: config.wasm_cidr,
        max_pods: config.max_pods,
        static_pod_path: config.static_pod_path.clone(),
        insecure_registries: config.insecure_registries.clone(),
        cluster_domain: config.control_plane.cluster_domain.clone(),
        ..NodeConfig::new(&config.node_name, config.address(), config.kubelet_port, data_dir.join("node"))
    }
}

fn controllers_config(config: &ClusterConfig, pki: &Pki) -> k8w_controllers::Config {
    k8w_controllers::Config {
        ingress_addresses: vec![IngressAddress::Ip(config.address())],
        ..config.control_plane.controllers(&config.node_name, pki)
    }
}

/// Lets the controllers sign tokens with the key that the API server verifies them with.
#[derive(Debug)]
struct Signer(Arc<TokenKey>);

impl TokenSigner for Signer {
    fn sign(&self, claims: &SecretClaims) -> Result<String, String> {
        self.0.sign(claims).map_err(|error| error.to_string())
    }
}

/// A client of the API server in this process that is `user`, a member of `group`, and writes as `agent`.
fn client(api: &Arc<ApiServer>, user: &str, group: &str, agent: &'static str) -> Client {
    let user = UserInfo {
        name: user.into(),
        groups: vec![group.into(), "system:authenticated".into()],
        ..UserInfo::default()
    };
    Client::new(api.in_process(user, agent), "default")
}

/// The way from the API server to the node in the same process.
struct InProcessNode {
    name: String,
    service: NodeService,
}

#[async_trait]
impl NodeConnector for InProcessNode {
    async fn request(
        &self,
        node: &str,
        request: http::Request<k8w_apiserver::Body>,
    ) -> Result<http::Response<k8w_apiserver::Body>, ConnectError> {
        if node != self.name {
            return Err(ConnectError::UnknownNode(node.to_owned()));
        }
        let response = self.service.handle(request).await;
        Ok(response.map(k8w_apiserver::Body::stream))
    }
}

/// Runs a part of the process; its failure is said where the user sees it.
async fn ended<E: std::fmt::Display>(part: &'static str, task: impl Future<Output = Result<(), E>>) {
    if let Err(error) = task.await {
        tracing::error!("the {part} stopped: {error}");
    }
}

async fn listen(address: IpAddr, port: u16, flag: &str) -> Result<TcpListener> {
    let address = SocketAddr::new(address, port);
    let listener = TcpListener::bind(address).await;
    listener.with_context(|| format!("cannot listen on {address} (choose another port with {flag})"))
}

/// The first address that a Service can have.
fn first_address(range: Ipv4Net) -> IpAddr {
    range.hosts().next().unwrap_or_else(|| range.addr()).into()
}
