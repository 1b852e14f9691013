//! How a machine that has only a bootstrap token knows the cluster's CA: the ConfigMap `cluster-info` in `kube-public`, which
//! anybody may read, is signed with the token ("Bootstrap Tokens" in the Kubernetes documentation), and the CA's key may be pinned
//! besides: whoever knows the token could sign too.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use k8s_openapi::api::core::v1::ConfigMap;
use k8w_kinds::core::bootstrap_token::{self, CLUSTER_INFO, CLUSTER_INFO_NAMESPACE, KUBECONFIG, SIGNATURE_PREFIX};
use k8w_kinds::credentials::certificate_pem;
use kube::api::Api;
use kube::{Client, Config};
use ring::hmac;
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Error, authorities, request};

const HASH_PREFIX: &str = "sha256:";
const HASH_DIGITS: usize = 64;

/// A bootstrap token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token<'t> {
    pub id: &'t str,
    pub secret: &'t str,
}

impl<'t> Token<'t> {
    pub fn parse(text: &'t str) -> Result<Token<'t>, Error> {
        let (id, secret) = bootstrap_token::split(text).ok_or(Error::BadToken)?;
        Ok(Token { id, secret })
    }
}

/// The CA (PEM) of the cluster at `server`, which knows the token; `pin` is `sha256:` and the hash of the CA's public key, and
/// no other certificate is believed then.
pub(super) async fn ca(server: &http::Uri, token: &Token<'_>, pin: Option<&str>) -> Result<String, Error> {
    if let Some(hash) = pin {
        let digits = hash.strip_prefix(HASH_PREFIX).unwrap_or_default();
        if digits.len() != HASH_DIGITS || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(Error::BadHash);
        }
    }
    // Nobody is believed here before the proof, and a machine that trusts no authority can join too.
    let mut config = Config::new(server.clone());
    config.accept_invalid_certs = true;
    config.root_cert = Some(Vec::new());
    let client = Client::try_from(config).map_err(|error| request::failed(server, "", error))?;
    let map = Api::<ConfigMap>::namespaced(client, CLUSTER_INFO_NAMESPACE).get(CLUSTER_INFO).await;
    let data = map.map_err(|error| request::failed(server, "", error))?.data.unwrap_or_default();
    let unusable = || Error::NoClusterInfo { server: server.to_string() };
    let kubeconfig = data.get(KUBECONFIG).ok_or_else(unusable)?;
    verify(&data, kubeconfig, token)?;
    let kubeconfig = kube::config::Kubeconfig::from_yaml(kubeconfig).map_err(|_| unusable())?;
    let cluster = kubeconfig.clusters.into_iter().find_map(|named| named.cluster).ok_or_else(unusable)?;
    let ca = cluster.certificate_authority_data.and_then(|data| STANDARD.decode(data).ok()).ok_or_else(unusable)?;
    let ca = String::from_utf8(ca).map_err(|_| unusable())?;
    pin.map_or(Ok(ca.clone()), |pin| pinned(&ca, pin))
}

/// Checks the token's signature: a JSON web signature without the content (RFC 7515, appendix F), with HMAC SHA-256.
fn verify(data: &BTreeMap<String, String>, content: &str, token: &Token<'_>) -> Result<(), Error> {
    let signature = data.get(&format!("{SIGNATURE_PREFIX}{}", token.id));
    let signature = signature.ok_or_else(|| Error::UnknownToken { id: token.id.to_owned() })?;
    let (header, tag) = signature.split_once("..").ok_or(Error::WrongSignature)?;
    let algorithm = URL_SAFE_NO_PAD.decode(header).ok();
    let algorithm = algorithm.and_then(|header| serde_json::from_slice::<serde_json::Value>(&header).ok());
    let tag = URL_SAFE_NO_PAD.decode(tag).map_err(|_| Error::WrongSignature)?;
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(content));
    let key = hmac::Key::new(hmac::HMAC_SHA256, token.secret.as_bytes());
    let is_genuine = hmac::verify(&key, signed.as_bytes(), &tag).is_ok();
    match algorithm.is_some_and(|header| header["alg"] == "HS256") && is_genuine {
        true => Ok(()),
        false => Err(Error::WrongSignature),
    }
}

