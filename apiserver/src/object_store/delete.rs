//! Deleting objects: at once, after a grace period, or when their last finalizer is gone.
//!
//! <https://kubernetes.io/docs/concepts/overview/working-with-objects/finalizers/>,
//! <https://kubernetes.io/docs/concepts/architecture/garbage-collection/#cascading-deletion>

use super::{ATTEMPTS, Committed, Write, meta};
use crate::ApiServer;
use crate::effects::{Amendment, Plan};
use crate::plugins::Operation;
use crate::resources::Resource;
use crate::status::Status;
use crate::watch_cache::Record;
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use k8w_kinds::object;
use k8w_storage::datastore::Revision;
use serde_json::Value;
use std::sync::Arc;

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// What becomes of the objects that the deleted one owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    Background,
    Foreground,
    Orphan,
}

/// `meta.k8s.io/v1` DeleteOptions, without what every write has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    pub grace_period_seconds: Option<i64>,
    pub propagation: Option<Propagation>,
    pub uid: Option<String>,
    pub resource_version: Option<String>,
}

/// What a deletion did.
#[derive(Debug)]
pub struct Deleted {
    /// The object as it was, or as it is while something holds it back.
    pub json: Bytes,
    pub uid: String,
    /// Whether the object is gone.
    pub gone: bool,
}

/// Deletes an object, or marks it when a grace period or finalizers hold it back.
///
/// # Errors
/// 404, 409 `Conflict` when a precondition fails, and admission's.
pub async fn delete(write: &mut Write<'_>, options: &DeleteOptions) -> Result<Deleted, Status> {
    delete_with(write, options, &Beside { amend: &|_| Ok(None), mark: &|_| {} }).await
}

/// Deletes an object on this server's own account, if it is there.
///
/// # Errors
/// Those of [`delete`], but for 404.
pub(crate) async fn delete_own(
    server: &ApiServer,
    resource: &Resource,
    namespace: &str,
    name: &str,
) -> Result<(), Status> {
    match delete(&mut Write::own(server, resource, namespace, name), &DeleteOptions::default()).await {
        Err(error) if error.reason != "NotFound" => Err(error),
        _ => Ok(()),
    }
}

/// What goes with a deletion; asked anew when somebody else was faster.
pub struct Beside<'a> {
    /// What another object has to become.
    pub amend: &'a (dyn Fn(&Value) -> Result<Option<Amendment>, Status> + Sync),
    /// What the object says of its deletion while that lasts.
    pub mark: &'a (dyn Fn(&mut Value) + Sync),
}

/// Deletes an object together with a change of another one.
///
/// # Errors
/// Those of [`delete`] and of [`Beside::amend`].
pub async fn delete_with(
    write: &mut Write<'_>,
    options: &DeleteOptions,
    beside: &Beside<'_>,
) -> Result<Deleted, Status> {
    write.server.cache.catch_up().await?;
    let mut live = write.live().ok_or_else(|| write.not_found())?;
    for _ in 0..ATTEMPTS {
        let old = live.value();
        check_preconditions(write, options, &live, &old)?;
        let mut nothing = Value::Null;
        write.admit(Operation::Delete, &mut nothing, Some(&old)).await?;
        write.admit_validating(Operation::Delete, &mut nothing, Some(&old)).await?;
        let marked = mark(write, options, &old);
        let done = |json: Bytes, gone| Ok(Deleted { json, uid: meta::text(&old, "uid").to_string(), gone });
        let amendment = (beside.amend)(&old)?;
        let (value, mut plan) = match marked {
            Marked::Pending => return done(live.json(), false),
            Marked::Remove => (None, Plan::new(write, Some(&old), None).await?),
            Marked::Keep(new) if meta::same(&new, &old) => return done(live.json(), false),
            Marked::Keep(mut new) => {
                (beside.mark)(&mut new);
                (Some(write.encoded(&mut new)), Plan::default())
            }
        };
        if write.dry_run {
            return match value {
                None => done(live.json(), true),
                Some(stored) => done(write.written(write.name, &stored, Some(live.revision()))?, false),
            };
        }
        amendment.into_iter().for_each(|amendment| plan.amend(amendment));
        match write.commit(write.key(write.name), live.revision(), value.clone(), &plan).await? {
            Committed::At(revision) => {
                return match value {
                    None => done(live.at_revision(revision).json(), true),
                    Some(stored) => done(write.written(write.name, &stored, Some(revision))?, false),
                };
            }
            Committed::Moved(None) => return Err(write.not_found()),
            Committed::Moved(Some(now)) => {
                let record = write.current(&live, &now)?;
                live = Arc::new(record);
            }
            // The other object has changed: it is read anew.
            Committed::Claimed(_) => _ = write.server.cache.catch_up().await?,
        }
    }
    Err(write.modified())
}

