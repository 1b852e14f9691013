//! What a request proves its user by, read alike by the API server and by nodes.

use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use x509_parser::prelude::{FromDer, X509Certificate};

/// A longer token is not looked at.
const MAX_TOKEN_BYTES: usize = 64 * 1024;

/// The group of every user that proved who it is.
pub const AUTHENTICATED: &str = "system:authenticated";

/// The group of all nodes.
pub const NODES: &str = "system:nodes";
/// What the user of a node is called; the node's name follows.
pub const NODE_PREFIX: &str = "system:node:";

/// The node that a user is, if it is one: its name, which is empty when the user does not say which node it is. A node without
/// a name owns nothing, least of all what has no node yet.
pub fn node_name<'u>(user: &'u str, groups: &[String]) -> Option<&'u str> {
    let name = user.strip_prefix(NODE_PREFIX)?;
    groups.iter().any(|group| group == NODES).then_some(name)
}

/// The token in an Authorization header: what follows `Bearer` (RFC 6750, section 2.1).
pub fn bearer_token(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.trim().split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && token.len() <= MAX_TOKEN_BYTES).then_some(token)
}

/// The user that a client certificate names, by its (last) common name, and the user's groups: the organizations, and that of all
/// who proved who they are. TLS has verified the certificate. `None` without a common name.
pub fn certificate_user(der: &[u8]) -> Option<(String, Vec<String>)> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().last()?.as_str().ok().filter(|name| !name.is_empty())?;
    let groups = subject.iter_organization().filter_map(|group| group.as_str().ok());
    Some((name.to_owned(), groups.chain([AUTHENTICATED]).map(str::to_owned).collect()))
}

/// An address that a certificate names (RFC 5280, section 4.2.1.6); `None` for octets that are none.
pub fn address(octets: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok()
}

/// A certificate (DER) as text (RFC 7468).
pub fn certificate_pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap_or_default()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_has_the_name_and_the_group_of_one() {
        let node = |user, group: &str| node_name(user, &[AUTHENTICATED.to_owned(), group.to_owned()]);
        assert_eq!(node("system:node:a", NODES), Some("a"));
        assert_eq!(node("system:node:", NODES), Some(""));
        assert_eq!(node("system:node:a", "system:masters"), None);
        assert_eq!(node("jane", NODES), None);
    }

    #[test]
    fn addresses_have_four_or_sixteen_octets() {
        assert_eq!(address(&[192, 0, 2, 1]), "192.0.2.1".parse().ok());
        assert_eq!(address(&[0; 16]), "::".parse().ok());
        assert_eq!(address(&[1, 2, 3]), None);
    }

    #[test]
    fn only_bearer_tokens_are_found() {
        for (header, token) in [
            ("Bearer abc", Some("abc")),
            ("bearer  abc ", Some("abc")),
            ("Bearer", None),
            ("Bearer ", None),
            ("Basic abc", None),
            ("", None),
        ] {
            assert_eq!(bearer_token(header), token, "{header:?}");
        }
        assert_eq!(bearer_token(&format!("Bearer {}", "x".repeat(MAX_TOKEN_BYTES + 1))), None);
    }
}
