//! The end of a definition: its objects are deleted first, by the ordinary way and with their finalizers, and then the
//! finalizer that kept it.

use std::sync::Arc;
use std::time::Duration;

use k8w_kinds::apiextensions::custom_resource;
use k8w_kinds::apiextensions::custom_resource_definition::{CLEANUP_FINALIZER, status};
use k8w_kinds::object::{self, get};
use serde_json::Value;

use super::control::write_status;
use crate::ApiServer;
use crate::object_store;
use crate::resources::{Def, Resource};
use crate::selector::Filter;
use crate::status::Status;
use crate::watch_cache::From;

/// How long objects that something holds back are waited for before that is told, as in Kubernetes.
const WAIT_MS: u64 = 60_000;
const FAILED: &str = "InstanceDeletionFailed";
const UNCONFIRMED: &str = "InstanceDeletionCheck";

/// Deletes a definition's objects, and lets it go when there are none left.
///
/// # Errors
/// What is in the way; to be tried again.
pub(super) async fn terminate(server: &Arc<ApiServer>, name: &str) -> Result<(), Status> {
    mark(server, name, &status::DELETION_IN_PROGRESS).await?;
    let Some(definition) = current(server, name).await? else { return Ok(()) };
    let end = match custom_resource::storage_kind(&definition).filter(|_| status::is_established(&definition)) {
        None => status::NEVER_ESTABLISHED,
        Some(kind) => {
            let resource = Resource::new(Def::Custom(Arc::new(kind)), &server.cache);
            if let Err((reason, error)) = delete_all(server, &resource).await {
                let what = match reason {
                    UNCONFIRMED => "could not confirm zero CustomResources remaining",
                    _ => "could not issue all deletes",
                };
                let message = format!("{what}: {error}").into();
                let failed = status::Condition { kind: "Terminating", status: "True", reason, message };
                mark(server, name, &failed).await?;
                return Err(error);
            }
            status::DELETION_COMPLETED
        }
    };
    let Some(definition) = current(server, name).await? else { return Ok(()) };
    let mut definition = (*definition).clone();
    status::set_condition(&mut definition, &end, server.config.outside.now());
    if let Some(Value::Array(finalizers)) = object::get_mut(&mut definition, &["metadata", "finalizers"]) {
        finalizers.retain(|finalizer| finalizer != CLEANUP_FINALIZER);
    }
    write_status(server, definition).await
}

/// The definition as it is now, while it is being deleted and kept by us.
async fn current(server: &ApiServer, name: &str) -> Result<Option<Arc<Value>>, Status> {
    server.current_resources().await?;
    Ok(server.custom.definition(name).filter(|definition| {
        get(definition, &["metadata", "deletionTimestamp"]).is_some()
            && object::list(definition, &["metadata", "finalizers"]).iter().any(|f| f == CLEANUP_FINALIZER)
    }))
}

async fn mark(server: &ApiServer, name: &str, condition: &status::Condition<'_>) -> Result<(), Status> {
    let Some(definition) = current(server, name).await? else { return Ok(()) };
    let mut new = (*definition).clone();
    status::set_condition(&mut new, condition, server.config.outside.now());
    if new == *definition { Ok(()) } else { write_status(server, new).await }
}

/// Deletes every object, and returns when all of them are gone.
///
/// # Errors
/// What is in the way, and its reason in the condition.
async fn delete_all(server: &ApiServer, resource: &Resource) -> Result<(), (&'static str, Status)> {
    let failed = |error| (FAILED, error);
    let now = server.cache.catch_up().await.map_err(failed)?;
    let changes = resource.objects.watch(resource.def.clone(), Filter::default(), From::After(now), now);
    let mut changes = changes.map_err(failed)?;
    let (objects, _) = resource.objects.list(None);
    for object in objects {
        object_store::delete_own(server, resource, object.namespace(), object.name()).await.map_err(failed)?;
    }
    server.cache.catch_up().await.map_err(failed)?;
    let emptied = async {
        while !resource.objects.list(None).0.is_empty() {
            if changes.next().await.is_none() {
                break;
            }
        }
    };
    if tokio::time::timeout(Duration::from_millis(WAIT_MS), emptied).await.is_err() {
        let left = resource.objects.list(None).0.len();
        return Err((UNCONFIRMED, Status::timeout(format!("{left} are left"), 1)));
    }
    Ok(())
}
