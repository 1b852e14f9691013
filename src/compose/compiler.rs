//! Where components are compiled: a node chooses, and a control plane compiles for those that are too small to.

use std::fmt;
use std::path::PathBuf;

use anyhow::{Context, Result};
use async_trait::async_trait;
use clap::ValueEnum;
use futures::TryStreamExt;
use http::{HeaderValue, Response, header};
use http_body::Frame;
use http_body_util::StreamBody;
use k8w_apiserver::call::Call;
use k8w_apiserver::plugins;
use k8w_apiserver::status::{Cause, Status};
use k8w_apiserver::{ApiServer, Body};
use k8w_runtime::engine::EngineError;
use k8w_runtime::identity::{Identity, Joined};
use k8w_runtime::node::usable_memory_bytes;
use k8w_runtime::wasm::compile::client::ControlPlane;
use k8w_runtime::wasm::compile::service::CompileService;
use k8w_runtime::wasm::compile::{Place, Refusal, memory_needed_bytes};
use tokio_util::io::ReaderStream;

/// Machine code that is read and sent at a time.
const CHUNK_BYTES: usize = 64 << 10;
/// When a node that was turned away may come back.
const RETRY_AFTER_SECONDS: u32 = 1;
const MIB: u64 = 1 << 20;

/// Who compiles what a node runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Compile {
    /// The control plane, where the compiler may take more memory than this machine, or its control group, has
    Auto,
    Here,
    ControlPlane,
}

/// What was chosen, and why.
pub(super) struct Compiler {
    pub place: Place,
    why: String,
}

impl fmt::Display for Compiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Place::Here => write!(f, "on this machine{}", self.why),
            Place::ControlPlane(_) => write!(f, "the control plane's{}", self.why),
        }
    }
}

impl Compiler {
    pub fn here() -> Compiler {
        Compiler { place: Place::Here, why: String::new() }
    }

    /// # Errors
    /// When this build cannot do TLS.
    pub fn of_node(wanted: Compile, joined: &Joined, identity: &Identity) -> Result<Compiler> {
        let (is_here, why) = wanted.is_here(usable_memory_bytes(), memory_needed_bytes());
        let place = match is_here {
            true => Place::Here,
            false => Place::ControlPlane(ControlPlane::new(joined.server().clone(), identity.client_config()?)),
        };
        Ok(Compiler { place, why })
    }
}

impl Compile {
    /// Whether a machine that has so much memory compiles itself, and why, where that was not said.
    fn is_here(self, memory_bytes: u64, needed_bytes: u64) -> (bool, String) {
        let is_here = match self {
            Compile::Auto => memory_bytes >= needed_bytes,
            Compile::Here => return (true, String::new()),
            Compile::ControlPlane => return (false, String::new()),
        };
        let (has, needs) = (memory_bytes / MIB, needed_bytes / MIB);
        (is_here, format!(" (it may take {needs} MiB of memory, and there are {has})"))
    }
}

/// Lets `api` compile for nodes, and keep what comes of it in the folder `kept`.
///
/// # Errors
/// When others could write to it.
pub(super) async fn connect(api: &ApiServer, kept: PathBuf) -> Result<()> {
    let shown = kept.display().to_string();
    let service = tokio::task::spawn_blocking(move || CompileService::open(kept)).await?;
    api.connect_compiler(Box::new(ForNodes(service.with_context(|| format!("cannot use {shown}"))?)));
    Ok(())
}

/// The way from the API server to the compiler.
struct ForNodes(CompileService);

#[async_trait]
impl plugins::Compiler for ForNodes {
    async fn compile(&self, call: Call) -> Result<Response<Body>, Status> {
        let query = call.parts.uri.query().unwrap_or_default();
        let code = self.0.compile(&call.user.name, query, call.body).await.map_err(status)?;
        let stream = ReaderStream::with_capacity(code.file, CHUNK_BYTES).map_ok(Frame::data);
        let mut response = Response::new(Body::stream(StreamBody::new(stream)));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        headers.insert(header::CONTENT_LENGTH, code.bytes.into());
        Ok(response)
    }
}

fn status(refusal: Refusal) -> Status {
    let mut status = match &refusal {
        Refusal::Malformed(why) => Status::bad_request(why),
        Refusal::Busy => Status::too_many_requests(refusal.to_string(), RETRY_AFTER_SECONDS),
        Refusal::TooLarge(_) => Status::too_much(&refusal),
        Refusal::Engine(EngineError::Internal(why)) => Status::internal(why),
        Refusal::Unlike(_) | Refusal::Engine(_) => Status::unprocessable(refusal.to_string()),
    };
    if let Some((reason, message)) = refusal.cause() {
        let cause = Cause { reason, message: message.to_owned(), ..Cause::default() };
        status.details.get_or_insert_default().causes = vec![cause];
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_is_too_small_has_the_control_plane_compile() {
        let chosen = |wanted: Compile, has: u64| wanted.is_here(has << 20, 4096 << 20);
        for (has, is_here) in [(0, false), (4095, false), (4096, true), (65536, true)] {
            assert_eq!(chosen(Compile::Auto, has).0, is_here, "{has}");
            assert_eq!(chosen(Compile::Here, has), (true, String::new()));
            assert_eq!(chosen(Compile::ControlPlane, has), (false, String::new()));
        }
        let (_, why) = chosen(Compile::Auto, 512);
        assert_eq!(why, " (it may take 4096 MiB of memory, and there are 512)");
    }

    #[test]
    fn refusals_are_statuses() {
        for (refusal, code, message) in [
            (Refusal::Malformed("no".to_owned()), 400, "no"),
            (Refusal::Busy, 429, "too many requests for machine code, please try again later"),
            (Refusal::TooLarge(3), 413, "Request entity too large: a component may have 3 bytes"),
            (Refusal::Unlike("it is another".to_owned()), 422, "it is another"),
            (
                Refusal::Engine(EngineError::InvalidModule("it is short".to_owned())),
                422,
                "image is not a valid WebAssembly component or module: it is short",
            ),
            (Refusal::Engine(EngineError::Internal("no disk".to_owned())), 500, "Internal error occurred: no disk"),
        ] {
            let status = status(refusal);
            assert_eq!((status.code, status.message.as_str()), (code, message));
        }
    }
}
