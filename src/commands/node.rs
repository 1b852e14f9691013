//! `k8w node`: a node of a cluster whose control plane is elsewhere.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use k8w_apiserver::pki::Pki;
use k8w_runtime::identity::{BootstrapToken, Credentials, Join, TrustedCa, join};

use super::node_args::NodeArgs;
use super::{address_towards, process, ready};
use crate::compose::{Compile, JoinedNode};
use crate::data_dir::DataDir;

/// Join a cluster as a node, and run its pods
///
/// `k8w token create` at the control plane prints the command. What the machine gets when it joins is kept in the data
/// folder: from then on it needs neither --server nor --node-name, and tokens and kubeconfigs are not looked at. All other
/// options are not kept: give them again.
#[derive(Args)]
pub struct Node {
    /// The API server, https://HOST:PORT [default: the one that was joined, or the kubeconfig's]
    #[arg(long, value_name = "URL")]
    server: Option<String>,

    /// A bootstrap token, ID.SECRET
    #[arg(long, value_name = "TOKEN", requires = "server")]
    token: Option<String>,

    /// A file that holds the token
    #[arg(long, value_name = "FILE", requires = "server", conflicts_with = "token")]
    token_file: Option<PathBuf>,

    /// The cluster's certificate authority, PEM; without it and --ca-hash, the token tells whether the cluster is genuine
    #[arg(long, value_name = "FILE", conflicts_with = "ca_hash")]
    ca_file: Option<PathBuf>,

    /// The hash of its public key, sha256:HEX
    #[arg(long, value_name = "HASH")]
    ca_hash: Option<String>,

    /// A kubeconfig of somebody who may make nodes, in place of a token
    #[arg(long, value_name = "FILE", conflicts_with_all = ["token", "token_file", "ca_file", "ca_hash"])]
    kubeconfig: Option<PathBuf>,

    /// Where the node keeps its certificates, images and volumes [default: ~/.local/share/k8w]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// Address that others reach the node at [default: the one that this machine reaches the API server from]
    #[arg(long, value_name = "IP", value_parser = node_ip)]
    node_ip: Option<IpAddr>,

    /// Address that the node listens on [default: --node-ip]
    #[arg(long, value_name = "IP")]
    address: Option<IpAddr>,

    /// Who compiles the components that this node runs
    #[arg(long, value_name = "WHO", default_value = "auto")]
    compile: Compile,

    #[command(flatten)]
    node: NodeArgs,
}

impl Node {
    pub fn run(self) -> Result<()> {
        process::run(|stop| async move {
            let data_dir = DataDir::open(&DataDir::path_of(self.data_dir.as_deref())?)?;
            let pki = data_dir.join("pki");
            if Pki::is_in(&pki) {
                bail!("{} holds the keys of a control plane; choose another folder with --data-dir", pki.display());
            }
            let started = tokio::select! {
                started = self.start(&data_dir) => started?,
                () = stop.cancelled() => return Ok(()),
            };
            let (node, name, server) = started;
            let outcome = tokio::select! {
                ready = ready::node(node.client(), &name) => ready,
                () = stop.cancelled() => Ok(()),
            };
            if outcome.is_ok() && !stop.is_cancelled() {
                let (http, https) = node.ingress();
                eprintln!("Node {name} of {server} is ready");
                eprintln!("{}", node.about());
                eprintln!("Ingress for HTTP: {http}");
                eprintln!("Ingress for HTTPS: {https}");
                stop.cancelled().await;
            }
            process::stop(node.stop()).await;
            outcome
        })
    }

    /// Joins and starts; returns also the node's name and its server.
    async fn start(&self, data_dir: &DataDir) -> Result<(JoinedNode, String, String)> {
        let dir = data_dir.join("pki");
        let name = self.node.name(join::kept_name(&dir)?)?;
        let wanted =
            Join { server: self.server.clone(), credentials: self.credentials()?, node_name: name.clone(), dir };
        let joined = join::join(&wanted).await?;
        let server = joined.server().to_string().trim_end_matches('/').to_owned();
        let api = resolve(joined.server()).await.with_context(|| format!("cannot find {server}"))?;
        let ip = match self.node_ip {
            Some(ip) => ip,
            None => address_towards(api).context("cannot tell this machine's address; say it with --node-ip")?,
        };
        let options = self.node.options(name.clone(), self.address.unwrap_or(ip), ip, false)?;
        let node = JoinedNode::start(&options, self.compile, &joined, api, data_dir).await?;
        Ok((node, name, server))
    }

    fn credentials(&self) -> Result<Credentials> {
        if let Some(path) = &self.kubeconfig {
            return Ok(Credentials::Kubeconfig(path.clone()));
        }
        let token = match (&self.token, &self.token_file) {
            (Some(token), _) => BootstrapToken::Here(token.clone()),
            (None, Some(file)) => BootstrapToken::File(file.clone()),
            (None, None) if self.ca_file.is_some() || self.ca_hash.is_some() => {
                bail!("--ca-file and --ca-hash say whom to give a token to: say it with --token or --token-file")
            }
            (None, None) => return Ok(Credentials::None),
        };
        let ca = match (&self.ca_file, &self.ca_hash) {
            (Some(file), _) => TrustedCa::File(file.clone()),
            (None, Some(hash)) => TrustedCa::Hash(hash.clone()),
            (None, None) => TrustedCa::Signed,
        };
        Ok(Credentials::Token { token, ca })
    }
}

/// An address that others can reach a node at, as the kubelet has it; a loopback address serves nodes of one machine.
fn node_ip(text: &str) -> Result<IpAddr, String> {
    let ip: IpAddr = text.parse().map_err(|_| "no IP address".to_owned())?;
    let is_link_local = match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    let what = match ip.to_canonical() {
        ip if ip.is_unspecified() => "an all zeros address",
        ip if ip.is_multicast() || ip == Ipv4Addr::BROADCAST => "a multicast address",
        _ if is_link_local => "a link-local unicast address",
        _ => return Ok(ip),
    };
    Err(format!("nodeIP can't be {what}"))
}

async fn resolve(server: &http::Uri) -> Result<SocketAddr> {
    let host = server.host().unwrap_or_default().trim_matches(['[', ']']);
    let mut found = tokio::net::lookup_host((host, server.port_u16().unwrap_or(443))).await?;
    found.next().context("it has no address")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_reached_at_one_address() {
        for good in ["192.0.2.1", "127.0.0.2", "2001:db8::1"] {
            assert!(node_ip(good).is_ok(), "{good}");
        }
        for (wrong, why) in [
            ("0.0.0.0", "nodeIP can't be an all zeros address"),
            ("::", "nodeIP can't be an all zeros address"),
            ("224.0.0.1", "nodeIP can't be a multicast address"),
            ("255.255.255.255", "nodeIP can't be a multicast address"),
            ("169.254.1.1", "nodeIP can't be a link-local unicast address"),
            ("fe80::1", "nodeIP can't be a link-local unicast address"),
            ("::ffff:0.0.0.0", "nodeIP can't be an all zeros address"),
            ("here", "no IP address"),
        ] {
            assert_eq!(node_ip(wrong).unwrap_err(), why, "{wrong}");
        }
    }
}
