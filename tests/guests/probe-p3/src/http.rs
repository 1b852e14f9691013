//! The server. The path says what to do, the query is its argument.

use wasip3::http::client;
use wasip3::http::types::{ErrorCode, Fields, Method, Request, Response, Scheme, Trailers};
use wasip3::wit_bindgen::rt::async_support::{FutureReader, StreamReader, StreamResult, StreamWriter};
use wasip3::{spawn_local, wit_future, wit_stream};

use crate::{net, println, questions};

struct Server;

wasip3::http::service::export!(Server);

type Outcome = Result<Option<Trailers>, ErrorCode>;

impl wasip3::exports::http::handler::Guest for Server {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let target = request.get_path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let number = || query.parse::<usize>().unwrap_or(0);
        match path {
            "/" => Ok(text(word())),
            "/questions" => {
                let asked = consume(request).0.collect().await;
                Ok(text(questions::ask_all(&String::from_utf8_lossy(&asked)).await))
            }
            "/env" => Ok(text(env().await)),
            "/about" => {
                let (scheme, authority) = (request.get_scheme(), request.get_authority());
                Ok(text(format!("{scheme:?} {authority:?}")))
            }
            "/echo" => Ok(echo(request)),
            "/copy" => Ok(copy(request)),
            "/stream" => Ok(stream(number())),
            "/forward" => forward(request, query).await,
            "/fetch" => fetch(query).await,
            "/file" => Ok(file(query).await),
            "/resolve" => Ok(text(net::resolve(query).await)),
            "/ask" => {
                let (ip, port) = query.split_once(':').unwrap_or((query, "80"));
                Ok(text(net::ask(ip, port.parse().unwrap_or(80), "hello").await))
            }
            "/log" => {
                println(query).await;
                Ok(text("logged".to_owned()))
            }
            "/later" => {
                let said = query.to_owned();
                spawn_local(async move { println(&said).await });
                Ok(text("soon".to_owned()))
            }
            "/hog" => {
                let memory = std::hint::black_box(vec![1u8; number() << 20]);
                Ok(text(format!("{} bytes", memory.len())))
            }
            "/count" => Ok(text(count())),
            "/trap" => panic!("asked to"),
            "/half" => {
                let (mut writer, reader) = wit_stream::new();
                spawn_local(async move {
                    writer.write_all(b"half".to_vec()).await;
                    panic!("asked to");
                });
                Ok(response(reader))
            }
            "/length" => Ok(length(query)),
            "/error" => Err(ErrorCode::LoopDetected),
            "/wait" => {
                wasip3::clocks::monotonic_clock::wait_for(u64::MAX / 4).await;
                Ok(text("waited".to_owned()))
            }
            "/spin" => loop {
                std::hint::black_box(());
            },
            _ => Ok(text("unknown".to_owned())),
        }
    }
}

/// What this server says to whoever comes.
fn word() -> String {
    let variables = wasip3::cli::environment::get_environment();
    variables.into_iter().find(|(name, _)| name == "WORD").map(|(_, word)| word).unwrap_or_default()
}

async fn env() -> String {
    let mut text = String::new();
    for (name, value) in wasip3::cli::environment::get_environment() {
        text += &format!("{name}={value}\n");
    }
    for (directory, path) in wasip3::filesystem::preopens::get_directories() {
        let writable = directory.create_directory_at("made".to_owned()).await.is_ok();
        text += &format!("preopen {path} {}\n", if writable { "rw" } else { "ro" });
    }
    text
}

/// Requests that this instance has seen.
fn count() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static SEEN: AtomicU32 = AtomicU32::new(0);
    (SEEN.fetch_add(1, Ordering::Relaxed) + 1).to_string()
}

fn no_trailers() -> FutureReader<Outcome> {
    let (_, reader) = wit_future::new::<Outcome>(|| Ok(None));
    reader
}

fn response(body: StreamReader<u8>) -> Response {
    Response::new(Fields::new(), Some(body), no_trailers()).0
}

fn text(text: String) -> Response {
    let (mut writer, reader) = wit_stream::new();
    spawn_local(async move {
        writer.write_all(text.into_bytes()).await;
    });
    response(reader)
}

