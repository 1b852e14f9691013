//! A server of the world `k8w:pod/service-p3` that answers for itself.

wit_bindgen::generate!({
    path: "../../../wit/pod",
    inline: "
        package k8w:service-p3;

        world service {
            include k8w:pod/service-p3@0.1.1;
            include k8w:pod/probed@0.1.1;
        }
    ",
    generate_all,
});

use exports::k8w::pod::probes;
use exports::wasi::http0_3_0::handler;
use wasi::http0_3_0::types::{ErrorCode, Fields, Request, Response};

struct Service;

export!(Service);

impl handler::Guest for Service {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let greeting = wasi::config::store::get("GREETING").ok().flatten().unwrap_or_default();
        let path = request.get_path_with_query().unwrap_or_default();
        let (mut writer, body) = wit_stream::new();
        wit_bindgen::spawn_local(async move {
            writer.write_all(format!("{greeting} from Rust: {path}\n").into_bytes()).await;
        });
        let (_, trailers) = wit_future::new(|| Ok(None));
        Ok(Response::new(Fields::new(), Some(body), trailers).0)
    }
}

impl probes::Guest for Service {
    fn started() -> Result<(), String> {
        Ok(())
    }

    fn ready() -> Result<(), String> {
        Ok(())
    }

    fn live() -> Result<(), String> {
        Ok(())
    }
}
