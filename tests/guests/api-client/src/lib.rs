//! A server that asks the Kubernetes API for the pods of its namespace, as its service account, and passes on the answer. The
//! path names the host that is asked.

use std::io::{Read, Write};

use wasip2::filesystem::types::{Descriptor, DescriptorFlags, OpenFlags, PathFlags};
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    Fields, IncomingRequest, OutgoingBody, OutgoingRequest, OutgoingResponse, ResponseOutparam, Scheme,
};

/// Where Kubernetes puts a pod's token.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

struct Server;

wasip2::http::proxy::export!(Server);

impl wasip2::exports::http::incoming_handler::Guest for Server {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        let (status, text) = list_pods(path.trim_start_matches('/'));
        let response = OutgoingResponse::new(Fields::new());
        response.set_status_code(status).expect("a status");
        let body = response.body().expect("a response has one body");
        ResponseOutparam::set(out, Ok(response));
        let mut stream = body.write().expect("a body has one stream");
        stream.write_all(text.as_bytes()).expect("the client reads");
        drop(stream);
        OutgoingBody::finish(body, None).expect("the body is complete");
    }
}

/// Status and body of the API server's answer; 502 and an error code when there is none.
fn list_pods(host: &str) -> (u16, String) {
    let headers = Fields::new();
    headers.append("authorization", format!("Bearer {}", read("token")).as_bytes()).expect("a header");
    headers.append("accept", b"application/json").expect("a header");
    let request = OutgoingRequest::new(headers);
    request.set_scheme(Some(&Scheme::Https)).expect("a scheme");
    request.set_authority(Some(host)).expect("an authority");
    let path = format!("/api/v1/namespaces/{}/pods", read("namespace"));
    request.set_path_with_query(Some(&path)).expect("a path");
    let answer = outgoing_handler::handle(request, None).expect("a request that can be sent");
    answer.subscribe().block();
    match answer.get().expect("ready").expect("taken once") {
        Ok(response) => {
            let body = response.consume().expect("a response has one body");
            let mut stream = body.stream().expect("a body has one stream");
            let mut text = String::new();
            Read::read_to_string(&mut stream, &mut text).expect("the body comes in");
            (response.status(), text)
        }
        Err(code) => (502, format!("{code:?}")),
    }
}

/// A file of the service account.
fn read(name: &str) -> String {
    let directories = wasip2::filesystem::preopens::get_directories();
    let (directory, _): &(Descriptor, String) =
        directories.iter().find(|(_, path)| path == ACCOUNT).expect("the account's volume is mounted");
    let file = directory.open_at(PathFlags::SYMLINK_FOLLOW, name, OpenFlags::empty(), DescriptorFlags::READ);
    let mut text = String::new();
    file.expect("a file of the account").read_via_stream(0).expect("it can be read").read_to_string(&mut text).expect("text");
    text.trim().to_owned()
}
