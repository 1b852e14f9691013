//! What a write claims beside its object, in the same transaction.
//!
//! A claim is a key of its own that nobody else may hold: a Service's node ports, and its cluster IPs, whose keys are those
//! of IPAddresses. Whoever creates the key owns the address or port; it is deleted with the object, or when the object
//! changes so that it needs it no more.
//!
//! An amendment changes another object that the write draws on: the quotas of its namespace, the budget of an evicted
//! pod. It holds only if that object is still as it was read.

mod budget;
mod quota;
mod service;

pub use budget::budget_of;
pub use quota::Turns;
pub(crate) use service::keep_node_ports;

use crate::object_store::Write;
use crate::resources::Resource;
use crate::status::Status;
use crate::watch_cache::{Record, encode, storage_key};
use bytes::Bytes;
use k8w_kinds::field::FieldError;
use k8w_kinds::object;
use k8w_storage::datastore::{Compare, KeyValue, Revision, Txn, Write as StoreWrite};
use serde_json::Value;
use tokio::sync::OwnedMutexGuard;

/// How long Events are kept, as in Kubernetes.
const EVENT_TTL_SECONDS: u64 = 3600;

/// One thing that only one object can have.
struct Claim {
    key: Bytes,
    /// What the key holds: whose it is.
    value: Bytes,
    /// What the client is told when somebody else has it.
    taken: FieldError,
    /// We chose it, and can choose another.
    chosen: bool,
}

/// Another object that changes with the write.
pub struct Amendment {
    key: Bytes,
    /// What it was worked out from.
    revision: Revision,
    value: Bytes,
    /// What the client is told when the object keeps changing under our hands.
    modified: Status,
}

impl Amendment {
    /// `changed` is the object of `record`, which is of the core group or of `group`, with what the write makes of it.
    fn new(group: &str, plural: &str, record: &Record, mut changed: Value) -> Self {
        if let Some(metadata) = changed.get_mut("metadata") {
            object::remove(metadata, "resourceVersion");
        }
        Amendment {
            key: storage_key(group, plural, record.namespace(), record.name()),
            revision: record.revision(),
            value: encode(&changed).into(),
            modified: Status::modified(group, plural, record.name()),
        }
    }
}

/// A field that was filled in, and what it was before.
struct Filled {
    pointer: String,
    before: Option<Value>,
}

/// What a write claims and gives up.
#[derive(Default)]
pub struct Plan {
    claims: Vec<Claim>,
    released: Vec<Bytes>,
    filled: Vec<Filled>,
    amendments: Vec<Amendment>,
    /// Writes that draw on the same objects take turns.
    turn: Option<OwnedMutexGuard<()>>,
}

impl Plan {
    /// Chooses what `new` leaves open and writes it into it. `old` is the object as stored, `new` is `None` when the
    /// object is going away.
    ///
    /// # Errors
    /// 422 when the object asks for something outside the ranges, 500 when a range is used up, 403 when a quota is.
    pub async fn new(write: &Write<'_>, old: Option<&Value>, mut new: Option<&mut Value>) -> Result<Self, Status> {
        let mut plan = match is_service(write.resource) {
            true => service::plan(write, old, new.as_deref_mut()).await?,
            false => Plan::default(),
        };
        if let Some(new) = new {
            quota::charge(write, &mut plan, old, new).await?;
        }
        Ok(plan)
    }

    /// Changes another object too.
    pub fn amend(&mut self, amendment: Amendment) {
        self.amendments.push(amendment);
    }

    /// Adds the claims to the object's own transaction, in order, after what it compares already.
    pub fn extend(&self, txn: &mut Txn) {
        for claim in &self.claims {
            txn.compares.push(Compare { key: claim.key.clone(), mod_revision: 0 });
            txn.writes.push(StoreWrite::Put { key: claim.key.clone(), value: claim.value.clone(), ttl_seconds: None });
        }
        for Amendment { key, revision, value, .. } in &self.amendments {
            txn.compares.push(Compare { key: key.clone(), mod_revision: *revision });
            txn.writes.push(StoreWrite::Put { key: key.clone(), value: value.clone(), ttl_seconds: None });
        }
        txn.writes.extend(self.released.iter().map(|key| StoreWrite::Delete { key: key.clone() }));
    }

    /// Which claim or amendment does not hold, given the current values of what [`extend`](Self::extend) compares.
    pub fn contested(&self, current: impl Iterator<Item = Option<KeyValue>>) -> usize {
        let claims = self.claims.iter().map(|_| 0);
        let expected = claims.chain(self.amendments.iter().map(|amendment| amendment.revision));
        let found = current.map(|kv| kv.map_or(0, |kv| kv.mod_revision));
        expected.zip(found).position(|(expected, found)| expected != found).unwrap_or_default()
    }

    /// Claim or amendment `index` does not hold: an error if the client asked for just this one, or when it is the `last`
    /// try.
    pub fn lost(&self, resource: &Resource, name: &str, index: usize, last: bool) -> Result<(), Status> {
        match (self.claims.get(index), self.amendments.get(index.saturating_sub(self.claims.len()))) {
            (Some(claim), _) if claim.chosen && !last => Ok(()),
            (Some(claim), _) => {
                Err(Status::invalid(&resource.group, &resource.kind, name, std::slice::from_ref(&claim.taken)))
            }
            (None, Some(_)) if !last => Ok(()),
            (None, Some(amendment)) => Err(amendment.modified.clone()),
            (None, None) => Err(Status::internal("a transaction failed for no reason")),
        }
    }

    /// Takes what was chosen out of the object again.
    pub fn undo(&self, object: &mut Value) {
        for filled in self.filled.iter().rev() {
            let Some((parent, name)) = filled.pointer.rsplit_once('/') else { continue };
            let Some(Value::Object(parent)) = object.pointer_mut(parent) else { continue };
            match &filled.before {
                Some(value) => parent.insert(name.to_string(), value.clone()),
                None => parent.remove(name),
            };
        }
    }

    /// Sets a field of an object that exists at `pointer`'s parent.
    fn fill(&mut self, object: &mut Value, pointer: &str, value: Value) {
        let Some((parent, name)) = pointer.rsplit_once('/') else { return };
        let Some(Value::Object(parent)) = object.pointer_mut(parent) else { return };
        let before = parent.insert(name.to_string(), value);
        self.filled.push(Filled { pointer: pointer.to_string(), before });
    }
}

/// Objects that the store forgets by itself.
pub fn ttl_seconds(resource: &Resource) -> Option<u64> {
    let is_event = resource.is("", "events") || resource.is("events.k8s.io", "events");
    is_event.then_some(EVENT_TTL_SECONDS)
}

fn is_service(resource: &Resource) -> bool {
    resource.is("", "services")
}
