//! Who is asking: the ordered table of authenticators.
//!
//! The first one that knows the credentials decides; a request without any is anonymous, and may ask for health unless a
//! role lets it do more; where everybody may do everything, it is refused. To add one: a file, a `mod` line, a row in [`all`].

mod bootstrap_token;
pub mod impersonation;
mod request_header;
pub mod review;
pub mod service_account;
pub mod token_file;
mod user_headers;
pub mod x509;

use std::sync::Arc;

use http::{HeaderMap, header};
use k8w_kinds::credentials;
pub use k8w_kinds::credentials::AUTHENTICATED;

use crate::config::Config;
use crate::identity::UserInfo;
use crate::plugins::Authenticator;
use crate::watch_cache::WatchCache;
use service_account::Tokens;

/// The authenticators of a cluster, in order.
pub fn all(config: &Config, cache: &Arc<WatchCache>, tokens: Option<&Arc<Tokens>>) -> Vec<Arc<dyn Authenticator>> {
    let mut all: Vec<Arc<dyn Authenticator>> = vec![
        Arc::new(request_header::RequestHeader::new(config.request_header_names.clone())),
        Arc::new(x509::ClientCertificate),
        Arc::new(bootstrap_token::BootstrapTokens::new(cache.clone())),
    ];
    if let Some(file) = &config.token_file {
        all.push(file.clone());
    }
    // Last of those that take bearer tokens: it refuses what it does not know.
    if let Some(tokens) = tokens {
        all.push(tokens.clone());
    }
    all
}

/// What service-account tokens name as their issuer, and as their audience when they are for the API server.
pub fn issuer(config: &Config) -> String {
    format!("https://kubernetes.default.svc.{}", config.cluster_domain)
}

/// The token that a request carries.
fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    credentials::bearer_token(headers.get(header::AUTHORIZATION)?.to_str().ok()?)
}

fn authenticated(mut user: UserInfo) -> UserInfo {
    user.groups.push(AUTHENTICATED.to_owned());
    user
}

/// The groups of the service accounts of a namespace.
fn service_account_groups(namespace: &str) -> Vec<String> {
    vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")]
}
