//! `wasi:http`: requests that a guest makes go to the node's network, which calls a component of this node in process.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use http_body_util::BodyExt;
use k8w_networking::dns::Unresolved;
use k8w_networking::{Body, HostAddresses, Refused, SendError};
use tokio::time::Sleep;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::runtime::spawn;
use wasmtime_wasi_http::p2::bindings::{LinkOptions, http as wasi};
use wasmtime_wasi_http::p2::types::HostFutureIncomingResponse;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttp, WasiHttpHooks};

use crate::host::WASI;
use crate::host::filesystem::shadow;
use crate::host::kept::{count, fields_bytes};
use crate::host::names::{self, Answer};
use crate::host::pod_network::PodNetwork;
use crate::wasm::store::State;
use wasi::types::{self as wit, HostFutureIncomingResponse as HostFuture};

/// Time-outs of requests that set none (those of wasmtime).
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(600);

/// Most that is copied at once out of a guest that writes a body; of 0.2, two such pieces wait for who reads it.
const BODY_CHUNK_BYTES: usize = 64 << 10;

pub fn types(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasi::types::add_to_linker::<State, WasiHttp>(linker, &LinkOptions::default().into(), State::http)?;
    shadow(linker, |linker| {
        let mut interface = linker.instance(&format!("wasi:http/types@{WASI}"))?;
        interface.func_wrap(
            "[method]future-incoming-response.get",
            |mut store: StoreContextMut<'_, State>, (future,): (Resource<HostFutureIncomingResponse>,)| {
                let state = store.data_mut();
                let got = HostFuture::get(&mut State::http(state), future)?;
                if let Some(Ok(Ok(response))) = &got {
                    state.keep(fields_bytes(&state.table.get(response)?.headers))?;
                }
                Ok((got,))
            },
        )?;
        count!(linker, WASI, wit, State::http, HostOutgoingRequest, OutgoingRequest, "outgoing-request")
    })
}

pub fn outgoing_handler(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasi::outgoing_handler::add_to_linker::<State, WasiHttp>(linker, State::http)
}

/// Where requests of an instance leave it.
pub struct Outgoing {
    pub network: Arc<PodNetwork>,
    /// The request is made within an instance's event loop (WASI 0.3), where no other instance's can run.
    pub in_event_loop: bool,
}

type Done = Box<dyn Future<Output = Result<(), Error>> + Send>;

impl WasiHttpHooks for Outgoing {
    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        BODY_CHUNK_BYTES
    }

    fn p3_outgoing_body_chunk_size(&mut self) -> usize {
        BODY_CHUNK_BYTES
    }

    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _response_done: Done,
    ) -> Box<dyn Future<Output = Result<(http::Response<WasiBody>, Done), Error>> + Send> {
        let network = self.network.clone();
        let (connect, first_byte, between_bytes) = match options {
            Some(options) => (options.connect_timeout, options.first_byte_timeout, options.between_bytes_timeout),
            None => (None, None, None),
        };
        // The network tells no time of connecting from time of waiting, so both are given together.
        let head = connect.unwrap_or_default().saturating_add(first_byte.unwrap_or(DEFAULT_TIMEOUT));
        let between_bytes = between_bytes.unwrap_or(DEFAULT_TIMEOUT);
        let answered = async move {
            let request = request.map(|body| -> Body { body.map_err(Into::into).boxed_unsync() });
            let sent = tokio::time::timeout(head, send(&network, request));
            let response = sent.await.map_err(|_| Error::ConnectionReadTimeout)??;
            let response = response.map(|body| TimedBody { body, between_bytes, sleep: None }.boxed_unsync());
            Ok((response, Box::new(async { Ok(()) }) as Done))
        };
        // The answer of a component of this node is made where it is waited for: in a task of its own.
        if self.in_event_loop { Box::new(spawn(answered)) } else { Box::new(answered) }
    }
}

/// What the pod's own names mean, they mean here as well.
async fn send(network: &PodNetwork, mut request: http::Request<Body>) -> Result<http::Response<Body>, Error> {
    let host = request.uri().host().map(|host| host.trim_matches(['[', ']']));
    let own_host = host.filter(|host| !names::is_the_clusters(network, host)).map(str::to_owned);
    if let Some(host) = own_host {
        let addresses = match names::look_up(network, &host) {
            Answer::Known(addresses) => Ok(addresses),
            Answer::NoSuchName => Err(Unresolved::NoSuchName),
            Answer::NoResolver => Err(Unresolved::NoAnswer),
            Answer::Ask(candidates) => names::ask(network, candidates).await,
        };
        let addresses = addresses.map_err(|unresolved| match unresolved {
            Unresolved::NoSuchName => refusal(SendError::NoSuchName(host)),
            Unresolved::NoAnswer => Error::DnsTimeout,
        })?;
        request.extensions_mut().insert(HostAddresses(addresses));
    }
    network.network.send(Some(&network.pod), request).await.map_err(refusal)
}

/// The network's refusal in the words of `wasi:http/types.error-code`.
fn refusal(error: SendError) -> Error {
    match error {
        SendError::NoHost | SendError::NoPort(_) => Error::HttpRequestUriInvalid,
        SendError::Scheme(_) => Error::HttpProtocolError,
        SendError::InClear => Error::TlsProtocolError,
        SendError::NoSuchName(_) => Error::DnsError { rcode: Some("NXDOMAIN".to_owned()), info_code: None },
        SendError::NoResolver(_) => Error::DnsTimeout,
        SendError::Refused(Refused::NothingListens(_) | Refused::NotAllowed(_) | Refused::SourceRanges { .. }) => {
            Error::ConnectionRefused
        }
        SendError::Refused(Refused::NoEndpoints { .. } | Refused::Stopped { .. }) => Error::DestinationUnavailable,
        other => Error::InternalError(Some(other.to_string())),
    }
}

/// A response's body, with a bound on the time between two of its frames.
struct TimedBody {
    body: Body,
    between_bytes: Duration,
    /// Runs while the body lets its reader wait.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl http_body::Body for TimedBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(frame) => {
                this.sleep = None;
                Poll::Ready(frame.map(|frame| frame.map_err(|error| Error::InternalError(Some(error.to_string())))))
            }
            Poll::Pending => {
                let sleep = this.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(this.between_bytes)));
                sleep.as_mut().poll(cx).map(|()| Some(Err(Error::ConnectionReadTimeout)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}
