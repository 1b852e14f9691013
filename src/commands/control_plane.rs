//! What `k8w up` and `k8w server` let one choose about the control plane.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::{ArgAction, Args};
use ipnet::Ipv4Net;
use k8w_apiserver::admission::{configuration, pod_security};
use k8w_apiserver::authn::token_file::TokenFile;
use k8w_apiserver::authz;
use k8w_apiserver::pki::ClientCas;
use k8w_runtime::identity::join::has_joined;

use super::address_towards;
use crate::compose::ControlPlaneConfig;

#[derive(Args)]
pub struct ControlPlaneArgs {
    /// Address that the API server (and with `up` node ports and ingress) listens on
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    address: IpAddr,

    /// Address that the Service `kubernetes` leads to [default: --address, or the host's own address where that is a loopback
    /// address]
    #[arg(long, value_name = "IP")]
    advertise_address: Option<IpAddr>,

    /// Port of the API server; 0 picks a free one
    #[arg(long, value_name = "PORT", default_value_t = 6443)]
    port: u16,

    /// Range of node ports for Services, FIRST-LAST
    #[arg(long, value_name = "RANGE", default_value = "30000-32767", value_parser = port_range)]
    node_port_range: (u16, u16),

    /// Range of the addresses of Services
    #[arg(long, value_name = "CIDR", default_value = "10.96.0.0/16")]
    service_cidr: Ipv4Net,

    /// Range of the addresses of pods, of which every node gets a part (its spec.podCIDR)
    #[arg(long, value_name = "CIDR", default_value = "10.244.0.0/16")]
    cluster_cidr: Ipv4Net,

    /// Length of the prefix of a node's part of --cluster-cidr
    #[arg(long, value_name = "BITS", default_value_t = 24, value_parser = clap::value_parser!(u8).range(8..=30))]
    node_cidr_mask_size: u8,

    /// Whether nodes get a part of --cluster-cidr; without one, their pods get no addresses of the cluster
    #[arg(long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set)]
    allocate_node_cidrs: bool,

    /// Range of the addresses of wasm pods, of which every node gets a part
    #[arg(long, value_name = "CIDR", default_value = "10.64.0.0/11")]
    wasm_cidr: Ipv4Net,

    /// Length of the prefix of a node's part of --wasm-cidr; a smaller range goes to one node as a whole
    #[arg(long, value_name = "BITS", default_value_t = 18, value_parser = clap::value_parser!(u8).range(8..=30))]
    wasm_node_cidr_mask_size: u8,

    /// Further name or address of the API server, for its certificate; may be given several times
    #[arg(long, value_name = "NAME")]
    tls_san: Vec<String>,

    /// DNS suffix of the cluster
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    cluster_domain: String,

    /// PEM file of authorities, besides the cluster's own, whose certificates authenticate users
    #[arg(long, value_name = "FILE")]
    client_ca_file: Option<PathBuf>,

    /// File of users with fixed tokens, in lines `token,user,uid,"group1,group2"`; read at start
    #[arg(long, value_name = "FILE")]
    token_auth_file: Option<PathBuf>,

    /// Authorizers, in the order in which they are asked: Node, RBAC, AlwaysAllow, AlwaysDeny
    #[arg(long, value_name = "MODES", value_delimiter = ',', default_value = "Node,RBAC")]
    authorization_mode: Vec<authz::Mode>,

    /// Admission plugins to leave out, by Kubernetes' names, such as ServiceAccount,DefaultStorageClass
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    disable_admission_plugins: Vec<String>,

    /// AdmissionConfiguration of admission plugins; only PodSecurity has one
    #[arg(long, value_name = "FILE")]
    admission_control_config_file: Option<PathBuf>,
}

