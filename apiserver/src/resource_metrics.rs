//! `metrics.k8s.io/v1beta1`: what nodes and pods use now, as `kubectl top` and autoscalers ask for it.
//!
//! Nothing is stored and nothing is collected ahead of time: a request asks the nodes that it is about (`/stats/summary`),
//! and what a node does not answer is left out, as metrics-server leaves it out.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use http::Request;
use http_body_util::{BodyExt, Limited};
use k8w_kinds::KindDef;
use k8w_kinds::kind::Custom;
use k8w_kinds::object::{list, text};
use k8w_kinds::schema::Schema;
use serde_json::{Value, json};

use crate::ApiServer;
use crate::body::Body;
use crate::call::Call;
use crate::respond;
use crate::routes::Answer;
use crate::status::Status;
use crate::streams::node;
use crate::verbs;
use crate::watch_cache::Record;

pub const GROUP: &str = "metrics.k8s.io";
const VERSION: &str = "v1beta1";

/// Nodes that are asked at the same time.
const NODES_AT_ONCE: usize = 32;
const NODE_WAIT: Duration = Duration::from_secs(10);
/// The longest answer of a node: ten thousand pods take about 5 MB.
const SUMMARY_BYTES: usize = 32 << 20;
/// The least time over which nodes work out their use of CPU.
const WINDOW: &str = "10s";

/// The kinds of the group, as discovery and OpenAPI show them (k8s.io/metrics, `v1beta1`).
pub fn kinds() -> &'static [KindDef] {
    static KINDS: std::sync::LazyLock<[KindDef; 2]> = std::sync::LazyLock::new(|| {
        let node = json!({"timestamp": time(), "window": window(), "usage": quantities()});
        let container = json!({"type": "object", "description": "What one container uses.", "properties": {
            "name": {"type": "string", "description": "The container's name in its pod."}, "usage": quantities()}});
        let containers =
            json!({"type": "array", "items": container, "description": "Every container that was measured."});
        let pod = json!({"timestamp": time(), "window": window(), "containers": containers});
        [
            kind("NodeMetrics", "nodes", "What a node uses.", node).cluster_scoped(),
            kind("PodMetrics", "pods", "What a pod uses.", pod),
        ]
    });
    &*KINDS
}

fn kind(name: &'static str, plural: &'static str, description: &str, mut properties: Value) -> KindDef {
    for (field, what) in [("apiVersion", "The group and version of this object."), ("kind", "The kind of this object.")]
    {
        properties[field] = json!({"type": "string", "description": what});
    }
    properties["metadata"] = json!({"type": "object"});
    let source = json!({"type": "object", "description": description, "properties": properties});
    let mut kind = KindDef::builtin(GROUP, VERSION, name, plural, "").verbs(&["get", "list"]);
    kind.schema_name = format!("io.k8s.metrics.{VERSION}.{name}").into();
    match Schema::from_crd(&source) {
        Ok(schema) => kind.with_schema(schema, Custom { open_api_v3_schema: Arc::new(source) }),
        Err(errors) => unreachable!("the schema of {name} is structural: {errors:?}"),
    }
}

fn time() -> Value {
    json!({"type": "string", "format": "date-time", "description": "The end of the time that was measured."})
}

fn window() -> Value {
    json!({"type": "string", "description": "How long the time that was measured was."})
}

fn quantities() -> Value {
    json!({"type": "object", "description": "What is used, by the name of the resource: cpu and memory.",
        "additionalProperties": {"type": "string"}})
}

/// `GET …/nodes[/{name}]`.
pub fn serve_nodes(server: Arc<ApiServer>, call: Call) -> BoxFuture<'static, Answer> {
    async move {
        let nodes = select(&server, &call, "nodes").await?;
        let names = nodes.iter().map(|record| record.name().to_owned()).collect();
        let summaries = summaries(&server, names).await;
        let items = nodes.iter().filter_map(|record| of_node(record, summaries.get(record.name())?));
        answer(&call, "NodeMetrics", items.collect())
    }
    .boxed()
}

/// `GET …/[namespaces/{namespace}/]pods[/{name}]`.
pub fn serve_pods(server: Arc<ApiServer>, call: Call) -> BoxFuture<'static, Answer> {
    async move {
        let pods = select(&server, &call, "pods").await?;
        let pods: Vec<(Arc<Record>, Value)> = pods.into_iter().map(|record| (record.clone(), record.value())).collect();
        let names = pods.iter().map(|(_, pod)| text(pod, &["spec", "nodeName"]).to_owned());
        let summaries = summaries(&server, names.filter(|name| !name.is_empty()).collect()).await;
        let mut measured: HashMap<&str, &Value> = HashMap::new();
        for summary in summaries.values() {
            measured.extend(list(summary, &["pods"]).iter().map(|pod| (text(pod, &["podRef", "uid"]), pod)));
        }
        let items = pods.iter().filter_map(|(record, pod)| {
            let found = measured.get(text(pod, &["metadata", "uid"]))?;
            of_pod(record, found)
        });
        answer(&call, "PodMetrics", items.collect())
    }
    .boxed()
}

