//! The peer that bounds the API server: hyper, rustls and HTTP/2 with nothing behind them, answering fixed bytes.
//!
//! It runs in a process of its own, as k8w does: this very executable under [`SUBCOMMAND`].

use std::convert::Infallible;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Either, Full, StreamBody};
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
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::UnboundedReceiverStream;

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

/// What requests are answered.
#[derive(Serialize, Deserialize)]
pub struct Answers {
    pub answer: Answer,
    /// What a PUT also writes to every GET that watches, whose body has no end.
    pub event: Option<String>,
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
    let (response, event) = (answers.answer.response()?, answers.event.map(Bytes::from));
    let fixed = Arc::new(Fixed { response, event, watches: Mutex::default() });
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
        let (acceptor, fixed) = (acceptor.clone(), fixed.clone());
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let service = service_fn(move |request| answer(request, fixed.clone()));
            // A client that goes away in the middle is the client's matter.
            let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

struct Fixed {
    response: Response<Full<Bytes>>,
    event: Option<Bytes>,
    watches: Mutex<Vec<mpsc::UnboundedSender<Event>>>,
}

type Event = Result<Frame<Bytes>, Infallible>;
type Body = Either<Full<Bytes>, StreamBody<UnboundedReceiverStream<Event>>>;

/// Reads the request to its end, as every server that does something with it must.
async fn answer(request: Request<Incoming>, fixed: Arc<Fixed>) -> Result<Response<Body>, Infallible> {
    let writes = request.method() == Method::PUT;
    let watches = request.uri().query().is_some_and(|query| query.contains("watch"));
    let _ = request.into_body().collect().await;
    let answer = fixed.response.clone();
    let Some(event) = &fixed.event else { return Ok(answer.map(Either::Left)) };
    let mut open = fixed.watches.lock().unwrap_or_else(PoisonError::into_inner);
    if watches {
        let (sender, events) = mpsc::unbounded_channel();
        open.push(sender);
        return Ok(answer.map(|_| Either::Right(StreamBody::new(UnboundedReceiverStream::new(events)))));
    }
    if writes {
        open.retain(|watch| watch.send(Ok(Frame::data(event.clone()))).is_ok());
    }
    Ok(answer.map(Either::Left))
}
