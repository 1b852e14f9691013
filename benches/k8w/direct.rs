//! The peer that bounds the engine: wasmtime and its own WASI, with nothing of a node around them.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use tokio::sync::oneshot;
use wasmtime::component::{Component, GuestTaskId, Linker, ResourceTable};
use wasmtime::{
    Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Result, Store, StoreContextMut,
    UpdateDeadline, bail, format_err,
};
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::handler::{
    HandlerState, Instance, Proxy, ProxyHandler, ProxyPre, ShouldAccept, WorkerExpiration, WorkerState, WorkerStatus,
};
use wasmtime_wasi_http::p2::{self, bindings::http::types::Scheme};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView};

/// Live instances that there is room for.
const INSTANCES: u32 = 256;
const MEMORY_BYTES: usize = 4 << 30;
/// Between two epochs.
const TICK: Duration = Duration::from_millis(1);

/// A server's component, linked. Every request gets an instance of its own.
#[derive(Clone)]
pub struct Direct {
    pre: Arc<ProxyPre<Host>>,
    world: Arc<World>,
    /// Where there are none, the code has no checks for them either.
    epochs: Option<Arc<Epochs>>,
}

/// What a guest is given.
#[derive(Default)]
pub struct World {
    pub env: Vec<(String, String)>,
    /// Directories of the host, and where the guest sees them.
    pub preopens: Vec<(PathBuf, String)>,
}

/// A thread that advances the epoch until this is dropped.
struct Epochs(Arc<AtomicBool>);

impl Epochs {
    fn start(engine: Engine) -> Epochs {
        let ended = Arc::new(AtomicBool::new(false));
        let this = Epochs(ended.clone());
        std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                std::thread::sleep(TICK);
                engine.increment_epoch();
            }
        });
        this
    }
}

impl Drop for Epochs {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Direct {
    pub fn new(wasm: &[u8], world: World, epochs: bool) -> Result<Direct> {
        let mut pool = PoolingAllocationConfig::new();
        pool.total_component_instances(INSTANCES)
            .total_core_instances(4 * INSTANCES)
            .total_memories(INSTANCES)
            .total_tables(4 * INSTANCES)
            .total_stacks(INSTANCES)
            .max_memory_size(MEMORY_BYTES)
            .linear_memory_keep_resident(64 << 10)
            .table_keep_resident(64 << 10)
            .pagemap_scan(wasmtime::Enabled::Auto);
        let mut config = Config::new();
        config.wasm_component_model(true);
        config.concurrency_support(true);
        config.epoch_interruption(epochs);
        config.memory_reservation(MEMORY_BYTES as u64);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        let engine = Engine::new(&config)?;
        let mut linker: Linker<Host> = Linker::new(&engine);
        p2::add_to_linker_async(&mut linker)?;
        // What the proxy's world does not have.
        linker.allow_shadowing(true);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        let pre = linker.instantiate_pre(&Component::new(&engine, wasm)?)?;
        let pre = ProxyPre::P2(p2::bindings::ProxyPre::new(pre)?);
        let epochs = epochs.then(|| Arc::new(Epochs::start(engine)));
        Ok(Direct { pre: Arc::new(pre), world: Arc::new(world), epochs })
    }

    /// A new store with everything that a guest is given.
    pub fn store(&self) -> Result<Store<Host>> {
        let mut wasi = WasiCtxBuilder::new();
        wasi.envs(&self.world.env);
        for (host, guest) in &self.world.preopens {
            wasi.preopened_dir(host, guest, FsPerms::ReadWrite)?;
        }
        let host =
            Host { table: ResourceTable::new(), wasi: wasi.build(), http: WasiHttpCtx::new(), hooks: NoRequests };
        let ProxyPre::P2(pre) = &*self.pre else { bail!("the component is of WASI 0.2") };
        let mut store = Store::new(pre.engine(), host);
        if self.epochs.is_some() {
            store.set_epoch_deadline(1);
            store.epoch_deadline_callback(|_| Ok(UpdateDeadline::Yield(1)));
        }
        Ok(store)
    }

