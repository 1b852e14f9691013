//! The only wiring of crates: a control plane and one node in this process, or one of the two alone.
//!
//! ```text
//! datastore <- API server <- in-process clients <- controllers, agent, network tables
//!                  |                                   |
//!             TLS listener           wasm engine <- network <- ingress, node ports
//! ```
//!
//! What is below and right of the API server is the same in every node; the API server may be in another process.

mod compiler;
mod control_plane;
mod joined;
mod kernel_network;
mod node;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use async_trait::async_trait;
use ipnet::Ipv4Net;
use k8w_apiserver::node_dialer::NodeDialer;
use k8w_apiserver::pki::{Pki, TokenKey};
use k8w_apiserver::plugins::{ConnectError, NodeConnector};
use k8w_apiserver::{ApiServer, UserInfo};
use k8w_controllers::certificates::signing::CertificateSigner;
use k8w_controllers::config::IngressAddress;
use k8w_controllers::core::service_account_token::TokenSigner;
use k8w_kinds::core::service_account_token::SecretClaims;
use k8w_kinds::credentials::{NODE_PREFIX, NODES};
use k8w_runtime::identity::{self, Certificate, Identity};
use k8w_runtime::image::LocalImages;
use k8w_runtime::node::Settings;
use k8w_runtime::server::NodeService;
use k8w_storage::blob::BlobStore;
use k8w_storage::datastore::embedded::Embedded;
use kube::Client;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::data_dir::DataDir;
pub use compiler::Compile;
use compiler::Compiler;
pub use control_plane::{ControlPlane, ControlPlaneConfig, Store, Tls};
pub use joined::JoinedNode;
pub use kernel_network::{KernelNetwork, NetworkMode};
pub use node::NodeOptions;
use node::{About, ClientTls, Doors, NodePart};

/// Who the parts of this process are to the API server.
const CONTROLLERS: &str = "system:kube-controller-manager";
/// What Kubernetes' users know as parts of their own, and is one of ours.
const CONTROLLER_PARTS: &[&str] = &["controller-manager", "scheduler"];
/// The part of a node that routes.
const NETWORK: &str = "k8w:network";
const MASTERS: &str = "system:masters";

/// What is chosen from outside.
pub struct ClusterConfig {
    pub control_plane: ControlPlaneConfig,
    pub node: NodeOptions,
}

/// A running cluster of one node.
pub struct Cluster {
    config: ClusterConfig,
    client: Client,
    kubeconfig: String,
    images: LocalImages,
    ingress_http: SocketAddr,
    ingress_https: SocketAddr,
    about: About,
    tasks: JoinSet<()>,
    shutdown: CancellationToken,
}

impl Cluster {
    /// Starts everything; when this returns, the API answers and the node is registering.
    ///
    /// # Errors
    /// A port that is taken, data that cannot be read, keys that cannot be made.
    pub async fn start(config: ClusterConfig, data_dir: &DataDir) -> Result<Self> {
        let listener = config.control_plane.listen().await?;
        let api_address = listener.local_addr()?;
        let doors = Doors::open(&config.node).await?;
        let (ingress_http, ingress_https) = doors.ingress()?;

        let (shutdown, mut tasks) = (CancellationToken::new(), JoinSet::new());
        let Stores { pki, identity, datastore, blobs, foreign_tls } = Stores::open(&config, data_dir).await?;
        let datastore = Arc::new(datastore);
        let api = config.control_plane.serve(listener, &pki, datastore, &mut tasks, &shutdown).await?;
        compiler::connect(&api, data_dir.join("compiled")).await?;

        let controllers = k8w_controllers::run(
            client(&api, CONTROLLERS, MASTERS, "kube-controller-manager"),
            controllers_config(&config, &pki),
            shutdown.clone(),
        );
        let parts = api.runs_beside(CONTROLLER_PARTS);
        tasks.spawn(async move {
            ended("controllers", controllers).await;
            drop(parts);
        });

        let own = client(&api, &format!("{NODE_PREFIX}{}", config.node.name), NODES, "kubelet");
        let registered = config.node.registered(doors.kubelet_port()?, data_dir);
        let failed =
            |error: kube::Error| identity::Error::Api { server: api_address.to_string(), message: error.to_string() };
        let part = NodePart {
            options: &config.node,
            data_dir,
            doors,
            settings: Settings::of(&own, &registered, failed).await?,
            client: own,
            network_client: client(&api, NETWORK, "system:authenticated", "k8w-network"),
            identity,
            blobs: blobs.clone(),
            foreign_tls,
            compiler: Compiler::here(),
            api: api_address,
            api_shown_at: Some(api.config.advertise),
        };
        let (service, about) = part.start(&mut tasks, &shutdown).await?;
        let own = InProcessNode { name: config.node.name.clone(), service, others: control_plane::dialer(&api, &pki)? };
        api.connect_nodes(Box::new(own));

        Ok(Self {
            client: client(&api, "kubernetes-admin", MASTERS, "k8w-up"),
            kubeconfig: pki.admin_kubeconfig("k8w", &format!("https://{api_address}")),
            images: LocalImages::new(blobs),
            config,
            ingress_http,
            ingress_https,
            about,
            tasks,
            shutdown,
        })
    }

