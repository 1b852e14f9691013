//! A node that is too small to compile has its control plane do it.
//!
//! What comes back is native code. It is believed because of whom it comes from: the API server whose certificate is of the
//! CA that this node has known since it joined, over TLS, which shows it the node's own certificate.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt as _;
use http::{StatusCode, Uri, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, Limited, StreamBody};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use k8w_kinds::machine_code::PATH;
use rustls::pki_types::ServerName;
use tokio::fs::File;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::io::ReaderStream;
use tokio_util::task::AbortOnDropHandle;

use super::code::Code;
use super::request::{self, Request};
use super::worker;
use crate::engine::{Artifact, EngineError};
use crate::wasm::config::CompileLimits;

/// How long connecting may take, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A control plane that is silent for so long is asked for a sign of life, and given as long again to send one.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// How long a component may take altogether, what waits before it included.
const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// Bytes that are read and sent at a time.
const CHUNK_BYTES: usize = 64 << 10;
/// Machine code on its way before it is on disk.
const WINDOW_BYTES: u32 = 1 << 20;
/// Enough for any Status.
const STATUS_BYTES: usize = 64 << 10;
/// Waits before a busy control plane is asked again, which says how long.
const MAX_RETRY_AFTER_SECONDS: u64 = 30;

/// The control plane that a node has joined. Cheap to clone.
#[derive(Clone)]
pub struct ControlPlane(Arc<Inner>);

struct Inner {
    server: Uri,
    tls: TlsConnector,
}

impl fmt::Debug for ControlPlane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ControlPlane").field(&self.0.server).finish()
    }
}

/// Why a request has no machine code.
enum Unanswered {
    /// To be asked again after a while.
    Busy(Duration),
    Refused(EngineError),
}

impl ControlPlane {
    /// `tls` shows the node's certificate, trusts the cluster's CA alone, and speaks HTTP/2.
    pub fn new(server: Uri, tls: Arc<rustls::ClientConfig>) -> ControlPlane {
        ControlPlane(Arc::new(Inner { server, tls: TlsConnector::from(tls) }))
    }

    /// Has `artifact` compiled to the new file `output`. Dropping the future ends the work there.
    ///
    /// # Errors
    /// Those of the component as if it had been compiled here, and [`EngineError::ControlPlane`].
    pub(in crate::wasm) async fn compile(
        &self,
        artifact: &Artifact,
        output: &Path,
        code: &Code,
        limits: &CompileLimits,
    ) -> Result<(), EngineError> {
        worker::check_input(&artifact.path, limits)?;
        let request = Request::new(&artifact.digest, code);
        let request = request.map_err(|error| EngineError::Internal(format!("configuring the compiler: {error:#}")))?;
        let asking = async {
            loop {
                match self.ask(&request, artifact, output, limits).await {
                    Ok(()) => return Ok(()),
                    Err(Unanswered::Refused(error)) => return Err(error),
                    Err(Unanswered::Busy(wait)) => tokio::time::sleep(wait).await,
                }
            }
        };
        let late = || format!("there is none after {} minutes", PATIENCE.as_secs() / 60);
        tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| Err(EngineError::ControlPlane(late())))
    }

    async fn ask(
        &self,
        request: &Request,
        artifact: &Artifact,
        output: &Path,
        limits: &CompileLimits,
    ) -> Result<(), Unanswered> {
        let broken = |error: &dyn fmt::Display| {
            Unanswered::Refused(EngineError::ControlPlane(format!("{}: {error}", self.0.server)))
        };
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, self.connect()).await;
        let socket =
            connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(|error| broken(&error))?;
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .initial_stream_window_size(WINDOW_BYTES);
        let (mut sender, connection) = builder.handshake(TokioIo::new(socket)).await.map_err(|error| broken(&error))?;
        // Ends with this future, and so does what is done for it there.
        let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
        let component = File::open(&artifact.path).await.map_err(internal)?;
        let length = component.metadata().await.map_err(internal)?.len();
        let component = ReaderStream::with_capacity(component, CHUNK_BYTES).map_ok(Frame::data);
        let request = http::Request::post(self.target(request).map_err(|error| broken(&error))?)
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, "application/wasm")
            .header(header::CONTENT_LENGTH, length)
            .header(header::USER_AGENT, "kubelet");
        let request = request.body(StreamBody::new(component)).map_err(|error| broken(&error))?;
        let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
        let (parts, body) = response.into_parts();
        match parts.status {
            StatusCode::OK => receive(body, output, limits).await,
            StatusCode::TOO_MANY_REQUESTS => {
                let after = parts.headers.get(header::RETRY_AFTER).and_then(|after| after.to_str().ok()?.parse().ok());
                let seconds: u64 = after.unwrap_or_default();
                Err(Unanswered::Busy(Duration::from_secs(seconds.clamp(1, MAX_RETRY_AFTER_SECONDS))))
            }
            status => {
                let said = Limited::new(body, STATUS_BYTES).collect().await.map(|body| body.to_bytes());
                Err(Unanswered::Refused(request::error(status.as_u16(), &said.unwrap_or_default())))
            }
        }
    }

    async fn connect(&self) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let server = &self.0.server;
        let host = server.host().unwrap_or_default().trim_matches(['[', ']']);
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let socket = TcpStream::connect((host, server.port_u16().unwrap_or(443))).await?;
        socket.set_nodelay(true)?;
        self.0.tls.connect(name, socket).await
    }

    /// Where `request` is sent to. The server may be behind a path of a proxy.
    fn target(&self, request: &Request) -> Result<Uri, http::Error> {
        let mut parts = self.0.server.clone().into_parts();
        let before = self.0.server.path().trim_end_matches('/');
        parts.path_and_query = Some(format!("{before}{PATH}?{request}").parse()?);
        Ok(Uri::from_parts(parts)?)
    }
}

/// Writes machine code to the new file `output`.
async fn receive(mut body: Incoming, output: &Path, limits: &CompileLimits) -> Result<(), Unanswered> {
    let refused = |why: String| Unanswered::Refused(EngineError::ControlPlane(why));
    let mut file = File::options().write(true).create_new(true).open(output).await.map_err(internal)?;
    let mut left = limits.output_bytes;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| refused(format!("it broke off: {error}")))?;
        let chunk = frame.into_data().unwrap_or_else(|_| Bytes::new());
        left = left
            .checked_sub(chunk.len() as u64)
            .ok_or_else(|| refused(format!("it has more than {} bytes", limits.output_bytes)))?;
        file.write_all(&chunk).await.map_err(internal)?;
    }
    // It is renamed into place afterwards: what stands under the final name must be whole even after a power cut.
    file.flush().await.map_err(internal)?;
    file.sync_all().await.map_err(internal)
}

/// This node's own fault.
fn internal(error: io::Error) -> Unanswered {
    Unanswered::Refused(EngineError::Internal(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wasm::config::PoolLimits;

    #[test]
    fn the_path_is_beneath_the_servers() {
        let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let tls = Arc::new(tls);
        let request = Request::new("sha256:00", &Code::here(&PoolLimits::default(), false)).unwrap();
        for (server, target) in [
            ("https://192.0.2.1:6443", "https://192.0.2.1:6443/k8w.dev/machine-code?"),
            ("https://[2001:db8::1]/", "https://[2001:db8::1]/k8w.dev/machine-code?"),
            ("https://proxy/clusters/a", "https://proxy/clusters/a/k8w.dev/machine-code?"),
        ] {
            let control_plane = ControlPlane::new(server.parse().unwrap(), tls.clone());
            assert_eq!(control_plane.target(&request).unwrap().to_string(), format!("{target}{request}"));
        }
    }
}
