//! A server of WASI 0.3 that asks the Kubernetes API for the pods of its namespace, as its service account, and passes on the
//! answer piece by piece. The path names the host that is asked.

use wasip3::filesystem::types::{Descriptor, DescriptorFlags, OpenFlags, PathFlags};
use wasip3::http::client;
use wasip3::http::types::{ErrorCode, Fields, Request, Response, Scheme};
use wasip3::wit_future;

/// Where Kubernetes puts a pod's token.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

struct Server;

wasip3::http::service::export!(Server);

impl wasip3::exports::http::handler::Guest for Server {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let path = request.get_path_with_query().unwrap_or_default();
        let asked = client::send(list_pods(path.trim_start_matches('/')).await).await?;
        let status = asked.get_status_code();
        let (_, done) = wit_future::new(|| Ok(()));
        let (body, trailers) = Response::consume_body(asked, done);
        let answer = Response::new(Fields::new(), Some(body), trailers).0;
        answer.set_status_code(status).expect("a status");
        Ok(answer)
    }
}

async fn list_pods(host: &str) -> Request {
    let headers = Fields::new();
    let token = format!("Bearer {}", read("token").await);
    headers.append("authorization", token.as_bytes()).expect("a header");
    headers.append("accept", b"application/json").expect("a header");
    let (_, no_trailers) = wit_future::new(|| Ok(None));
    let request = Request::new(headers, None, no_trailers, None).0;
    request.set_scheme(Some(&Scheme::Https)).expect("a scheme");
    request.set_authority(Some(host)).expect("an authority");
    let path = format!("/api/v1/namespaces/{}/pods", read("namespace").await);
    request.set_path_with_query(Some(&path)).expect("a path");
    request
}

/// A file of the service account.
async fn read(name: &str) -> String {
    let directories = wasip3::filesystem::preopens::get_directories();
    let (directory, _): &(Descriptor, String) =
        directories.iter().find(|(_, path)| path == ACCOUNT).expect("the account's volume is mounted");
    let file = directory.open_at(PathFlags::SYMLINK_FOLLOW, name.to_owned(), OpenFlags::empty(), DescriptorFlags::READ);
    let (contents, ended) = file.await.expect("a file of the account").read_via_stream(0);
    let bytes = contents.collect().await;
    ended.await.expect("it can be read");
    String::from_utf8(bytes).expect("text").trim().to_owned()
}
