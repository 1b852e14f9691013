//! A whole API server: with authentication, RBAC, admission, and the objects that every cluster has.

use std::sync::Arc;

use http::Request;
use http_body_util::BodyExt;
use k8w_apiserver::identity::Connection;
use k8w_apiserver::pki::{Pki, ServerNames};
use k8w_apiserver::{ApiServer, Body, Config, Peer, UserInfo};
use k8w_storage::datastore::memory::Memory;
use serde_json::{Value, json};

use crate::api::Reply;

pub struct Cluster {
    pub server: Arc<ApiServer>,
    _keys: tempfile::TempDir,
}

/// Who sends a request, and how it proves that.
#[derive(Clone)]
pub enum As<'a> {
    Admin,
    /// Nobody in particular, over a socket.
    Nobody,
    User(&'a str, &'a [&'a str]),
    Token(&'a str),
    /// A token over a connection that there is already.
    TokenOver(&'a Peer, &'a str),
}

/// A new connection.
pub fn connection() -> Peer {
    Peer::new(Connection { address: Some(([127, 0, 0, 1], 1).into()), ..Connection::default() })
}

impl Cluster {
    pub async fn new() -> Cluster {
        Cluster::with(Config::default()).await
    }

    /// With settings of one's own, beside the key of its tokens.
    pub async fn with(config: Config) -> Cluster {
        let keys = tempfile::tempdir().unwrap();
        let service_ip = "10.96.0.1".parse().unwrap();
        let names = ServerNames { service_ip, cluster_domain: "cluster.local".into(), extra: vec![] };
        let pki = Pki::open(keys.path(), &names).unwrap();
        let config = Config { token_key: Some(pki.token_key().clone()), ..config };
        let server = ApiServer::start(config, Arc::new(Memory::new())).await.unwrap();
        Cluster { server, _keys: keys }
    }

    /// Sends a request with the given extra headers.
    pub async fn send(&self, who: As<'_>, method: &str, path: &str, headers: &[(&str, &str)], body: Body) -> Reply {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let user = |name: &str, groups: &[&str]| {
            let groups = groups.iter().map(|group| group.to_string()).collect();
            Peer::in_process(UserInfo { name: name.into(), groups, ..UserInfo::default() })
        };
        let peer = match who {
            As::Admin => user("admin", &["system:masters"]),
            As::User(name, groups) => user(name, groups),
            As::Nobody | As::Token(_) => connection(),
            As::TokenOver(peer, _) => peer.clone(),
        };
        if let As::Token(token) | As::TokenOver(_, token) = who {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let response = self.server.handle(request.body(body).unwrap(), peer).await;
        let (parts, body) = response.into_parts();
        // A watch has no end; what it says is not of interest here.
        let streams = path.contains("watch=true") && parts.status == 200;
        let body = if streams { Default::default() } else { body.collect().await.unwrap().to_bytes() };
        Reply { code: parts.status.as_u16(), headers: parts.headers, body }
    }

    pub async fn get(&self, who: As<'_>, path: &str) -> Reply {
        self.send(who, "GET", path, &[], Body::Empty).await
    }

    pub async fn post(&self, who: As<'_>, path: &str, body: &Value) -> Reply {
        self.send(who, "POST", path, &[("content-type", "application/json")], Body::from(body.to_string())).await
    }

    pub async fn delete(&self, path: &str) -> Reply {
        self.send(As::Admin, "DELETE", path, &[], Body::Empty).await
    }

    /// Makes an object as the administrator; its kind says where.
    pub async fn make(&self, object: Value) -> Value {
        let api_version = object["apiVersion"].as_str().unwrap();
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let kind = k8w_kinds::registry::by_kind(group, version, object["kind"].as_str().unwrap()).unwrap();
        let mut path = if group.is_empty() { "/api".to_owned() } else { format!("/apis/{group}") };
        path.push_str(&format!("/{version}"));
        if kind.namespaced {
            path.push_str(&format!("/namespaces/{}", object["metadata"]["namespace"].as_str().unwrap_or("default")));
        }
        self.post(As::Admin, &format!("{path}/{}", kind.plural), &object).await.ok()
    }

    /// Lets a user do what the rules say, everywhere and from now on.
    pub async fn grant(&self, user: &str, rules: Value) {
        const RBAC: &str = "rbac.authorization.k8s.io";
        let version = format!("{RBAC}/v1");
        self.make(json!({"apiVersion": version, "kind": "ClusterRole", "metadata": {"name": user}, "rules": rules}))
            .await;
        self.make(json!({"apiVersion": version, "kind": "ClusterRoleBinding", "metadata": {"name": user},
            "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": user},
            "subjects": [{"apiGroup": RBAC, "kind": "User", "name": user}]}))
            .await;
        // Authorization follows the watch cache.
        self.server.cache.catch_up().await.unwrap();
    }
}