/// Those of the certificates that have the key that was pinned: somebody in between may have put his own beside them.
fn pinned(ca_pem: &str, pin: &str) -> Result<String, Error> {
    let hashed = authorities(ca_pem).filter_map(|certificate| Some((ca_hash(&certificate)?, certificate)));
    let (genuine, others): (Vec<_>, Vec<_>) = hashed.partition(|(hash, _)| hash.eq_ignore_ascii_case(pin));
    if genuine.is_empty() {
        let found: Vec<String> = others.into_iter().map(|(hash, _)| hash).collect();
        return Err(Error::NotPinned { found: found.join(",") });
    }
    Ok(genuine.iter().map(|(_, certificate)| certificate_pem(certificate)).collect())
}

/// `sha256:` and the hash of a certificate's public key (RFC 7469); `None` for what is no certificate (DER).
pub fn ca_hash(certificate: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let digits =
        Sha256::digest(certificate.public_key().raw).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    Some(format!("{HASH_PREFIX}{digits}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(signature: &str, content: &str, token: &str) -> String {
        let data = BTreeMap::from([("jws-kubeconfig-abcdef".to_owned(), signature.to_owned())]);
        match verify(&data, content, &Token::parse(token).unwrap()) {
            Ok(()) => "genuine".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    /// Made with Python's `hmac`, as the signer's own test has it.
    const GENUINE: &str = "eyJhbGciOiJIUzI1NiIsImtpZCI6ImFiY2RlZiJ9..psz1NayrXM3IaFzKZGsb5n_mBl7MjtlsZ1xE8MRmF_4";

    #[test]
    fn only_who_has_the_token_can_sign() {
        assert_eq!(check(GENUINE, "content", "abcdef.0123456789abcdef"), "genuine");
        let wrong = "failed to verify JWS signature of received cluster info object, can't trust this API Server";
        assert_eq!(check(GENUINE, "content", "abcdef.0123456789abcdeg"), wrong);
        assert_eq!(check(GENUINE, "contents", "abcdef.0123456789abcdef"), wrong);
        assert_eq!(check("nonsense", "content", "abcdef.0123456789abcdef"), wrong);
        let unknown = "token id \"zzzzzz\" is invalid for this cluster or it has expired. Use \"k8w token create\" to create \
                       a new valid token";
        assert_eq!(check(GENUINE, "content", "zzzzzz.0123456789abcdef"), unknown);
    }

    #[test]
    fn what_is_not_pinned_is_not_believed() {
        let certificate = || rcgen::generate_simple_self_signed(vec!["ca".into()]).unwrap().cert.pem();
        let (genuine, attackers) = (certificate(), certificate());
        let der = authorities(&genuine).next().unwrap();
        for bundle in [format!("{genuine}{attackers}"), format!("{attackers}{genuine}")] {
            let believed = pinned(&bundle, &ca_hash(&der).unwrap()).unwrap();
            assert_eq!(authorities(&believed).collect::<Vec<_>>(), std::slice::from_ref(&der));
        }
    }

    #[test]
    fn tokens_and_pins_have_their_forms() {
        for wrong in ["", "abcdef", "abcdef.0123", "ABCDEF.0123456789abcdef", "abcdef.0123456789abcdef."] {
            assert!(matches!(Token::parse(wrong), Err(Error::BadToken)), "{wrong}");
        }
        let certificate = rcgen::generate_simple_self_signed(vec!["a".into()]).unwrap().cert.pem();
        let pin = ca_hash(&authorities(&certificate).next().unwrap()).unwrap();
        assert_eq!(pin.len(), HASH_PREFIX.len() + HASH_DIGITS);
        pinned(&certificate, &pin.to_uppercase().replace("SHA256", "sha256")).unwrap();
        let error = pinned(&certificate, "sha256:00").unwrap_err().to_string();
        assert_eq!(error, format!("none of the public keys {pin:?} are pinned"));
    }
}
