//! What there is in a text of PEM blocks (RFC 7468), and whether it can be read.

use std::ops::RangeInclusive;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::error::X509Error;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;

/// Signatures of shorter and longer keys cannot be verified here.
const RSA_BITS: RangeInclusive<usize> = 2048..=8192;

struct Block<'t> {
    label: &'t str,
    has_headers: bool,
    der: Vec<u8>,
}

/// The blocks of a text; whatever stands around them is skipped, and so is one that is no base64.
fn blocks(text: &str) -> impl Iterator<Item = Block<'_>> {
    let mut lines = text.lines().map(str::trim_end);
    std::iter::from_fn(move || {
        loop {
            let label = lines.by_ref().find_map(|line| line.strip_prefix("-----BEGIN ")?.strip_suffix("-----"))?;
            let (mut content, mut has_headers) = (String::new(), false);
            let is_whole = lines.by_ref().any(|line| {
                if line.starts_with("-----END ") {
                    return true;
                }
                match line.contains(':') {
                    true => has_headers = true,
                    false => content.push_str(line),
                }
                false
            });
            if let (true, Ok(der)) = (is_whole, STANDARD.decode(&content)) {
                return Some(Block { label, has_headers, der });
            }
        }
    })
}

/// What is wrong with a certificate signing request (PKCS #10).
pub fn wrong_request(text: &str) -> Option<&'static str> {
    match blocks(text).next() {
        Some(block) if block.label == "CERTIFICATE REQUEST" => match X509CertificationRequest::from_der(&block.der) {
            Ok(([], request)) => wrong_signature(&request),
            _ => Some("x509: malformed certificate request"),
        },
        _ => Some("PEM block type must be CERTIFICATE REQUEST"),
    }
}

/// Whether a request is not signed by the key that it names. What cannot be told here is left to the signer.
fn wrong_signature(request: &X509CertificationRequest) -> Option<&'static str> {
    if matches!(request.verify_signature(), Ok(()) | Err(X509Error::SignatureUnsupportedAlgorithm)) {
        return None;
    }
    match request.certification_request_info.subject_pki.parsed() {
        Ok(PublicKey::RSA(key)) if !RSA_BITS.contains(&key.key_size()) => None,
        Ok(PublicKey::RSA(_)) => Some("crypto/rsa: verification error"),
        Ok(PublicKey::EC(_)) => Some("x509: ECDSA verification failure"),
        _ => Some("x509: Ed25519 verification failure"),
    }
}

/// What is wrong with the certificates that answer a request.
pub fn wrong_certificates(text: &str) -> Option<String> {
    let mut count = 0;
    for block in blocks(text) {
        if block.label != "CERTIFICATE" {
            return Some(format!("only CERTIFICATE PEM blocks are allowed, found {:?}", block.label));
        }
        if block.has_headers {
            return Some("no PEM block headers are permitted".to_owned());
        }
        let mut rest = &block.der[..];
        if rest.is_empty() {
            return Some("found CERTIFICATE PEM block containing 0 certificates".to_owned());
        }
        while !rest.is_empty() {
            let Ok((after, _)) = X509Certificate::from_der(rest) else {
                return Some("x509: malformed certificate".to_owned());
            };
            rest = after;
        }
        count += 1;
    }
    (count == 0).then(|| "must contain at least one CERTIFICATE PEM block".to_owned())
}

#[cfg(test)]
pub mod tests {
    use super::*;

    const REQUEST: &str = "MIGLMD8CAQAwDDEKMAgGA1UEAwwBYTAqMAUGAytlcAMhAEarfmJ/qd7RRSIEyWCBK/JFSW76pOXiWwwomATtvQsL\
                           oAAwBQYDK2VwA0EA3Dfm/IUN4WPHxawTonm2gOwm7qIj1BnBD2SLRQsvgLrooFBHNjI7wE86u/LpUTZ7untCrTzw\
                           3XRNgo54XCz1AQ==";
    const CERTIFICATE: &str = "MIIBLjCB4aADAgECAhQSrq7CpTnpVUk5dDI4GOYtJkdJ8zAFBgMrZXAwDDEKMAgGA1UEAwwBYTAgFw0yNjExMjYy\
                               MzEyMzFaGA8yMTI2MTEwMjIzMTIzMVowDDEKMAgGA1UEAwwBYTAqMAUGAytlcAMhAEarfmJ/qd7RRSIEyWCBK/JF\
                               SW76pOXiWwwomATtvQsLo1MwUTAdBgNVHQ4EFgQU5wiSFL+1AvEUCF3+/snIKi7eMfAwHwYDVR0jBBgwFoAU5wiS\
                               FL+1AvEUCF3+/snIKi7eMfAwDwYDVR0TAQH/BAUwAwEB/zAFBgMrZXADQQAxI+ESyUHCQS78MvebhoJNHKEidfpu\
                               3E3iajJVXLIcTqz9FZVmadeRJt4BqHwTF46+Kv0byIPkryVUit/LnAQI";

    pub fn block(label: &str, content: &str) -> String {
        format!("-----BEGIN {label}-----\n{content}\n-----END {label}-----\n")
    }

    pub fn request() -> String {
        block("CERTIFICATE REQUEST", REQUEST)
    }

    pub fn certificate() -> String {
        block("CERTIFICATE", CERTIFICATE)
    }

    #[test]
    fn requests() {
        assert_eq!(wrong_request(&format!("who asks\n{}", request())), None);
        let other = Some("PEM block type must be CERTIFICATE REQUEST");
        for none in ["", "-----BEGIN CERTIFICATE REQUEST-----", &certificate(), &block("CERTIFICATE REQUEST", "?")] {
            assert_eq!(wrong_request(none), other, "{none}");
        }
        let malformed = wrong_request(&block("CERTIFICATE REQUEST", "MA=="));
        assert_eq!(malformed, Some("x509: malformed certificate request"));
        let forged = request().replace("Cz1AQ==", "Cz0AQ==");
        assert_eq!(wrong_request(&forged), Some("x509: Ed25519 verification failure"));
    }

    #[test]
    fn certificates() {
        assert_eq!(wrong_certificates(&(certificate() + &certificate())), None);
        for (text, wrong) in [
            ("x".to_owned(), "must contain at least one CERTIFICATE PEM block"),
            (
                certificate() + &block("PRIVATE KEY", "MA=="),
                r#"only CERTIFICATE PEM blocks are allowed, found "PRIVATE KEY""#,
            ),
            (block("CERTIFICATE", "a: b\nMA=="), "no PEM block headers are permitted"),
            (block("CERTIFICATE", "MA=="), "x509: malformed certificate"),
            (block("CERTIFICATE", ""), "found CERTIFICATE PEM block containing 0 certificates"),
        ] {
            assert_eq!(wrong_certificates(&text).as_deref(), Some(wrong), "{text}");
        }
    }
}