    pub async fn instantiate(&self, store: &mut Store<Host>) -> Result<Proxy> {
        self.pre.instantiate_async(store).await
    }

    /// A request from store to answer, in the caller's own task.
    pub async fn call(&self) -> Result<()> {
        let mut store = self.store()?;
        let Proxy::P2(proxy) = self.instantiate(&mut store).await? else { bail!("the component is of WASI 0.2") };
        let (sender, answer) = oneshot::channel();
        let mut view = store.data_mut().http();
        let request = view.new_incoming_request(Scheme::Http, request()?)?;
        let out = view.new_response_outparam(sender)?;
        proxy.wasi_http_incoming_handler().call_handle(&mut store, request, out).await?;
        let answer = answer.await?.map_err(|code| format_err!("the answer is {code:?}"))?;
        read(answer).await
    }

    /// What wasmtime has for servers.
    pub fn handler(&self) -> Handler {
        Handler(ProxyHandler::new(self.clone()))
    }
}

/// `ProxyHandler` as `wasmtime serve` has it, an instance per request.
pub struct Handler(ProxyHandler<Direct>);

impl Handler {
    pub async fn call(&self) -> Result<()> {
        read(self.0.handle((), request()?).await?).await
    }
}

fn request() -> Result<http::Request<WasiBody>> {
    let body = Empty::<Bytes>::new().map_err(|never| match never {}).boxed_unsync();
    Ok(http::Request::get("http://hello/").body(body)?)
}

async fn read(answer: http::Response<WasiBody>) -> Result<()> {
    let status = answer.status();
    answer.into_body().collect().await.map_err(|error| format_err!("no whole answer: {error}"))?;
    if status.is_success() { Ok(()) } else { bail!("the answer is {status}") }
}

/// What a store has.
pub struct Host {
    table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    hooks: NoRequests,
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for Host {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.hooks, table: &mut self.table, ctx: &mut self.http }
    }
}

/// Guests make no requests of their own.
struct NoRequests;

type Done = Box<dyn Future<Output = Result<(), Error>> + Send>;

impl WasiHttpHooks for NoRequests {
    fn send_request(
        &mut self,
        _request: http::Request<WasiBody>,
        _options: Option<RequestOptions>,
        _response_done: Done,
    ) -> Box<dyn Future<Output = Result<(http::Response<WasiBody>, Done), Error>> + Send> {
        Box::new(async { Err(Error::ConnectionRefused) })
    }
}

impl HandlerState for Direct {
    type StoreData = Host;
    type WorkerExpiration = Never;
    type WorkerState = Once;

    async fn instantiate(&self) -> Result<Instance<Host, Never, Once>> {
        let mut store = self.store()?;
        let proxy = self.pre.instantiate_async(&mut store).await?;
        Ok(Instance { store, proxy, view: WasiHttpView::http, expiration: Never, state: Once })
    }
}

/// A worker that waits for its guest as long as that takes.
pub struct Never;

impl WorkerExpiration for Never {
    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>, status: WorkerStatus, _: Instant) -> Poll<()> {
        if status == WorkerStatus::Idle { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// A worker that serves one request.
pub struct Once;

impl WorkerState for Once {
    type StoreData = Host;
    type RequestData = ();

    fn should_accept_request(&self, _: usize, total: usize) -> ShouldAccept {
        if total >= 1 { ShouldAccept::Never } else { ShouldAccept::Yes }
    }

    fn on_request_start(
        &self,
        _: StoreContextMut<'_, Host>,
        (): (),
        _: GuestTaskId,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + Sync>> {
        Box::pin(std::future::pending())
    }

    fn drop(&self, store: Store<Host>, _: Result<()>) {
        drop(store);
    }
}
