//! Changing objects: by replacement, by patch, and through subresources.

use super::delete::held_back;
use super::{ATTEMPTS, Committed, Write, Written, meta};
use crate::effects::Plan;
use crate::plugins::Operation;
use crate::status::Status;
use crate::watch_cache::Record;
use bytes::Bytes;
use k8w_kinds::field::{FieldError, FieldPath};
use k8w_kinds::metadata;
use k8w_storage::datastore::Revision;
use serde_json::Value;
use std::sync::Arc;

/// A changed object that was worked out from the one stored.
pub struct Patched {
    pub object: Value,
    /// Its `managedFields` are as they should be (server-side apply).
    pub tracked: bool,
    /// Set to write only if the object is still at the revision it was read at; else the change is worked out again.
    pub once: bool,
}

/// What an update makes of an object.
pub enum Change<'c> {
    /// Another object in its place.
    Replace(Value),
    /// Whatever this makes of the object as stored. It is asked again when somebody else was faster.
    Patch(&'c (dyn Fn(&Value) -> Result<Patched, Status> + Sync)),
}

/// Which rules of the kind a change is held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rules {
    Update,
    /// Nothing but the status changes.
    Status,
    /// Nothing but what the write's subresource is for changes.
    Subresource,
    /// The caller makes a change that clients cannot make themselves, such as binding a pod.
    Trusted,
}

impl Rules {
    /// The rules of a client's `PUT` or `PATCH`; `subresource` is empty for the object itself.
    pub fn of(subresource: &str) -> Rules {
        match subresource {
            "" => Rules::Update,
            "status" => Rules::Status,
            _ => Rules::Subresource,
        }
    }
}

/// Changes an object. What changes nothing is not stored.
///
/// # Errors
/// 404, 409 `Conflict` when the change insists on another revision or UID, 422 `Invalid`, and admission's.
pub async fn update(write: &mut Write<'_>, mut change: Change<'_>, rules: Rules) -> Result<Written, Status> {
    write.server.cache.catch_up().await?;
    let mut live = write.live().ok_or_else(|| write.not_found())?;
    let told = write.warnings.len();
    for _ in 0..ATTEMPTS {
        // What was said of an attempt that came to nothing is said again, if it is still so.
        write.warnings.truncate(told);
        // As new objects: what was stored before a default came is read with it.
        let mut old = live.value();
        write.default(&mut old);
        let replaces = matches!(change, Change::Replace(_));
        let patched = match &mut change {
            Change::Replace(object) => Patched { object: attempt(object), tracked: false, once: false },
            Change::Patch(patch) => patch(&old)?,
        };
        if replaces {
            same_uid(write, &patched.object, &old)?;
        }
        let pinned = pinned(write, &patched.object, &live, replaces)? || patched.once;
        let Some((new, removed)) = work_out(write, patched, &old, rules).await? else {
            return Ok(Written { json: live.json(), created: false });
        };
        match store(write, &live, old, new, removed).await? {
            Stored::Done(json) => return Ok(Written { json, created: false }),
            Stored::Moved(None) => return Err(write.not_found()),
            Stored::Moved(Some(_)) if pinned => return Err(write.modified()),
            Stored::Moved(Some(now)) => live = now,
        }
    }
    Err(write.modified())
}

/// An object in another's place is meant for the one that it says; a patch that changes the UID is held to the rules.
fn same_uid(write: &Write<'_>, new: &Value, old: &Value) -> Result<(), Status> {
    let (wanted, found) = (meta::text(new, "uid"), meta::text(old, "uid"));
    if wanted.is_empty() || wanted == found {
        return Ok(());
    }
    Err(write.conflict(format!("Precondition failed: UID in precondition: {wanted}, UID in object meta: {found}")))
}

/// Whether the change insists on the revision that the object is at.
fn pinned(write: &Write<'_>, new: &Value, live: &Record, replaces: bool) -> Result<bool, Status> {
    let version = meta::text(new, "resourceVersion");
    if is_unconditional(new) {
        if !write.resource.strategy.allow_unconditional_update() && replaces {
            let path = FieldPath::new("metadata");
            let path = path.child("resourceVersion");
            let error = FieldError::invalid(&path, version, "must be specified for an update");
            write.check(write.name, vec![error])?;
        }
        return Ok(false);
    }
    let Ok(version) = version.parse::<Revision>() else {
        return Err(Status::bad_request(format!("invalid resource version {version:?}")));
    };
    if version != live.revision() {
        return Err(write.modified());
    }
    // A patch carries the version that it was worked out from, which says nothing about the client.
    Ok(replaces)
}

fn is_unconditional(object: &Value) -> bool {
    matches!(meta::text(object, "resourceVersion"), "" | "0")
}

/// The client's object for one attempt. Only one that says no revision gets another.
fn attempt(object: &mut Value) -> Value {
    if is_unconditional(object) { object.clone() } else { object.take() }
}

