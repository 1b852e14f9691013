//! The quotas that a write uses: its share is added to their status in the write's own transaction, so that writes that
//! come at once cannot use more than there is.

use super::{Amendment, Plan};
use crate::object_store::Write;
use crate::status::Status;
use k8w_kinds::object::text;
use k8w_kinds::quota::{self, Charge};
use serde_json::Value;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use tokio::sync::Mutex;

const PLURAL: &str = "resourcequotas";
/// Writes under the quotas of one namespace are done one after the other, those of (most) others beside them.
const TURNS: usize = 64;

/// Whose turn it is to draw on the quotas of a namespace. Without it nothing would be overrun, but writes that come at
/// once would undo each other's work over and over.
#[derive(Debug)]
pub struct Turns {
    namespaces: [Arc<Mutex<()>>; TURNS],
    hasher: RandomState,
}

impl Default for Turns {
    fn default() -> Self {
        Turns { namespaces: std::array::from_fn(|_| Arc::default()), hasher: RandomState::new() }
    }
}

impl Turns {
    fn of(&self, namespace: &str) -> Arc<Mutex<()>> {
        let slot = self.hasher.hash_one(namespace) as usize % TURNS;
        self.namespaces[slot].clone()
    }
}

/// Adds what the write uses to every quota that it falls under.
///
/// # Errors
/// 403 when a quota does not allow it.
pub(super) async fn charge(write: &Write<'_>, plan: &mut Plan, old: Option<&Value>, new: &Value) -> Result<(), Status> {
    let resource = write.resource;
    if write.namespace.is_empty() {
        return Ok(());
    }
    let quotas = write.server.cache.kind("", PLURAL);
    if quotas.list(Some(write.namespace)).0.is_empty() {
        return Ok(());
    }
    let evaluator = quota::evaluator(&resource.group, &resource.plural);
    if !evaluator.handles(old.is_none(), write.subresource) {
        return Ok(());
    }
    plan.turn = Some(write.server.quota_turns.of(write.namespace).lock_owned().await);
    write.server.cache.catch_up().await?;
    let charge = Charge { new, old, subresource: write.subresource, now: write.now };
    for record in quotas.list(Some(write.namespace)).0 {
        let mut quota = record.value();
        let used = quota::charge(&quota, &*evaluator, &charge).map_err(|why| {
            let name = [text(new, &["metadata", "name"]), text(new, &["metadata", "generateName"])];
            let name = name.into_iter().find(|name| !name.is_empty()).unwrap_or("Unknown");
            Status::forbidden(&resource.group, &resource.plural, name, why)
        })?;
        if let Some(used) = used {
            quota["status"]["used"] = quota::to_list(&used).into();
            plan.amend(Amendment::new("", PLURAL, &record, quota));
        }
    }
    Ok(())
}
