//! The server. The path says what to do, the query is its argument.

use std::io::{Read, Write};

use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    Fields, IncomingBody, IncomingRequest, Method, OutgoingBody, OutgoingRequest, OutgoingResponse, ResponseOutparam,
    Scheme,
};
use wasip2::io::streams::StreamError;

use crate::{net, proposals, questions};

struct Server;

wasip2::http::proxy::export!(Server);

impl wasip2::exports::http::incoming_handler::Guest for Server {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        match path {
            "/" => respond(out, &word()),
            "/questions" => {
                let incoming = request.consume().expect("a request has one body");
                let mut asked = String::new();
                incoming.stream().expect("a body has one stream").read_to_string(&mut asked).expect("the body comes in");
                respond(out, &questions::ask_all(&asked));
            }
            "/env" => respond(out, &env()),
            "/headers" => respond(out, &headers(&request)),
            "/echo" => echo(request, out),
            "/stream" => stream(query.parse().unwrap_or(0), out),
            "/broken" => broken(request, out),
            "/forward" => forward(request, query, out),
            "/fetch" => fetch(query, out),
            "/resolve" => respond(out, &net::resolve(query)),
            "/ask" => {
                let (ip, port) = query.split_once(':').unwrap_or((query, "80"));
                respond(out, &net::ask(ip, port.parse().unwrap_or(80), "hello"));
            }
            "/log" => {
                net::println(query);
                respond(out, "logged");
            }
            "/config" => respond(out, &proposals::config(query)),
            "/keyvalue" => respond(out, &proposals::keyvalue(query)),
            "/fill" => respond(out, &proposals::fill(query.parse().unwrap_or(0))),
            "/say" => {
                proposals::say(query);
                respond(out, "said");
            }
            "/hog" => {
                let bytes = query.parse::<usize>().unwrap_or(0) << 20;
                let memory = std::hint::black_box(vec![1u8; bytes]);
                respond(out, &format!("{} bytes", memory.len()));
            }
            "/count" => respond(out, &count()),
            "/trap" => panic!("asked to"),
            "/half" => {
                let response = OutgoingResponse::new(Fields::new());
                let body = response.body().expect("a response has one body");
                ResponseOutparam::set(out, Ok(response));
                body.write().expect("a body has one stream").blocking_write_and_flush(b"half").ok();
                panic!("asked to");
            }
            "/nothing" => {}
            "/length" => length(query, out),
            "/wait" => wasip2::clocks::monotonic_clock::subscribe_duration(u64::MAX / 2).block(),
            "/status" => status(query.parse().unwrap_or(200), out),
            "/grpc.health.v1.Health/Check" => health(request, out),
            "/spin" => loop {
                std::hint::black_box(());
            },
            _ => respond(out, "unknown"),
        }
    }
}

/// What this server says to whoever comes.
fn word() -> String {
    let variables = wasip2::cli::environment::get_environment();
    variables.into_iter().find(|(name, _)| name == "WORD").map(|(_, word)| word).unwrap_or_default()
}

/// The request's headers, one a line.
fn headers(request: &IncomingRequest) -> String {
    let headers = request.headers().entries().into_iter();
    headers.map(|(name, value)| format!("{name}: {}\n", String::from_utf8_lossy(&value))).collect()
}

