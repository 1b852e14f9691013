//! TLS from components to hosts outside of the cluster: trusts whom this machine trusts.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};

/// A configuration with the machine's own certificate authorities (`SSL_CERT_FILE` and `SSL_CERT_DIR` name others). `None`
/// when there are none: then requests with `https` to foreign hosts fail. Reads files.
pub fn client_config() -> Option<Arc<ClientConfig>> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (trusted, _) = roots.add_parsable_certificates(found.certs);
    if trusted == 0 {
        let errors: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
        let why = errors.join("; ");
        tracing::warn!(
            why,
            "this machine trusts no certificate authority: components cannot reach foreign hosts by https"
        );
        return None;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().ok()?;
    Some(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}
