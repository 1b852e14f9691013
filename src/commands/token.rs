//! `k8w token`: bootstrap tokens, with which machines join the cluster as nodes.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8w_kinds::core::bootstrap_token::{
    EXPIRATION, EXTRA_GROUPS, NAME_PREFIX, NAMESPACE, SECRET_TYPE, TOKEN_ID, TOKEN_SECRET, USAGE_AUTHENTICATION,
    USAGE_SIGNING,
};
use k8w_runtime::identity::ca_hash;
use kube::api::{Api, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::wait::await_condition;
use kube::{Client, Config};
use rand::Rng;

use crate::data_dir::DataDir;

/// Whose token it is to be: those of machines that may ask for a node's certificate, as kubeadm names them.
const GROUP: &str = "system:bootstrappers:kubeadm:default-node-token";
const ID_CHARS: usize = 6;
const SECRET_CHARS: usize = 16;
/// How long the controllers may take to sign what joining machines read.
const SIGNING_TIMEOUT: Duration = Duration::from_secs(10);

/// Manage the tokens with which machines join the cluster
#[derive(Args)]
pub struct Token {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a token, and print the command with which a machine joins
    Create(Create),
}

#[derive(Args)]
struct Create {
    /// How long the token can be used, such as 24h; 0s is for ever
    #[arg(long, value_name = "DURATION", default_value = "24h")]
    ttl: SignedDuration,

    /// The administrator's kubeconfig [default: kubeconfig in the data folder]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,

    /// The control plane's data folder [default: ~/.local/share/k8w]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

impl Token {
    pub fn run(self) -> Result<()> {
        // One TLS provider for every user of rustls in this process; a second installation changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let Command::Create(create) = self.command;
        runtime.block_on(create.run())
    }
}

impl Create {
    async fn run(self) -> Result<()> {
        if self.ttl.is_negative() {
            bail!("a token cannot have been used up before it is made (--ttl {})", self.ttl);
        }
        let path = match (&self.kubeconfig, &self.data_dir) {
            (Some(path), _) => path.clone(),
            (None, Some(folder)) => folder.join("kubeconfig"),
            (None, None) => DataDir::default_path()?.join("kubeconfig"),
        };
        let kubeconfig = Kubeconfig::read_from(&path).with_context(|| format!("cannot use {}", path.display()))?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        let server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let hash = config.root_cert.as_ref().and_then(|certificates| ca_hash(certificates.first()?));
        let is_for_all = address(&config.cluster_url).is_some_and(|address| address.is_unspecified());
        let client = Client::try_from(config)?;

        let (id, secret) = (random(ID_CHARS), random(SECRET_CHARS));
        let secrets: Api<Secret> = Api::namespaced(client.clone(), NAMESPACE);
        let made = secrets.create(&PostParams::default(), &self.secret(&id, &secret)).await;
        made.with_context(|| format!("cannot make a token at {server}"))?;
        let signed = await_condition(
            Api::<ConfigMap>::namespaced(client, "kube-public"),
            "cluster-info",
            |map: Option<&ConfigMap>| {
                map.is_some_and(|map| map.data.iter().flatten().any(|(key, _)| *key == format!("jws-kubeconfig-{id}")))
            },
        );
        let info = match tokio::time::timeout(SIGNING_TIMEOUT, signed).await {
            Ok(info) => info.context("cannot watch the ConfigMap cluster-info in kube-public")?,
            Err(_) => {
                bail!("the controllers of {server} have not signed the ConfigMap cluster-info with the token yet")
            }
        };
        let server = info.filter(|_| is_for_all).as_ref().and_then(advertised).unwrap_or(server);
        let hash = hash.map(|hash| format!(" --ca-hash {hash}")).unwrap_or_default();
        if is_here(&server) {
            eprintln!(
                "{server} is an address of this machine alone: for others to join, start the control plane with --address"
            );
        }
        println!("k8w node --server {server} --token {id}.{secret}{hash}");
        Ok(())
    }

    fn secret(&self, id: &str, secret: &str) -> Secret {
        let mut data = BTreeMap::from([
            ("description", "The bootstrap token generated by 'k8w token create'.".to_owned()),
            (TOKEN_ID, id.to_owned()),
            (TOKEN_SECRET, secret.to_owned()),
            (USAGE_AUTHENTICATION, "true".to_owned()),
            (USAGE_SIGNING, "true".to_owned()),
            (EXTRA_GROUPS, GROUP.to_owned()),
        ]);
        if !self.ttl.is_zero() {
            let end = Timestamp::now().checked_add(self.ttl).unwrap_or(Timestamp::MAX);
            data.insert(EXPIRATION, end.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
        }
        Secret {
            metadata: ObjectMeta { name: Some(format!("{NAME_PREFIX}{id}")), ..ObjectMeta::default() },
            string_data: Some(data.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
            type_: Some(SECRET_TYPE.to_owned()),
            ..Secret::default()
        }
    }
}

/// Where other machines reach an API server that listens on every address of its own.
fn advertised(info: &ConfigMap) -> Option<String> {
    let kubeconfig = Kubeconfig::from_yaml(info.data.as_ref()?.get("kubeconfig")?).ok()?;
    kubeconfig.clusters.into_iter().find_map(|named| named.cluster?.server)
}

/// The address in a URL, where it is one and no name.
fn address(url: &http::Uri) -> Option<IpAddr> {
    url.host()?.trim_matches(['[', ']']).parse().ok()
}

/// Whether nobody but this machine reaches a URL.
fn is_here(server: &str) -> bool {
    let Ok(url) = server.parse::<http::Uri>() else { return false };
    url.host() == Some("localhost") || address(&url).is_some_and(|address| address.to_canonical().is_loopback())
}

fn random(chars: usize) -> String {
    const ALPHABET: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let mut dice = rand::rng();
    (0..chars).map(|_| char::from(ALPHABET[dice.random_range(0..ALPHABET.len())])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_this_machine_alone_are_told() {
        for here in ["https://127.0.0.1:6443", "https://[::1]:6443", "https://localhost:6443"] {
            assert!(is_here(here), "{here}");
        }
        for elsewhere in ["https://192.0.2.1:6443", "https://[::]:6443", "https://a.example", "x y"] {
            assert!(!is_here(elsewhere), "{elsewhere}");
        }
        for all in ["https://0.0.0.0:6443", "https://[::]:6443"] {
            assert!(address(&all.parse().unwrap()).unwrap().is_unspecified(), "{all}");
        }
    }
}
