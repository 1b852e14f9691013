//! What one instance owns, and a store made for it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use wasmtime::component::ResourceTable;
use wasmtime::{Engine, Store, UpdateDeadline};
use wasmtime_wasi::clocks::WasiClocksCtx;
use wasmtime_wasi::filesystem::WasiFilesystemCtx;
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView};

use super::container::Container;
use super::memory::Reservation;
use super::runners;
use super::slice::{self, Cut};
use super::slots::{Held, Need, NoSlot};
use crate::host::http::Outgoing;
use crate::host::kept::Kept;
use crate::host::sockets::Sockets;

/// The data of a store: handles of one instance, over a [`Container`] that many share.
pub struct State {
    pub container: Arc<Container>,
    pub table: ResourceTable,
    pub filesystem: WasiFilesystemCtx,
    pub clocks: WasiClocksCtx,
    pub http: WasiHttpCtx,
    pub outgoing: Outgoing,
    pub memory: Reservation,
    pub kept: Kept,
    _slots: Held,
}

impl State {
    /// What `wasi:http` 0.2 works on.
    pub fn http(&mut self) -> WasiHttpCtxView<'_> {
        self.outgoing.in_event_loop = false;
        WasiHttpCtxView { hooks: &mut self.outgoing, table: &mut self.table, ctx: &mut self.http }
    }

    /// What `wasi:sockets` 0.2 works on.
    pub fn sockets(&mut self) -> Sockets<'_> {
        Sockets { table: &mut self.table, network: &self.container.network }
    }

    /// What `wasi:http` 0.3 works on.
    pub fn http_p3(&mut self) -> WasiHttpCtxView<'_> {
        self.outgoing.in_event_loop = true;
        WasiHttpCtxView { hooks: &mut self.outgoing, table: &mut self.table, ctx: &mut self.http }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.container.counters.instances.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A trap that ends a guest from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

/// A store for one instance of `container` that is made of what `need` says, with all of its limits in place.
///
/// # Errors
/// [`NoSlot`].
pub fn new_store(engine: &Engine, container: &Arc<Container>, need: Need) -> Result<Store<State>, NoSlot> {
    let slots = container.slots.take(need)?;
    container.counters.instances.fetch_add(1, Ordering::Relaxed);
    let mut table = ResourceTable::new();
    table.set_max_capacity(container.limits.resources);
    let mut http = WasiHttpCtx::new();
    http.set_field_size_limit(container.limits.http_fields_bytes);
    let state = State {
        table,
        filesystem: WasiFilesystemCtx::default(),
        clocks: WasiClocksCtx::default(),
        http,
        outgoing: Outgoing { network: container.network.clone(), in_event_loop: false },
        memory: Reservation::new(container.memory.clone(), container.http.memory_wait, need),
        kept: Kept::default(),
        container: container.clone(),
        _slots: slots,
    };
    let mut store = Store::new(engine, state);
    store.limiter_async(|state| &mut state.memory);
    store.set_hostcall_fuel(container.limits.hostcall_fuel);
    // What guests make without asking a function of the host: handles, and with WASI 0.3 streams, futures and tasks.
    store.set_max_component_handles(container.limits.resources);
    if let Some(concurrent) = store.concurrent_resource_table() {
        concurrent.set_max_capacity(container.limits.resources);
    }
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|store| {
        let container = &store.data().container;
        if container.interrupt.is_cancelled() {
            return Err(Interrupted.into());
        }
        // An epoch that ends says nothing of how long this guest has run.
        Ok(match slice::is_over(container.limits.tick) || runners::is_in_the_way() {
            true => UpdateDeadline::YieldCustom(1, Box::pin(Cut::default())),
            false => UpdateDeadline::Continue(1),
        })
    });
    Ok(store)
}
