//! Tokens of service accounts that are kept in Secrets: how such a Secret is marked, and what its token says
//! (`k8s.io/kubernetes/pkg/serviceaccount/legacy.go`).

use serde::{Deserialize, Serialize};

/// What `type` says of a Secret that holds a token.
pub const SECRET_TYPE: &str = "kubernetes.io/service-account-token";
/// Annotations of the Secret: whose token it is.
pub const ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";
pub const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";
/// Keys of the Secret's data.
pub const TOKEN: &str = "token";
pub const NAMESPACE: &str = "namespace";
pub const ROOT_CA: &str = "ca.crt";
/// Labels of the Secret: the day on which its token was last used, and the one since which it is no longer taken.
pub const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
pub const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";
/// How days are written in labels.
pub const DAY_FORMAT: &str = "%Y-%m-%d";
/// The ConfigMap in `kube-system` whose `since` says from which day on uses are noted.
pub const TRACKING: &str = "kube-apiserver-legacy-service-account-token-tracking";

/// Who issues tokens that are kept in Secrets, whatever the issuer of others.
pub const ISSUER: &str = "kubernetes/serviceaccount";

/// The user name of a service account.
pub fn user_name(namespace: &str, name: &str) -> String {
    ["system:serviceaccount:", namespace, ":", name].concat()
}

/// What a token in a Secret says. It names no audience and no end: it is good as long as the Secret is there.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct SecretClaims {
    pub iss: String,
    #[serde(rename = "kubernetes.io/serviceaccount/namespace")]
    pub namespace: String,
    #[serde(rename = "kubernetes.io/serviceaccount/secret.name")]
    pub secret: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.name")]
    pub account: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.uid")]
    pub account_uid: String,
    pub sub: String,
}

impl SecretClaims {
    /// Of the token of an account that the Secret `secret` holds.
    pub fn new(namespace: &str, secret: &str, account: &str, account_uid: &str) -> Self {
        SecretClaims {
            iss: ISSUER.to_owned(),
            namespace: namespace.to_owned(),
            secret: secret.to_owned(),
            account: account.to_owned(),
            account_uid: account_uid.to_owned(),
            sub: user_name(namespace, account),
        }
    }
}
