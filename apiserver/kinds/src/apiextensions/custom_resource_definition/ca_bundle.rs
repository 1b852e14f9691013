//! The certificates that a conversion webhook is verified by. They may be put in later: before a definition is established
//! nothing is converted.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::status;
use crate::object::text;

fn of(definition: &Value) -> &str {
    text(definition, &["spec", "conversion", "webhook", "clientConfig", "caBundle"])
}

/// What is wrong with a bundle, in base64, that is not empty.
pub fn wrong(bundle: &str) -> Option<String> {
    let bytes = STANDARD.decode(bundle).unwrap_or_default();
    let (mut any, mut failed) = (false, None);
    for block in Pem::iter_from_buffer(&bytes) {
        let Ok(block) = block else { break };
        any = true;
        if block.label != "CERTIFICATE" {
            continue;
        }
        match X509Certificate::from_der(&block.contents) {
            Ok(_) => return None,
            Err(error) => failed = failed.or(Some(format!("failed to parse certificate: {error}"))),
        }
    }
    let why = match failed {
        Some(why) => why,
        None if any => "no valid certificate authority data seen".to_owned(),
        None => "unable to parse bytes as PEM block".to_owned(),
    };
    Some(format!("unable to load root certificates: {why}"))
}

/// Whether a definition has certificates that are none.
pub fn is_invalid(definition: &Value) -> bool {
    !of(definition).is_empty() && wrong(of(definition)).is_some()
}

/// Whether a change of this definition may leave them so.
pub fn may_be_invalid(definition: &Value) -> bool {
    !status::is_established(definition) || is_invalid(definition)
}
