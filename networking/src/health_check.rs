//! What load balancers ask a node about a Service with `externalTrafficPolicy: Local`: whether it has endpoints there
//! (`healthCheckNodePort`; the answer is kube-proxy's).

use std::sync::Arc;

use http::header::{CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{Response, StatusCode};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::accept;
use crate::endpoint::Body;
use crate::network::Network;
use crate::serve::{self, HalfClosed};
use crate::tables::HealthCheck;

/// Header that says how many endpoints a balancer may count on (kube-proxy).
const WEIGHT: &str = "x-load-balancing-endpoint-weight";

/// Answers at one port until `stop`.
pub(crate) async fn serve(network: Arc<Network>, listener: TcpListener, port: u16, stop: CancellationToken) {
    accept::connections(listener, stop.clone(), |socket, _| {
        let (network, stop) = (network.clone(), stop.clone());
        async move {
            let answer = move |_| {
                let check = network.load_tables().health_checks().get(&port).cloned();
                async move { answer(check.as_ref()) }
            };
            serve::http(socket, HalfClosed::Gone, stop, answer).await;
        }
    })
    .await;
}

fn answer(check: Option<&HealthCheck>) -> Response<Body> {
    let Some(HealthCheck { service, local_endpoints }) = check else {
        return serve::response(StatusCode::NOT_FOUND, "");
    };
    let status = if *local_endpoints > 0 { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let text = json!({
        "service": {"namespace": service.namespace, "name": service.name},
        "localEndpoints": local_endpoints,
        "serviceProxyHealthy": true,
    });
    let mut response = serve::response(status, text.to_string());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(WEIGHT, HeaderValue::from(*local_endpoints));
    response
}
