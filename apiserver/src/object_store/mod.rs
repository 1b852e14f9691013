//! The one way in which objects are written, whatever their kind.
//!
//! ```text
//! default ─> track managed fields ─> admit ─> prepare ─> validate ─> canonicalize ─> validating admission ─> effects
//!         ─> one transaction
//! ```
//!
//! Writes are optimistic: a transaction compares the revision that its object was read at. When somebody else was faster
//! the datastore answers the object as it is now, and a write that did not insist on a revision is worked out again.

mod create;
mod delete;
mod meta;
mod update;

pub use create::create;
pub(crate) use delete::delete_own;
pub use delete::{Beside, DeleteOptions, Deleted, Propagation, delete, delete_with};
pub use meta::timestamp;
pub use update::{Change, Patched, Rules, update};

use crate::ApiServer;
use crate::admission;
use crate::effects::{self, Plan};
use crate::identity::UserInfo;
use crate::plugins::{AdmissionRequest, Operation, Warnings};
use crate::resources::Resource;
use crate::status::Status;
use crate::watch_cache::Record;
use bytes::Bytes;
use jiff::Timestamp;
use k8w_kinds::field::FieldError;
use k8w_kinds::schema::apply::{self, Manager};
use k8w_storage::datastore::{Compare, KeyValue, Revision, Txn, TxnOutcome, Write as StoreWrite};
use serde_json::Value;
use std::sync::Arc;

/// How often a write is worked out again because somebody else was faster, before the client is told.
const ATTEMPTS: usize = 32;
/// Whose fields those are that this server writes on its own account.
const OWN_MANAGER: &str = "kube-apiserver";

/// What every write is told.
pub struct Write<'a> {
    pub server: &'a ApiServer,
    pub resource: &'a Resource,
    /// Empty for the object itself.
    pub subresource: &'a str,
    /// Empty for cluster-scoped kinds.
    pub namespace: &'a str,
    /// Empty for a create whose name the object says, or the server makes up.
    pub name: &'a str,
    pub user: &'a UserInfo,
    /// Go all the way, but store nothing.
    pub dry_run: bool,
    /// Whose fields these are.
    pub manager: &'a str,
    pub now: Timestamp,
    /// What the client is to be told in `Warning` headers.
    pub warnings: Vec<String>,
}

/// A write that succeeded.
#[derive(Debug)]
pub struct Written {
    /// The object as it is now.
    pub json: Bytes,
    pub created: bool,
}

/// How an attempt to store ended.
enum Committed {
    At(Revision),
    /// Somebody else was faster; the object as it is now.
    Moved(Option<KeyValue>),
    /// Another write got hold of something that this one was about to claim or amend.
    Claimed(usize),
}

impl<'a> Write<'a> {
    /// A write that this server makes on its own account.
    pub(crate) fn own(server: &'a ApiServer, resource: &'a Resource, namespace: &'a str, name: &'a str) -> Write<'a> {
        Write {
            server,
            resource,
            subresource: "",
            namespace,
            name,
            user: UserInfo::own(),
            dry_run: false,
            manager: OWN_MANAGER,
            now: server.config.outside.now(),
            warnings: Vec::new(),
        }
    }
}

