//! A control plane without a node: the API server, and the controllers of whichever of several control planes leads.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use ipnet::Ipv4Net;
use k8w_apiserver::ApiServer;
use k8w_apiserver::admission::pod_security;
use k8w_apiserver::authn::token_file::TokenFile;
use k8w_apiserver::authz;
use k8w_apiserver::node_dialer::NodeDialer;
use k8w_apiserver::pki::{ClientCas, Pki, ServerNames};
use k8w_controllers::config::PodRange;
use k8w_controllers::leader;
use k8w_storage::datastore::Datastore;
use k8w_storage::datastore::embedded::Embedded;
use k8w_storage::datastore::etcd::Etcd;
pub use k8w_storage::datastore::etcd::Tls;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{
    Authority, CONTROLLER_PARTS, CONTROLLERS, MASTERS, Signer, client, compiler, ended, first_address, listen,
};

/// What is chosen from outside for every control plane.
#[derive(Clone)]
pub struct ControlPlaneConfig {
    /// Address that the API server listens on.
    pub address: IpAddr,
    /// Address that the Service `kubernetes` leads to.
    pub advertise: IpAddr,
    pub port: u16,
    pub node_port_range: RangeInclusive<u16>,
    pub service_cidr: Ipv4Net,
    /// What nodes get their `podCIDR` from, and how long the prefix of one is.
    pub cluster_cidr: Ipv4Net,
    pub node_cidr_mask_size: u8,
    pub allocate_node_cidrs: bool,
    /// What nodes get the addresses of their wasm pods from, and how long the prefix of a part is.
    pub wasm_cidr: Ipv4Net,
    pub wasm_node_cidr_mask_size: u8,
    pub cluster_domain: String,
    /// Names and addresses that the API server goes by beside its own.
    pub tls_names: Vec<String>,
    /// Who certifies users beside the cluster's own CA.
    pub client_cas: ClientCas,
    /// Users with fixed tokens.
    pub token_file: Option<Arc<TokenFile>>,
    /// Who decides what users may do, in this order.
    pub authorization: Vec<authz::Mode>,
    /// Names of admission plugins to leave out.
    pub disabled_admission: Vec<String>,
    /// Which Pod Security Standard counts where namespaces do not say, and for whom none does.
    pub pod_security: pod_security::Settings,
}

impl ControlPlaneConfig {
    pub(super) async fn listen(&self) -> Result<TcpListener> {
        listen(self.address, self.port, "--port").await
    }

    /// The names that the API server goes by, beside those that it has in every cluster.
    pub(super) fn names(&self, extra: &[&str]) -> ServerNames {
        let mut names = vec![self.address.to_string(), self.advertise.to_string()];
        names.extend(extra.iter().map(|name| (*name).to_owned()));
        names.extend(self.tls_names.iter().cloned());
        ServerNames {
            service_ip: first_address(self.service_cidr),
            cluster_domain: self.cluster_domain.clone(),
            extra: names,
        }
    }

    /// What the controllers are to go by.
    pub(super) fn controllers(&self, identity: &str, pki: &Pki) -> k8w_controllers::Config {
        let wasm_node_prefix = self.wasm_node_cidr_mask_size.max(self.wasm_cidr.prefix_len());
        let range = PodRange { cluster: self.cluster_cidr.into(), node_prefix: self.node_cidr_mask_size };
        k8w_controllers::Config {
            identity: identity.to_owned(),
            root_ca_pem: pki.ca_pem().to_owned(),
            token_signer: Some(Arc::new(Signer(pki.token_key().clone()))),
            certificate_signer: Some(Arc::new(Authority(pki.clone()))),
            api_server_names: pki.server_names().to_vec(),
            wasm_range: Some(PodRange { cluster: self.wasm_cidr.into(), node_prefix: wasm_node_prefix }),
            pod_ranges: if self.allocate_node_cidrs { vec![range] } else { Vec::new() },
            ..k8w_controllers::Config::default()
        }
    }

