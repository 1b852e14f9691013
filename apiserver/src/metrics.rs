//! What the API server counts, as Prometheus text at `/metrics`, under the names that Kubernetes uses.

use crate::ApiServer;
use crate::body::{Body, BodyError};
use crate::call::Call;
use crate::limits::{is_long_running, is_mutating};
use crate::request_info::RequestInfo;
use crate::resources::Resource;
use crate::routes::Answer;
use crate::status::Status;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderValue, Response, header};
use http_body::Frame;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use std::borrow::Cow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// Upper bounds of the duration buckets.
const DURATION_BUCKETS_SECONDS: [f64; 12] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0];

/// What a request is counted under. All values come from tables of ours, so that clients cannot make up new ones.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Labels {
    verb: &'static str,
    group: Cow<'static, str>,
    version: Cow<'static, str>,
    resource: Cow<'static, str>,
    subresource: &'static str,
    scope: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CodedLabels {
    verb: &'static str,
    group: Cow<'static, str>,
    version: Cow<'static, str>,
    resource: Cow<'static, str>,
    subresource: &'static str,
    scope: &'static str,
    code: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindOfRequest {
    request_kind: &'static str,
}

/// The API server's counters.
pub struct Metrics {
    registry: Registry,
    requests: Family<CodedLabels, Counter>,
    durations: Family<Labels, Histogram>,
    in_flight: Family<KindOfRequest, Gauge>,
    long_running: Family<Labels, Gauge>,
    resident_memory: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Metrics {
            registry: Registry::default(),
            requests: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(DURATION_BUCKETS_SECONDS)),
            in_flight: Family::default(),
            long_running: Family::default(),
            resident_memory: Gauge::default(),
        };
        let registry = &mut metrics.registry;
        registry.register("apiserver_request", "Requests by verb, resource and code", metrics.requests.clone());
        registry.register_with_unit(
            "apiserver_request_duration",
            "How long requests took until their answer began",
            Unit::Seconds,
            metrics.durations.clone(),
        );
        registry.register(
            "apiserver_current_inflight_requests",
            "Requests that are being worked on",
            metrics.in_flight.clone(),
        );
        registry.register("apiserver_longrunning_requests", "Watches and streams", metrics.long_running.clone());
        registry.register_with_unit(
            "process_resident_memory",
            "Memory of the whole process",
            Unit::Bytes,
            metrics.resident_memory.clone(),
        );
        metrics
    }
}

/// A request that is being counted.
pub struct Counted<'a> {
    metrics: &'a Metrics,
    labels: Labels,
    running: Running,
}

/// Counted as running until it is dropped.
struct Running(Gauge);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// A body that is counted as running until it has been sent, or nobody wants it any more.
struct CountedBody {
    body: Body,
    _running: Running,
}

impl http_body::Body for CountedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }
}

impl Metrics {
    /// Counts a request in; `resource` is `None` for what is no resource, or none that is served.
    pub fn begin(&self, info: &RequestInfo, resource: Option<&Resource>) -> Counted<'_> {
        let labels = labels(info, resource);
        let gauge = if is_long_running(info) {
            self.long_running.get_or_create_owned(&labels)
        } else {
            let request_kind = if is_mutating(info) { "mutating" } else { "readOnly" };
            self.in_flight.get_or_create_owned(&KindOfRequest { request_kind })
        };
        gauge.inc();
        Counted { metrics: self, labels, running: Running(gauge) }
    }

    /// Everything in the OpenMetrics text format.
    pub fn text(&self) -> Result<String, Status> {
        self.resident_memory.set(resident_bytes().unwrap_or_default());
        let mut text = String::new();
        encode(&mut text, &self.registry).map_err(Status::internal)?;
        Ok(text)
    }
}

impl Counted<'_> {
    /// Counts the answer. One that is a stream counts as running until it ends.
    pub fn end(self, response: Response<Body>, took: Duration) -> Response<Body> {
        let Labels { verb, group, version, resource, subresource, scope } = self.labels.clone();
        let code = response.status().as_u16();
        let coded = CodedLabels { verb, group, version, resource, subresource, scope, code };
        self.metrics.requests.get_or_create(&coded).inc();
        self.metrics.durations.get_or_create(&self.labels).observe(took.as_secs_f64());
        let running = self.running;
        response.map(|body| match body {
            Body::Stream(_) => Body::stream(CountedBody { body, _running: running }),
            whole => whole,
        })
    }
}

fn labels(info: &RequestInfo, resource: Option<&Resource>) -> Labels {
    let subresource = resource.and_then(|resource| resource.subresource(&info.subresource));
    let scope = match (resource, info.name.is_empty(), info.namespace.is_empty()) {
        (None, ..) => "",
        (_, false, _) => "resource",
        (_, true, false) => "namespace",
        (_, true, true) => "cluster",
    };
    Labels {
        verb: verb_label(info.verb),
        group: resource.map(|resource| resource.group.clone()).unwrap_or_default(),
        version: resource.map(|resource| resource.version.clone()).unwrap_or_default(),
        resource: resource.map(|resource| resource.plural.clone()).unwrap_or_default(),
        subresource: subresource.map_or("", |subresource| subresource.name),
        scope,
    }
}

fn verb_label(verb: &str) -> &'static str {
    match verb {
        "get" => "GET",
        "list" => "LIST",
        "watch" => "WATCH",
        "create" | "post" => "POST",
        "update" | "put" => "PUT",
        "patch" => "PATCH",
        "delete" => "DELETE",
        "deletecollection" => "DELETECOLLECTION",
        _ => "other",
    }
}

/// `/proc/self/statm` counts pages of 4 KiB on every machine that we build for.
fn resident_bytes() -> Option<i64> {
    const PAGE_BYTES: i64 = 4096;
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    statm.split(' ').nth(1)?.parse::<i64>().ok().map(|pages| pages * PAGE_BYTES)
}

/// Answers `/metrics`.
pub fn serve(server: Arc<ApiServer>, _: Call) -> BoxFuture<'static, Answer> {
    Box::pin(async move {
        let mut response = Response::new(Body::from(server.metrics.text()?));
        let content_type = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
        Ok(response)
    })
}
