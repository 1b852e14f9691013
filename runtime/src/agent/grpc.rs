//! Asks a container's health service over gRPC, cleartext HTTP/2 (`grpc.health.v1.Health/Check`), in the kubelet's words
//! (<https://github.com/grpc/grpc/blob/master/doc/health-checking.md>).

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8w_networking::Network;
use prost::Message;
use tokio_util::task::AbortOnDropHandle;

use super::probes;

/// Largest answer, with its framing.
const MAX_ANSWER_BYTES: usize = 10 << 10;
/// Before each message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

#[derive(Clone, PartialEq, Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

const SERVING: i32 = 1;

/// Asks for the health of a service; an empty name means the server itself. `timeout` bounds all of it.
///
/// # Errors
/// When it cannot be asked, or is not serving, in the kubelet's words.
pub(super) async fn check(
    network: &Network,
    address: SocketAddr,
    service: &str,
    timeout: Duration,
) -> Result<(), String> {
    let deadline = tokio::time::Instant::now() + timeout;
    let seconds = timeout.as_secs();
    // The connection ends with this function.
    let (mut sender, _connection) = match tokio::time::timeout_at(deadline, connect(network, address)).await {
        Ok(connected) => {
            connected.map_err(|error| format!("error: failed to connect service at \"{address}\": {error}"))?
        }
        Err(_) => {
            let why = "context deadline exceeded";
            return Err(format!("timeout: failed to connect service \"{address}\" within {seconds}s: {why}"));
        }
    };
    let answer = tokio::time::timeout_at(deadline, call(&mut sender, address, service)).await;
    let answer = answer.map_err(|_| format!("timeout: health rpc did not complete within {seconds}s"))?;
    match answer {
        Ok(SERVING) => Ok(()),
        Ok(status) => Err(format!("service unhealthy (responded with \"{}\")", status_name(status))),
        Err(Status { code: UNIMPLEMENTED, message }) => Err(format!(
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {message}"
        )),
        Err(Status { code, message }) => {
            let code = code_name(code);
            Err(format!("error: health rpc probe failed: rpc error: code = {code} desc = {message}"))
        }
    }
}

type Connected = (SendRequest<Full<Bytes>>, AbortOnDropHandle<()>);

async fn connect(network: &Network, address: SocketAddr) -> Result<Connected, String> {
    let stream = network.connect(None, address).await.map_err(|error| error.to_string())?;
    let shake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (sender, connection) = shake.map_err(|error| error.to_string())?;
    // What ends a connection early is told to whoever waits for an answer.
    let connection = tokio::spawn(async { drop(connection.await) });
    Ok((sender, AbortOnDropHandle::new(connection)))
}

/// How a call failed.
struct Status {
    code: u32,
    message: String,
}

const UNKNOWN: u32 = 2;
const UNIMPLEMENTED: u32 = 12;
const INTERNAL: u32 = 13;
const UNAVAILABLE: u32 = 14;

async fn call(sender: &mut SendRequest<Full<Bytes>>, address: SocketAddr, service: &str) -> Result<i32, Status> {
    let failed = |code, message: String| Status { code, message };
    let request = http::Request::post(format!("http://{address}/grpc.health.v1.Health/Check"))
        .header(http::header::CONTENT_TYPE, "application/grpc")
        .header(http::header::TE, "trailers")
        .header(http::header::USER_AGENT, probes::USER_AGENT)
        .body(Full::new(framed(&HealthCheckRequest { service: service.to_owned() })));
    let request = request.map_err(|error| failed(INTERNAL, error.to_string()))?;
    let answer = sender.send_request(request).await.map_err(|error| failed(UNAVAILABLE, error.to_string()))?;
    let (head, body) = answer.into_parts();
    if head.status != StatusCode::OK {
        let code = if head.status == StatusCode::NOT_FOUND { UNIMPLEMENTED } else { UNKNOWN };
        let message = format!("unexpected HTTP status code received from server: {}", described(head.status));
        return Err(failed(code, message));
    }
    // A call that fails before its answer says so in the head.
    if let Some(ended) = status(&head.headers) {
        return Err(ended);
    }
    let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await;
    let body = body.map_err(|error| failed(INTERNAL, error.to_string()))?;
    if let Some(ended) = body.trailers().and_then(status)
        && ended.code != 0
    {
        return Err(ended);
    }
    let bytes = body.to_bytes();
    let message = bytes.get(PREFIX_BYTES..).and_then(|message| HealthCheckResponse::decode(message).ok());
    let health = message.ok_or_else(|| failed(INTERNAL, "the answer is not a HealthCheckResponse".to_owned()))?;
    Ok(health.status)
}

