//! Server-side apply: a client states the fields it cares about, and owns them from then on.
//!
//! <https://kubernetes.io/docs/reference/using-api/server-side-apply/>; the merging itself is [`k8w_kinds::schema::apply`].

use crate::object_store::{self, Change, Patched, Rules, Write, Written};
use crate::status::{Cause, Status};
use k8w_kinds::object;
use k8w_kinds::schema::apply::{self, ApplyError, Operation};
use serde_json::Value;

/// Merges `config` into the object, which is created if it does not exist and `may_create` allows that.
///
/// # Errors
/// 409 `Conflict` when other managers own fields with other values, unless `force`.
pub async fn apply(
    write: &mut Write<'_>,
    config: Value,
    force: bool,
    rules: Rules,
    may_create: impl FnOnce() -> Result<(), Status>,
) -> Result<Written, Status> {
    if object::get(&config, &["metadata", "managedFields"]).is_some() {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    let once = !object::text(&config, &["metadata", "resourceVersion"]).is_empty();
    let manager = write.field_manager(Operation::Apply);
    let schema = write.resource.schema().clone();
    let merge = |old: &Value| {
        let object = apply::apply(&schema, Some(old), &config, &manager, force).map_err(refused)?;
        Ok(Patched { object, tracked: true, once })
    };
    write.server.cache.catch_up().await?;
    if write.subresource.is_empty() && write.resource.objects.get(write.namespace, write.name).is_none() {
        if once {
            return Err(Status::not_found(&write.resource.group, &write.resource.plural, write.name));
        }
        refuse_uid(write, &config)?;
        may_create()?;
        let object = apply::apply(&schema, None, &config, &manager, force).map_err(refused)?;
        let told = write.warnings.len();
        match object_store::create(write, object, true).await {
            // Somebody else created it just now: then it is merged, and what was said of a new object does not count.
            Err(status) if status.reason == "AlreadyExists" => write.warnings.truncate(told),
            other => return other,
        }
    }
    object_store::update(write, Change::Patch(&merge), rules).await
}

/// Whoever names an object by its UID does not mean one that is yet to be made.
fn refuse_uid(write: &Write<'_>, config: &Value) -> Result<(), Status> {
    match object::text(config, &["metadata", "uid"]) {
        "" => Ok(()),
        uid => {
            let why =
                format!("uid mismatch: the provided object specified uid {uid}, and no existing object was found");
            Err(Status::conflict(&write.resource.group, &write.resource.plural, write.name, why))
        }
    }
}

/// Why an apply is refused, as the client is told.
pub fn refused(error: ApplyError) -> Status {
    let message = error.to_string();
    match error {
        ApplyError::Conflicts(conflicts) => {
            let causes = conflicts.into_iter().map(|conflict| Cause {
                reason: "FieldManagerConflict",
                message: conflict.message(),
                field: conflict.field,
            });
            Status::apply_conflict(message, causes.collect())
        }
        ApplyError::Invalid(_) | ApplyError::BadRequest(_) => Status::bad_request(message),
    }
}
