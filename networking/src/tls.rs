//! Certificates of Ingresses: which one a connection gets, by the name that its client asks for.
//!
//! They come from Secrets of type `kubernetes.io/tls` and are read when they are first asked for, so that building tables
//! costs no cryptography. What names hosts comes first; a section that names none is for every host (API reference,
//! IngressTLS: "default to the wildcard host setting for the loadbalancer controller"). A name without a certificate that
//! can be used gets one that this process made for itself; requests go by rules, whatever the certificate.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock, Weak};

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::networking::v1::Ingress;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::network::Network;

/// Certificates by host name.
#[derive(Debug, Default)]
pub struct Certificates {
    hosts: HashMap<Box<str>, Arc<Certificate>>,
    /// By what stands behind `*.`.
    wildcards: HashMap<Box<str>, Arc<Certificate>>,
    /// Of hosts that have none of their own, and of clients that name no host.
    any_host: Option<Arc<Certificate>>,
    sections: Vec<Section>,
}

/// A section of an Ingress that names a Secret.
#[derive(Debug)]
struct Section {
    /// What is to be said of it without a certificate.
    missing: Fault,
    certificate: Option<Arc<Certificate>>,
}

/// Why a certificate of an Ingress is not used.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    pub namespace: String,
    /// The Ingress.
    pub name: String,
    pub uid: String,
    /// One sentence that names the Secret.
    pub why: String,
}

impl Certificates {
    /// The certificates of Ingresses, the first that names a host first.
    pub fn build(ingresses: &[&Ingress], secrets: &[Arc<Secret>]) -> Self {
        let id = |namespace: &Option<String>, name: &str| (namespace.clone().unwrap_or_default(), name.to_owned());
        let certificates: HashMap<(String, String), Arc<Certificate>> = secrets
            .iter()
            .filter_map(|secret| {
                let id = id(&secret.metadata.namespace, secret.metadata.name.as_deref()?);
                Some((id, Arc::new(Certificate { secret: secret.clone(), key: OnceLock::new() })))
            })
            .collect();
        let (mut built, mut implied) = (Self::default(), Vec::new());
        for ingress in ingresses {
            let Some(spec) = &ingress.spec else { continue };
            for tls in spec.tls.iter().flatten() {
                let Some(secret) = &tls.secret_name else { continue };
                let certificate = certificates.get(&id(&ingress.metadata.namespace, secret));
                let missing = Fault::missing(ingress, secret);
                built.sections.push(Section { missing, certificate: certificate.cloned() });
                let Some(certificate) = certificate else { continue };
                let hosts = tls.hosts.iter().flatten();
                hosts.clone().for_each(|host| built.insert(host, certificate));
                if hosts.count() == 0 {
                    implied.push((spec, certificate));
                }
            }
        }
        // Of several sections without hosts each is for the hosts of its own rules first.
        for (spec, certificate) in implied {
            let hosts = spec.rules.iter().flatten().filter_map(|rule| rule.host.as_deref());
            hosts.filter(|host| !host.is_empty()).for_each(|host| built.insert(host, certificate));
            built.any_host.get_or_insert_with(|| certificate.clone());
        }
        built
    }

    fn insert(&mut self, host: &str, certificate: &Arc<Certificate>) {
        let host = host.to_ascii_lowercase();
        let (map, host) = match host.strip_prefix("*.") {
            Some(suffix) => (&mut self.wildcards, suffix),
            None => (&mut self.hosts, host.as_str()),
        };
        map.entry(host.into()).or_insert_with(|| certificate.clone());
    }

    /// The first that can be used of those that a host may have; empty is a client's that names no host.
    fn find(&self, host: &str) -> Option<Arc<CertifiedKey>> {
        let wildcard = || self.wildcards.get(host.split_once('.')?.1);
        let candidates = [self.hosts.get(host), wildcard(), self.any_host.as_ref()];
        candidates.into_iter().flatten().find_map(|certificate| certificate.key().ok())
    }

