//! Client certificates: the common name is the user, the organizations are its groups.
//!
//! TLS has verified the chain against the cluster's CA by the time a request is here. What the certificate says is read
//! once per connection.

use std::sync::Arc;

use async_trait::async_trait;
use http::request::Parts;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::authenticated;
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
    let read = || user_of(peer.certificates.first()?).map(Arc::new);
    peer.certificate_user.get_or_init(read).clone()
}

/// `None` for a certificate without a common name.
fn user_of(der: &[u8]) -> Option<UserInfo> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?;
    let groups = subject.iter_organization().filter_map(|group| group.as_str().ok()).map(str::to_owned);
    let user = UserInfo { name: name.to_owned(), groups: groups.collect(), ..UserInfo::default() };
    (!name.is_empty()).then(|| authenticated(user))
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
