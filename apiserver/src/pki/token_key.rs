//! The key that signs service-account tokens: JSON web tokens with ES256 (RFC 7515, RFC 7518).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Why a token was not signed or not accepted. What the claims say is not looked at here.
#[derive(Debug, thiserror::Error)]
#[error("the token's form or signature is invalid")]
pub struct TokenError(#[from] jsonwebtoken::errors::Error);

/// An ECDSA P-256 key pair.
pub struct TokenKey {
    key_id: String,
    /// Affine coordinates, big-endian.
    x: [u8; COORDINATE_BYTES],
    y: [u8; COORDINATE_BYTES],
    header: Header,
    signing: EncodingKey,
    verifying: DecodingKey,
    validation: Validation,
}

const COORDINATE_BYTES: usize = 32;

/// Shows which key it is, and nothing of it.
impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TokenKey({})", self.key_id)
    }
}

impl TokenKey {
    /// From a PKCS #8 private key in PEM; `None` if it is not a P-256 key.
    pub(super) fn from_pem(pem: &str) -> Option<TokenKey> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).ok()?;
        let pair = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&der, &rcgen::PKCS_ECDSA_P256_SHA256).ok()?;
        let point = pair.public_key_raw();
        let (x, y) = point.strip_prefix(&[UNCOMPRESSED_POINT])?.split_at_checked(COORDINATE_BYTES)?;
        let key_id = URL_SAFE_NO_PAD.encode(Sha256::digest(point));
        let mut header = Header::new(Algorithm::ES256);
        // Kubernetes' tokens name the key and nothing else beside the algorithm.
        (header.typ, header.kid) = (None, Some(key_id.clone()));
        // Times and audiences are the authenticator's business, which has a clock of its own.
        let mut validation = Validation::new(Algorithm::ES256);
        (validation.validate_exp, validation.validate_nbf, validation.validate_aud) = (false, false, false);
        validation.required_spec_claims.clear();
        Some(TokenKey {
            key_id,
            x: x.try_into().ok()?,
            y: y.try_into().ok()?,
            header,
            signing: EncodingKey::from_ec_der(der.secret_pkcs8_der()),
            verifying: DecodingKey::from_ec_der(point),
            validation,
        })
    }

    /// Names the key in tokens and in the key set: the hash of the public key.
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// A signed token with these claims.
    pub fn sign(&self, claims: &impl Serialize) -> Result<String, TokenError> {
        Ok(jsonwebtoken::encode(&self.header, claims, &self.signing)?)
    }

    /// The claims of a token that this key signed.
    pub fn verify<Claims: DeserializeOwned>(&self, token: &str) -> Result<Claims, TokenError> {
        Ok(jsonwebtoken::decode(token, &self.verifying, &self.validation)?.claims)
    }

    /// The public key as a JSON web key set (RFC 7517): what `/openid/v1/jwks` answers.
    pub fn key_set(&self) -> Value {
        json!({"keys": [{
            "use": "sig", "kty": "EC", "crv": "P-256", "alg": "ES256", "kid": self.key_id,
            "x": URL_SAFE_NO_PAD.encode(self.x), "y": URL_SAFE_NO_PAD.encode(self.y),
        }]})
    }
}

/// SEC 1, section 2.3.3: how an uncompressed point begins.
const UNCOMPRESSED_POINT: u8 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> TokenKey {
        TokenKey::from_pem(&rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap()
    }

    #[test]
    fn what_was_signed_is_verified() {
        let key = key();
        let token = key.sign(&json!({"sub": "somebody"})).unwrap();
        assert_eq!(key.verify::<Value>(&token).unwrap(), json!({"sub": "somebody"}));
    }

    #[test]
    fn foreign_changed_and_unsigned_tokens_are_refused() {
        let key = key();
        let token = key.sign(&json!({"sub": "somebody"})).unwrap();
        assert!(self::key().verify::<Value>(&token).is_err());
        let (_, signature) = token.rsplit_once('.').unwrap();
        let claims = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let forged = format!("{}.{}.{signature}", claims(json!({"alg": "ES256"})), claims(json!({"sub": "root"})));
        assert!(key.verify::<Value>(&forged).is_err());
        let unsigned = format!("{}.{}.", claims(json!({"alg": "none"})), claims(json!({"sub": "root"})));
        assert!(key.verify::<Value>(&unsigned).is_err());
        assert!(key.verify::<Value>("nonsense").is_err());
    }

    #[test]
    fn the_key_set_holds_the_public_key_alone() {
        let key = key();
        let set = key.key_set();
        assert_eq!(set["keys"][0]["kid"], key.key_id());
        assert!(set["keys"][0].get("d").is_none());
    }
}
