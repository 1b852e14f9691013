//! Request headers: a proxy in front that has authenticated the user says who it is, and proves itself by certificate.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/authentication/#authenticating-proxy>

use std::sync::Arc;

use async_trait::async_trait;
use http::request::Parts;

use super::user_headers::UserHeaders;
use super::{authenticated, x509};
use crate::identity::{Peer, UserInfo};
use crate::plugins::{Authenticator, AuthnError};

const HEADERS: UserHeaders =
    UserHeaders { user: "x-remote-user", uid: "x-remote-uid", group: "x-remote-group", extra: "x-remote-extra-" };

/// Believes the proxies whose certificates, which TLS has verified, have these common names. None is believed by default.
pub struct RequestHeader {
    allowed_names: Vec<String>,
}

impl RequestHeader {
    pub fn new(allowed_names: Vec<String>) -> Self {
        RequestHeader { allowed_names }
    }
}

#[async_trait]
impl Authenticator for RequestHeader {
    async fn authenticate(&self, parts: &Parts, peer: &Peer) -> Result<Option<Arc<UserInfo>>, AuthnError> {
        if !parts.headers.contains_key(HEADERS.user) {
            return Ok(None);
        }
        let user = HEADERS.read(&parts.headers);
        if user.name.is_empty() {
            return Ok(None);
        }
        let proxy = x509::user_of_peer(peer);
        let believed = proxy.is_some_and(|proxy| self.allowed_names.contains(&proxy.name));
        Ok(believed.then(|| Arc::new(authenticated(user))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Connection;
    use crate::pki::{Pki, ServerNames};

    async fn named(allowed: &str, headers: &[(&'static str, &str)], proved: bool) -> Option<Arc<UserInfo>> {
        let dir = tempfile::tempdir().unwrap();
        let service_ip = "10.96.0.1".parse().unwrap();
        let names = ServerNames { service_ip, cluster_domain: "cluster.local".into(), extra: vec![] };
        let pki = Pki::open(dir.path(), &names).unwrap();
        let certificates = if proved { vec![pki.admin().certificate().clone()] } else { vec![] };
        let peer = Peer::new(Connection { certificates, ..Connection::default() });
        let (mut parts, ()) = http::Request::new(()).into_parts();
        for (name, value) in headers {
            parts.headers.append(*name, value.parse().unwrap());
        }
        RequestHeader::new(vec![allowed.to_owned()]).authenticate(&parts, &peer).await.unwrap()
    }

    #[tokio::test]
    async fn a_known_proxy_names_the_user() {
        let headers = [
            ("x-remote-user", "jane"),
            ("x-remote-group", "dev"),
            ("x-remote-uid", "7"),
            ("x-remote-extra-scopes%2fx", "view"),
        ];
        let user = named("kubernetes-admin", &headers, true).await.unwrap();
        assert_eq!((user.name.as_str(), user.uid.as_str()), ("jane", "7"));
        assert_eq!(user.groups, ["dev", "system:authenticated"]);
        assert_eq!(user.extra["scopes/x"], ["view"]);
    }

    #[tokio::test]
    async fn nobody_else_is_believed() {
        let headers = [("x-remote-user", "jane")];
        assert_eq!(named("front-proxy-client", &headers, true).await, None);
        assert_eq!(named("kubernetes-admin", &headers, false).await, None);
        assert_eq!(named("kubernetes-admin", &[], true).await, None);
    }
}
