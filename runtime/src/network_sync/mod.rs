//! Keeps the node's network tables up to date with the API.
//!
//! One watch per kind feeds a store; whenever anything changed the tables are built anew and swapped. Changes that arrive
//! while a build is under way are taken together by the next one. The first tables are made when every kind was listed, so
//! that none are open which a policy would close.

mod facts;

use std::fmt::Debug;
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Namespace, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass, NetworkPolicy};
use k8w_networking::peers::Node;
use k8w_networking::policy::Pod;
use k8w_networking::{Network, Objects, Tables};
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::facts::Facts;

/// Keeps `network` up to date until `shutdown`. Unreachable APIs are waited for with backoff; meanwhile the last tables
/// stand. `node` may follow the Secrets of the ingress, `client` the rest.
pub async fn run(client: Client, node: Client, network: Arc<Network>, node_name: String, shutdown: CancellationToken) {
    let mut watched = Watched::new(client, &node);
    let listed = tokio::select! {
        listed = watched.listed() => listed,
        () = shutdown.cancelled() => return,
    };
    // The tasks that feed the stores end with this one alone.
    if listed.is_err() {
        return;
    }
    loop {
        if let Some(tables) = watched.tables(&node_name) {
            network.update(tables);
        }
        tokio::select! {
            () = watched.changed.notified() => {}
            () = shutdown.cancelled() => return,
        }
    }
}

/// What is watched.
struct Watched {
    client: Client,
    changed: Arc<Notify>,
    watches: JoinSet<()>,
    services: Store<Service>,
    endpoint_slices: Store<EndpointSlice>,
    nodes: Facts<Node>,
    ingresses: Store<Ingress>,
    ingress_classes: Store<IngressClass>,
    secrets: Store<Secret>,
    network_policies: Store<NetworkPolicy>,
    namespaces: Store<Namespace>,
    /// Followed from the first NetworkPolicy on: without one nobody asks about pods.
    pods: Option<Facts<Pod>>,
}

impl Watched {
    fn new(client: Client, node: &Client) -> Self {
        let (changed, mut watches) = (Arc::new(Notify::new()), JoinSet::new());
        let all = watcher::Config::default;
        let tls = all().fields("type=kubernetes.io/tls");
        Self {
            services: follow(&mut watches, &client, all(), &changed),
            endpoint_slices: follow(&mut watches, &client, all(), &changed),
            nodes: Facts::follow(&mut watches, &client, &changed),
            ingresses: follow(&mut watches, &client, all(), &changed),
            ingress_classes: follow(&mut watches, &client, all(), &changed),
            secrets: follow(&mut watches, node, tls, &changed),
            network_policies: follow(&mut watches, &client, all(), &changed),
            namespaces: follow(&mut watches, &client, all(), &changed),
            pods: None,
            client,
            changed,
            watches,
        }
    }

    /// Waits until everything was listed once.
    async fn listed(&self) -> Result<(), reflector::store::WriterDropped> {
        self.services.wait_until_ready().await?;
        self.endpoint_slices.wait_until_ready().await?;
        self.ingresses.wait_until_ready().await?;
        self.ingress_classes.wait_until_ready().await?;
        self.secrets.wait_until_ready().await?;
        self.network_policies.wait_until_ready().await?;
        self.namespaces.wait_until_ready().await
    }

    /// The tables of this moment; `None` while the nodes, or the pods that policies are about, are not known.
    fn tables(&mut self, node_name: &str) -> Option<Tables> {
        let nodes = self.nodes.listed()?;
        let network_policies = self.network_policies.state();
        let pods = if network_policies.is_empty() {
            Vec::new()
        } else {
            let follow = || Facts::follow(&mut self.watches, &self.client, &self.changed);
            self.pods.get_or_insert_with(follow).listed()?
        };
        let objects = Objects {
            services: &self.services.state(),
            endpoint_slices: &self.endpoint_slices.state(),
            nodes: &nodes,
            ingresses: &self.ingresses.state(),
            ingress_classes: &self.ingress_classes.state(),
            secrets: &self.secrets.state(),
            network_policies: &network_policies,
            namespaces: &self.namespaces.state(),
            pods: &pods,
        };
        Some(Tables::build(&objects, node_name))
    }
}

/// A store of every object of a kind that `config` selects, kept by a task of `watches`.
fn follow<K>(watches: &mut JoinSet<()>, client: &Client, config: watcher::Config, changed: &Arc<Notify>) -> Store<K>
where
    K: kube::Resource<DynamicType = ()> + Clone + Debug + serde::de::DeserializeOwned + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let events = reflector::reflector(writer, watcher(Api::all(client.clone()), config)).default_backoff();
    let changed = changed.clone();
    watches.spawn(async move {
        let mut events = std::pin::pin!(events);
        while let Some(event) = events.next().await {
            match event {
                // The objects of an initial list become visible together, at its end.
                Ok(watcher::Event::Init | watcher::Event::InitApply(_)) => {}
                Ok(_) => changed.notify_one(),
                Err(error) => tracing::debug!(%error, kind = %K::kind(&()), "cannot watch; trying again"),
            }
        }
    });
    store
}
