//! ConfigMaps created and read per second over TLS, beside a bare server that answers the same bytes.
//!
//! The clients are a service account that may do just this: token, RBAC, admission, managedFields and fsync are all paid for.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{Method, Response, StatusCode};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use k8w_testkit::TestCluster;
use kube::api::PostParams;
use kube::config::Kubeconfig;
use kube::{Api, Client as KubeClient};
use serde_json::json;

use crate::bare::{Answer, Answers, BareServer};
use crate::cluster;
use crate::compare::{Client, compare};
use crate::http2::Http2;

const CLIENTS: usize = 16;
const PATH: &str = "/api/v1/namespaces/default/configmaps";
/// ConfigMaps that reads choose from.
const READ_FROM: u64 = 1_000;

pub async fn measure() -> Result<()> {
    let cluster = cluster::start(&[]);
    let token = writer_token(&cluster).await?;
    let ca = cluster.data_dir().join("pki/ca.crt");
    let ours = Server { address: api_address(&cluster)?, ca: ca.clone(), token: token.clone() };

    let mut first = Creator { connection: ours.connect().await?, client: CLIENTS, created: 0 };
    let create = Answer::of(&first.create().await?);
    for _ in 1..READ_FROM {
        first.request().await?;
    }
    let mut reader = Reader { connection: ours.connect().await?, client: CLIENTS, read: 0 };
    let answers = Answers { create, get: Answer::of(&reader.read().await?) };
    let bare = BareServer::start(&cluster.data_dir().join("pki"), &answers)?;
    let peer = Server { address: bare.address, ca, token };

    let what = format!("api: ConfigMaps created by {CLIENTS} clients");
    compare(&what, ("k8w", ours.creators().await?), ("bare server", peer.creators().await?)).await?;
    let what = format!("api: ConfigMaps read by {CLIENTS} clients");
    compare(&what, ("k8w", ours.readers().await?), ("bare server", peer.readers().await?)).await
}

/// Where clients connect to, and as whom.
struct Server {
    address: SocketAddr,
    ca: PathBuf,
    token: String,
}

impl Server {
    async fn connect(&self) -> Result<Http2> {
        Http2::open(self.address, &self.ca, &self.token).await
    }

    async fn creators(&self) -> Result<Vec<Creator>> {
        let mut creators = Vec::with_capacity(CLIENTS);
        for client in 0..CLIENTS {
            creators.push(Creator { connection: self.connect().await?, client, created: 0 });
        }
        Ok(creators)
    }

    async fn readers(&self) -> Result<Vec<Reader>> {
        let mut readers = Vec::with_capacity(CLIENTS);
        for client in 0..CLIENTS {
            readers.push(Reader { connection: self.connect().await?, client, read: 0 });
        }
        Ok(readers)
    }
}

/// Creates one ConfigMap after another.
struct Creator {
    connection: Http2,
    client: usize,
    created: u64,
}

impl Creator {
    async fn create(&mut self) -> Result<Response<Bytes>> {
        let name = format!("cm-{}-{:08}", self.client, self.created);
        self.created += 1;
        let body = format!(
            r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}","labels":{{"app":"bench"}}}},"data":{{"key":"value"}}}}"#
        );
        expect(StatusCode::CREATED, self.connection.send(Method::POST, PATH, body).await?)
    }
}

impl Client for Creator {
    async fn request(&mut self) -> Result<()> {
        self.create().await.map(|_| ())
    }
}

/// Reads what the first [`Creator`] created, one ConfigMap after another.
struct Reader {
    connection: Http2,
    client: usize,
    read: u64,
}

impl Reader {
    async fn read(&mut self) -> Result<Response<Bytes>> {
        // Every reader walks through all of them, from a place of its own.
        let number = (self.client as u64 * READ_FROM / CLIENTS as u64 + self.read) % READ_FROM;
        self.read += 1;
        let path = format!("{PATH}/cm-{CLIENTS}-{number:08}");
        expect(StatusCode::OK, self.connection.send(Method::GET, &path, Bytes::new()).await?)
    }
}

impl Client for Reader {
    async fn request(&mut self) -> Result<()> {
        self.read().await.map(|_| ())
    }
}

fn expect(status: StatusCode, response: Response<Bytes>) -> Result<Response<Bytes>> {
    if response.status() != status {
        bail!("{} in place of {status}: {}", response.status(), String::from_utf8_lossy(response.body()));
    }
    Ok(response)
}

fn api_address(cluster: &TestCluster) -> Result<SocketAddr> {
    let kubeconfig = Kubeconfig::read_from(cluster.kubeconfig())?;
    let server = kubeconfig.clusters.into_iter().find_map(|cluster| cluster.cluster?.server).context("no server")?;
    server.trim_start_matches("https://").parse().with_context(|| format!("no address: {server}"))
}

/// The token of a service account that may create and read ConfigMaps and nothing else.
async fn writer_token(cluster: &TestCluster) -> Result<String> {
    let client = cluster::administrator(cluster).await?;
    create::<ServiceAccount>(&client, json!({ "metadata": { "name": "writer" } })).await?;
    let rules = json!([{ "apiGroups": [""], "resources": ["configmaps"], "verbs": ["create", "get"] }]);
    create::<Role>(&client, json!({ "metadata": { "name": "writer" }, "rules": rules })).await?;
    let binding = json!({
        "metadata": { "name": "writer" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "writer" },
        "subjects": [{ "kind": "ServiceAccount", "name": "writer", "namespace": "default" }],
    });
    create::<RoleBinding>(&client, binding).await?;
    let accounts: Api<ServiceAccount> = Api::namespaced(client, "default");
    let request = TokenRequest::default();
    let issued = accounts.create_token_request("writer", &PostParams::default(), &request).await?;
    issued.status.and_then(|status| status.token).context("no token was issued")
}

async fn create<K>(client: &KubeClient, object: serde_json::Value) -> Result<()>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>
        + serde::de::DeserializeOwned
        + serde::Serialize
        + Clone
        + std::fmt::Debug,
    K::DynamicType: Default,
{
    let api: Api<K> = Api::namespaced(client.clone(), "default");
    api.create(&PostParams::default(), &serde_json::from_value(object)?).await?;
    Ok(())
}
