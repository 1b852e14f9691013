//! ComponentStatuses: how the parts of the control plane are (deprecated since v1.19), looked at whenever somebody asks.

use std::sync::Arc;
use std::time::Duration;

use k8w_kinds::KindDef;
use k8w_storage::datastore::Revision;
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::ApiServer;
use crate::status::Status;
use crate::watch_cache::{Record, encode};

/// The name that Kubernetes' users know for the store, whichever it is.
const STORE: &str = "etcd-0";
/// A datastore that does not answer by then counts as ill.
const CHECK_MS: u64 = 5_000;

/// A part of the control plane that runs beside this server.
pub struct Part {
    name: &'static str,
    stopped: CancellationToken,
}

/// Parts by their names, which are well until the guard is dropped.
pub fn parts(names: &[&'static str]) -> (Vec<Part>, DropGuard) {
    let stopped = CancellationToken::new();
    (names.iter().map(|name| Part { name, stopped: stopped.clone() }).collect(), stopped.drop_guard())
}

/// Whether this is the kind that nobody stores.
pub fn is(kind: &KindDef) -> bool {
    kind.is("", "componentstatuses")
}

/// One object for each part, in the order of their names.
pub async fn look(server: &ApiServer, revision: Revision) -> Result<Vec<Arc<Record>>, Status> {
    let answer = tokio::time::timeout(Duration::from_millis(CHECK_MS), server.datastore.revision()).await;
    let store = match answer {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no answer".to_owned()),
    };
    let mut components = vec![(STORE, store)];
    for part in server.parts().iter() {
        components.push((part.name, if part.stopped.is_cancelled() { Err("stopped".to_owned()) } else { Ok(()) }));
    }
    components.sort_unstable_by_key(|(name, _)| *name);
    let record = |(name, health)| {
        let stored = encode(&component(name, health)).into();
        Record::new(name.into(), stored, revision).map(Arc::new).map_err(Status::internal)
    };
    components.into_iter().map(record).collect()
}

fn component(name: &str, health: Result<(), String>) -> Value {
    let condition = match health {
        Ok(()) => json!({"type": "Healthy", "status": "True", "message": "ok"}),
        Err(error) => json!({"type": "Healthy", "status": "False", "error": error}),
    };
    json!({"apiVersion": "v1", "kind": "ComponentStatus", "metadata": {"name": name}, "conditions": [condition]})
}
