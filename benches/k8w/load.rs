//! Requests of 16 clients to the API server, and the same to a bare server that answers the same bytes.
//!
//! The clients are a service account that may do this to ConfigMaps and nothing else: token, RBAC, admission, managedFields
//! and fsync are all paid for.

use std::net::SocketAddr;

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
use crate::http2::{Endpoint, Http2};

pub const CLIENTS: usize = 16;
/// Where the ConfigMaps are.
pub const PATH: &str = "/api/v1/namespaces/default/configmaps";

/// A cluster and its service account.
pub struct Load {
    pub cluster: TestCluster,
    pub server: Endpoint,
}

impl Load {
    pub async fn start() -> Result<Load> {
        let cluster = cluster::start(&[]);
        let token = writer_token(&cluster).await?;
        let ca = cluster.data_dir().join("pki/ca.crt");
        Ok(Load { server: Endpoint { address: api_address(&cluster)?, ca, token }, cluster })
    }

    pub async fn connect(&self) -> Result<Http2> {
        Http2::open(&self.server).await
    }

    /// Starts a bare server with the cluster's keys. The user is as welcome there as any.
    pub fn bare_server(&self, answers: &Answers) -> Result<(BareServer, Endpoint)> {
        let bare = BareServer::start(&self.cluster.data_dir().join("pki"), answers)?;
        let endpoint = Endpoint { address: bare.address, ..self.server.clone() };
        Ok((bare, endpoint))
    }

    /// Lets clients send requests that are answered like `answer`, here and to a bare server, and prints what both reach.
    /// `client` makes one of a connection and its number.
    pub async fn compare<C: Client>(
        &self,
        what: &str,
        answer: &Response<Bytes>,
        client: impl Fn(Http2, usize) -> C,
    ) -> Result<()> {
        let (_bare, peer) = self.bare_server(&Answers { answer: Answer::of(answer), event: None })?;
        let (mut ours, mut peers) = (Vec::with_capacity(CLIENTS), Vec::with_capacity(CLIENTS));
        for number in 0..CLIENTS {
            ours.push(client(self.connect().await?, number));
            peers.push(client(Http2::open(&peer).await?, number));
        }
        compare(&format!("{what} by {CLIENTS} clients"), ("k8w", ours), ("bare server", peers)).await
    }

    /// Creates a ConfigMap for every client to change: `cm-<number>`.
    pub async fn one_for_each_client(&self) -> Result<()> {
        let mut connection = self.connect().await?;
        for number in 0..CLIENTS {
            create(&mut connection, &format!("cm-{number}")).await?;
        }
        Ok(())
    }
}

/// A ConfigMap with one value.
pub fn config_map(name: &str, value: &str) -> String {
    format!(
        r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}","labels":{{"app":"bench"}}}},"data":{{"key":"{value}"}}}}"#
    )
}

pub async fn create(connection: &mut Http2, name: &str) -> Result<Response<Bytes>> {
    expect(StatusCode::CREATED, connection.send(Method::POST, PATH, config_map(name, "value")).await?)
}

pub fn expect(status: StatusCode, response: Response<Bytes>) -> Result<Response<Bytes>> {
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

/// The token of the service account.
async fn writer_token(cluster: &TestCluster) -> Result<String> {
    let client = cluster::administrator(cluster).await?;
    make::<ServiceAccount>(&client, json!({ "metadata": { "name": "writer" } })).await?;
    let verbs = ["create", "get", "list", "patch", "update", "watch"];
    let rules = json!([
        { "apiGroups": [""], "resources": ["configmaps"], "verbs": verbs },
        { "apiGroups": [""], "resources": ["pods"], "verbs": ["create", "watch"] },
    ]);
    make::<Role>(&client, json!({ "metadata": { "name": "writer" }, "rules": rules })).await?;
    let binding = json!({
        "metadata": { "name": "writer" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "writer" },
        "subjects": [{ "kind": "ServiceAccount", "name": "writer", "namespace": "default" }],
    });
    make::<RoleBinding>(&client, binding).await?;
    let accounts: Api<ServiceAccount> = Api::namespaced(client, "default");
    let request = TokenRequest::default();
    let issued = accounts.create_token_request("writer", &PostParams::default(), &request).await?;
    issued.status.and_then(|status| status.token).context("no token was issued")
}

async fn make<K>(client: &KubeClient, object: serde_json::Value) -> Result<()>
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
