//! Creating objects.

use super::{ATTEMPTS, Committed, Write, Written, meta};
use crate::effects::Plan;
use crate::plugins::Operation;
use crate::status::Status;
use k8w_kinds::field::FieldPath;
use k8w_kinds::metadata;
use serde_json::Value;

/// How often another name is made up when a generated one is taken (KEP-4420).
const NAME_ATTEMPTS: usize = 8;

/// Stores a new object. `tracked` says that its `managedFields` are as they should be (server-side apply).
///
/// # Errors
/// 409 `AlreadyExists`, 422 `Invalid`, and whatever admission objects to.
pub async fn create(write: &mut Write<'_>, mut object: Value, tracked: bool) -> Result<Written, Status> {
    let resource = write.resource;
    if !meta::text(&object, "resourceVersion").is_empty() {
        return Err(Status::bad_request("resourceVersion should not be set on objects to be created"));
    }
    if resource.namespaced && meta::text(&object, "namespace") != write.namespace {
        meta::set(&mut object, "namespace", write.namespace);
    }
    write.dedup_owners(&mut object);
    write.default(&mut object);
    if !tracked {
        write.track(None, &mut object);
    }
    write.server.cache.catch_up().await?;
    write.admit(Operation::Create, &mut object, None).await?;

    let base = match meta::text(&object, "name") {
        "" => Some(meta::text(&object, "generateName").to_string()).filter(|base| !base.is_empty()),
        _ => None,
    };
    let outside = &write.server.config.outside;
    let metadata = meta::metadata(&mut object);
    metadata.insert("uid".to_string(), outside.uid().into());
    metadata.insert("creationTimestamp".to_string(), meta::timestamp(write.now).into());
    for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
        metadata.remove(field);
    }
    if let Some(base) = &base {
        metadata.insert("name".to_string(), meta::generate_name(base, outside.bits()).into());
    }
    resource.strategy.prepare_for_create(&mut object);
    validate(write, &object)?;
    resource.strategy.canonicalize(&mut object);
    write.admit_validating(Operation::Create, &mut object, None).await?;
    write.warnings.extend(resource.strategy.warnings(&object));
    store(write, object, base.as_deref()).await
}

fn validate(write: &Write<'_>, object: &Value) -> Result<(), Status> {
    let mut errors = metadata::validate(&write.resource.def, object);
    errors.extend(write.resource.schema().validate(object, None, &FieldPath::ROOT));
    errors.extend(write.resource.strategy.validate(object));
    write.check(meta::text(object, "name"), errors)
}

async fn store(write: &Write<'_>, mut object: Value, base: Option<&str>) -> Result<Written, Status> {
    let (mut names, mut claims) = (1, 0);
    loop {
        let name = meta::text(&object, "name").to_string();
        let plan = Plan::new(write, None, Some(&mut object)).await?;
        let stored = write.encoded(&mut object);
        if write.dry_run {
            if write.resource.objects.get(write.namespace, &name).is_some() {
                return Err(already_exists(write, &name));
            }
            return Ok(Written { json: write.written(&name, &stored, None)?, created: true });
        }
        match write.commit(write.key(&name), 0, Some(stored.clone()), &plan).await? {
            Committed::At(revision) => {
                let json = write.written(&name, &stored, Some(revision))?;
                return Ok(Written { json, created: true });
            }
            Committed::Moved(_) => match base {
                Some(base) if names < NAME_ATTEMPTS => {
                    names += 1;
                    plan.undo(&mut object);
                    let bits = write.server.config.outside.bits();
                    meta::set(&mut object, "name", meta::generate_name(base, bits));
                }
                _ => return Err(already_exists(write, &name)),
            },
            Committed::Claimed(index) => {
                claims += 1;
                plan.lost(write.resource, &name, index, claims >= ATTEMPTS)?;
                plan.undo(&mut object);
            }
        }
    }
}

fn already_exists(write: &Write<'_>, name: &str) -> Status {
    Status::already_exists(&write.resource.group, &write.resource.plural, name)
}
