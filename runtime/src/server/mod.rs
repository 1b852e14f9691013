//! The node's HTTP API, as a kubelet serves it on port 10250: logs, exec, attach, port-forward, the node's pods, health and
//! metrics. Streams are the two bodies of one POST, both under way at once (see [`k8w_kinds::node_stream`]).
//!
//! The API server in the same process calls the service as it is. [`NodeService::listen`] serves it over TLS to whom
//! [`access`] lets in, and takes the streams that other nodes open to pods here ([`k8w_networking::peers`]).

mod access;
mod exec;
pub(crate) mod log_stream;
mod port_forward;
mod stats;
mod volumes;

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use http::{Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use k8w_networking::{Body, BodyError, https, peers};
use kube::ResourceExt;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use crate::agent::{MANIFESTS_EVERY, Shared};
use crate::engine::ContainerId;
use crate::node::KUBELET_VERSION;
use crate::pod::logs::Options;
use crate::pod::{containers, duration};
use access::Access;
use exec::What;
use stats::Seen;

/// Chunks of a log that wait for a slow reader.
const LOG_CHUNKS: usize = 16;

/// Answers requests to the node; cheap to clone.
#[derive(Clone)]
pub struct NodeService {
    shared: Arc<Shared>,
    seen: Arc<Seen>,
}

/// What a request could not be answered for.
struct Failure {
    status: StatusCode,
    message: String,
}

type Answer = Result<Response<Body>, Failure>;

impl NodeService {
    pub(crate) fn new(shared: Arc<Shared>) -> NodeService {
        NodeService { shared, seen: Arc::new(Seen::new()) }
    }

    /// Answers one request.
    pub async fn handle<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BodyError>,
    {
        let (parts, body) = request.into_parts();
        let query = parts.uri.query().unwrap_or_default();
        let path: Vec<&str> = parts.uri.path().split('/').filter(|part| !part.is_empty()).collect();
        let answer = self.route(&parts.method, &path, query, body.map_err(Into::into).boxed_unsync()).await;
        answer.unwrap_or_else(|failure| text(failure.status, failure.message))
    }

    /// Serves `listener` until `stop`, to whom the API server lets in.
    pub async fn listen(self, listener: TcpListener, tls: Arc<rustls::ServerConfig>, stop: CancellationToken) {
        let access = Arc::new(Access::new(self.shared.client.clone(), &self.shared.config.name));
        let answer = move |request: Request<hyper::body::Incoming>| {
            let (service, access) = (self.clone(), access.clone());
            async move {
                if request.uri().path().starts_with(peers::PATH) {
                    return match access::node(&request) {
                        Some(node) => {
                            let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
                            service.shared.network.accept_stream(&node, request).await
                        }
                        None => text(StatusCode::FORBIDDEN, "only nodes of this cluster open streams to its pods"),
                    };
                }
                match access.check(&request).await {
                    Ok(()) => service.handle(request).await,
                    Err(failure) => text(failure.status, failure.message),
                }
            }
        };
        https::listen(listener, tls, stop, answer).await;
    }

    async fn route(&self, method: &Method, path: &[&str], query: &str, body: Body) -> Answer {
        match (method, path) {
            (&Method::POST, &["exec", namespace, pod, container]) => {
                exec::serve(&self.shared, What::Exec, [namespace, pod, container], query, body)
            }
            (&Method::POST, &["attach", namespace, pod, container]) => {
                exec::serve(&self.shared, What::Attach, [namespace, pod, container], query, body)
            }
            (&Method::POST, &["portForward", namespace, pod]) => {
                port_forward::serve(&self.shared, namespace, pod, query, body).await
            }
            (&Method::POST, &["run", namespace, pod, container]) => {
                exec::run(&self.shared, [namespace, pod, container], query).await
            }
            (&Method::GET, ["containerLogs", namespace, pod, container]) => self.logs(namespace, pod, container, query),
            (&Method::GET, ["healthz"] | ["healthz", "ping" | "syncloop" | "log"]) => Ok(text(StatusCode::OK, "ok")),
            (&Method::GET, ["pods"]) => Ok(self.pods(|_| true)),
            (&Method::GET, ["runningpods"]) => Ok(self.pods(is_running)),
            (&Method::GET, ["metrics"]) => stats::metrics::own(&self.shared).await.map(plain),
            (&Method::GET, ["metrics", "resource"]) => stats::metrics::resource(&self.shared).await.map(plain),
            (&Method::GET, ["metrics", "cadvisor"]) => stats::metrics::cadvisor(&self.shared).await.map(plain),
            (&Method::GET, ["metrics", "probes"]) => stats::metrics::probes(&self.shared).map(plain),
            (&Method::GET, ["stats", "summary"]) => {
                Ok(json_answer(&stats::summary(&self.shared, &self.seen, query).await))
            }
            (&Method::GET, ["configz"]) => Ok(self.configuration()),
            (&Method::DELETE, &["volumes", name]) => volumes::remove(&self.shared.config, name).await,
            _ => Err(Failure { status: StatusCode::NOT_FOUND, message: "404 page not found".to_owned() }),
        }
    }

    fn logs(&self, namespace: &str, name: &str, container: &str, query: &str) -> Answer {
        let bad = |message: String| Failure { status: StatusCode::BAD_REQUEST, message };
        let options = Options::parse(query, Timestamp::now()).map_err(bad)?;
        let pod = self
            .shared
            .pods
            .get(namespace, name)
            .ok_or_else(|| Failure { status: StatusCode::NOT_FOUND, message: format!("pod \"{name}\" not found") })?;
        let status = container_status(&pod, container).ok_or_else(|| Failure {
            status: StatusCode::NOT_FOUND,
            message: format!("container \"{container}\" not found in pod \"{name}_{namespace}\""),
        })?;
        let attempt = attempt(name, status, options.previous).map_err(bad)?;
        let path = self.shared.log_path(&pod, container, attempt);
        let ended = self.shared.pods.clone().ended(pod.clone(), container.to_owned(), attempt);
        let (sender, receiver) = mpsc::channel(LOG_CHUNKS);
        tokio::spawn(log_stream::send(path, options, ended, sender));
        let frames = ReceiverStream::new(receiver).map(|chunk| chunk.map(Frame::data).map_err(Into::into));
        Ok(answer(StatusCode::OK, "text/plain", StreamBody::new(frames).boxed_unsync()))
    }

    fn pods(&self, shown: fn(&Pod) -> bool) -> Response<Body> {
        let mut pods: Vec<Arc<Pod>> = self.shared.pods.all();
        pods.retain(|pod| shown(pod));
        let items: Vec<&Pod> = pods.iter().map(AsRef::as_ref).collect();
        json_answer(&json!({ "kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items }))
    }

    fn configuration(&self) -> Response<Body> {
        let config = &self.shared.config;
        json_answer(&json!({ "kubeletconfig": {
            "kind": "KubeletConfiguration",
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "address": config.address.to_string(),
            "port": config.port,
            "clusterDomain": config.cluster_domain,
            "maxPods": config.max_pods,
            "podCIDR": config.wasm_cidr.to_string(),
            "podLogsDir": config.log_dir,
            "staticPodPath": config.static_pod_path,
            "fileCheckFrequency": duration::seconds(MANIFESTS_EVERY.as_secs()),
            "imageGCHighThresholdPercent": config.image_gc.high_percent,
            "imageGCLowThresholdPercent": config.image_gc.low_percent,
            "imageMinimumGCAge": duration::seconds(config.image_gc.min_age.as_secs()),
        }, "version": KUBELET_VERSION }))
    }
}

impl<B> tower::Service<Request<B>> for NodeService
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BodyError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move { Ok(service.handle(request).await) })
    }
}

fn is_running(pod: &Pod) -> bool {
    pod.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Running"))
}

/// The attempt of a container that runs now.
fn running_container(shared: &Shared, namespace: &str, pod: &str, container: &str) -> Result<ContainerId, Failure> {
    let missing =
        || Failure { status: StatusCode::NOT_FOUND, message: format!("container not found (\"{container}\")") };
    let pod = shared.pods.get(namespace, pod).ok_or_else(missing)?;
    let status = container_status(&pod, container).ok_or_else(missing)?;
    if status.state.as_ref().is_none_or(|state| state.running.is_none()) {
        return Err(missing());
    }
    let attempt = u32::try_from(status.restart_count).unwrap_or(0);
    Ok(ContainerId { pod_uid: pod.uid().unwrap_or_default(), container: container.to_owned(), attempt })
}

fn container_status<'a>(pod: &'a Pod, container: &str) -> Option<&'a ContainerStatus> {
    containers::statuses(pod.status.as_ref()?).find(|status| status.name == container)
}