    /// Acts as the cluster's administrator.
    pub fn client(&self) -> &Client {
        &self.client
    }

    pub fn node_name(&self) -> &str {
        &self.config.node.name
    }

    /// The address that the node's ports are reached at.
    pub fn node_ip(&self) -> IpAddr {
        self.config.node.ip
    }

    pub fn ingress_http(&self) -> SocketAddr {
        self.ingress_http
    }

    pub fn ingress_https(&self) -> SocketAddr {
        self.ingress_https
    }

    pub fn about(&self) -> &About {
        &self.about
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

/// What lies on disk.
struct Stores {
    pki: Pki,
    identity: Identity,
    datastore: Embedded,
    blobs: Arc<BlobStore>,
    foreign_tls: ClientTls,
}

impl Stores {
    /// Opens everything, beside the async tasks, because that blocks.
    async fn open(config: &ClusterConfig, data_dir: &DataDir) -> Result<Stores> {
        let (control_plane, node) = (&config.control_plane, &config.node);
        let names = control_plane.names(&[&node.name]);
        let mut addresses = vec![node.address, node.ip, control_plane.advertise];
        addresses.retain(|address| !address.is_unspecified());
        let mut addresses: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
        addresses.push("localhost".to_owned());
        addresses.sort();
        addresses.dedup();
        let (name, data_dir) = (node.name.clone(), data_dir.path().to_owned());
        tokio::task::spawn_blocking(move || {
            let pki = Pki::open(&data_dir.join("pki"), &names)?;
            let own = pki.node(&name, &addresses)?;
            let own =
                Certificate { certificate_pem: own.certificate_pem().to_owned(), key_pem: own.key_pem().to_owned() };
            let identity = Identity::new(pki.ca_pem(), &own, &own)?;
            let datastore = Embedded::open(&data_dir.join("datastore"))?;
            let (blobs, foreign_tls) = node::open_stores(&data_dir)?;
            Ok(Stores { pki, identity, datastore, blobs, foreign_tls })
        })
        .await?
    }
}

fn controllers_config(config: &ClusterConfig, pki: &Pki) -> k8w_controllers::Config {
    k8w_controllers::Config {
        ingress_addresses: vec![IngressAddress::Ip(config.node.ip)],
        ..config.control_plane.controllers(&config.node.name, pki)
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

/// Lets the controllers sign certificates with the cluster's CA.
struct Authority(Pki);

impl CertificateSigner for Authority {
    fn sign(&self, request_pem: &[u8], usages: &[String], lifetime: Option<Duration>) -> Result<String, String> {
        let signed = self.0.sign(&String::from_utf8_lossy(request_pem), usages, lifetime);
        signed.map_err(|error| crate::one_sentence(&error.into()))
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority")
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

/// The way from the API server to the node in the same process, and to the others.
struct InProcessNode {
    name: String,
    service: NodeService,
    others: NodeDialer,
}

#[async_trait]
impl NodeConnector for InProcessNode {
    async fn request(
        &self,
        node: &str,
        request: http::Request<k8w_apiserver::Body>,
    ) -> Result<http::Response<k8w_apiserver::Body>, ConnectError> {
        if node != self.name {
            return self.others.request(node, request).await;
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
