//! The node's own objects: its Node, registered and kept true, and the Lease that says it is alive.

mod machine;
mod object;
mod settings;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{Node, NodeStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use k8w_kinds::core::node::RUNS_WASM;
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::sync::{Notify, oneshot, watch};
use tokio_util::sync::CancellationToken;

pub use machine::{Machine, usable_memory_bytes};
pub use object::{Inventory, KUBELET_VERSION, RUNTIME_HANDLER, allocatable, node, status};
pub use settings::Settings;

use crate::config::NodeConfig;
use crate::recorder::Recorder;

/// Namespace of the nodes' Leases.
const LEASE_NAMESPACE: &str = "kube-node-lease";
const LEASE_EVERY: Duration = Duration::from_secs(10);
const LEASE_SECONDS: i32 = 40;
/// How often the status is written although nothing changed.
const STATUS_EVERY: Duration = Duration::from_secs(300);
/// Waits between tries to register.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(7);

/// Registers the node and keeps its objects true until shutdown.
pub struct Keeper {
    pub client: Client,
    pub config: Arc<NodeConfig>,
    pub machine: Arc<Machine>,
    pub recorder: Recorder,
    /// Images on this node, as the status lists them.
    pub inventory: Arc<dyn Inventory>,
    /// Told when the inventory changed.
    pub changed: Arc<Notify>,
    /// The Node object as the agent has seen it.
    pub watched: watch::Receiver<Node>,
}

/// The node's status was written.
struct Written {
    node: Node,
    /// It did not say before that the node takes pods.
    became_ready: bool,
}

impl Keeper {
    /// Registers the node, says so, and keeps its objects true until shutdown.
    pub async fn run(self, registered: oneshot::Sender<()>, shutdown: CancellationToken) {
        let Some(uid) = self.register(&shutdown).await else { return };
        // Nobody waits for it only when the node stops.
        let _ = registered.send(());
        self.keep(uid, shutdown).await;
    }

    /// Creates the Node or brings an existing one up to date, trying until it works. Returns its uid; `None` at shutdown.
    async fn register(&self, shutdown: &CancellationToken) -> Option<String> {
        let mut wait = RETRY_MIN;
        loop {
            match self.try_register().await {
                Ok(written) => {
                    let name = &self.config.name;
                    self.recorder.node(name, false, "Starting", "Starting kubelet.");
                    for reason in object::SUFFICIENT {
                        self.recorder.node(name, false, reason, format!("Node {name} status is now: {reason}"));
                    }
                    self.say_ready(&written);
                    return Some(written.node.metadata.uid.unwrap_or_default());
                }
                Err(error) => tracing::warn!(%error, "the node could not be registered, trying again"),
            }
            tokio::select! {
                () = shutdown.cancelled() => return None,
                () = tokio::time::sleep(wait) => wait = (wait * 2).min(RETRY_MAX),
            }
        }
    }

    /// Renews the Lease and the status until shutdown.
    async fn keep(self, uid: String, shutdown: CancellationToken) {
        let mut lease = tokio::time::interval(LEASE_EVERY);
        let mut status = tokio::time::interval_at(tokio::time::Instant::now() + STATUS_EVERY, STATUS_EVERY);
        let mut is_deleted = false;
        loop {
            let result = tokio::select! {
                () = shutdown.cancelled() => return,
                _ = lease.tick() => self.renew(&uid).await,
                _ = status.tick() => self.update_status().await,
                () = self.changed.notified() => self.update_status().await,
            };
            match result {
                Ok(()) => {}
                // As a kubelet, it registers at its start alone.
                Err(error) if is_of_no_node(&error) => {
                    if !std::mem::replace(&mut is_deleted, true) {
                        tracing::warn!("Node {} has been deleted; start k8w again to register it", self.config.name);
                    }
                }
                Err(error) => tracing::warn!(%error, "the node's lease or status could not be written"),
            }
        }
    }

    async fn try_register(&self) -> Result<Written, kube::Error> {
        ensure(&Api::all(self.client.clone()), &self.config, &self.machine).await?;
        self.write_status().await
    }

    async fn update_status(&self) -> Result<(), kube::Error> {
        self.write_status().await.map(|written| self.say_ready(&written))
    }

    fn say_ready(&self, written: &Written) {
        if written.became_ready {
            let name = &self.config.name;
            self.recorder.node(name, false, "NodeReady", format!("Node {name} status is now: NodeReady"));
        }
    }

