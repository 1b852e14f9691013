//! Looks after the definitions: tells in their status what became of them, and lets go of those that are deleted.
//!
//! Every server does this. Writes insist on the revision that they were worked out from, so that of several servers one
//! succeeds, and the others find nothing left to do.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use k8w_kinds::apiextensions::GROUP;
use k8w_kinds::apiextensions::custom_resource_definition::{CLEANUP_FINALIZER, status};
use k8w_kinds::object::{get, list, text};
use serde_json::Value;

use super::{PLURAL, termination};
use crate::ApiServer;
use crate::api_services;
use crate::object_store::{self, Change, Rules, Write};
use crate::resources::Resource;
use crate::selector::Filter;
use crate::status::Status;
use crate::watch_cache::{From, Subscription};

/// How long to wait before what failed is tried again.
const RETRY_MS: u64 = 1_000;

/// Looks after the definitions for as long as the server is there.
pub fn start(server: &Arc<ApiServer>) {
    tokio::spawn(run(Arc::downgrade(server)));
}

async fn run(server: Weak<ApiServer>) {
    let terminating = Arc::new(Mutex::new(HashSet::new()));
    loop {
        let Some(mut changes) = server.upgrade().and_then(|server| subscribe(&server)) else { return };
        loop {
            let Some(strong) = server.upgrade() else { return };
            let done = look(&strong, &terminating).await;
            drop(strong);
            if let Err(error) = done {
                tracing::warn!(%error, "custom resource definitions cannot be looked after");
                tokio::time::sleep(Duration::from_millis(RETRY_MS)).await;
                continue;
            }
            if changes.next().await.is_none() {
                break;
            }
            while changes.try_next().is_some() {}
        }
    }
}

fn subscribe(server: &ApiServer) -> Option<Subscription> {
    let resource = definitions(server)?;
    resource.objects.watch(resource.def.clone(), Filter::default(), From::Now, server.cache.revision()).ok()
}

fn definitions(server: &ApiServer) -> Option<Arc<Resource>> {
    server.resources.load().get(GROUP, "v1", PLURAL).cloned()
}

/// Puts everything in order that is not.
async fn look(server: &Arc<ApiServer>, terminating: &Arc<Mutex<HashSet<String>>>) -> Result<(), Status> {
    server.refresh_kinds();
    let all = server.custom.definitions();
    for definition in &all {
        let name = text(definition, &["metadata", "name"]);
        let finalizers = list(definition, &["metadata", "finalizers"]);
        if get(definition, &["metadata", "deletionTimestamp"]).is_some() {
            if finalizers.iter().any(|finalizer| finalizer == CLEANUP_FINALIZER) {
                terminate(server, terminating, name);
            }
        } else if let Some(new) = status::reconcile(definition, all.iter().map(|d| &**d), server.config.outside.now()) {
            write_status(server, new).await?;
        }
    }
    api_services::reconcile_custom(server).await
}

/// Deletes a definition's objects beside everything else, once at a time.
fn terminate(server: &Arc<ApiServer>, terminating: &Arc<Mutex<HashSet<String>>>, name: &str) {
    if !terminating.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned()) {
        return;
    }
    let (server, terminating, name) = (Arc::downgrade(server), terminating.clone(), name.to_owned());
    tokio::spawn(async move {
        while let Some(strong) = server.upgrade() {
            match termination::terminate(&strong, &name).await {
                Ok(()) => break,
                Err(error) => tracing::warn!(definition = name, %error, "its objects cannot be deleted yet"),
            }
            drop(strong);
            tokio::time::sleep(Duration::from_millis(RETRY_MS)).await;
        }
        terminating.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
    });
}

/// Stores a definition with a new status (and fewer finalizers). That somebody else was faster is no failure: their change
/// is looked at next.
pub(super) async fn write_status(server: &ApiServer, definition: Value) -> Result<(), Status> {
    let Some(resource) = definitions(server) else { return Ok(()) };
    let name = text(&definition, &["metadata", "name"]).to_owned();
    let mut write = Write::own(server, &resource, "", &name);
    write.subresource = "status";
    match object_store::update(&mut write, Change::Replace(definition), Rules::Status).await {
        Err(error) if !matches!(error.reason, "Conflict" | "NotFound") => Err(error),
        _ => Ok(()),
    }
}
