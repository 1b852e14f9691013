//! A client of HTTP/2 over TLS: one connection, one request at a time.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// One connection of a user with a bearer token.
pub struct Http2 {
    sender: SendRequest<Full<Bytes>>,
    origin: String,
    authorization: HeaderValue,
}

/// Where a server is, whose certificate `ca` (a file in PEM) signed, and a token of a user's.
#[derive(Clone)]
pub struct Endpoint {
    pub address: SocketAddr,
    pub ca: PathBuf,
    pub token: String,
}

impl Endpoint {
    /// A connection on which HTTP/2 is to be spoken.
    pub async fn connect(&self) -> Result<TlsStream<TcpStream>> {
        let Self { address, ca, .. } = self;
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(ca).with_context(|| format!("cannot read {}", ca.display()))?)?;
        let mut tls = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let stream = TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        Ok(TlsConnector::from(Arc::new(tls)).connect(ServerName::from(address.ip()), stream).await?)
    }
}

impl Http2 {
    pub async fn open(server: &Endpoint) -> Result<Self> {
        let stream = server.connect().await?;
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        // Ends with the sender; what went wrong before shows in the request that waits.
        tokio::spawn(connection);
        let authorization = format!("Bearer {}", server.token).try_into()?;
        Ok(Self { sender, origin: format!("https://{}", server.address), authorization })
    }

    /// Sends a request with a body of JSON, or none, and reads the whole answer.
    pub async fn send(&mut self, method: Method, path: &str, body: impl Into<Bytes>) -> Result<Response<Bytes>> {
        let body = body.into();
        let content_type = (!body.is_empty()).then_some("application/json");
        whole(self.request(method, path, content_type, body).await?).await
    }

    /// As [`Self::send`], with a body of the given type.
    pub async fn send_as(
        &mut self,
        method: Method,
        path: &str,
        content_type: &str,
        body: String,
    ) -> Result<Response<Bytes>> {
        whole(self.request(method, path, Some(content_type), body.into()).await?).await
    }

    async fn request(
        &mut self,
        method: Method,
        path: &str,
        content_type: Option<&str>,
        body: Bytes,
    ) -> Result<Response<Incoming>> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.origin))
            .header(header::AUTHORIZATION, self.authorization.clone())
            .header(header::ACCEPT, "application/json");
        if let Some(content_type) = content_type {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        Ok(self.sender.send_request(request.body(Full::new(body))?).await?)
    }
}

async fn whole(response: Response<Incoming>) -> Result<Response<Bytes>> {
    let (head, body) = response.into_parts();
    Ok(Response::from_parts(head, body.collect().await?.to_bytes()))
}
