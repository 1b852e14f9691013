//! Client certificates: the common name is the user, the organizations are its groups.
//!
//! TLS has verified the chain against the authorities of clients by the time a request is here. What the certificate says is read
//! once per connection.

use std::sync::Arc;

use async_trait::async_trait;
use http::request::Parts;
use k8w_kinds::credentials::certificate_user;

use crate::identity::{Peer, UserInfo};
use crate::plugins::{Authenticator, AuthnError};

pub struct ClientCertificate;

#[async_trait]
impl Authenticator for ClientCertificate {
    async fn authenticate(&self, _: &Parts, peer: &Peer) -> Result<Option<Arc<UserInfo>>, AuthnError> {
        Ok(user_of_peer(peer))
    }
}

/// Whom the connection's certificate names.
pub fn user_of_peer(peer: &Peer) -> Option<Arc<UserInfo>> {
    let read = || {
        let (name, groups) = certificate_user(peer.certificates.first()?)?;
        Some(Arc::new(UserInfo { name, groups, ..UserInfo::default() }))
    };
    peer.certificate_user.get_or_init(read).clone()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Connection;
    use crate::pki::{Pki, ServerNames};

    #[tokio::test]
    async fn the_admin_certificate_is_a_master() {
        let dir = tempfile::tempdir().unwrap();
        let names = ServerNames {
            service_ip: "10.96.0.1".parse().unwrap(),
            cluster_domain: "cluster.local".into(),
            extra: vec![],
        };
        let pki = Pki::open(dir.path(), &names).unwrap();
        let (parts, ()) = http::Request::new(()).into_parts();
        let certificates = vec![pki.admin().certificate().clone()];
        let peer = Peer::new(Connection { certificates, ..Connection::default() });
        let user = ClientCertificate.authenticate(&parts, &peer).await.unwrap().unwrap();
        assert_eq!(user.name, "kubernetes-admin");
        assert_eq!(user.groups, ["system:masters", "system:authenticated"]);
        assert_eq!(ClientCertificate.authenticate(&parts, &Peer::default()).await.unwrap(), None);
    }
}
