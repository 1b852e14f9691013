//! What a write claims beside its object, in the same transaction.
//!
//! A claim is a key of its own that nobody else may hold: a Service's cluster IPs and node ports. Whoever creates the
//! key owns the address or port; it is deleted with the object, or when the object changes so that it needs it no more.

mod service;

use crate::ApiServer;
use crate::resources::Resource;
use crate::status::Status;
use bytes::Bytes;
use k8w_kinds::field::FieldError;
use k8w_storage::datastore::{Compare, Txn, Write};
use serde_json::Value;

/// How long Events are kept, as in Kubernetes.
const EVENT_TTL_SECONDS: u64 = 3600;

/// One thing that only one object can have.
struct Claim {
    key: Bytes,
    /// What the client is told when somebody else has it.
    taken: FieldError,
    /// We chose it, and can choose another.
    chosen: bool,
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
    owner: Bytes,
}

impl Plan {
    /// Chooses what `new` leaves open and writes it into it. `old` is the object as stored, `new` is `None` when the
    /// object is going away.
    ///
    /// # Errors
    /// 422 when the object asks for something outside the ranges, 500 when a range is used up.
    pub async fn new(
        server: &ApiServer,
        resource: &Resource,
        old: Option<&Value>,
        new: Option<&mut Value>,
    ) -> Result<Self, Status> {
        if is_service(resource) { service::plan(server, resource, old, new).await } else { Ok(Plan::default()) }
    }

    /// Adds the claims to the object's own transaction, in order, after what it compares already.
    pub fn extend(&self, txn: &mut Txn) {
        for claim in &self.claims {
            txn.compares.push(Compare { key: claim.key.clone(), mod_revision: 0 });
            txn.writes.push(Write::Put { key: claim.key.clone(), value: self.owner.clone(), ttl_seconds: None });
        }
        txn.writes.extend(self.released.iter().map(|key| Write::Delete { key: key.clone() }));
    }

    /// Claim `index` is somebody else's: an error if the client asked for just this one, or when it is the `last` try.
    pub fn lost(&self, resource: &Resource, name: &str, index: usize, last: bool) -> Result<(), Status> {
        match self.claims.get(index) {
            Some(claim) if claim.chosen && !last => Ok(()),
            Some(claim) => {
                Err(Status::invalid(&resource.group, &resource.kind, name, std::slice::from_ref(&claim.taken)))
            }
            None => Err(Status::internal("a transaction failed for no reason")),
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

/// Gives an updated object what it had and does not mention: clients may leave out what the server chose.
pub fn inherit(resource: &Resource, new: &mut Value, old: &Value) {
    if is_service(resource) {
        service::inherit(new, old);
    }
}

/// Objects that the store forgets by itself.
pub fn ttl_seconds(resource: &Resource) -> Option<u64> {
    let is_event = resource.plural == "events" && matches!(&*resource.group, "" | "events.k8s.io");
    is_event.then_some(EVENT_TTL_SECONDS)
}

fn is_service(resource: &Resource) -> bool {
    resource.plural == "services" && resource.group.is_empty()
}
