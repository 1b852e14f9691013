//! Who asks: the connection's peer, the user it authenticated as, and what an authorizer is told.

use crate::authn::service_account;
use crate::pki::MASTERS_GROUP;
use crate::request_info::RequestInfo;
use rustls_pki_types::CertificateDer;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock, OnceLock};

/// An authenticated user, as in `authentication.k8s.io/v1` UserInfo.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserInfo {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

impl UserInfo {
    /// Who this server is to itself.
    pub(crate) fn own() -> &'static UserInfo {
        static OWN: LazyLock<UserInfo> = LazyLock::new(|| UserInfo {
            name: "system:apiserver".into(),
            groups: vec![MASTERS_GROUP.into()],
            ..UserInfo::default()
        });
        &OWN
    }

    /// The user that requests without credentials get.
    pub fn anonymous() -> Self {
        UserInfo {
            name: "system:anonymous".into(),
            groups: vec!["system:unauthenticated".into()],
            ..UserInfo::default()
        }
    }
}

/// One connection to the API server; cheap to clone, and shared by the connection's requests.
#[derive(Clone, Debug, Default)]
pub struct Peer(Arc<Connection>);

/// What is known about a connection.
#[derive(Debug, Default)]
pub struct Connection {
    /// Where it comes from; `None` when the client is in this process.
    pub address: Option<SocketAddr>,
    /// The client's certificate chain, leaf first, as TLS handed it over (verified by nobody yet).
    pub certificates: Vec<CertificateDer<'static>>,
    /// Identity given by the code that made the connection, which makes authentication needless.
    pub user: Option<Arc<UserInfo>>,
    /// The identity that the certificates stand for, worked out on the connection's first request.
    pub certificate_user: OnceLock<Option<Arc<UserInfo>>>,
    /// The service account's token that the connection sends.
    pub token: service_account::Known,
}

impl Peer {
    pub fn new(connection: Connection) -> Self {
        Peer(Arc::new(connection))
    }

    /// A client inside this process that is `user`.
    pub fn in_process(user: UserInfo) -> Self {
        Peer::new(Connection { user: Some(Arc::new(user)), ..Connection::default() })
    }

    /// Whether requests come from this process and not over a socket.
    pub fn is_in_process(&self) -> bool {
        self.address.is_none()
    }
}

impl std::ops::Deref for Peer {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.0
    }
}

/// What an authorizer decides about: who wants to do what.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    pub user: &'a UserInfo,
    /// Beside the verbs of requests, any that access reviews ask about.
    pub verb: &'a str,
    /// What it is about; its own verb does not count.
    pub info: &'a RequestInfo,
}