fn framed(message: &impl Message) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.encoded_len()).unwrap_or(u32::MAX));
    frame.put_slice(&message.encode_to_vec());
    frame.freeze()
}

fn status(headers: &HeaderMap) -> Option<Status> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let code = text("grpc-status")?.parse().unwrap_or(UNKNOWN);
    Some(Status { code, message: text("grpc-message").unwrap_or_default().to_owned() })
}

fn described(status: StatusCode) -> String {
    format!("{} ({})", status.as_u16(), status.canonical_reason().unwrap_or_default())
}

fn status_name(status: i32) -> String {
    match status {
        0 => "UNKNOWN".to_owned(),
        2 => "NOT_SERVING".to_owned(),
        3 => "SERVICE_UNKNOWN".to_owned(),
        other => other.to_string(),
    }
}

/// The code as Go's gRPC prints it.
fn code_name(code: u32) -> String {
    const NAMES: [&str; 17] = [
        "OK",
        "Canceled",
        "Unknown",
        "InvalidArgument",
        "DeadlineExceeded",
        "NotFound",
        "AlreadyExists",
        "PermissionDenied",
        "ResourceExhausted",
        "FailedPrecondition",
        "Aborted",
        "OutOfRange",
        "Unimplemented",
        "Internal",
        "Unavailable",
        "DataLoss",
        "Unauthenticated",
    ];
    let name = usize::try_from(code).ok().and_then(|code| NAMES.get(code));
    name.map_or_else(|| format!("Code({code})"), |name| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use expect_test::{Expect, expect};
    use futures::future::BoxFuture;
    use http_body::Frame;
    use http_body_util::StreamBody;
    use k8w_networking::{Body, Handler, PodIdentity};

    use super::*;

    /// Answers with the health that the service's name spells, as gRPC; `none` is no gRPC at all, and `never` silence.
    struct Health;

    impl Handler for Health {
        fn call(&self, request: http::Request<Body>) -> BoxFuture<'static, http::Response<Body>> {
            Box::pin(async {
                assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
                let asked = request.into_body().collect().await.unwrap().to_bytes();
                let service = HealthCheckRequest::decode(&asked[PREFIX_BYTES..]).unwrap().service;
                let mut frames = Vec::new();
                let code = match service.as_str() {
                    "never" => std::future::pending().await,
                    "none" => {
                        let mut answer = http::Response::new(Body::default());
                        *answer.status_mut() = StatusCode::NOT_FOUND;
                        return answer;
                    }
                    "broken" => "13",
                    "old" => "12",
                    status => {
                        let health = HealthCheckResponse { status: status.parse().unwrap_or(SERVING) };
                        frames.push(Ok(Frame::data(framed(&health))));
                        "0"
                    }
                };
                let trailers = [("grpc-status", code), ("grpc-message", "why")];
                let trailers = trailers.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
                frames.push(Ok(Frame::trailers(trailers.into_iter().collect())));
                http::Response::new(StreamBody::new(futures::stream::iter(frames)).boxed_unsync())
            })
        }
    }

    async fn asked(port: u16, service: &str, expected: Expect) {
        let network = crate::agent::tests::network();
        let pod = PodIdentity {
            namespace: "ns".to_owned(),
            name: "p".to_owned(),
            uid: "u".to_owned(),
            ip: "10.64.0.2".parse().unwrap(),
            service_account: "default".to_owned(),
        };
        let _registration = network.register_http(&pod, 80, Arc::new(Health));
        let timeout = Duration::from_secs(1);
        let found = check(&network, SocketAddr::new(pod.ip, port), service, timeout).await;
        expected.assert_eq(&found.err().unwrap_or_else(|| "service healthy".to_owned()));
    }

    /// Conformance: "Pod liveness probe, using grpc call, success".
    #[tokio::test]
    async fn a_health_service_is_believed_and_everything_else_is_named() {
        asked(80, "", expect!["service healthy"]).await;
        asked(80, "2", expect![[r#"service unhealthy (responded with "NOT_SERVING")"#]]).await;
        asked(80, "none", expect!["error: this server does not implement the grpc health protocol (grpc.health.v1.Health): unexpected HTTP status code received from server: 404 (Not Found)"]).await;
        asked(
            80,
            "old",
            expect!["error: this server does not implement the grpc health protocol (grpc.health.v1.Health): why"],
        )
        .await;
        asked(80, "broken", expect!["error: health rpc probe failed: rpc error: code = Internal desc = why"]).await;
        asked(80, "never", expect!["timeout: health rpc did not complete within 1s"]).await;
        asked(
            81,
            "",
            expect![[r#"error: failed to connect service at "10.64.0.2:81": nothing listens on 10.64.0.2:81"#]],
        )
        .await;
    }
}
