//! Serving HTTPS to clients that may show a certificate: the node's own API.

use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use rustls_pki_types::CertificateDer;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::accept;
use crate::endpoint::Body;
use crate::serve::{self, HalfClosed};

/// The certificates that the client of a connection showed and TLS verified, its own first; in the extensions of every
/// request.
#[derive(Clone, Debug, Default)]
pub struct ClientCertificates(pub Arc<[CertificateDer<'static>]>);

/// Answers requests on `listener` until `stop`; then lets open ones end.
pub async fn listen<F>(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    stop: CancellationToken,
    answer: impl Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
) where
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let acceptor = TlsAcceptor::from(tls);
    accept::connections(listener, stop.clone(), |socket, peer| {
        let (acceptor, stop, answer) = (acceptor.clone(), stop.clone(), answer.clone());
        async move {
            let Some(stream) = accept::tls(&acceptor, socket, peer).await else { return };
            let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
            let certificates = ClientCertificates(certificates.into());
            let answer = move |mut request: Request<Incoming>| {
                request.extensions_mut().insert(certificates.clone());
                answer(request)
            };
            serve::http(stream, HalfClosed::Gone, stop, answer).await;
        }
    })
    .await;
}
