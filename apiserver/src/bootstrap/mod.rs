//! The objects that every cluster has, made or mended when the API server starts.
//!
//! One pass: what should be there is compared with the watch cache, and only what is missing or was changed is written,
//! through the ordinary request path. A restart on existing data writes nothing.

mod controller_roles;
mod flow_control;
mod namespace_roles;
mod objects;
mod plan;
mod roles;
pub(crate) mod service_cidr;
mod warning;

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use ipnet::Ipv4Net;
use k8w_kinds::KindDef;
use k8w_kinds::object::text;
use serde_json::Value;
use tokio::time::sleep;

use crate::ApiServer;
use crate::api_services;
use crate::body::Body;
use crate::identity::{Peer, UserInfo};
use crate::kubernetes_service::{NAME, NAMESPACE};
use crate::resources::Resource;
pub(crate) use plan::Keep;
use plan::{Write, plan};
pub use roles::node_rules;
pub(crate) use warning::Warning;

/// How many writes are under way at once: enough for the datastore to put them into few flushes.
const WRITES_AT_ONCE: usize = 32;

/// How often an object is written that somebody else keeps changing.
const ATTEMPTS: usize = 5;

/// How often what no cluster can do without is looked for; Kubernetes looks for the Service of the API server so often.
const LOOK_MS: u64 = 10_000;

/// An object that every cluster has could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the {kind} {name:?} that every cluster has: {reason}")]
pub struct BootstrapError {
    pub kind: String,
    pub name: String,
    pub reason: String,
}

/// Makes or mends everything. The watch cache must be filled.
pub async fn reconcile(server: &Arc<ApiServer>) -> Result<(), BootstrapError> {
    let config = &server.config;
    namespaces(server).await?;
    service_cidr::reconcile(server).await?;
    let range = service_cidr::of_cluster(server);
    let mut cluster: Vec<_> = essential(server, range).map(|object| (object, Keep::Fields)).collect();
    cluster.push((objects::token_tracking(config.outside.now()), Keep::Present));
    cluster.push((objects::network(config, range), Keep::Fields));
    cluster.extend(objects::cluster_info(config).map(|map| (map, Keep::Fields)));
    let classes = objects::classes().into_iter().map(|object| (object, Keep::Present));
    let roles = roles::cluster_roles().into_iter().chain(namespace_roles::roles());
    let roles = roles.map(|role| (role, Keep::Rules));
    let bindings = roles::cluster_role_bindings().into_iter().chain(namespace_roles::role_bindings());
    let bindings = bindings.map(|binding| (binding, Keep::Subjects));
    let services = api_services::built_in().into_iter().map(|service| (service, Keep::Present));
    let cluster = cluster.into_iter().chain(services).chain(flow_control::objects());
    write_all(server, cluster.chain(classes).chain(roles).chain(bindings)).await?;
    // Its address may be somebody's who came before, and the cluster does without the name.
    let dns = objects::dns_service(range).map(|service| (service, Keep::Present));
    if let Err(error) = write_all(server, dns.into_iter()).await {
        tracing::warn!(%error, "cluster DNS is not found by the name of its Service");
    }
    Ok(())
}

/// How pods reach the API server, and how servers behind it know it.
fn essential(server: &ApiServer, range: Ipv4Net) -> impl Iterator<Item = Value> {
    std::iter::once(kubernetes_service(server, range)).chain(objects::authentication(&server.config))
}

/// How pods reach the API server. A Service that is there keeps its address, whatever range the server is started with.
fn kubernetes_service(server: &ApiServer, range: Ipv4Net) -> Value {
    let mut service = objects::kubernetes_service(&server.config, range);
    if let Some(live) = server.cache.get("", "services", NAMESPACE, NAME) {
        service["spec"]["clusterIP"] = live.value()["spec"]["clusterIP"].clone();
    }
    service
}

