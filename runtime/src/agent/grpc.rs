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
use tokio::time::{Instant, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use super::probes;

/// Largest answer, with its framing.
const MAX_ANSWER_BYTES: usize = 10 << 10;
/// Wait before another connection is tried, and how much longer each is than the one before (gRPC, connection backoff).
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const PAUSE_GROWTH: f32 = 1.6;
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

/// Asks for the health of a service; an empty name means the server itself. `timeout` bounds all of it: until then who does
/// not take a connection is tried again, as gRPC's own clients do.
///
/// # Errors
/// When it cannot be asked, or is not serving, in the kubelet's words.
pub(super) async fn check(
    network: &Network,
    address: SocketAddr,
    service: &str,
    timeout: Duration,
) -> Result<(), String> {
    let deadline = Instant::now() + timeout;
    let seconds = timeout.as_secs();
    let unconnected = |_| {
        let why = "context deadline exceeded";
        format!("timeout: failed to connect service \"{address}\" within {seconds}s: {why}")
    };
    let mut pause = FIRST_PAUSE;
    loop {
        let connected = timeout_at(deadline, connect(network, address)).await.map_err(unconnected)?;
        // The connection ends with its turn.
        if let Ok((mut sender, _connection)) = connected {
            let answer = timeout_at(deadline, call(&mut sender, address, service)).await;
            let answer = answer.map_err(|_| format!("timeout: health rpc did not complete within {seconds}s"))?;
            match answer {
                Ok(SERVING) => return Ok(()),
                Ok(status) => return Err(format!("service unhealthy (responded with \"{}\")", status_name(status))),
                Err(Failure::Status(status)) => return Err(status.into_message()),
                Err(Failure::NoHttp2) => {}
            }
        }
        timeout_at(deadline, tokio::time::sleep(pause)).await.map_err(unconnected)?;
        pause = pause.mul_f32(PAUSE_GROWTH);
    }
}

/// Nobody took a connection. Why is said by nobody: gRPC waits for one until its time is up.
struct NoConnection;

type Connected = (SendRequest<Full<Bytes>>, AbortOnDropHandle<()>);

async fn connect(network: &Network, address: SocketAddr) -> Result<Connected, NoConnection> {
    let stream = network.connect(None, address).await.map_err(|_| NoConnection)?;
    let shake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (sender, connection) = shake.map_err(|_| NoConnection)?;
    // What ends a connection early is told to whoever waits for an answer.
    let connection = tokio::spawn(async { drop(connection.await) });
    Ok((sender, AbortOnDropHandle::new(connection)))
}

/// How a call ended.
struct Status {
    code: u32,
    message: String,
}

enum Failure {
    Status(Status),
    /// Who took the connection does not speak HTTP/2 on it, or not for long enough.
    NoHttp2,
}

const UNKNOWN: u32 = 2;
const PERMISSION_DENIED: u32 = 7;
const UNIMPLEMENTED: u32 = 12;
const INTERNAL: u32 = 13;
const UNAVAILABLE: u32 = 14;
const UNAUTHENTICATED: u32 = 16;

impl Status {
    /// What a call that ended so says of the service's health.
    fn into_message(self) -> String {
        let Status { code, message } = self;
        if code == UNIMPLEMENTED {
            let protocol = "the grpc health protocol (grpc.health.v1.Health)";
            return format!("error: this server does not implement {protocol}: {message}");
        }
        format!("error: health rpc probe failed: rpc error: code = {} desc = {message}", code_name(code))
    }

    /// Of an answer that is none of gRPC's (gRPC, "HTTP to gRPC Status Code Mapping"); `None` of one that is.
    fn of_http(status: StatusCode, content_type: Option<&str>) -> Option<Status> {
        let foreign = match content_type {
            Some(told) if is_grpc(told) => None,
            Some(told) => Some(format!("transport: received unexpected content-type {told:?}")),
            None => Some("malformed header: missing HTTP content-type".to_owned()),
        };
        let bad = (status != StatusCode::OK)
            .then(|| format!("unexpected HTTP status code received from server: {}", described(status)));
        let code = match status.as_u16() {
            400 => INTERNAL,
            401 => UNAUTHENTICATED,
            403 => PERMISSION_DENIED,
            404 => UNIMPLEMENTED,
            429 | 502..=504 => UNAVAILABLE,
            _ => UNKNOWN,
        };
        let message = bad.into_iter().chain(foreign).collect::<Vec<_>>().join("; ");
        (!message.is_empty()).then_some(Status { code, message })
    }
}

/// Whether an answer's type is gRPC's, whatever its messages are written in.
fn is_grpc(content_type: &str) -> bool {
    let rest = content_type.to_ascii_lowercase();
    let rest = rest.strip_prefix("application/grpc");
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['+', ';']))
}

async fn call(sender: &mut SendRequest<Full<Bytes>>, address: SocketAddr, service: &str) -> Result<i32, Failure> {
    let failed = |code, message: String| Failure::Status(Status { code, message });
    let request = http::Request::post(format!("http://{address}/grpc.health.v1.Health/Check"))
        .header(http::header::CONTENT_TYPE, "application/grpc")
        .header(http::header::TE, "trailers")
        .header(http::header::USER_AGENT, probes::USER_AGENT)
        .body(Full::new(framed(&HealthCheckRequest { service: service.to_owned() })));
    let request = request.map_err(|error| failed(INTERNAL, error.to_string()))?;
    let answer = sender.send_request(request).await.map_err(|_| Failure::NoHttp2)?;
    let (head, body) = answer.into_parts();
    let content_type = head.headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if let Some(other) = Status::of_http(head.status, content_type) {
        return Err(Failure::Status(other));
    }
    // A call that fails before its answer says so in the head.
    if let Some(ended) = status(&head.headers) {
        return Err(Failure::Status(ended));
    }
    let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await;
    let body = body.map_err(|error| failed(INTERNAL, error.to_string()))?;
    if let Some(ended) = body.trailers().and_then(status)
        && ended.code != 0
    {
        return Err(Failure::Status(ended));
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
                    "page" => {
                        return http::Response::builder()
                            .header("content-type", "text/html")
                            .body(Body::default())
                            .unwrap();
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
                let body = StreamBody::new(futures::stream::iter(frames)).boxed_unsync();
                http::Response::builder().header("content-type", "application/grpc+proto").body(body).unwrap()
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
        let _registration = network.bind_http(&pod, 80, Arc::new(Health)).unwrap();
        let timeout = Duration::from_secs(1);
        let found = check(&network, SocketAddr::new(pod.ip, port), service, timeout).await;
        expected.assert_eq(&found.err().unwrap_or_else(|| "service healthy".to_owned()));
    }

    /// Conformance: "Pod liveness probe, using grpc call, success".
    #[tokio::test]
    async fn a_health_service_is_believed_and_everything_else_is_named() {
        asked(80, "", expect!["service healthy"]).await;
        asked(80, "2", expect![[r#"service unhealthy (responded with "NOT_SERVING")"#]]).await;
        asked(80, "none", expect!["error: this server does not implement the grpc health protocol (grpc.health.v1.Health): unexpected HTTP status code received from server: 404 (Not Found); malformed header: missing HTTP content-type"]).await;
        asked(80, "page", expect![[r#"error: health rpc probe failed: rpc error: code = Unknown desc = transport: received unexpected content-type "text/html""#]]).await;
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
            expect![[r#"timeout: failed to connect service "10.64.0.2:81" within 1s: context deadline exceeded"#]],
        )
        .await;
    }
}
