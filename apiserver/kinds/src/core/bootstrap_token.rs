//! Bootstrap tokens: what the Secrets that hold them are called and say
//! (<https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/>).

/// Where they are.
pub const NAMESPACE: &str = "kube-system";
/// What `type` says of them.
pub const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";
/// What their names begin with; the token's id follows.
pub const NAME_PREFIX: &str = "bootstrap-token-";

/// Keys of the Secret's data.
pub const TOKEN_ID: &str = "token-id";
pub const TOKEN_SECRET: &str = "token-secret";
pub const EXPIRATION: &str = "expiration";
pub const USAGE_AUTHENTICATION: &str = "usage-bootstrap-authentication";
pub const USAGE_SIGNING: &str = "usage-bootstrap-signing";
pub const EXTRA_GROUPS: &str = "auth-extra-groups";
