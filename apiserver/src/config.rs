//! What an API server must be told.

use crate::admission::pod_security;
use crate::authn::token_file::TokenFile;
use crate::authz;
use crate::outside::{Machine, Outside};
use crate::pki::{ClientCas, TokenKey};
use ipnet::Ipv4Net;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;

/// The API server's settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where cluster IPs are taken from. The first address is the `kubernetes` Service's.
    pub service_cidr: Ipv4Net,
    pub node_port_range: Range<u16>,
    pub cluster_domain: String,
    /// Where the addresses of wasm pods are taken from, which nodes are told.
    pub wasm_cidr: Ipv4Net,
    /// Where pods and others who have no address of it reach this server.
    pub advertise: SocketAddr,
    /// Where it listens, for itself to reach it.
    pub listen: SocketAddr,
    /// Signs and verifies service-account tokens; without it there are none.
    pub token_key: Option<Arc<TokenKey>>,
    /// The cluster's CA as PEM, which client certificates are verified against, for servers that extend the API.
    pub client_ca_pem: Option<String>,
    /// Who else certifies clients.
    pub client_cas: ClientCas,
    /// Users with fixed tokens.
    pub token_file: Option<Arc<TokenFile>>,
    /// Common names of the proxies in front that say who the user is (`X-Remote-User`); their certificates are of
    /// those who certify clients.
    pub request_header_names: Vec<String>,
    /// Who decides what users may do, in this order.
    pub authorization: Vec<authz::Mode>,
    /// Admission plugins that are left out, by the names that Kubernetes gives them.
    pub disabled_admission: Vec<String>,
    /// Which Pod Security Standard counts where namespaces do not say, and for whom none does.
    pub pod_security: pod_security::Settings,
    /// Where the time and the chance in stored objects come from.
    pub outside: Arc<dyn Outside>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            service_cidr: Ipv4Net::new_assert(Ipv4Addr::new(10, 96, 0, 0), 16),
            node_port_range: 30000..32768,
            cluster_domain: "cluster.local".into(),
            wasm_cidr: Ipv4Net::new_assert(Ipv4Addr::new(10, 64, 0, 0), 11),
            advertise: SocketAddr::from((Ipv4Addr::LOCALHOST, 6443)),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 6443)),
            token_key: None,
            client_ca_pem: None,
            client_cas: ClientCas::default(),
            token_file: None,
            request_header_names: Vec::new(),
            authorization: authz::Mode::STANDARD.to_vec(),
            disabled_admission: Vec::new(),
            pod_security: pod_security::Settings::default(),
            outside: Arc::new(Machine),
        }
    }
}
