//! Serves the node's own ports that Services and pods have, and says on them which of these cannot be opened.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ObjectReference, Service};
use k8w_networking::Network;
use k8w_networking::node_port::{self, PortOwner, RETRY_INTERVAL, Unavailable};
use kube::{Api, Client, Resource};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::recorder::{Note, Recorder};

/// The part of a node that serves node ports, as Kubernetes' users know it.
const COMPONENT: &str = "kube-proxy";
/// Ports that may wait to be told about; more are only logged.
const QUEUE_PORTS: usize = 256;

/// Serves node ports at each of `addresses` until `shutdown`.
pub async fn run(
    client: Client,
    network: Arc<Network>,
    addresses: Vec<IpAddr>,
    node_name: String,
    shutdown: CancellationToken,
) {
    let (recorder, recording) = Recorder::new(client.clone(), COMPONENT, &node_name);
    let (failures, mut failed) = mpsc::channel::<(PortOwner, String)>(QUEUE_PORTS);
    let refused = move |port: Unavailable<'_>| {
        let Unavailable { owner, address, protocol, error } = port;
        let kind = match owner {
            PortOwner::Service(_) => "Node port",
            PortOwner::Pod(_) => "Host port",
        };
        tracing::warn!("{kind} {address}/{protocol} cannot be opened: {error}");
        let message = format!(
            "{kind} {}/{protocol} cannot be opened on {}: {error}; it is tried again every {RETRY_INTERVAL:?}",
            address.port(),
            address.ip()
        );
        // Who does not find it among the events finds it in the log.
        let _ = failures.try_send((owner.clone(), message));
    };
    let serving = node_port::serve(network, addresses, refused, shutdown);
    let telling = async move {
        while let Some((owner, message)) = failed.recv().await {
            tell(&client, &recorder, owner, message).await;
        }
    };
    tokio::join!(serving, telling, recording);
}

/// Records a warning about a Service, if it is still there, or a pod.
async fn tell(client: &Client, recorder: &Recorder, owner: PortOwner, message: String) {
    let (object, reason) = match owner {
        PortOwner::Pod(pod) => {
            let object = ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                namespace: Some(pod.namespace.clone()),
                name: Some(pod.name.clone()),
                uid: Some(pod.uid.clone()),
                ..Default::default()
            };
            (object, "FailedToOpenHostPort")
        }
        PortOwner::Service(name) => {
            let services: Api<Service> = Api::namespaced(client.clone(), &name.namespace);
            match services.get_opt(&name.name).await {
                Ok(Some(service)) => (service.object_ref(&()), "FailedToOpenNodePort"),
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!(%error, service = %name, "cannot say on a service that its node port failed");
                    return;
                }
            }
        }
    };
    recorder.record(Note { object, warning: true, reason: reason.to_owned(), message });
}
