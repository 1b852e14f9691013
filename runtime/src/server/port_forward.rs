//! `/portForward/{namespace}/{pod}?port=N`: a byte stream to a pod's port, in the two bodies of one request.

use std::net::{IpAddr, SocketAddr};

use http::StatusCode;
use k8s_openapi::api::core::v1::Pod;
use k8w_networking::Body;

use super::{Answer, Failure, answer};
use crate::agent::Shared;
use crate::pod::identity::identity;
use crate::pod::logs::pairs;

pub(super) async fn serve(shared: &Shared, namespace: &str, name: &str, query: &str, body: Body) -> Answer {
    let bad = |message: String| Failure { status: StatusCode::BAD_REQUEST, message };
    let port = pairs(query).into_iter().find(|(key, _)| key == "port").map(|(_, value)| value).unwrap_or_default();
    let port: u16 = port.parse().ok().filter(|port| *port > 0).ok_or_else(|| bad(format!("invalid port {port:?}")))?;
    let missing = || Failure { status: StatusCode::NOT_FOUND, message: format!("pod not found (\"{name}\")") };
    let pod = shared.pods.get(namespace, name).ok_or_else(missing)?;
    let pod = pod_ip(&pod).map(|ip| identity(&pod, ip)).ok_or_else(missing)?;
    // From the pod itself, as from within its network namespace: what listens on its loopback address can be reached.
    let connected = shared.network.connect(Some(&pod), SocketAddr::new(pod.ip, port)).await;
    let stream = connected.map_err(|error| Failure {
        status: StatusCode::INTERNAL_SERVER_ERROR,
        message: format!("failed to connect to localhost:{port} inside the pod: {error}"),
    })?;
    let (says, hears) = stream.split();
    tokio::spawn(hears.take(body));
    Ok(answer(StatusCode::OK, "application/octet-stream", says))
}

/// `None` while it has no address.
fn pod_ip(pod: &Pod) -> Option<IpAddr> {
    pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()
}
