//! `wasi:sockets/ip-name-lookup` 0.3: names as the pod knows them (see [`names`]).

use k8w_networking::dns::Unresolved;
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
        let network = accessor.with(|mut store| store.get().container.network.clone());
        let found = match names::look_up(&network, &name) {
            Answer::Known(addresses) => Ok(addresses),
            Answer::NoSuchName => Err(Unresolved::NoSuchName),
            // As a resolver whose questions get lost on their way.
            Answer::NoResolver => Err(Unresolved::NoAnswer),
            Answer::Ask(candidates) => names::ask(&network, candidates).await,
        };
        Ok(match found {
            Ok(addresses) if !addresses.is_empty() => Ok(addresses.into_iter().map(IpAddress::from).collect()),
            Ok(_) | Err(Unresolved::NoSuchName) => Err(ErrorCode::NameUnresolvable),
            Err(Unresolved::NoAnswer) => Err(ErrorCode::TemporaryResolverFailure),
        })
    }
}
