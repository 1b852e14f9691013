//! The peer that bounds the API server: hyper, rustls and HTTP/2 with nothing behind them, answering fixed bytes.
//!
//! It runs in a process of its own, as k8w does: this very executable under [`SUBCOMMAND`].

use std::convert::Infallible;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8w_testkit::Process;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::cluster::TIMEOUT;

/// First argument of the process that is the server; a folder of keys and a file of answers follow.
pub const SUBCOMMAND: &str = "bare-server";

/// An answer as k8w gave it.
#[derive(Clone, Serialize, Deserialize)]
pub struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Answer {
    pub fn of(response: &Response<Bytes>) -> Self {
        // What hyper adds by itself is left to it.
        let copied = response.headers().iter().filter(|(name, _)| !["date", "content-length"].contains(&name.as_str()));
        Self {
            status: response.status().as_u16(),
            headers: copied.filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.into()))).collect(),
            body: String::from_utf8_lossy(response.body()).into_owned(),
        }
    }

    fn response(&self) -> Result<Response<Full<Bytes>>> {
        let mut response = Response::builder().status(self.status);
        for (name, value) in &self.headers {
            response = response.header(name, value);
        }
        Ok(response.body(Full::new(Bytes::from(self.body.clone())))?)
    }
}

/// What a POST and what a GET are answered.
#[derive(Serialize, Deserialize)]
pub struct Answers {
    pub create: Answer,
    pub get: Answer,
}

/// The server's process, as its clients see it.
pub struct BareServer {
    _process: Process,
    _folder: TempDir,
    pub address: SocketAddr,
}

impl BareServer {
    /// Starts the server with the serving certificate in `pki`, a cluster's folder of keys.
    pub fn start(pki: &Path, answers: &Answers) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("k8w-bench-").tempdir()?;
        let [stdout, stderr, file] = ["stdout", "stderr", "answers.json"].map(|name| folder.path().join(name));
        serde_json::to_writer(File::create(&file)?, answers)?;
        let this = std::env::current_exe()?.display().to_string();
        let arguments = [SUBCOMMAND.to_owned(), pki.display().to_string(), file.display().to_string()];
        let mut process = Process::start(&this, &arguments, &stdout, &stderr)?;
        let started = Instant::now();
        loop {
            if let Some(address) = std::fs::read_to_string(&stdout)?.strip_suffix('\n') {
                return Ok(Self { _process: process, _folder: folder, address: address.parse()? });
            }
            if process.ended().is_some() || started.elapsed() > TIMEOUT {
                bail!("the bare server does not start:\n{}", std::fs::read_to_string(&stderr)?);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// The process: prints its address, then serves until it is ended.
pub async fn serve(arguments: &[String]) -> Result<()> {
    let [pki, answers] = arguments else { bail!("{SUBCOMMAND} wants a folder of keys and a file of answers") };
    let answers: Answers = serde_json::from_reader(File::open(answers)?)?;
    let answers = Arc::new((answers.create.response()?, answers.get.response()?));
    let certificate = CertificateDer::from_pem_file(Path::new(pki).join("apiserver.crt")).context("no certificate")?;
    let key = PrivateKeyDer::from_pem_file(Path::new(pki).join("apiserver.key")).context("no key")?;
    let mut tls = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key)?;
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    println!("{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (acceptor, answers) = (acceptor.clone(), answers.clone());
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let service = service_fn(move |request| answer(request, answers.clone()));
            // A client that goes away in the middle is the client's matter.
            let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

type Fixed = Arc<(Response<Full<Bytes>>, Response<Full<Bytes>>)>;

/// Reads the request to its end, as every server that does something with it must.
async fn answer(request: Request<Incoming>, answers: Fixed) -> Result<Response<Full<Bytes>>, Infallible> {
    let is_create = request.method() == Method::POST;
    let _ = request.into_body().collect().await;
    Ok(if is_create { answers.0.clone() } else { answers.1.clone() })
}