fn check_preconditions(write: &Write<'_>, options: &DeleteOptions, live: &Record, old: &Value) -> Result<(), Status> {
    let found = meta::text(old, "uid");
    if let Some(uid) = options.uid.as_deref().filter(|uid| *uid != found) {
        let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {found}");
        return Err(write.conflict(why));
    }
    let wanted = options.resource_version.as_deref();
    if let Some(version) = wanted.filter(|version| version.parse::<Revision>() != Ok(live.revision())) {
        let why = format!(
            "Precondition failed: ResourceVersion in precondition: {version}, ResourceVersion in object meta: {}",
            live.revision()
        );
        return Err(write.conflict(why));
    }
    Ok(())
}

enum Marked {
    /// It is being deleted already, and this request changes nothing about that.
    Pending,
    /// Nothing holds it back.
    Remove,
    /// It stays for now, like this.
    Keep(Value),
}

/// The rules of `rest.BeforeDelete` and `Store.Delete` in `k8s.io/apiserver`.
fn mark(write: &Write<'_>, options: &DeleteOptions, old: &Value) -> Marked {
    let requested = options.grace_period_seconds;
    let mut new = old.clone();
    let deleting = meta::get(old, "deletionTimestamp").is_some();
    let grace = meta::get(old, "deletionGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(0);
    let graceful = if !deleting {
        let seconds = write.resource.strategy.graceful_delete(old, requested);
        if let Some(seconds) = seconds {
            set_deletion(&mut new, write.now, seconds);
        }
        seconds
    } else if grace == 0 {
        None
    } else {
        // A deletion that is under way can only be hastened.
        match requested {
            Some(seconds) if seconds < grace => {
                let seconds = seconds.max(0);
                let begun = meta::text(old, "deletionTimestamp").parse::<Timestamp>().unwrap_or(write.now);
                let begun = begun.checked_sub(SignedDuration::from_secs(grace)).unwrap_or(write.now);
                set_deletion(&mut new, begun, seconds);
                Some(seconds)
            }
            _ => return Marked::Pending,
        }
    };
    propagate(&mut new, options.propagation);
    if !deleting {
        write.resource.strategy.prepare_for_delete(&mut new, write.now);
    }
    let finalizers = !finalizers(&new).is_empty() || namespace_finalizers(write.resource, &new);
    if finalizers && graceful.is_none() && !deleting {
        set_deletion(&mut new, write.now, 0);
    }
    if finalizers && write.resource.is("", "namespaces") {
        new["status"]["phase"] = "Terminating".into();
    }
    match graceful {
        _ if finalizers => {}
        Some(seconds) if seconds > 0 => {}
        _ => return Marked::Remove,
    }
    if !deleting && let Some(generation) = meta::get(&new, "generation").and_then(Value::as_i64) {
        meta::set(&mut new, "generation", generation + 1);
    }
    Marked::Keep(new)
}

fn set_deletion(object: &mut Value, from: Timestamp, grace_seconds: i64) {
    let end = from.checked_add(SignedDuration::from_secs(grace_seconds)).unwrap_or(from);
    meta::set(object, "deletionTimestamp", meta::timestamp(end));
    meta::set(object, "deletionGracePeriodSeconds", grace_seconds);
}

/// Says with a finalizer what the garbage collector is to do about dependents.
fn propagate(object: &mut Value, propagation: Option<Propagation>) {
    let Some(propagation) = propagation else { return };
    let mut list: Vec<Value> = finalizers(object).to_vec();
    list.retain(|finalizer| finalizer != ORPHAN && finalizer != FOREGROUND);
    match propagation {
        Propagation::Background => {}
        Propagation::Foreground => list.push(FOREGROUND.into()),
        Propagation::Orphan => list.push(ORPHAN.into()),
    }
    if list.is_empty() {
        meta::remove(object, "finalizers");
    } else {
        meta::set(object, "finalizers", list);
    }
}

fn finalizers(object: &Value) -> &[Value] {
    object::list(object, &["metadata", "finalizers"])
}

/// Namespaces have finalizers of their own in their spec.
fn namespace_finalizers(resource: &Resource, object: &Value) -> bool {
    resource.is("", "namespaces") && !object::list(object, &["spec", "finalizers"]).is_empty()
}

/// Whether an object that is being deleted has to stay.
pub(super) fn held_back(resource: &Resource, object: &Value) -> bool {
    let grace = meta::get(object, "deletionGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(0);
    grace > 0 || !finalizers(object).is_empty() || namespace_finalizers(resource, object)
}
