//! Keeps the node's network tables up to date with the API.
//!
//! One watch per kind feeds a store; whenever anything changed the tables are built anew and swapped. Changes that arrive
//! while a build is under way are taken together by the next one.

use std::fmt::Debug;
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use k8w_networking::{Network, Objects, Tables};
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Keeps `network` up to date until `shutdown`. Unreachable APIs are waited for with backoff; meanwhile the last tables
/// stand.
pub async fn run(client: Client, network: Arc<Network>, node_name: String, shutdown: CancellationToken) {
    let changed = Arc::new(Notify::new());
    let mut watches = JoinSet::new();
    let all = watcher::Config::default;
    let tls = all().fields("type=kubernetes.io/tls");
    let services: Store<Service> = follow(&mut watches, &client, all(), &changed);
    let endpoint_slices: Store<EndpointSlice> = follow(&mut watches, &client, all(), &changed);
    let ingresses: Store<Ingress> = follow(&mut watches, &client, all(), &changed);
    let ingress_classes: Store<IngressClass> = follow(&mut watches, &client, all(), &changed);
    let secrets: Store<Secret> = follow(&mut watches, &client, tls, &changed);
    let build = || {
        let (services, endpoint_slices) = (services.state(), endpoint_slices.state());
        let (ingresses, ingress_classes, secrets) = (ingresses.state(), ingress_classes.state(), secrets.state());
        let objects = Objects {
            services: &services,
            endpoint_slices: &endpoint_slices,
            ingresses: &ingresses,
            ingress_classes: &ingress_classes,
            secrets: &secrets,
        };
        Tables::build(&objects, &node_name)
    };
    loop {
        tokio::select! {
            () = changed.notified() => network.update(build()),
            () = shutdown.cancelled() => return,
        }
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