/// Which attempt's log is meant, or why there is none, in the kubelet's words.
fn attempt(pod: &str, status: &ContainerStatus, previous: bool) -> Result<u32, String> {
    let count = u32::try_from(status.restart_count).unwrap_or(0);
    let container = &status.name;
    let waiting = status.state.as_ref().and_then(|state| state.waiting.as_ref());
    let last = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    let crashed = waiting.is_some_and(|waiting| waiting.reason.as_deref() == Some("CrashLoopBackOff"));
    if previous {
        let before = if crashed { Some(count) } else { count.checked_sub(1) };
        return before
            .filter(|_| last.is_some())
            .ok_or_else(|| format!("previous terminated container \"{container}\" in pod \"{pod}\" not found"));
    }
    match waiting {
        None => Ok(count),
        Some(_) if crashed => Ok(count),
        Some(_) if last.is_some() => Ok(count.saturating_sub(1)),
        Some(waiting) => {
            let why = match waiting.reason.as_deref().unwrap_or_default() {
                "ErrImagePull" => "image can't be pulled",
                "ImagePullBackOff" => "trying and failing to pull image",
                reason => reason,
            };
            Err(format!("container \"{container}\" in pod \"{pod}\" is waiting to start: {why}"))
        }
    }
}

fn answer(status: StatusCode, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    response
}

