//! The end of the chain: answers with its own name and the path it was asked for.

use wasip2::cli::environment::get_environment;
use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

struct Back;

impl wasip2::exports::http::incoming_handler::Guest for Back {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_else(|| "/".into());
        let pod = get_environment().into_iter().find(|(name, _)| name == "POD_NAME").map(|(_, value)| value);
        let pod = pod.as_deref().unwrap_or("back");
        let response = OutgoingResponse::new(Fields::new());
        let Ok(outgoing) = response.body() else { return };
        ResponseOutparam::set(out, Ok(response));
        if let Ok(stream) = outgoing.write() {
            let _ = stream.blocking_write_and_flush(format!("{pod} heard {path}\n").as_bytes());
        }
        let _ = OutgoingBody::finish(outgoing, None);
    }
}

wasip2::http::proxy::export!(Back);
