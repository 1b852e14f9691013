//! Serves the node ports of Services, and says on a Service which of its ports this node cannot open.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8w_networking::node_port::{self, RETRY_INTERVAL, Unavailable};
use k8w_networking::{Network, ServiceName};
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
    let (failures, mut failed) = mpsc::channel::<(ServiceName, String)>(QUEUE_PORTS);
    let refused = move |port: Unavailable<'_>| {
        let Unavailable { service, address, protocol, error } = port;
        tracing::warn!(%service, "node port {address}/{protocol} cannot be opened: {error}");
        let message = format!(
            "Node port {}/{protocol} cannot be opened on {}: {error}; it is tried again every {RETRY_INTERVAL:?}",
            address.port(),
            address.ip()
        );
        // Who does not find it among the events finds it in the log.
        let _ = failures.try_send((service.clone(), message));
    };
    let serving = node_port::serve(network, addresses, refused, shutdown);
    let telling = async move {
        while let Some((name, message)) = failed.recv().await {
            tell(&client, &recorder, name, message).await;
        }
    };
    tokio::join!(serving, telling, recording);
}

/// Records a warning about a Service, if it is still there.
async fn tell(client: &Client, recorder: &Recorder, name: ServiceName, message: String) {
    let services: Api<Service> = Api::namespaced(client.clone(), &name.namespace);
    match services.get_opt(&name.name).await {
        Ok(Some(service)) => {
            let (object, reason) = (service.object_ref(&()), "FailedToOpenNodePort".to_owned());
            recorder.record(Note { object, warning: true, reason, message });
        }
        Ok(None) => {}
        Err(error) => tracing::warn!(%error, service = %name, "cannot say on a service that its node port failed"),
    }
}