fn env() -> String {
    let mut text = String::new();
    for (name, value) in wasip2::cli::environment::get_environment() {
        text += &format!("{name}={value}\n");
    }
    for (directory, path) in wasip2::filesystem::preopens::get_directories() {
        let writable = directory.create_directory_at("made").is_ok();
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

fn respond(out: ResponseOutparam, text: &str) {
    let response = OutgoingResponse::new(Fields::new());
    let body = response.body().expect("a response has one body");
    ResponseOutparam::set(out, Ok(response));
    let mut stream = body.write().expect("a body has one stream");
    stream.write_all(text.as_bytes()).expect("the client reads");
    drop(stream);
    OutgoingBody::finish(body, None).expect("the body is complete");
}

/// Answers with a status and its number, which some of them have no room for.
fn status(code: u16, out: ResponseOutparam) {
    let response = OutgoingResponse::new(Fields::new());
    response.set_status_code(code).expect("a status");
    let body = response.body().expect("a response has one body");
    ResponseOutparam::set(out, Ok(response));
    let written = body.write().expect("a body has one stream").blocking_write_and_flush(code.to_string().as_bytes());
    if written.is_ok() {
        OutgoingBody::finish(body, None).expect("the body is complete");
    }
}

/// Says one length and sends another, whether it may or not: `SAID&SENT`.
fn length(query: &str, out: ResponseOutparam) {
    let (said, sent) = query.split_once('&').unwrap_or_default();
    let headers = Fields::from_list(&[("content-length".to_owned(), said.as_bytes().to_vec())]).expect("headers");
    let response = OutgoingResponse::new(headers);
    let body = response.body().expect("a response has one body");
    ResponseOutparam::set(out, Ok(response));
    let mut stream = body.write().expect("a body has one stream");
    stream.write_all(&vec![b'x'; sent.parse().unwrap_or(0)]).ok();
    drop(stream);
    OutgoingBody::finish(body, None).ok();
}

/// Sends the request's body back while it still comes in, and its trailers after it.
fn echo(request: IncomingRequest, out: ResponseOutparam) {
    let incoming = request.consume().expect("a request has one body");
    pass_on(incoming, OutgoingResponse::new(Fields::new()), out);
}

/// Reads the request's body to where it breaks off, and answers with why.
fn broken(request: IncomingRequest, out: ResponseOutparam) {
    let incoming = request.consume().expect("a request has one body");
    let input = incoming.stream().expect("a body has one stream");
    let why = loop {
        match input.blocking_read(4096) {
            Ok(_) => {}
            Err(StreamError::LastOperationFailed(error)) => break error.to_debug_string(),
            Err(StreamError::Closed) => break "nothing broke".to_owned(),
        }
    };
    respond(out, &why);
}

/// Answers gRPC's health checks (<https://github.com/grpc/grpc/blob/master/doc/health-checking.md>): the service `down` does
/// not serve, any other does.
fn health(request: IncomingRequest, out: ResponseOutparam) {
    let incoming = request.consume().expect("a request has one body");
    let mut asked = Vec::new();
    let mut input = incoming.stream().expect("a body has one stream");
    Read::read_to_end(&mut input, &mut asked).expect("the body comes in");
    let status = if asked.ends_with(b"down") { 2 } else { 1 };
    let headers = Fields::from_list(&[("content-type".to_owned(), b"application/grpc".to_vec())]).expect("headers");
    let response = OutgoingResponse::new(headers);
    let body = response.body().expect("a response has one body");
    ResponseOutparam::set(out, Ok(response));
    let mut stream = body.write().expect("a body has one stream");
    stream.write_all(&[0, 0, 0, 0, 2, 8, status]).expect("the client reads");
    drop(stream);
    let trailers = Fields::from_list(&[("grpc-status".to_owned(), b"0".to_vec())]).expect("trailers");
    OutgoingBody::finish(body, Some(trailers)).expect("the body is complete");
}

fn pass_on(incoming: IncomingBody, response: OutgoingResponse, out: ResponseOutparam) {
    let body = response.body().expect("a response has one body");
    ResponseOutparam::set(out, Ok(response));
    let trailers = copy(incoming, &body);
    OutgoingBody::finish(body, trailers).expect("the body is complete");
}

fn copy(incoming: IncomingBody, body: &OutgoingBody) -> Option<Fields> {
    let mut input = incoming.stream().expect("a body has one stream");
    let mut output = body.write().expect("a body has one stream");
    let mut buffer = [0; 4096];
    loop {
        let length = Read::read(&mut input, &mut buffer).expect("the body comes in");
        if length == 0 {
            break;
        }
        output.write_all(&buffer[..length]).expect("the client reads");
    }
    drop((input, output));
    trailers_of(incoming)
}

/// The trailers of a body that was read to its end, as they can be sent on.
fn trailers_of(incoming: IncomingBody) -> Option<Fields> {
    let trailers = IncomingBody::finish(incoming);
    trailers.subscribe().block();
    let trailers = trailers.get().and_then(Result::ok).and_then(Result::ok).flatten()?;
    let copied = Fields::new();
    for (name, value) in trailers.entries() {
        copied.append(&name, &value).expect("a received trailer can be sent");
    }
    Some(copied)
}

/// So many mebibytes.
fn stream(mebibytes: usize, out: ResponseOutparam) {
    let response = OutgoingResponse::new(Fields::new());
    let body = response.body().expect("a response has one body");
    ResponseOutparam::set(out, Ok(response));
    let mut stream = body.write().expect("a body has one stream");
    let chunk = vec![b'x'; 1 << 20];
    for _ in 0..mebibytes {
        if stream.write_all(&chunk).is_err() {
            return;
        }
    }
    drop(stream);
    OutgoingBody::finish(body, None).expect("the body is complete");
}

/// A request for `authority/path`.
pub fn outgoing(method: &Method, target: &str) -> OutgoingRequest {
    let (authority, path) = target.split_once('/').unwrap_or((target, ""));
    let request = OutgoingRequest::new(Fields::new());
    request.set_method(method).expect("a method");
    request.set_scheme(Some(&Scheme::Http)).expect("a scheme");
    request.set_authority(Some(authority)).expect("an authority");
    request.set_path_with_query(Some(&format!("/{path}"))).expect("a path");
    request
}

/// GETs `authority/path` and answers with what comes back, or with the error.
fn fetch(target: &str, out: ResponseOutparam) {
    let future = outgoing_handler::handle(outgoing(&Method::Get, target), None).expect("a request that can be sent");
    future.subscribe().block();
    match future.get().expect("ready").expect("taken once") {
        Ok(response) => {
            let answer = OutgoingResponse::new(Fields::new());
            answer.set_status_code(response.status()).expect("a status");
            pass_on(response.consume().expect("a response has one body"), answer, out);
        }
        Err(code) => respond(out, &format!("{code:?}")),
    }
}

/// Sends the request on to `authority/path`, which must be an echo: each chunk comes back before the next is sent, and the
/// trailers in the end.
fn forward(request: IncomingRequest, target: &str, out: ResponseOutparam) {
    let onward = outgoing(&request.method(), target);
    let onward_body = onward.body().expect("a request has one body");
    let future = outgoing_handler::handle(onward, None).expect("a request that can be sent");
    future.subscribe().block();
    let echo = future.get().expect("ready").expect("taken once").expect("an answer");
    let echo = echo.consume().expect("a response has one body");
    let incoming = request.consume().expect("a request has one body");
    let response = OutgoingResponse::new(Fields::new());
    let body = response.body().expect("a response has one body");
    ResponseOutparam::set(out, Ok(response));

    let mut input = incoming.stream().expect("a body has one stream");
    let mut there = onward_body.write().expect("a body has one stream");
    let mut back = echo.stream().expect("a body has one stream");
    let mut output = body.write().expect("a body has one stream");
    let mut buffer = [0; 4096];
    loop {
        let length = Read::read(&mut input, &mut buffer).expect("the body comes in");
        if length == 0 {
            break;
        }
        there.write_all(&buffer[..length]).expect("the echo reads");
        back.read_exact(&mut buffer[..length]).expect("the echo answers");
        output.write_all(&buffer[..length]).expect("the client reads");
    }
    drop((input, there));
    OutgoingBody::finish(onward_body, trailers_of(incoming)).expect("the body is complete");
    drop((back, output));
    OutgoingBody::finish(body, trailers_of(echo)).expect("the body is complete");
}