/// The objects that a request is about.
async fn select(server: &ApiServer, call: &Call, plural: &str) -> Result<Vec<Arc<Record>>, Status> {
    let info = &call.info;
    if info.version != VERSION || !info.subresource.is_empty() {
        return Err(Status::no_such_resource());
    }
    if !matches!(info.verb, "get" | "list") {
        return Err(Status::no_such_method());
    }
    server.cache.catch_up().await?;
    if info.verb == "get" {
        let found = server.cache.get("", plural, &info.namespace, &info.name);
        return found.map(|found| vec![found]).ok_or_else(|| Status::not_found(GROUP, plural, &info.name));
    }
    let resource = server.resources.load().get("", "v1", plural).cloned().ok_or_else(Status::no_such_resource)?;
    let filter = verbs::filter(&resource, call)?;
    let (mut records, _) = resource.objects.list(filter.namespace.as_deref());
    records.retain(|record| filter.matches(&resource, record));
    Ok(records)
}

/// What nodes say of themselves, by name.
async fn summaries(server: &Arc<ApiServer>, nodes: BTreeSet<String>) -> HashMap<String, Value> {
    let asking = nodes.into_iter().map(|name| async move {
        match tokio::time::timeout(NODE_WAIT, summary(server, &name)).await {
            Ok(Ok(summary)) => Some((name, summary)),
            Ok(Err(error)) => {
                tracing::debug!(node = name, %error, "a node does not say what it uses");
                None
            }
            Err(_) => None,
        }
    });
    futures::stream::iter(asking).buffer_unordered(NODES_AT_ONCE).filter_map(std::future::ready).collect().await
}

async fn summary(server: &ApiServer, name: &str) -> Result<Value, Status> {
    let request =
        Request::get("/stats/summary?only_cpu_and_memory=true").body(Body::Empty).map_err(Status::internal)?;
    let body = node::send(server, name, request).await?;
    let bytes = Limited::new(body, SUMMARY_BYTES).collect().await.map_err(Status::internal)?.to_bytes();
    serde_json::from_slice(&bytes).map_err(Status::internal)
}

fn of_node(record: &Record, summary: &Value) -> Option<Value> {
    let (time, usage) = usage(&summary["node"])?;
    Some(json!({"metadata": metadata(record, time), "timestamp": time, "window": WINDOW, "usage": usage}))
}

fn of_pod(record: &Record, measured: &Value) -> Option<Value> {
    let (time, _) = usage(measured)?;
    let containers = list(measured, &["containers"]).iter().filter_map(|container| {
        let (_, usage) = usage(container)?;
        Some(json!({"name": text(container, &["name"]), "usage": usage}))
    });
    let containers: Vec<Value> = containers.collect();
    let metadata = metadata(record, time);
    (!containers.is_empty())
        .then(|| json!({"metadata": metadata, "timestamp": time, "window": WINDOW, "containers": containers}))
}

fn metadata(record: &Record, time: &str) -> Value {
    let mut metadata = json!({"name": record.name(), "creationTimestamp": time});
    if !record.namespace().is_empty() {
        metadata["namespace"] = record.namespace().into();
    }
    if !record.labels().is_empty() {
        metadata["labels"] = json!(record.labels());
    }
    metadata
}

/// When something was measured, and what it uses.
fn usage(measured: &Value) -> Option<(&str, Value)> {
    let (cpu, memory) = (&measured["cpu"], &measured["memory"]);
    let (nanos, bytes) = (cpu["usageNanoCores"].as_u64()?, memory["workingSetBytes"].as_u64()?);
    Some((cpu["time"].as_str()?, json!({"cpu": format!("{nanos}n"), "memory": format!("{}Ki", bytes.div_ceil(1024))})))
}

fn answer(call: &Call, kind: &str, mut items: Vec<Value>) -> Answer {
    let api_version = format!("{GROUP}/{VERSION}");
    if call.info.verb == "list" {
        let list = json!({"kind": format!("{kind}List"), "apiVersion": api_version, "metadata": {}, "items": items});
        return Ok(respond::json(&list));
    }
    let Some(mut item) = items.pop() else {
        return Err(Status::not_found(GROUP, &call.info.resource, &call.info.name));
    };
    item["kind"] = kind.into();
    item["apiVersion"] = api_version.into();
    Ok(respond::json(&item))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn a_summary_becomes_metrics() {
        let pod = json!({"metadata": {"name": "p", "namespace": "n", "labels": {"a": "b"}}});
        let record = Record::new("n/p".into(), pod.to_string().into(), 1).unwrap();
        let measured = json!({"cpu": {"time": "t", "usageNanoCores": 7}, "memory": {"workingSetBytes": 2049}});
        let mut container = measured.clone();
        container["name"] = "c".into();
        let mut summary = measured;
        summary["containers"] = json!([container, {"name": "silent"}]);
        expect![[r#"{"containers":[{"name":"c","usage":{"cpu":"7n","memory":"3Ki"}}],"metadata":{"creationTimestamp":"t","labels":{"a":"b"},"name":"p","namespace":"n"},"timestamp":"t","window":"10s"}"#]]
            .assert_eq(&of_pod(&record, &summary).unwrap().to_string());
        summary["containers"] = json!([]);
        assert_eq!(of_pod(&record, &summary), None);
    }
}