fn text(status: StatusCode, message: impl Into<String>) -> Response<Body> {
    answer(status, "text/plain; charset=utf-8", full(message.into()))
}

fn plain(metrics: String) -> Response<Body> {
    answer(StatusCode::OK, "application/openmetrics-text; version=1.0.0; charset=utf-8", full(metrics))
}

fn json_answer(value: &serde_json::Value) -> Response<Body> {
    answer(StatusCode::OK, "application/json", full(value.to_string()))
}

fn full(text: String) -> Body {
    Full::from(text).map_err(|never| match never {}).boxed_unsync()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(value: serde_json::Value) -> ContainerStatus {
        let mut status: ContainerStatus = serde_json::from_value(
            json!({ "name": "c", "image": "i", "imageID": "", "ready": false, "restartCount": 2 }),
        )
        .unwrap();
        status.state = serde_json::from_value(value["state"].clone()).unwrap();
        status.last_state = serde_json::from_value(value["last"].clone()).unwrap();
        status
    }

    #[test]
    fn the_log_of_an_attempt_is_found_or_its_absence_explained() {
        let last = json!({ "terminated": { "exitCode": 1 } });
        let running = status(json!({ "state": { "running": {} }, "last": last }));
        assert_eq!((attempt("p", &running, false), attempt("p", &running, true)), (Ok(2), Ok(1)));
        let crashed = status(json!({ "state": { "waiting": { "reason": "CrashLoopBackOff" } }, "last": last }));
        assert_eq!((attempt("p", &crashed, false), attempt("p", &crashed, true)), (Ok(2), Ok(2)));
        let creating = status(json!({ "state": { "waiting": { "reason": "ImagePullBackOff" } }, "last": null }));
        assert_eq!(
            attempt("p", &creating, false).unwrap_err(),
            "container \"c\" in pod \"p\" is waiting to start: trying and failing to pull image"
        );
        assert_eq!(
            attempt("p", &creating, true).unwrap_err(),
            "previous terminated container \"c\" in pod \"p\" not found"
        );
    }
}
