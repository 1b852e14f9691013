//! One call of a component's http handler, from its request to the return of the guest.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::HOST;
use http::uri::{Authority, Scheme};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::sync::oneshot;
use wasmtime::Store;
use wasmtime::component::Accessor;
use wasmtime_wasi_http::handler::Proxy;
use wasmtime_wasi_http::p2::bindings::http::types as p2_types;
use wasmtime_wasi_http::{Error, WasiBody, p2, p3};

use super::store::State;

/// What a guest answers.
pub type Head = Result<http::Response<WasiBody>, Error>;

/// Calls the handler, and returns when the guest has nothing left to do. `head` gets its answer as soon as it is there.
///
/// # Errors
/// A trap, or what ended the guest.
pub async fn handle<B>(
    store: &mut Store<State>,
    proxy: &Proxy,
    request: http::Request<B>,
    head: oneshot::Sender<Head>,
) -> wasmtime::Result<()>
where
    B: Body<Data = Bytes, Error = Error> + Send + 'static,
{
    match proxy {
        Proxy::P2(proxy) => handle_p2(store, proxy, request, head).await,
        Proxy::P3(service) => handle_p3(store, service, request, head).await,
    }
}

async fn handle_p2<B>(
    store: &mut Store<State>,
    proxy: &p2::bindings::Proxy,
    request: http::Request<B>,
    head: oneshot::Sender<Head>,
) -> wasmtime::Result<()>
where
    B: Body<Data = Bytes, Error = Error> + Send + 'static,
{
    let mut view = store.data_mut().http();
    let request = view.new_incoming_request(p2_types::Scheme::Http, request)?;
    let out = view.new_response_outparam_from_callback(|answer| {
        // Nobody waits any more: the client is gone.
        let _ = head.send(answer.map_err(Error::from));
    })?;
    proxy.wasi_http_incoming_handler().call_handle(store, request, out).await
}

async fn handle_p3<B>(
    store: &mut Store<State>,
    service: &p3::bindings::Service,
    request: http::Request<B>,
    head: oneshot::Sender<Head>,
) -> wasmtime::Result<()>
where
    B: Body<Data = Bytes, Error = Error> + Send + 'static,
{
    // The header is none of those that a guest sees.
    let host = request.headers().get(HOST).and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let view = store.data_mut().http_p3();
    let (mut request, request_read) = p3::Request::from_http(view.hooks, request);
    request.scheme.get_or_insert(Scheme::HTTP);
    request.authority = request.authority.or(host);
    let request = view.table.push(request)?;
    let call = async |accessor: &Accessor<State>| {
        let response = match service.wasi_http_handler().call_handle(accessor, request).await? {
            Ok(response) => response,
            Err(code) => {
                let _ = head.send(Err(code.into()));
                return Ok(());
            }
        };
        let response = accessor.with(|mut store| {
            let response = store.get().table.delete(response)?;
            response.into_http_with_getter(&mut store, request_read, State::http_p3)
        })?;
        let (unread, read) = oneshot::channel();
        let _ = head.send(Ok(response.map(|body| ReadBody { body, unread: Some(unread) }.boxed_unsync())));
        // A stream of the host that the guest gave as its body flows only while its store runs.
        let _ = read.await;
        std::future::poll_fn(|cx| accessor.poll_no_interesting_tasks(cx)).await;
        Ok(())
    };
    store.run_concurrent(call).await?
}

/// A body that tells when it has been read to its end, or nobody reads it any more.
struct ReadBody {
    body: WasiBody,
    unread: Option<oneshot::Sender<()>>,
}

impl Body for ReadBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if frame.is_none() {
            self.unread = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