fn consume(request: Request) -> (StreamReader<u8>, FutureReader<Outcome>) {
    let (_, done) = wit_future::new(|| Ok(()));
    Request::consume_body(request, done)
}

/// Gives the request's own body and trailers back.
fn echo(request: Request) -> Response {
    let (body, trailers) = consume(request);
    Response::new(Fields::new(), Some(body), trailers).0
}

/// Sends the request's body back piece by piece, and its trailers after it.
fn copy(request: Request) -> Response {
    let (body, trailers) = consume(request);
    let (out, reader) = wit_stream::new();
    spawn_local(pass(body, out));
    Response::new(Fields::new(), Some(reader), trailers).0
}

async fn pass(mut from: StreamReader<u8>, mut to: StreamWriter<u8>) {
    loop {
        let (result, bytes) = from.read(Vec::with_capacity(4096)).await;
        if !bytes.is_empty() && !to.write_all(bytes).await.is_empty() {
            return;
        }
        if !matches!(result, StreamResult::Complete(_)) {
            return;
        }
    }
}

/// Says one length and sends another, whether it may or not: `SAID&SENT`.
fn length(query: &str) -> Response {
    let (said, sent) = query.split_once('&').unwrap_or_default();
    let headers = Fields::from_list(&[("content-length".to_owned(), said.as_bytes().to_vec())]).expect("headers");
    let sent = vec![b'x'; sent.parse().unwrap_or(0)];
    let (mut writer, reader) = wit_stream::new();
    spawn_local(async move {
        writer.write_all(sent).await;
    });
    Response::new(headers, Some(reader), no_trailers()).0
}

/// So many pieces of 64 KiB.
fn stream(pieces: usize) -> Response {
    let (mut writer, reader) = wit_stream::new();
    spawn_local(async move {
        for _ in 0..pieces {
            if !writer.write_all(vec![7; 64 << 10]).await.is_empty() {
                return;
            }
        }
    });
    response(reader)
}

pub fn outgoing(url: &str, method: Method, body: Option<(StreamReader<u8>, FutureReader<Outcome>)>) -> Request {
    let (authority, path) = url.split_once('/').unwrap_or((url, ""));
    let (contents, trailers) = match body {
        Some((contents, trailers)) => (Some(contents), trailers),
        None => (None, no_trailers()),
    };
    let request = Request::new(Fields::new(), contents, trailers, None).0;
    request.set_method(&method).expect("the method is one");
    request.set_scheme(Some(&Scheme::Http)).expect("the scheme is one");
    request.set_authority(Some(authority)).expect("the authority is one");
    request.set_path_with_query(Some(&format!("/{path}"))).expect("the path is one");
    request
}

/// Sends the request on and its answer back, both piece by piece while they come in.
async fn forward(request: Request, url: &str) -> Result<Response, ErrorCode> {
    let (body, trailers) = consume(request);
    let (onward, reader) = wit_stream::new();
    spawn_local(pass(body, onward));
    let answer = client::send(outgoing(url, Method::Post, Some((reader, trailers)))).await?;
    let (_, done) = wit_future::new(|| Ok(()));
    let (body, trailers) = Response::consume_body(answer, done);
    let (back, reader) = wit_stream::new();
    spawn_local(pass(body, back));
    Ok(Response::new(Fields::new(), Some(reader), trailers).0)
}

/// GETs a URL and gives its answer back as it is.
async fn fetch(url: &str) -> Result<Response, ErrorCode> {
    match client::send(outgoing(url, Method::Get, None)).await {
        Ok(answer) => Ok(answer),
        Err(error) => Ok(text(crate::name(error))),
    }
}

/// A file of the first preopen, as a stream of the host.
async fn file(path: &str) -> Response {
    use wasip3::filesystem::types::{DescriptorFlags, OpenFlags, PathFlags};
    let (directory, _) = wasip3::filesystem::preopens::get_directories().pop().expect("there is a preopen");
    let opened = directory.open_at(PathFlags::empty(), path.to_owned(), OpenFlags::empty(), DescriptorFlags::READ).await;
    match opened {
        Ok(file) => response(file.read_via_stream(0).0),
        Err(error) => text(crate::name(error)),
    }
}