impl ControlPlaneArgs {
    /// # Errors
    /// Ranges of addresses that cannot be had together, and files that cannot be read.
    pub fn config(&self) -> Result<ControlPlaneConfig> {
        let (pods, services) = (("--wasm-cidr", self.wasm_cidr), ("--service-cidr", self.service_cidr));
        apart(&[pods, services, ("--cluster-cidr", self.cluster_cidr)])?;
        if self.node_cidr_mask_size < self.cluster_cidr.prefix_len() {
            let (bits, range) = (self.node_cidr_mask_size, self.cluster_cidr);
            bail!("--node-cidr-mask-size {bits} is a larger part than the whole of --cluster-cidr {range}");
        }
        let client_cas = self.client_ca_file.as_deref().map(|path| read(path, ClientCas::parse)).transpose()?;
        let token_file = self.token_auth_file.as_deref().map(|path| read(path, TokenFile::parse)).transpose()?;
        Ok(ControlPlaneConfig {
            address: self.address,
            advertise: self.advertise_address.unwrap_or_else(|| advertised(self.address)),
            port: self.port,
            node_port_range: self.node_port_range.0..=self.node_port_range.1,
            service_cidr: self.service_cidr,
            cluster_cidr: self.cluster_cidr,
            node_cidr_mask_size: self.node_cidr_mask_size,
            allocate_node_cidrs: self.allocate_node_cidrs,
            wasm_cidr: self.wasm_cidr,
            wasm_node_cidr_mask_size: self.wasm_node_cidr_mask_size,
            cluster_domain: self.cluster_domain.clone(),
            tls_names: self.tls_san.clone(),
            client_cas: client_cas.unwrap_or_default(),
            token_file: token_file.map(Arc::new),
            authorization: self.authorization_mode.clone(),
            disabled_admission: self.disable_admission_plugins.clone(),
            pod_security: self.pod_security()?,
        })
    }

    fn pod_security(&self) -> Result<pod_security::Settings> {
        let Some(file) = &self.admission_control_config_file else { return Ok(pod_security::Settings::default()) };
        read(file, configuration::read)
    }
}

/// Refuses a folder of keys that is a node's, which keeps the CA of another cluster in it; `option` chooses another.
pub fn refuse_nodes_keys(pki: &Path, option: &str) -> Result<()> {
    if has_joined(pki) {
        bail!("{} holds the keys of a node; choose another folder with {option}", pki.display());
    }
    Ok(())
}

/// The address that others know a listener by, as Kubernetes chooses it: one that means something to this host alone stands
/// for the address that the host speaks to others from.
fn advertised(listens: IpAddr) -> IpAddr {
    if listens.is_loopback() || listens.is_unspecified() { host_address().unwrap_or(listens) } else { listens }
}

/// The source address of the route to an address that is nobody's (RFC 5737).
fn host_address() -> Option<IpAddr> {
    let ip = address_towards(SocketAddr::from(([192, 0, 2, 1], 9))).ok()?;
    Some(ip).filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
}

/// Refuses ranges, each with the option that gave it, that have addresses in common.
fn apart(ranges: &[(&str, Ipv4Net)]) -> Result<()> {
    for (index, (option, range)) in ranges.iter().enumerate() {
        for (other_option, other) in &ranges[index + 1..] {
            if range.contains(other) || other.contains(range) {
                bail!("{option} {range} and {other_option} {other} overlap; choose ranges apart from each other");
            }
        }
    }
    Ok(())
}

/// What `parse` makes of a file.
fn read<T, E>(path: &Path, parse: impl FnOnce(&str) -> Result<T, E>) -> Result<T>
where
    Result<T, E>: Context<T, E>,
{
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    parse(&text).with_context(|| format!("cannot use {}", path.display()))
}

/// Parses `FIRST-LAST`.
fn port_range(text: &str) -> Result<(u16, u16), String> {
    let parse = |part: &str| part.trim().parse::<u16>().ok().filter(|port| *port > 0);
    match text.split_once('-').map(|(first, last)| (parse(first), parse(last))) {
        Some((Some(first), Some(last))) if first <= last => Ok((first, last)),
        _ => Err("a range of ports looks like 30000-32767".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::port_range;

    #[test]
    fn port_ranges() {
        assert_eq!(port_range("30000-32767"), Ok((30000, 32767)));
        for wrong in ["", "30000", "2-1", "0-5", "a-b", "1-70000"] {
            assert!(port_range(wrong).is_err(), "{wrong}");
        }
    }
}
