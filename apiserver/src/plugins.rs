//! The contracts of what plugs into the request path: authenticators, authorizers, admission, the way to a node, and the
//! compiler.
//!
//! Each kind of plugin is an ordered table (`authn::all`, `authz::all`, `admission::all`) with a file per plugin.

use crate::body::Body;
use crate::call::Call;
use crate::identity::{Attributes, Peer, UserInfo};
use crate::resources::{Resource, Resources};
use crate::routes::Answer;
use crate::status::Status;
use crate::watch_cache::WatchCache;
use async_trait::async_trait;
use serde_json::Value;
use std::sync::{Arc, Mutex, PoisonError};

/// Credentials were given, but they prove nothing; the request is answered 401.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct AuthnError(pub String);

/// Turns credentials into a user.
#[async_trait]
pub trait Authenticator: Send + Sync {
    /// `Ok(None)`: no credentials of this authenticator's sort were given, so the next one is asked.
    async fn authenticate(
        &self,
        parts: &http::request::Parts,
        peer: &Peer,
    ) -> Result<Option<Arc<UserInfo>>, AuthnError>;
}

/// What one authorizer thinks of a request. The reason is shown to the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Allow,
    NoOpinion(String),
    Deny(String),
}

/// Decides from memory, without waiting: this runs on every request.
pub trait Authorizer: Send + Sync {
    fn authorize(&self, attributes: &Attributes<'_>) -> Decision;
}

/// What is being done to the object that admission looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

/// An object on its way into the store.
pub struct AdmissionRequest<'a> {
    pub operation: Operation,
    pub resource: &'a Resource,
    /// Empty for the resource itself.
    pub subresource: &'a str,
    /// Empty for cluster-scoped kinds.
    pub namespace: &'a str,
    /// Empty only for a create with `generateName`, before the name is made up.
    pub name: &'a str,
    /// The object to be stored; null for a delete.
    pub object: &'a mut Value,
    /// The object as stored now; `None` for a create.
    pub old: Option<&'a Value>,
    pub user: &'a UserInfo,
    pub dry_run: bool,
    /// Reads are at least as new as the moment before this write began.
    pub view: &'a WatchCache,
    pub kinds: &'a dyn Kinds,
    pub warnings: &'a Warnings,
}

/// Knows which kinds are served.
pub trait Kinds: Sync {
    /// All of them, at least as new as what reads show.
    fn served(&self) -> Arc<Resources>;
}

/// What the client should be told in `Warning` headers.
#[derive(Default)]
pub struct Warnings(Mutex<Vec<String>>);

impl Warnings {
    pub fn add(&self, text: impl Into<String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(text.into());
    }

    pub fn into_texts(self) -> Vec<String> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The group (empty for the core group) and the plural name of a resource.
pub type GroupResource = (&'static str, &'static str);

/// One admission rule. All of them `admit` in the order of the table, then all of them `validate`.
#[async_trait]
pub trait Admission: Send + Sync {
    /// The name that Kubernetes gives the plugin.
    fn name(&self) -> &'static str;

    /// The only resources whose requests, and those of their subresources, it is shown; `None`: all.
    fn resources(&self) -> Option<&'static [GroupResource]> {
        None
    }

    /// May change the object.
    async fn admit(&self, _request: &mut AdmissionRequest<'_>) -> Result<(), Status> {
        Ok(())
    }

    /// Sees the object as it would be stored.
    async fn validate(&self, _request: &AdmissionRequest<'_>) -> Result<(), Status> {
        Ok(())
    }
}

/// Why a node could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("nodes {0:?} not found")]
    UnknownNode(String),
    /// `address` is where it was looked for, HOST:PORT; the node's name, where it has none.
    #[error("{reason}")]
    Unreachable { address: String, reason: String },
}

/// The way from the API server to a node's own HTTP service.
#[async_trait]
pub trait NodeConnector: Send + Sync {
    async fn request(&self, node: &str, request: http::Request<Body>) -> Result<http::Response<Body>, ConnectError>;
}

/// Makes machine code of components, for nodes.
#[async_trait]
pub trait Compiler: Send + Sync {
    /// The request is authorized, its body has not been read, and nobody else bounds how long this takes. Dropping the future
    /// ends the work.
    async fn compile(&self, call: Call) -> Answer;
}
