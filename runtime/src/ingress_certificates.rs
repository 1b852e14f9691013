//! Says on Ingresses which of their certificates cannot be used, and why.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8w_networking::{Fault, Network};
use kube::Client;
use tokio_util::sync::CancellationToken;

use crate::recorder::{Note, Recorder};

/// The part of a node that shows certificates.
const COMPONENT: &str = "k8w-ingress";
/// How long changes may take to be complete: a Secret often comes right after its Ingress.
const SETTLE_TIME: Duration = Duration::from_secs(1);

/// Follows the tables until `shutdown`.
pub async fn run(client: Client, network: Arc<Network>, node_name: String, shutdown: CancellationToken) {
    let (recorder, recording) = Recorder::new(client, COMPONENT, &node_name);
    let telling = async move {
        let (mut changes, mut told) = (network.changes(), BTreeSet::new());
        loop {
            let faults: BTreeSet<Fault> = network.tables().certificates.faults().collect();
            faults.difference(&told).for_each(|fault| tell(&recorder, fault));
            told = faults;
            let changed = async {
                let changed = changes.changed().await;
                tokio::time::sleep(SETTLE_TIME).await;
                changes.mark_unchanged();
                changed
            };
            if !matches!(shutdown.run_until_cancelled(changed).await, Some(Ok(()))) {
                return;
            }
        }
    };
    tokio::join!(telling, recording);
}

fn tell(recorder: &Recorder, fault: &Fault) {
    let Fault { namespace, name, uid, why } = fault;
    tracing::warn!("Ingress {namespace}/{name}: {why}");
    let object = ObjectReference {
        api_version: Some("networking.k8s.io/v1".to_owned()),
        kind: Some("Ingress".to_owned()),
        namespace: Some(namespace.clone()),
        name: Some(name.clone()),
        uid: Some(uid.clone()),
        ..Default::default()
    };
    let message = format!("{why}; its hosts are served with a certificate that the node made for itself");
    recorder.record(Note { object, warning: true, reason: "FailedToUseCertificate".to_owned(), message });
}