impl Write<'_> {
    fn live(&self) -> Option<Arc<Record>> {
        self.resource.objects.get(self.namespace, self.name)
    }

    fn not_found(&self) -> Status {
        Status::not_found(&self.resource.group, &self.resource.plural, self.name)
    }

    fn modified(&self) -> Status {
        Status::modified(&self.resource.group, &self.resource.plural, self.name)
    }

    fn conflict(&self, why: String) -> Status {
        Status::conflict(&self.resource.group, &self.resource.plural, self.name, why)
    }

    fn check(&self, name: &str, errors: Vec<FieldError>) -> Result<(), Status> {
        if errors.is_empty() {
            return Ok(());
        }
        Err(Status::invalid(&self.resource.group, &self.resource.kind, name, &errors))
    }

    /// Names each owner once, and tells the client where it did not.
    fn dedup_owners(&mut self, object: &mut Value) {
        let again = meta::dedup_owners(object);
        if !again.is_empty() {
            self.warnings.push(format!(
                ".metadata.ownerReferences contains duplicate entries; API server dedups owner references in 1.20+, and \
                 may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: [{}]",
                again.join(" ")
            ));
        }
    }

    /// Fills in defaults: the schema's, then the kind's own.
    fn default(&self, object: &mut Value) {
        self.resource.schema().default(object);
        self.resource.strategy.default(object);
    }

    /// Lets the admission plugins see, change and refuse an object.
    pub async fn admit(&mut self, operation: Operation, object: &mut Value, old: Option<&Value>) -> Result<(), Status> {
        let warnings = Warnings::default();
        let mut request = self.admission(operation, object, old, &warnings);
        admission::admit(&self.server.plugins.admission, &mut request).await?;
        self.warnings.extend(warnings.into_texts());
        Ok(())
    }

    /// Lets them refuse what would be stored.
    pub async fn admit_validating(
        &mut self,
        operation: Operation,
        object: &mut Value,
        old: Option<&Value>,
    ) -> Result<(), Status> {
        let warnings = Warnings::default();
        let request = self.admission(operation, object, old, &warnings);
        admission::validate(&self.server.plugins.admission, &request).await?;
        self.warnings.extend(warnings.into_texts());
        Ok(())
    }

    fn admission<'r>(
        &'r self,
        operation: Operation,
        object: &'r mut Value,
        old: Option<&'r Value>,
        warnings: &'r Warnings,
    ) -> AdmissionRequest<'r> {
        AdmissionRequest {
            operation,
            resource: self.resource,
            subresource: self.subresource,
            namespace: self.namespace,
            name: self.name,
            object,
            old,
            user: self.user,
            dry_run: self.dry_run,
            view: &self.server.cache,
            kinds: self.server,
            warnings,
        }
    }

    /// Notes in `metadata.managedFields` who wrote what. This comes before admission: what it fills in is nobody's, so
    /// that no applier takes it away. A status belongs to those who write it through its subresource, or with a new object that
    /// comes with one.
    fn track(&self, live: Option<&Value>, new: &mut Value) {
        let strategy = &self.resource.strategy;
        let keeps_status =
            self.subresource.is_empty() && strategy.shape().status && !(live.is_none() && strategy.comes_with_status());
        let kept: &[&str] = if keeps_status { &["status"] } else { &[] };
        apply::track_update(self.resource.schema(), live, new, &self.field_manager(apply::Operation::Update), kept);
    }

    /// The identity that the write's fields belong to.
    pub fn field_manager(&self, operation: apply::Operation) -> Manager {
        Manager {
            name: self.manager.to_string(),
            operation,
            api_version: self.resource.api_version(),
            subresource: self.subresource.to_string(),
            time: meta::timestamp(self.now),
        }
    }

    fn key(&self, name: &str) -> Bytes {
        self.resource.storage_key(self.namespace, name)
    }

    /// One transaction: the object at `expected` becomes `value` (or nothing), together with its effects.
    async fn commit(
        &self,
        key: Bytes,
        expected: Revision,
        value: Option<Bytes>,
        plan: &Plan,
    ) -> Result<Committed, Status> {
        let write = match value {
            Some(value) => {
                StoreWrite::Put { key: key.clone(), value, ttl_seconds: effects::ttl_seconds(self.resource) }
            }
            None => StoreWrite::Delete { key: key.clone() },
        };
        let mut txn = Txn { compares: vec![Compare { key, mod_revision: expected }], writes: vec![write] };
        plan.extend(&mut txn);
        match self.server.datastore.txn(txn).await? {
            TxnOutcome::Committed { revision, .. } => Ok(Committed::At(revision)),
            TxnOutcome::Conflict { current, .. } => {
                let mut current = current.into_iter();
                let object = current.next().flatten();
                if object.as_ref().map_or(0, |found| found.mod_revision) != expected {
                    return Ok(Committed::Moved(object));
                }
                Ok(Committed::Claimed(plan.contested(current)))
            }
        }
    }

    /// The object as somebody else just left it.
    fn current(&self, live: &Record, now: &KeyValue) -> Result<Record, Status> {
        self.resource.decode(live.key().clone(), now.value.clone(), now.mod_revision).map_err(Status::internal)
    }

    /// A stored object as it is served at `revision`; without a revision it was not stored.
    fn written(&self, name: &str, stored: &Bytes, revision: Option<Revision>) -> Result<Bytes, Status> {
        let key = Bytes::copy_from_slice(name.as_bytes());
        let record = self.resource.decode(key, stored.clone(), revision.unwrap_or_default());
        let record = record.map_err(Status::internal)?;
        Ok(if revision.is_some() { record.json() } else { record.stored().clone() })
    }

    /// The object as it is stored: without its resource version.
    fn encoded(&self, object: &mut Value) -> Bytes {
        meta::remove(object, "resourceVersion");
        self.resource.encode(object)
    }
}
