//! `wasi:sockets/ip-name-lookup`: cluster names from the network's tables, others from the node's resolver.

use std::net::IpAddr;
use std::sync::Arc;

use k8w_networking::Lookup;
use wasmtime::component::Resource;
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};
use wasmtime_wasi::runtime::{AbortOnDropJoinHandle, spawn};

use super::wit::ip_name_lookup::{Host, HostResolveAddressStream};
use super::wit::network::{ErrorCode, IpAddress};
use super::{NetworkHandle, SocketResult, trap};
use crate::wasm::container::Container;
use crate::wasm::store::State;

/// Longest name that is looked up (RFC 1035 §2.3.4).
const MAX_NAME_BYTES: usize = 255;
/// An ExternalName Service may name another one; a longer chain is a mistake.
const MAX_ALIASES: usize = 8;

type Found = Result<std::vec::IntoIter<IpAddr>, ErrorCode>;

/// The answer to one look-up: there, or on its way from the node's resolver.
pub enum Addresses {
    Found(Found),
    Asking(AbortOnDropJoinHandle<Found>),
}

#[async_trait::async_trait]
impl Pollable for Addresses {
    async fn ready(&mut self) {
        if let Addresses::Asking(asking) = self {
            *self = Addresses::Found(asking.await);
        }
    }
}

fn resolve(container: &Arc<Container>, mut name: String) -> Addresses {
    for _ in 0..MAX_ALIASES {
        match container.network.lookup_host(&container.pod.namespace, &name) {
            Lookup::Addresses(addresses) => return Addresses::Found(Ok(addresses.into_iter())),
            Lookup::NoSuchName => return Addresses::Found(Err(ErrorCode::NameUnresolvable)),
            Lookup::Alias(target) => name = target,
            Lookup::NotCluster => return Addresses::Asking(spawn(ask_resolver(name))),
        }
    }
    Addresses::Found(Err(ErrorCode::NameUnresolvable))
}

async fn ask_resolver(name: String) -> Found {
    let found = tokio::net::lookup_host((name, 0)).await.map_err(|_| ErrorCode::NameUnresolvable)?;
    let mut addresses: Vec<IpAddr> = found.map(|address| address.ip()).collect();
    addresses.dedup();
    Ok(addresses.into_iter())
}

impl Host for State {
    fn resolve_addresses(
        &mut self,
        network: Resource<NetworkHandle>,
        name: String,
    ) -> SocketResult<Resource<Addresses>> {
        self.table.get(&network).map_err(trap)?;
        if name.is_empty() || name.len() > MAX_NAME_BYTES {
            return Err(ErrorCode::InvalidArgument.into());
        }
        let addresses = resolve(&self.container, name);
        if let Addresses::Found(Err(code)) = &addresses {
            return Err((*code).into());
        }
        self.table.push(addresses).map_err(trap)
    }
}

impl HostResolveAddressStream for State {
    fn resolve_next_address(&mut self, stream: Resource<Addresses>) -> SocketResult<Option<IpAddress>> {
        let addresses = self.table.get_mut(&stream).map_err(trap)?;
        if let Addresses::Asking(asking) = addresses
            && let Some(found) = wasmtime_wasi::runtime::poll_noop(std::pin::Pin::new(asking))
        {
            *addresses = Addresses::Found(found);
        }
        match addresses {
            Addresses::Asking(_) => Err(ErrorCode::WouldBlock.into()),
            Addresses::Found(Ok(found)) => Ok(found.next().map(IpAddress::from)),
            Addresses::Found(Err(code)) => Err((*code).into()),
        }
    }

    fn subscribe(&mut self, stream: Resource<Addresses>) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(&mut self.table, stream)
    }

    fn drop(&mut self, stream: Resource<Addresses>) -> wasmtime::Result<()> {
        self.table.delete(stream)?;
        Ok(())
    }
}