    /// Starts an API server on `datastore`, and serves it until `shutdown`.
    pub(super) async fn serve(
        &self,
        listener: TcpListener,
        pki: &Pki,
        datastore: Arc<dyn Datastore>,
        tasks: &mut JoinSet<()>,
        shutdown: &CancellationToken,
    ) -> Result<Arc<ApiServer>> {
        let config = k8w_apiserver::Config {
            service_cidr: self.service_cidr,
            node_port_range: *self.node_port_range.start()..self.node_port_range.end().saturating_add(1),
            cluster_domain: self.cluster_domain.clone(),
            wasm_cidr: self.wasm_cidr,
            pod_security: self.pod_security.clone(),
            advertise: SocketAddr::new(self.advertise, listener.local_addr()?.port()),
            listen: listener.local_addr()?,
            token_key: Some(pki.token_key().clone()),
            client_ca_pem: Some(pki.ca_pem().to_owned()),
            client_cas: self.client_cas.clone(),
            token_file: self.token_file.clone(),
            authorization: self.authorization.clone(),
            disabled_admission: self.disabled_admission.clone(),
            ..k8w_apiserver::Config::default()
        };
        let api = ApiServer::start(config, datastore).await.context("cannot start the API server")?;
        api.connect_nodes(Box::new(dialer(&api, pki)?));
        let stopping = shutdown.clone();
        let tls = pki.server_config(&self.client_cas)?;
        let serving = api.clone().serve(listener, tls, async move { stopping.cancelled().await });
        tasks.spawn(ended("API server", serving));
        Ok(api)
    }
}

/// The way to nodes in other processes.
pub(super) fn dialer(api: &ApiServer, pki: &Pki) -> Result<NodeDialer> {
    Ok(NodeDialer::new(&api.cache, pki.kubelet_client().client_config(pki.ca())?))
}

/// Where a control plane keeps the cluster's state.
pub enum Store<'a> {
    /// In this folder, alone.
    Embedded(&'a Path),
    /// In the etcd at these addresses, perhaps beside other control planes.
    Etcd(&'a str, Option<Tls>),
}

/// A running control plane.
pub struct ControlPlane {
    address: SocketAddr,
    kubeconfig: String,
    tasks: JoinSet<()>,
    shutdown: CancellationToken,
}

impl ControlPlane {
    /// Starts it; when this returns, the API answers. `identity` tells it from the others on the same store, which must
    /// have the keys in `pki` too. What it compiles for nodes is kept in `compiled`.
    ///
    /// # Errors
    /// A port that is taken, a store that cannot be read, keys that cannot be made.
    pub async fn start(
        config: &ControlPlaneConfig,
        store: Store<'_>,
        pki: &Path,
        compiled: &Path,
        identity: &str,
    ) -> Result<Self> {
        let listener = config.listen().await?;
        let address = listener.local_addr()?;
        let (folder, names) = (pki.to_owned(), config.names(&[]));
        let pki = tokio::task::spawn_blocking(move || Pki::open(&folder, &names)).await??;
        let datastore: Arc<dyn Datastore> = match store {
            Store::Embedded(folder) => {
                let folder = folder.to_owned();
                Arc::new(tokio::task::spawn_blocking(move || Embedded::open(&folder)).await??)
            }
            Store::Etcd(urls, tls) => {
                let connected = Etcd::connect(urls, tls.as_ref()).await;
                Arc::new(connected.with_context(|| format!("cannot use the etcd at {urls}"))?)
            }
        };
        let (shutdown, mut tasks) = (CancellationToken::new(), JoinSet::new());
        let api = config.serve(listener, &pki, datastore, &mut tasks, &shutdown).await?;
        compiler::connect(&api, compiled.to_owned()).await?;
        let client = client(&api, CONTROLLERS, MASTERS, "kube-controller-manager");
        let controllers = config.controllers(identity, &pki);
        let (identity, stop) = (identity.to_owned(), shutdown.clone());
        let parts = api.runs_beside(CONTROLLER_PARTS);
        let led = async move {
            let led = leader::lead(client.clone(), &identity, stop, |stop| {
                k8w_controllers::run(client.clone(), controllers.clone(), stop)
            })
            .await;
            drop(parts);
            led
        };
        tasks.spawn(ended("controllers", led));
        let kubeconfig = pki.admin_kubeconfig("k8w", &format!("https://{address}"));
        Ok(ControlPlane { address, kubeconfig, tasks, shutdown })
    }

    /// Where the API server listens.
    pub fn address(&self) -> SocketAddr {
        self.address
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
