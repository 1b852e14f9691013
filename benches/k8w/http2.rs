//! A client of HTTP/2 over TLS: one connection, one request at a time.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// One connection of a user with a bearer token.
pub struct Http2 {
    sender: SendRequest<Full<Bytes>>,
    origin: String,
    authorization: HeaderValue,
}

impl Http2 {
    /// Connects to `address`, whose certificate `ca` (a file in PEM) signed.
    pub async fn open(address: SocketAddr, ca: &Path, token: &str) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(ca).with_context(|| format!("cannot read {}", ca.display()))?)?;
        let mut tls = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let stream = TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        let stream = TlsConnector::from(Arc::new(tls)).connect(ServerName::from(address.ip()), stream).await?;
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        // Ends with the sender; what went wrong before shows in the request that waits.
        tokio::spawn(connection);
        let authorization = format!("Bearer {token}").try_into()?;
        Ok(Self { sender, origin: format!("https://{address}"), authorization })
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

    /// The answer to a GET as it comes.
    pub async fn stream(&mut self, path: &str) -> Result<Incoming> {
        let response = self.request(Method::GET, path, None, Bytes::new()).await?;
        if response.status() != StatusCode::OK {
            bail!("{} in place of a stream", response.status());
        }
        Ok(response.into_body())
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
