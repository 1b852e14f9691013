//! Bootstrap tokens: what they look like, what the Secrets that hold them are called and say, and how they prove which cluster
//! it is to machines that join (<https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/>).

/// Parts of a token.
pub const ID_CHARS: usize = 6;
pub const SECRET_CHARS: usize = 16;

/// Where the Secrets are.
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

/// The group of everybody who proves himself with a token.
pub const GROUP: &str = "system:bootstrappers";
/// The further group of machines that may ask for a node's certificate, as kubeadm names it.
pub const JOINING_GROUP: &str = "system:bootstrappers:kubeadm:default-node-token";

/// The ConfigMap that everybody may read and that tokens sign: where the API server is, and its CA.
pub const CLUSTER_INFO: &str = "cluster-info";
pub const CLUSTER_INFO_NAMESPACE: &str = "kube-public";
/// What is signed of it.
pub const KUBECONFIG: &str = "kubeconfig";
/// Where the signatures are; the token's id follows.
pub const SIGNATURE_PREFIX: &str = "jws-kubeconfig-";

/// Id and secret in `ID.SECRET`; `None` for what is no token.
pub fn split(token: &str) -> Option<(&str, &str)> {
    token.split_once('.').filter(|(id, secret)| is_id(id) && is_part(secret, SECRET_CHARS))
}

/// Whether it may be the id of a token.
pub fn is_id(text: &str) -> bool {
    is_part(text, ID_CHARS)
}

fn is_part(text: &str, chars: usize) -> bool {
    text.len() == chars && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_a_form() {
        assert_eq!(split("abcdef.0123456789abcdef"), Some(("abcdef", "0123456789abcdef")));
        let wrong = ["", "abcdef", "abcdef.short", "abcdef.0123456789abcdef.", "a.b.c"];
        for token in wrong.into_iter().chain(["ABCDEF.0123456789abcdef", "abcdef.0123456789abcdeF"]) {
            assert_eq!(split(token), None, "{token}");
        }
    }
}