/// Makes what no cluster can do without again when somebody deleted it, for as long as it is polled.
pub(crate) async fn keep(server: &Arc<ApiServer>) {
    loop {
        sleep(Duration::from_millis(LOOK_MS)).await;
        if let Err(error) = restore(server).await {
            tracing::warn!(%error, "what every cluster has is missing");
        }
    }
}

/// What is there is left as it is: servers of one cluster may be started with settings of their own, and would take turns.
async fn restore(server: &Arc<ApiServer>) -> Result<(), BootstrapError> {
    namespaces(server).await?;
    let essential = essential(server, service_cidr::of_cluster(server));
    write_all(server, essential.map(|object| (object, Keep::Present))).await
}

async fn namespaces(server: &Arc<ApiServer>) -> Result<(), BootstrapError> {
    write_all(server, objects::namespaces().into_iter().map(|object| (object, Keep::Present))).await
}

/// Makes or mends objects, several at once.
pub(crate) async fn write_all(
    server: &Arc<ApiServer>,
    wanted: impl Iterator<Item = (Value, Keep)>,
) -> Result<(), BootstrapError> {
    let resources = server.resources.load_full();
    let wanted = wanted.filter_map(|(desired, keep)| {
        let api_version = text(&desired, &["apiVersion"]);
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        // A kind that is not served yet has no objects that every cluster has.
        let kind = resources.by_kind(group, version, text(&desired, &["kind"]))?.clone();
        Some((kind, desired, keep))
    });
    let wanted = wanted.collect::<Vec<_>>();
    stream::iter(wanted)
        .map(Ok)
        .try_for_each_concurrent(WRITES_AT_ONCE, |(kind, desired, keep)| {
            let server = server.clone();
            async move { write(&server, &kind, &desired, keep).await }
        })
        .await
}

/// Makes or mends one object. Another server of the cluster may be about the same: then it is looked at again.
async fn write(server: &Arc<ApiServer>, kind: &Resource, desired: &Value, keep: Keep) -> Result<(), BootstrapError> {
    let name = text(desired, &["metadata", "name"]);
    let failed = |reason: String| BootstrapError { kind: kind.kind.to_string(), name: name.to_owned(), reason };
    for _ in 0..ATTEMPTS {
        let live = kind.objects.get(text(desired, &["metadata", "namespace"]), name);
        let Some(write) = plan(desired, live.map(|record| record.value()), keep) else { return Ok(()) };
        let response = send(server, kind, write).await.map_err(|error| failed(error.to_string()))?;
        let code = response.status();
        if code.is_success() {
            return Ok(());
        }
        if code != StatusCode::CONFLICT {
            let body = response.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            let status: Value = serde_json::from_slice(&body).unwrap_or_default();
            return Err(failed(format!("{code}: {}", text(&status, &["message"]))));
        }
        server.cache.catch_up().await.map_err(|error| failed(error.message))?;
    }
    Err(failed("somebody else keeps changing it".to_owned()))
}

async fn send(server: &Arc<ApiServer>, kind: &KindDef, write: Write) -> Result<Response<Body>, http::Error> {
    let (method, object) = match write {
        Write::Create(object) => (Method::POST, object),
        Write::Replace(object) => (Method::PUT, object),
    };
    let (namespace, name) = (text(&object, &["metadata", "namespace"]), text(&object, &["metadata", "name"]));
    let mut path = if kind.group.is_empty() { "/api/".to_owned() } else { format!("/apis/{}/", kind.group) };
    path.push_str(&kind.version);
    if kind.namespaced {
        path.push_str(&format!("/namespaces/{namespace}"));
    }
    path.push_str(&format!("/{}", kind.plural));
    if method == Method::PUT {
        path.push_str(&format!("/{name}"));
    }
    let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
    let request = request.body(Body::from(object.to_string()))?;
    Ok(server.handle(request, Peer::in_process(UserInfo::own().clone())).await)
}

#[cfg(test)]
mod tests;
