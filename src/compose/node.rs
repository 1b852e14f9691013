//! The node part of a process, in `k8w up` as in `k8w node`: agent, network tables, ingress, node ports, wasm engine.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use k8w_networking::{Network, dns, ingress};
use k8w_runtime::agent::Node;
use k8w_runtime::identity::Identity;
use k8w_runtime::image::garbage;
use k8w_runtime::image::registries::Registries;
use k8w_runtime::node::Settings;
use k8w_runtime::server::NodeService;
use k8w_runtime::wasm::{Instances, WasmConfig, WasmEngine};
use k8w_runtime::{NodeConfig, ingress_certificates, network_sync, node_ports};
use k8w_storage::blob::BlobStore;
use kube::Client;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Compiler, KernelNetwork, NetworkMode, ended, first_address, listen};
use crate::data_dir::DataDir;
use crate::foreign_tls;

/// Events of the engine that wait for the agent.
const MAX_ENGINE_EVENTS: usize = 4_096;

/// Who is asked for names outside of the cluster (resolv.conf(5)).
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// What is chosen from outside for every node.
pub struct NodeOptions {
    pub name: String,
    /// Address that the node listens on.
    pub address: IpAddr,
    /// Address that others know it by.
    pub ip: IpAddr,
    pub kubelet_port: u16,
    pub ingress_http_port: u16,
    pub ingress_https_port: u16,
    /// What the ingress takes, and how long it waits.
    pub ingress: ingress::Config,
    /// Where images are asked for.
    pub registries: Registries,
    pub max_pods: u32,
    /// Whether components of WASI 0.3 run.
    pub wasi_p3: bool,
    /// When pulled images that nothing uses are removed.
    pub image_gc: garbage::Policy,
    pub static_pod_path: Option<PathBuf>,
    pub kernel_network: KernelNetwork,
}

impl NodeOptions {
    /// What the node is registered with, at the port that it has, before it knows its cluster.
    pub(super) fn registered(&self, port: u16, data_dir: &DataDir) -> NodeConfig {
        NodeConfig {
            max_pods: self.max_pods,
            static_pod_path: self.static_pod_path.clone(),
            registries: self.registries.clone(),
            image_gc: self.image_gc,
            ..NodeConfig::new(&self.name, self.ip, port, data_dir.join("node"))
        }
    }
}

/// Where a node listens.
pub(super) struct Doors {
    kubelet: TcpListener,
    http: TcpListener,
    https: TcpListener,
}

impl Doors {
    /// # Errors
    /// A port that is taken.
    pub async fn open(options: &NodeOptions) -> Result<Doors> {
        Ok(Doors {
            http: listen(options.address, options.ingress_http_port, "--ingress-http-port").await?,
            https: listen(options.address, options.ingress_https_port, "--ingress-https-port").await?,
            kubelet: listen(options.address, options.kubelet_port, "--kubelet-port").await?,
        })
    }

    pub fn kubelet_port(&self) -> Result<u16> {
        Ok(self.kubelet.local_addr()?.port())
    }

    /// Where the ingress listens for HTTP and for HTTPS.
    pub fn ingress(&self) -> Result<(SocketAddr, SocketAddr)> {
        Ok((self.http.local_addr()?, self.https.local_addr()?))
    }
}

/// What a node is made of.
pub(super) struct NodePart<'a> {
    pub options: &'a NodeOptions,
    pub data_dir: &'a DataDir,
    pub doors: Doors,
    pub settings: Settings,
    /// Acts as the node.
    pub client: Client,
    /// Acts as [`NETWORK`](super::NETWORK).
    pub network_client: Client,
    pub identity: Identity,
    pub blobs: Arc<BlobStore>,
    pub foreign_tls: ClientTls,
    pub compiler: Compiler,
    /// Where the API server really is.
    pub api: SocketAddr,
    /// Further addresses that the API shows it at.
    pub api_shown_at: Option<SocketAddr>,
}

/// What a node says of itself once it is ready.
pub struct About {
    network: NetworkMode,
    instances: Instances,
    compiler: Compiler,
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Network: {}\nInstances: {}\nCompiler: {}", self.network, self.instances, self.compiler)
    }
}

