//! The kernel's side: pods of this node and Services, reachable by the addresses that the API shows, from this machine,
//! from its network namespaces and from whoever else routes to it.
//!
//! ```text
//! client ─ route `local RANGE dev lo` ─ nftables: is `address . port` in a set? ─┬─ TPROXY ─ a listener ─ stack.rs
//!                                                                               └─ refused
//! ```
//!
//! The kernel takes the ranges for its own (AnyIP), so that no pod needs an interface and nothing that is sent to them
//! leaves the machine. The sets let through what pods and tables have; few transparent sockets take all of it, so that
//! neither sockets nor rules grow with idle pods. What comes in goes through the very tables that host functions ask:
//! there balance, affinity, traffic policies and NetworkPolicies are decided on, and nowhere else.
//!
//! Everything is in one nftables table and under one routing protocol number. It is removed on a clean stop; what a run
//! before left behind is replaced on start, and what somebody else removes is put back.

mod claim;
mod listen;
mod program;
mod routes;
mod rules;
mod state;
mod udp;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::Ipv4Net;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::claim::Claim;
use self::state::State;
pub(crate) use self::udp::Answers;
use crate::network::Network;
use crate::origin::Origin;
use crate::{accept, stack};

/// Why the kernel's side is not there.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("it takes the privilege CAP_NET_ADMIN")]
    Privilege(#[source] io::Error),
    #[error("another k8w has this machine's kernel network")]
    Claimed(#[source] io::Error),
    #[error("{range} is routed to {device} already; choose other addresses with {option}")]
    Routed { range: Ipv4Net, device: String, option: &'static str },
    #[error("the kernel's network is for IPv4 ranges of at least 8 addresses")]
    Ranges,
    #[error("cannot listen for what the kernel leads here")]
    Listen(#[from] io::Error),
    #[error("the program {program} cannot be run")]
    Missing { program: &'static str, source: io::Error },
    #[error("{program} failed: {said}")]
    Failed { program: &'static str, said: String },
}

/// The kernel's side of a network.
pub struct Kernel {
    network: Arc<Network>,
    sockets: listen::Sockets,
    state: State,
    answers: Arc<Answers>,
    _claim: Claim,
}

impl Kernel {
    /// Sets up routes and rules, in place of what a run before left.
    ///
    /// # Errors
    /// Without the privilege or the programs `ip` and `nft`, beside another cluster, and where the ranges lead elsewhere.
    /// Nothing stays behind then.
    pub async fn open(network: Arc<Network>) -> Result<Self, Error> {
        let sockets = listen::Sockets::open()?;
        let claim = Claim::take()?;
        let ports = sockets.ports()?;
        let state = State::new(&network, ports)?;
        state.check().await?;
        let set_up = async {
            state.install().await?;
            Ok::<_, Error>(Arc::new(Answers::open(state.unused_address())?))
        };
        match set_up.await {
            Ok(answers) => Ok(Self { network, sockets, state, answers, _claim: claim }),
            Err(error) => {
                let _ = state.remove().await;
                Err(error)
            }
        }
    }

    /// Serves what comes in until `stop`, and removes everything when open connections have had a while to end.
    ///
    /// # Errors
    /// When something could not be removed.
    pub async fn serve(self, stop: CancellationToken) -> Result<(), Error> {
        let Self { network, sockets, mut state, answers, _claim } = self;
        let accepting = |listener: TcpListener, is_host: bool| {
            let (network, stop) = (network.clone(), stop.clone());
            async move {
                accept::connections(listener, stop.clone(), |socket, peer| {
                    let (network, stop) = (network.clone(), stop.clone());
                    async move {
                        // The address that the client asked for is this end's own.
                        if let Ok(to) = socket.local_addr() {
                            let door = stack::Door::Port(stack::Port::Kernel { to, is_host });
                            stack::connection(network, door, socket, peer, stop).await;
                        }
                    }
                })
                .await;
            }
        };
        tokio::join!(
            accepting(sockets.from_host, true),
            accepting(sockets.from_elsewhere, false),
            udp::serve(&network, &sockets.datagrams, &answers, &stop),
            state.follow(&network, &stop),
        );
        state.remove().await
    }
}

/// Who a client is that came by the kernel to `to`.
pub(crate) fn origin(network: &Network, peer: IpAddr, to: IpAddr, is_host: bool) -> Origin<'static> {
    match is_host {
        true => Origin::Host(peer),
        // Who comes from outside to an address for the outside finds what a load balancer's clients find.
        false if !network.is_cluster_address(to) && !network.is_cluster_address(peer) => Origin::Outside(peer),
        false => Origin::Visitor(peer),
    }
}