    /// Keeps what was read before of Secrets that are the same still: tables change much more often than they do.
    pub fn keep_read(&self, before: &Self) {
        let read: HashMap<*const Secret, &Arc<Certificate>> =
            before.named().map(|certificate| (Arc::as_ptr(&certificate.secret), certificate)).collect();
        for certificate in self.named() {
            let before = read.get(&Arc::as_ptr(&certificate.secret));
            if let Some(key) = before.and_then(|before| before.key.get()) {
                // Nobody has asked for it yet.
                let _ = certificate.key.set(key.clone());
            }
        }
    }

    /// All that Ingresses name, as often as they do.
    fn named(&self) -> impl Iterator<Item = &Arc<Certificate>> {
        self.sections.iter().filter_map(|section| section.certificate.as_ref())
    }

    /// What is wrong with certificates that Ingresses name. Reads all that were not asked for yet.
    pub fn faults(&self) -> impl Iterator<Item = Fault> {
        self.sections.iter().filter_map(|Section { missing, certificate }| match certificate {
            Some(certificate) => Some(Fault { why: certificate.key().err()?, ..missing.clone() }),
            None => Some(missing.clone()),
        })
    }
}

impl Fault {
    /// Says of a Secret that it is not among those that a node may read.
    fn missing(ingress: &Ingress, secret: &str) -> Self {
        let metadata = &ingress.metadata;
        let namespace = metadata.namespace.clone().unwrap_or_default();
        Self {
            why: format!("there is no secret {namespace}/{secret} of type kubernetes.io/tls"),
            name: metadata.name.clone().unwrap_or_default(),
            uid: metadata.uid.clone().unwrap_or_default(),
            namespace,
        }
    }
}

/// The certificate of one Secret.
struct Certificate {
    secret: Arc<Secret>,
    key: OnceLock<Result<Arc<CertifiedKey>, String>>,
}

impl Certificate {
    fn key(&self) -> Result<Arc<CertifiedKey>, String> {
        self.key.get_or_init(|| self.read()).clone()
    }

    fn read(&self) -> Result<Arc<CertifiedKey>, String> {
        let metadata = &self.secret.metadata;
        let name = format!(
            "{}/{}",
            metadata.namespace.as_deref().unwrap_or_default(),
            metadata.name.as_deref().unwrap_or_default()
        );
        let field = |field: &str| {
            let value = self.secret.data.as_ref().and_then(|data| data.get(field));
            value.map(|value| value.0.as_slice()).ok_or_else(|| format!("secret {name} has no {field}"))
        };
        let chain = CertificateDer::pem_slice_iter(field("tls.crt")?).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|error| format!("tls.crt of secret {name} is no PEM certificate: {error}"))?;
        if chain.is_empty() {
            return Err(format!("tls.crt of secret {name} has no PEM certificate"));
        }
        let key = PrivateKeyDer::from_pem_slice(field("tls.key")?);
        let key = key.map_err(|error| format!("tls.key of secret {name} is no PEM private key: {error}"))?;
        let certified = CertifiedKey::from_der(chain, key, &rustls::crypto::ring::default_provider());
        certified.map(Arc::new).map_err(|error| format!("secret {name} cannot be used for TLS: {error}"))
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never what is in it.
        f.debug_tuple("Certificate").field(&self.secret.metadata.name).finish()
    }
}

/// Gives each connection the certificate that the tables of the moment have for its name.
struct BySni {
    network: Weak<Network>,
    self_made: Arc<CertifiedKey>,
}

impl fmt::Debug for BySni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BySni")
    }
}

impl ResolvesServerCert for BySni {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let host = hello.server_name().unwrap_or_default().to_ascii_lowercase();
        let found = self.network.upgrade().and_then(|network| network.load_tables().certificates.find(&host));
        Some(found.unwrap_or_else(|| self.self_made.clone()))
    }
}