    async fn write_status(&self) -> Result<Written, kube::Error> {
        let api: Api<Node> = Api::all(self.client.clone());
        let live = api.get(&self.config.name).await?;
        let images = self.inventory.images();
        let new = status(&self.config, &self.machine, live.status.as_ref(), images, Timestamp::now());
        let became_ready = !is_ready(live.status.as_ref()) && is_ready(Some(&new));
        let patch = Patch::Strategic(object::patch(live.status.as_ref(), &new));
        let node = api.patch_status(&self.config.name, &PatchParams::default(), &patch).await?;
        Ok(Written { node, became_ready })
    }

    /// Says that the node is alive; and what its status is, where the controllers, who did not hear of it for a while, say that
    /// they do not know, or where others advertise other resources than before.
    async fn renew(&self, uid: &str) -> Result<(), kube::Error> {
        self.renew_lease(uid).await?;
        // Without a uid it was not seen yet, as the API has it.
        let is_due = |node: &Node| {
            let status = node.status.as_ref();
            node.metadata.uid.is_some() && (!is_ready(status) || status.is_some_and(object::is_behind))
        };
        let is_due = is_due(&self.watched.borrow());
        if is_due { self.update_status().await } else { Ok(()) }
    }

    async fn renew_lease(&self, uid: &str) -> Result<(), kube::Error> {
        let api: Api<Lease> = Api::namespaced(self.client.clone(), LEASE_NAMESPACE);
        let now = MicroTime(Timestamp::now());
        let renew = json!({ "spec": {
            "holderIdentity": self.config.name, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": now } });
        match api.patch(&self.config.name, &PatchParams::default(), &Patch::Merge(renew)).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            other => return other.map(drop),
        }
        let owner = OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Node".to_owned(),
            name: self.config.name.clone(),
            uid: uid.to_owned(),
            ..Default::default()
        };
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(self.config.name.clone()),
                namespace: Some(LEASE_NAMESPACE.to_owned()),
                owner_references: Some(vec![owner]),
                ..Default::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.config.name.clone()),
                lease_duration_seconds: Some(LEASE_SECONDS),
                renew_time: Some(now),
                ..Default::default()
            }),
        };
        api.create(&PostParams::default(), &lease).await.map(drop)
    }
}

/// Creates the Node, or brings the labels and annotations of one that exists up to date.
async fn ensure(nodes: &Api<Node>, config: &NodeConfig, machine: &Machine) -> Result<(), kube::Error> {
    let wanted = node(config, machine);
    match nodes.create(&PostParams::default(), &wanted).await {
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let metadata = json!({ "metadata": {
                "labels": wanted.metadata.labels, "annotations": wanted.metadata.annotations } });
            nodes.patch(&config.name, &PatchParams::default(), &Patch::Merge(metadata)).await.map(drop)
        }
        created => created.map(drop),
    }
}

/// Whether the Node that was asked about does not exist.
fn is_of_no_node(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404 && status.message.starts_with("nodes "))
}

/// Whether a node says that it takes pods; it does not before it has a status.
pub fn is_ready(status: Option<&NodeStatus>) -> bool {
    let mut conditions = status.into_iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Labels that every node has, and those that its configuration adds.
pub(crate) fn labels(config: &NodeConfig, machine: &Machine) -> BTreeMap<String, String> {
    let fixed = [
        ("beta.kubernetes.io/arch", machine.architecture.as_str()),
        ("beta.kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", machine.architecture.as_str()),
        ("kubernetes.io/hostname", config.name.as_str()),
        ("kubernetes.io/os", "linux"),
        (RUNS_WASM, "true"),
    ];
    let fixed = fixed.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
    fixed.chain(config.labels.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_was_deleted_is_told_from_other_failures() {
        let error = |code: u16, message: &str| {
            let status = json!({"code": code, "message": message, "reason": "x", "status": "Failure"});
            kube::Error::Api(serde_json::from_value(status).unwrap())
        };
        assert!(is_of_no_node(&error(404, "nodes \"a\" not found")));
        assert!(!is_of_no_node(&error(404, "namespaces \"kube-node-lease\" not found")));
        assert!(!is_of_no_node(&error(403, "nodes \"a\" is forbidden")));
    }
}
