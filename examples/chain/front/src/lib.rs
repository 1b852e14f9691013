//! The start of the chain: asks `back` by its Service name and streams the answer on to its own caller.

use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingRequest, IncomingResponse, OutgoingBody, OutgoingRequest, OutgoingResponse,
    ResponseOutparam, Scheme,
};
use wasip2::io::streams::StreamError;

/// Where `back` is found: its Service in the namespace `default`.
const BACK: &str = "back.default.svc.cluster.local";

/// How much of a body is passed on at a time.
const CHUNK_BYTES: u64 = 64 * 1024;

struct Front;

impl wasip2::exports::http::incoming_handler::Guest for Front {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_else(|| "/".into());
        match ask_back(&path) {
            Ok(answer) => pass_on(answer, out),
            Err(error) => ResponseOutparam::set(out, Err(error)),
        }
    }
}

fn ask_back(path: &str) -> Result<IncomingResponse, ErrorCode> {
    let request = OutgoingRequest::new(Fields::new());
    let refused = |()| ErrorCode::HttpRequestUriInvalid;
    request.set_scheme(Some(&Scheme::Http)).map_err(refused)?;
    request.set_authority(Some(BACK)).map_err(refused)?;
    request.set_path_with_query(Some(path)).map_err(refused)?;
    OutgoingBody::finish(request.body().map_err(refused)?, None)?;
    let answer = outgoing_handler::handle(request, None)?;
    answer.subscribe().block();
    answer.get().and_then(Result::ok).unwrap_or(Err(ErrorCode::InternalError(None)))
}

fn pass_on(answer: IncomingResponse, out: ResponseOutparam) {
    let response = OutgoingResponse::new(Fields::new());
    let _ = response.set_status_code(answer.status());
    let (Ok(incoming), Ok(outgoing)) = (answer.consume(), response.body()) else { return };
    ResponseOutparam::set(out, Ok(response));
    if let (Ok(from), Ok(to)) = (incoming.stream(), outgoing.write()) {
        let _ = to.blocking_write_and_flush(b"front asked, ");
        loop {
            match to.blocking_splice(&from, CHUNK_BYTES) {
                Ok(_) => {}
                Err(StreamError::Closed) => break,
                // The caller or `back` went away: ending without `finish` tells the other side.
                Err(StreamError::LastOperationFailed(_)) => return,
            }
        }
        let _ = to.blocking_flush();
    }
    let _ = OutgoingBody::finish(outgoing, None);
}

wasip2::http::proxy::export!(Front);
