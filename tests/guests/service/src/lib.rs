//! A server of the world `k8w:pod/service` that answers for itself: it is ready once it has a greeting.

wit_bindgen::generate!({
    path: "../../../wit/pod",
    inline: "
        package k8w:service;

        world service {
            include k8w:pod/service@0.1.1;
            include k8w:pod/probed@0.1.1;
        }
    ",
    generate_all,
});

use exports::k8w::pod::probes;
use exports::wasi::http0_2_12::incoming_handler;
use wasi::http0_2_12::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};
use wasi::logging::logging::{self, Level};

struct Service;

export!(Service);

impl incoming_handler::Guest for Service {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let greeting = greeting().unwrap_or_default();
        let path = request.path_with_query().unwrap_or_default();
        logging::log(Level::Info, "service", &path);
        let response = OutgoingResponse::new(Fields::new());
        let body = response.body().expect("a response has one body");
        ResponseOutparam::set(out, Ok(response));
        let stream = body.write().expect("a body has one stream");
        stream.blocking_write_and_flush(format!("{greeting} from Rust: {path}\n").as_bytes()).expect("the client reads");
        drop(stream);
        OutgoingBody::finish(body, None).expect("the body is complete");
    }
}

fn greeting() -> Option<String> {
    wasi::config::store::get("GREETING").ok().flatten()
}

impl probes::Guest for Service {
    fn started() -> Result<(), String> {
        Ok(())
    }

    fn ready() -> Result<(), String> {
        greeting().map(drop).ok_or_else(|| "there is no GREETING to answer with".to_owned())
    }

    fn live() -> Result<(), String> {
        Ok(())
    }
}