/// How components speak TLS to foreign hosts, if they can.
pub(super) type ClientTls = Option<Arc<rustls::ClientConfig>>;

/// Opens the node's images, and reads whom this machine trusts. Blocks on the disk.
pub(super) fn open_stores(data_dir: &Path) -> Result<(Arc<BlobStore>, ClientTls)> {
    let path = data_dir.join("images");
    let blobs = BlobStore::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
    Ok((Arc::new(blobs), foreign_tls::client_config()))
}

impl NodePart<'_> {
    /// Starts everything; when this returns, the node is registering.
    ///
    /// # Errors
    /// When the engine cannot start, a directory cannot be made, or the kernel's network cannot be had that must be.
    pub async fn start(self, tasks: &mut JoinSet<()>, shutdown: &CancellationToken) -> Result<(NodeService, About)> {
        let NodePart { options, data_dir, doors, settings, client, network_client, identity, compiler, .. } = self;
        let network = Network::new(k8w_networking::Config {
            service_cidr: settings.service_cidr.into(),
            pod_cidrs: vec![settings.cluster_wasm_cidr.into()],
            wasm_cidr: Some(settings.wasm_cidr.into()),
            cluster_domain: settings.cluster_domain.clone(),
            node_name: options.name.clone(),
            client_tls: self.foreign_tls,
        });
        network.connect_peers(identity.client_config()?);
        network.trust_cluster(identity.guest_config()?);
        // The Service `kubernetes` leads to where the API server can be reached from here, whatever its endpoints say.
        let kubernetes = SocketAddr::new(first_address(settings.service_cidr), 443);
        // A loopback address is the pod's own, to each pod.
        let shown_at = self.api_shown_at.filter(|address| !address.ip().is_loopback());
        let shown_at = std::iter::once(kubernetes).chain(shown_at);
        let registrations: Vec<_> = shown_at.map(|address| network.register_api_server(address, self.api)).collect();

        let (events, engine_events) = mpsc::channel(MAX_ENGINE_EVENTS);
        let wasm = WasmConfig {
            wasi_p3: options.wasi_p3,
            compiles: compiler.place.clone(),
            ..WasmConfig::new(data_dir.join("wasm"))
        };
        let engine = WasmEngine::new(wasm, network.clone(), events).context("cannot start the wasm engine")?;
        let instances = engine.instances();
        let config = NodeConfig {
            wasm_cidr: settings.wasm_cidr,
            cluster_domain: settings.cluster_domain,
            max_instances: instances.count,
            ..options.registered(doors.kubelet_port()?, data_dir)
        };
        let engine = Arc::new(engine);
        let node = Node::new(config, client.clone(), engine, engine_events, self.blobs, network.clone())?;
        let service = node.service();
        tasks.spawn(service.clone().listen(doors.kubelet, identity.server_config()?, shutdown.clone()));
        tasks.spawn(ended("node agent", node.run(shutdown.clone())));

        let name = options.name.clone();
        let sync = network_sync::run(network_client.clone(), client, network.clone(), name.clone(), shutdown.clone());
        tasks.spawn(async move {
            sync.await;
            drop(registrations);
        });
        let (http, https) = (Some(doors.http), Some(doors.https));
        let ingress = ingress::serve(network.clone(), options.ingress.clone(), http, https, shutdown.clone());
        tasks.spawn(ended("ingress", ingress));
        let (writer, stop) = (network_client.clone(), shutdown.clone());
        tasks.spawn(ingress_certificates::run(writer, network.clone(), name.clone(), stop));
        let addresses = vec![options.address];
        tasks.spawn(node_ports::run(network_client, network.clone(), addresses, name, shutdown.clone()));
        let dns = dns::server::serve(network.clone(), name_servers, shutdown.clone());
        tasks.spawn(ended("cluster DNS", dns));
        let network = options.kernel_network.serve(network, tasks, shutdown).await?;
        Ok((service, About { network, instances, compiler }))
    }
}

/// The servers that this machine asks for names, as they are now.
fn name_servers() -> Vec<SocketAddr> {
    dns::server::servers_of(&std::fs::read_to_string(RESOLV_CONF).unwrap_or_default())
}
