//! `wasi:sockets/ip-name-lookup` 0.3: names as the pod knows them (see [`names`]).

use std::net::IpAddr;

use wasmtime::component::{Accessor, HasSelf};

use super::wit::ip_name_lookup::{ErrorCode, Host, HostWithStore};
use super::wit::types::IpAddress;
use crate::host::names::{self, Answer};
use crate::wasm::store::State;

impl Host for State {}

impl HostWithStore<State> for HasSelf<State> {
    async fn resolve_addresses(
        accessor: &Accessor<State, Self>,
        name: String,
    ) -> wasmtime::Result<Result<Vec<IpAddress>, ErrorCode>> {
        if name.is_empty() || name.len() > names::MAX_NAME_BYTES {
            return Ok(Err(ErrorCode::InvalidArgument));
        }
        let answer = accessor.with(|mut store| names::look_up(&store.get().container.network, &name));
        let found: Option<Vec<IpAddr>> = match answer {
            Answer::Known(addresses) => Some(addresses),
            Answer::NoSuchName => None,
            // As a resolver whose questions get lost on their way.
            Answer::NoResolver => return Ok(Err(ErrorCode::TemporaryResolverFailure)),
            Answer::Ask(candidates) => names::ask(candidates).await,
        };
        let found = found.filter(|addresses| !addresses.is_empty());
        Ok(found
            .map(|addresses| addresses.into_iter().map(IpAddress::from).collect())
            .ok_or(ErrorCode::NameUnresolvable))
    }
}