/// The object to be stored, and whether this change is what its deletion waited for; `None` when nothing changes.
async fn work_out(
    write: &mut Write<'_>,
    patched: Patched,
    old: &Value,
    rules: Rules,
) -> Result<Option<(Value, bool)>, Status> {
    let resource = write.resource;
    let Patched { object: mut new, tracked, .. } = patched;
    metadata::keep_system_fields(&mut new, old);
    write.dedup_owners(&mut new);
    write.default(&mut new);
    match rules {
        Rules::Status => resource.strategy.prepare_for_status_update(&mut new, old, write.now),
        Rules::Subresource => {
            resource.strategy.prepare_for_subresource_update(write.subresource, &mut new, old, write.now);
        }
        Rules::Update | Rules::Trusted => {}
    }
    if !tracked {
        write.track(Some(old), &mut new);
    }
    write.admit(Operation::Update, &mut new, Some(old)).await?;
    if rules == Rules::Update {
        resource.strategy.prepare_for_update(&mut new, old);
    }
    validate(write, &new, old, rules)?;
    resource.strategy.canonicalize(&mut new);
    write.admit_validating(Operation::Update, &mut new, Some(old)).await?;
    if rules == Rules::Update {
        write.warnings.extend(resource.strategy.update_warnings(&new, old));
    }
    if meta::same(&new, old) {
        return Ok(None);
    }
    let removed = meta::get(&new, "deletionTimestamp").is_some() && !held_back(resource, &new);
    Ok(Some((new, removed)))
}

fn validate(write: &Write<'_>, new: &Value, old: &Value, rules: Rules) -> Result<(), Status> {
    let mut errors = metadata::validate_update(&write.resource.def, new, old);
    let schema = write.resource.schema();
    errors.extend(match rules {
        Rules::Status => schema.validate_status(new, old),
        _ => schema.validate(new, Some(old), &FieldPath::ROOT),
    });
    match rules {
        Rules::Update => errors.extend(write.resource.strategy.validate_update(new, old)),
        Rules::Status => errors.extend(write.resource.strategy.validate_status_update(new, old)),
        Rules::Subresource => {
            errors.extend(write.resource.strategy.validate_subresource_update(write.subresource, new, old));
        }
        Rules::Trusted => {}
    }
    write.check(write.name, errors)
}

enum Stored {
    Done(Bytes),
    Moved(Option<Arc<Record>>),
}

async fn store(write: &Write<'_>, live: &Record, old: Value, mut new: Value, removed: bool) -> Result<Stored, Status> {
    for attempt in 1.. {
        let claimant = (!removed).then_some(&mut new);
        let plan = Plan::new(write, Some(&old), claimant).await?;
        let stored = write.encoded(&mut new);
        let at = |revision| write.written(write.name, &stored, Some(revision)).map(Stored::Done);
        if write.dry_run {
            return at(live.revision());
        }
        let value = (!removed).then(|| stored.clone());
        match write.commit(write.key(write.name), live.revision(), value, &plan).await? {
            Committed::At(revision) => return at(revision),
            Committed::Moved(None) => return Ok(Stored::Moved(None)),
            Committed::Moved(Some(now)) => {
                let record = write.current(live, &now)?;
                return Ok(Stored::Moved(Some(Arc::new(record))));
            }
            Committed::Claimed(index) => {
                plan.lost(write.resource, write.name, index, attempt >= ATTEMPTS)?;
                plan.undo(&mut new);
            }
        }
    }
    Err(write.modified())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use k8w_storage::datastore::memory::Memory;
    use serde_json::json;
    use tokio::runtime::Handle;
    use tokio::task::block_in_place;

    use super::*;
    use crate::object_store::create;
    use crate::{ApiServer, Config};

    fn labelled(old: &Value, label: &str) -> Patched {
        let mut object = old.clone();
        meta::set(&mut object, "labels", json!({label: ""}));
        Patched { object, tracked: false, once: false }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_worked_out_again_warns_once() {
        let server = ApiServer::start(Config::default(), Arc::new(Memory::new())).await.unwrap();
        let resources = server.resources.load_full();
        let volumes = resources.get("", "v1", "persistentvolumes").unwrap();
        let volume = json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "v"}, "spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/v"},
            "persistentVolumeReclaimPolicy": "Recycle"}});
        create(&mut Write::own(&server, volumes, "", "v"), volume, false).await.unwrap();

        let attempts = AtomicUsize::new(0);
        let raced = |old: &Value| {
            if attempts.fetch_add(1, Relaxed) == 0 {
                let other = |old: &Value| Ok(labelled(old, "other"));
                let mut write = Write::own(&server, volumes, "", "v");
                let faster = update(&mut write, Change::Patch(&other), Rules::Update);
                block_in_place(|| Handle::current().block_on(faster))?;
            }
            Ok(labelled(old, "own"))
        };
        let mut write = Write::own(&server, volumes, "", "v");
        update(&mut write, Change::Patch(&raced), Rules::Update).await.unwrap();
        assert_eq!(attempts.load(Relaxed), 2);
        assert_eq!(write.warnings.len(), 1, "{:?}", write.warnings);
    }
}
