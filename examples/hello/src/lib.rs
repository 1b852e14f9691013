//! Answers every HTTP request with a greeting that names the pod which served it.

use wasip2::cli::environment::get_environment;
use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

struct Hello;

impl wasip2::exports::http::incoming_handler::Guest for Hello {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_else(|| "/".into());
        let pod = get_environment().into_iter().find(|(name, _)| name == "POD_NAME").map(|(_, value)| value);
        let greeting = match pod {
            Some(pod) => format!("Hello from {pod}: you asked for {path}\n"),
            None => format!("Hello: you asked for {path}\n"),
        };
        respond(out, greeting.as_bytes());
    }
}

/// Sends a 200 with a plain-text body. A client that has gone away is no error of ours.
fn respond(out: ResponseOutparam, body: &[u8]) {
    let headers = Fields::new();
    let _ = headers.append("content-type", b"text/plain; charset=utf-8");
    let response = OutgoingResponse::new(headers);
    let Ok(outgoing) = response.body() else { return };
    ResponseOutparam::set(out, Ok(response));
    if let Ok(stream) = outgoing.write() {
        let _ = stream.blocking_write_and_flush(body);
    }
    let _ = OutgoingBody::finish(outgoing, None);
}

wasip2::http::proxy::export!(Hello);
