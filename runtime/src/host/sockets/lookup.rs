//! `wasi:sockets/ip-name-lookup`: names as the pod knows them (see [`names`]).

use std::net::IpAddr;
use std::sync::Arc;

use k8w_networking::dns::Unresolved;
use wasmtime::component::Resource;
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};
use wasmtime_wasi::runtime::{AbortOnDropJoinHandle, spawn};

use super::wit::ip_name_lookup::{Host, HostResolveAddressStream};
use super::wit::network::{ErrorCode, IpAddress};
use super::{NetworkHandle, SocketError, SocketResult, Sockets};
use crate::host::names::{self, Answer};
use crate::host::pod_network::PodNetwork;

type Found = Result<std::vec::IntoIter<IpAddr>, ErrorCode>;

/// The answer to one look-up: there, or on its way from a resolver.
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

fn resolve(network: &Arc<PodNetwork>, name: &str) -> Addresses {
    match names::look_up(network, name) {
        Answer::Known(addresses) => Addresses::Found(Ok(addresses.into_iter())),
        Answer::NoSuchName => Addresses::Found(Err(ErrorCode::NameUnresolvable)),
        // As a resolver whose questions get lost on their way.
        Answer::NoResolver => Addresses::Found(Err(ErrorCode::TemporaryResolverFailure)),
        Answer::Ask(candidates) => {
            let network = network.clone();
            Addresses::Asking(spawn(async move {
                let found = names::ask(&network, candidates).await;
                found.map(Vec::into_iter).map_err(|unresolved| match unresolved {
                    Unresolved::NoSuchName => ErrorCode::NameUnresolvable,
                    Unresolved::NoAnswer => ErrorCode::TemporaryResolverFailure,
                })
            }))
        }
    }
}

impl Host for Sockets<'_> {
    fn resolve_addresses(
        &mut self,
        network: Resource<NetworkHandle>,
        name: String,
    ) -> SocketResult<Resource<Addresses>> {
        self.table.get(&network).map_err(SocketError::trap)?;
        if name.is_empty() || name.len() > names::MAX_NAME_BYTES {
            return Err(ErrorCode::InvalidArgument.into());
        }
        let addresses = resolve(self.network, &name);
        if let Addresses::Found(Err(code)) = &addresses {
            return Err((*code).into());
        }
        self.table.push(addresses).map_err(SocketError::trap)
    }
}

impl HostResolveAddressStream for Sockets<'_> {
    fn resolve_next_address(&mut self, stream: Resource<Addresses>) -> SocketResult<Option<IpAddress>> {
        let addresses = self.table.get_mut(&stream).map_err(SocketError::trap)?;
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
        subscribe(self.table, stream)
    }

    fn drop(&mut self, stream: Resource<Addresses>) -> wasmtime::Result<()> {
        self.table.delete(stream)?;
        Ok(())
    }
}
