//! The folder that holds the keys and certificates: load what is good, make what is not.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::CertificateDer;

use super::identity::{self, Identity, Profile};
use super::{CA_LIFETIME_DAYS, LEAF_LIFETIME_DAYS, PkiError, TokenKey};

const CA_NAME: &str = "kubernetes";
/// What the CA's files are called before `.crt` and `.key`.
const CA: &str = "ca";
const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

pub(super) struct Store {
    dir: PathBuf,
    ca: Identity,
    issuer: Issuer<'static, KeyPair>,
}

impl Store {
    pub(super) fn open(dir: &Path) -> Result<Store, PkiError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(FOLDER_MODE)
            .create(dir)
            .map_err(|source| PkiError::Io { path: dir.to_owned(), source })?;
        let (ca, key) = match load(dir, CA)?.filter(|ca| identity::is_usable_ca(ca, CA_NAME)) {
            Some(ca) => {
                let key = KeyPair::from_pem(ca.key_pem()).map_err(issue(CA))?;
                (ca, key)
            }
            None => {
                let key = KeyPair::generate().map_err(issue(CA))?;
                let certificate = ca_params().self_signed(&key).map_err(issue(CA))?;
                let ca = Identity::new(certificate.pem(), key.serialize_pem());
                save(dir, CA, &ca)?;
                (ca, key)
            }
        };
        Ok(Store { dir: dir.to_owned(), ca, issuer: Issuer::new(ca_params(), key) })
    }

    pub(super) fn ca_pem(&self) -> &str {
        self.ca.certificate_pem()
    }

    pub(super) fn ca(&self) -> &CertificateDer<'static> {
        self.ca.certificate()
    }

    pub(super) fn identity_of_ca(&self) -> &Identity {
        &self.ca
    }

    pub(super) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }

    /// The certificate kept as `<stem>.crt` and `<stem>.key`, made anew unless it still is what `profile` says.
    pub(super) fn identity(&self, stem: &str, profile: &Profile) -> Result<Identity, PkiError> {
        if let Some(stored) = load(&self.dir, stem)?.filter(|stored| profile.describes(stored, &self.ca)) {
            return Ok(stored);
        }
        let key = KeyPair::generate().map_err(issue(stem))?;
        let params = profile.params(LEAF_LIFETIME_DAYS).map_err(issue(stem))?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(issue(stem))?;
        let identity = Identity::new(certificate.pem(), key.serialize_pem());
        save(&self.dir, stem, &identity)?;
        Ok(identity)
    }

    /// The service-account key. A damaged one is an error, not a reason for a new one: all tokens would die unsaid.
    pub(super) fn token_key(&self) -> Result<TokenKey, PkiError> {
        let path = self.dir.join("sa.key");
        if let Some(pem) = read(&path)? {
            return TokenKey::from_pem(&pem).ok_or(PkiError::DamagedKey { path });
        }
        let pem = KeyPair::generate().map_err(issue("sa"))?.serialize_pem();
        write(&path, &pem)?;
        TokenKey::from_pem(&pem).ok_or(PkiError::DamagedKey { path })
    }
}

pub(super) fn holds_ca(dir: &Path) -> bool {
    dir.join(format!("{CA}.key")).exists()
}

pub(super) fn issue(name: &str) -> impl FnOnce(rcgen::Error) -> PkiError {
    move |source| PkiError::Issue { name: name.to_owned(), source }
}

fn ca_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    identity::set_validity(&mut params, CA_LIFETIME_DAYS);
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, CA_NAME);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// Certificate and key, when both are there and belong together.
fn load(dir: &Path, stem: &str) -> Result<Option<Identity>, PkiError> {
    let certificate = read(&dir.join(format!("{stem}.crt")))?;
    let key = read(&dir.join(format!("{stem}.key")))?;
    Ok(certificate.zip(key).map(|(certificate, key)| Identity::new(certificate, key)).filter(Identity::is_consistent))
}

fn save(dir: &Path, stem: &str, identity: &Identity) -> Result<(), PkiError> {
    write(&dir.join(format!("{stem}.key")), identity.key_pem())?;
    write(&dir.join(format!("{stem}.crt")), identity.certificate_pem())
}

fn read(path: &Path) -> Result<Option<String>, PkiError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(PkiError::Io { path: path.to_owned(), source }),
    }
}

/// Written whole under another name first, so that no reader and no crash ever sees half a file.
fn write(path: &Path, text: &str) -> Result<(), PkiError> {
    let fresh = path.with_extension("new");
    let put = || {
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(FILE_MODE).open(&fresh)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, path)
    };
    put().map_err(|source| PkiError::Io { path: path.to_owned(), source })
}