/// How the ingress speaks TLS: certificates by SNI, HTTP/2 and HTTP/1.1.
pub(crate) fn server_config(network: &Arc<Network>) -> Result<Arc<rustls::ServerConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let resolver = BySni { network: Arc::downgrade(network), self_made: self_made()? };
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The certificate for names that have none that can be used.
fn self_made() -> Result<Arc<CertifiedKey>, TlsError> {
    let made = rcgen::generate_simple_self_signed(["k8w-ingress.invalid".to_owned()])?;
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let provider = rustls::crypto::ring::default_provider();
    Ok(Arc::new(CertifiedKey::from_der(vec![made.cert.der().clone()], key, &provider)?))
}

/// The ingress cannot speak TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot make a certificate")]
    SelfMade(#[from] rcgen::Error),
    #[error("cannot set up TLS")]
    Setup(#[from] rustls::Error),
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use rcgen::KeyPair;
    use serde_json::json;

    use super::*;

    /// A key that was made for these tests: PKCS#1, in base64.
    const RSA_KEY: &str = "
MIIEpAIBAAKCAQEAqcY8y6AZsBkYfGKgQmv/epKjtRJAHhYyk8gfkIZToGMmHNgAB0hjY3ukmlSp3L0ZctkVFD50p73lMyi/jyDm
fjYoQAG58ary2a7IqxdrL9dpltLnoveWoXJ1kSQKo1293TYA8xfMmSVGink5dGXuhbcldehb8oNioNUmmAUgRyuK/mrTiubMUX9L
qcCk/0IRUvIZ4kRNEog5+tzZZrSjEYb3vCf64i1332dqSLkLByA+tgrlyBlepX8ahFSDa6RT41M41bdvyiJgxNTLWURHO/6U5J+O
uyOAF8V2UBQgtbZ5vqMbGsM7En6G4Dk/6RmqNjlkohFxk5RY4vNiAx/fbQIDAQABAoIBAB/WiY2tQUv9NNKUw1WZf8B6kgFRwhzy
UDtXFxZJHpMwLNRRbJXxDRR5ujloAa/f9Y8MZ0/T05gmfD5fGKdshdUq7lrsh/SqeJ76kG7HdkYzST2r4R02fbTarHIS1nzjBklf
CIgOEUQyEZvD1pK9z+CbI0cMk3u0CHG9b16obXBzC4xw2GWNfZ/OrJKZBpY3fjrkHovTKeVI/uvkHSG/H7R2r+K7n2xqbkt17J6T
EWPqv77h/GRvEPiGMlcHrdjN1Zr2Vb14f5EZG6iur7/mah9+yTbBbIQTSvBciI/s/aNJoWz5NGFmGYAbhty4NIBNfTkxi8BU4Irm
Q5epfVgnhAECgYEA0mHwAWXmHCNeJlH+R35dQQL0f3WIyq9IVQkRao6nGGdLJ7JuCAw52UZB+i4QUygw5WfejlRIRGXrkcuysvuq
vt6qkIalZs5ipMOgdsow0KrAlxcsRDhvh28a9yPm5L1F2tdW5+pJp5rCMZA58a913csrmHabV5x8rfFPMDcW420CgYEAzpYxA83i
tKRUrjvkeuuODf8M3gsxoQIWXHTLxV9of/5EcxqCc0UPMC7mlUpBfOXHnkznKo+urwlz2EOx3FeBwx4/xtACuCsF61gaaiLvqB9m
esoJYgbwIG36unxH3Qy854YBZiQzl0keX4uJfTy6XziIEBDuqPw/H83kGW8TbAECgYEApdAk/qUWcRT7Do7PMAALdcLje1Xig4UV
KFhmTqqyTgyTcm0yRcuFCJdURt9pZHEn4Jc2FM2ey7HcseNvK5wpHhiXLCPDVzzRCHVbEmUXhk8eTbco33fvhzntcd3tDFmVJf9U
8qJ4fM3/wlqfILqe1jlcWeUZWDrxFZM8S48Pzh0CgYEAoY9506TPGECv7Pbv72WKWc3ODVSpwmY0gKfiuH+t5PNAKthfjrBCeYck
UzqYTooQ++7elj15+m+lBkuirFRPKf3dGKmSht82qN/lAH5D+LJd3cdlYSFV57a6797EAM62aUY2j9/d7QGE3Gnu4197zX4TgqUL
UGK9Jy1Ips9kXAECgYAFD45Aq8FIfiyBDEgAHa0Esoj25wD7mDVOMXVOq1tQMTtWF4KSTrZy9vd7B2IE8G/XTuXWW+VX3KIxdftF
fVf1Qlb+m6BCdlgtt0dhqT+rlwSaCjT4747rOZcng68tyvntamDVtHFqjpRveXDFjIdRlV8GZv2j8cXnH8kkfT+vuw==";

    fn secret(name: &str, certificate: &str, key: &str) -> Arc<Secret> {
        let data = json!({"tls.crt": base64(certificate.as_bytes()), "tls.key": base64(key.as_bytes())});
        Arc::new(serde_json::from_value(json!({"metadata": {"namespace": "a", "name": name}, "data": data})).unwrap())
    }

    fn base64(bytes: &[u8]) -> String {
        serde_json::to_value(ByteString(bytes.to_vec())).unwrap().as_str().unwrap().to_owned()
    }

    fn pem(kind: &str, base64: &str) -> String {
        format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", base64.trim())
    }

    /// An RSA key of PKCS#1 as PKCS#8 has it.
    fn in_pkcs8(pkcs1: &[u8]) -> Vec<u8> {
        let long = |tag: u8, content: &[u8]| {
            let length = u16::try_from(content.len()).unwrap().to_be_bytes();
            [&[tag, 0x82], &length[..], content].concat()
        };
        // Version 0, and rsaEncryption without parameters.
        let head = [2, 1, 0, 0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 13, 1, 1, 1, 5, 0];
        long(0x30, &[&head[..], &long(4, pkcs1)].concat())
    }

    /// A Secret with a certificate and key of its own.
    fn made(name: &str) -> Arc<Secret> {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        secret(name, &made.cert.pem(), &made.signing_key.serialize_pem())
    }

    /// An Ingress of these hosts' rules, with sections of hosts and a Secret.
    fn ingress(name: &str, rules: &[&str], tls: &[(&[&str], &str)]) -> Ingress {
        let rules: Vec<_> = rules.iter().map(|host| json!({"host": host})).collect();
        let section = |(hosts, secret): &(&[&str], &str)| json!({"hosts": hosts, "secretName": secret});
        let tls: Vec<_> = tls.iter().map(section).collect();
        let metadata = json!({"namespace": "a", "name": name, "uid": format!("uid-{name}")});
        serde_json::from_value(json!({"metadata": metadata, "spec": {"rules": rules, "tls": tls}})).unwrap()
    }

    /// Which Secret's certificate a host gets.
    fn secret_of(certificates: &Certificates, secrets: &[Arc<Secret>], host: &str) -> Option<String> {
        let found = certificates.find(host)?;
        let is_its = |secret: &&Arc<Secret>| {
            let certificate = Certificate { secret: (*secret).clone(), key: OnceLock::new() };
            certificate.key().is_ok_and(|key| key.cert == found.cert)
        };
        secrets.iter().find(is_its)?.metadata.name.clone()
    }

    #[test]
    fn a_host_gets_the_certificate_that_is_most_its_own() {
        let secrets = ["one", "wild", "any", "later", "rules"].map(made);
        let ingresses = [
            ingress("first", &[], &[(&[], "any")]),
            ingress("hosts", &["one.test"], &[(&["One.test"], "one"), (&["*.wild.test"], "wild")]),
            ingress("again", &[], &[(&["one.test"], "later"), (&[], "later")]),
            ingress("implied", &["one.test", "rules.test"], &[(&[], "rules")]),
            ingress("broken", &[], &[(&["gone.test"], "gone")]),
        ];
        let certificates = Certificates::build(&ingresses.iter().collect::<Vec<_>>(), &secrets);
        for (host, expected) in [
            ("one.test", "one"),
            ("a.wild.test", "wild"),
            ("a.b.wild.test", "any"),
            ("wild.test", "any"),
            ("rules.test", "rules"),
            ("gone.test", "any"),
            ("", "any"),
        ] {
            assert_eq!(secret_of(&certificates, &secrets, host).as_deref(), Some(expected), "{host}");
        }
        let only = Certificates::build(&[&ingresses[1]], &secrets);
        assert_eq!(secret_of(&only, &secrets, "other.test"), None);
    }

    #[test]
    fn what_was_read_is_kept_for_as_long_as_its_secret_is_the_same() {
        let ingress = ingress("web", &[], &[(&["a.test"], "web")]);
        let build = |secret: &Arc<Secret>| Certificates::build(&[&ingress], std::slice::from_ref(secret));
        let read = |certificates: &Certificates| certificates.hosts["a.test"].key.get().is_some();
        let secret = made("web");
        let before = build(&secret);
        before.find("a.test").unwrap();
        for (secret, is_kept) in [(secret, true), (made("web"), false)] {
            let after = build(&secret);
            assert!(!read(&after));
            after.keep_read(&before);
            assert_eq!(read(&after), is_kept);
        }
    }

    #[test]
    fn what_cannot_be_used_is_named_with_its_ingress() {
        let good = made("good");
        let text = |name: &str| String::from_utf8(good.data.as_ref().unwrap()[name].0.clone()).unwrap();
        let (certificate, key) = (text("tls.crt"), text("tls.key"));
        let other_key = KeyPair::generate().unwrap().serialize_pem();
        let mut empty = Secret::clone(&secret("empty", "", ""));
        empty.data = None;
        let secrets = [
            secret("no-certificate", "", &key),
            secret("no-key", &certificate, "nonsense"),
            secret("not-its-key", &certificate, &other_key),
            Arc::new(empty),
            good,
        ];
        let names = ["no-certificate", "no-key", "not-its-key", "empty", "good", "missing"];
        let ingresses = names.map(|name| ingress(name, &[], &[(&["a.test"], name)]));
        let certificates = Certificates::build(&ingresses.iter().collect::<Vec<_>>(), &secrets);
        let faults: Vec<_> =
            certificates.faults().map(|fault| format!("{} {}: {}", fault.uid, fault.name, fault.why)).collect();
        expect_test::expect![[r#"
            uid-no-certificate no-certificate: tls.crt of secret a/no-certificate has no PEM certificate
            uid-no-key no-key: tls.key of secret a/no-key is no PEM private key: no items found
            uid-not-its-key not-its-key: secret a/not-its-key cannot be used for TLS: keys may not be consistent: KeyMismatch
            uid-empty empty: secret a/empty has no tls.crt
            uid-missing missing: there is no secret a/missing of type kubernetes.io/tls"#]].assert_eq(&faults.join("\n"));
    }

    #[test]
    fn keys_come_in_every_form_that_tools_write() {
        // PKCS#8 has the key in the form of its kind at its end.
        let elliptic = KeyPair::generate().unwrap();
        let sec1 = elliptic.serialize_der()[29..].to_vec();
        let pkcs1 = PrivateKeyDer::from_pem_slice(pem("RSA PRIVATE KEY", RSA_KEY).as_bytes()).unwrap();
        let rsa = KeyPair::try_from(in_pkcs8(pkcs1.secret_der())).unwrap();
        let signed = |key: &KeyPair| {
            rcgen::CertificateParams::new(["a.test".to_owned()]).unwrap().self_signed(key).unwrap().pem()
        };
        for (form, certificate, key) in [
            ("PKCS#8", signed(&elliptic), elliptic.serialize_pem()),
            ("SEC1", signed(&elliptic), pem("EC PRIVATE KEY", &base64(&sec1))),
            ("PKCS#8 of RSA", signed(&rsa), pem("PRIVATE KEY", &base64(&in_pkcs8(pkcs1.secret_der())))),
            ("PKCS#1", signed(&rsa), pem("RSA PRIVATE KEY", RSA_KEY)),
        ] {
            let certificate = Certificate { secret: secret("a", &certificate, &key), key: OnceLock::new() };
            certificate.key().unwrap_or_else(|error| panic!("{form}: {error}"));
        }
    }
}
