//! What a node keeps of its identity on disk, under the names that a kubelet gives it.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::{Certificate, Error};

/// Certificate and key together.
pub(super) const CLIENT: &str = "kubelet-client-current.pem";
pub(super) const SERVING: &str = "kubelet-server-current.pem";
/// The cluster's CA, and the URL of its API server.
const CA: &str = "ca.crt";
const SERVER: &str = "server";

/// A folder of these.
#[derive(Clone, Debug)]
pub(super) struct Kept(PathBuf);

impl Kept {
    pub fn open(dir: &Path) -> Result<Kept, Error> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(|source| Error::Io { path: dir.to_owned(), source })?;
        Ok(Kept(dir.to_owned()))
    }

    /// The cluster that was joined: its server and its CA.
    pub fn cluster(&self) -> Result<Option<(String, String)>, Error> {
        Ok(self.read(SERVER)?.map(|server| server.trim().to_owned()).zip(self.read(CA)?))
    }

    pub fn keep_cluster(&self, server: &str, ca_pem: &str) -> Result<(), Error> {
        self.write(CA, ca_pem)?;
        self.write(SERVER, &format!("{server}\n"))
    }

    pub fn certificate(&self, name: &str) -> Result<Option<Certificate>, Error> {
        let what = self.0.join(name).display().to_string();
        self.read(name)?.map(|text| Certificate::from_pem(&text, &what)).transpose()
    }

    pub fn keep_certificate(&self, name: &str, certificate: &Certificate) -> Result<(), Error> {
        self.write(name, &certificate.to_pem())
    }

    fn read(&self, name: &str) -> Result<Option<String>, Error> {
        let path = self.0.join(name);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Io { path, source }),
        }
    }

    /// Written whole under another name first, so that no crash leaves half a file.
    fn write(&self, name: &str, text: &str) -> Result<(), Error> {
        let (path, fresh) = (self.0.join(name), self.0.join(format!("{name}.new")));
        let put = || {
            let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&fresh, &path)
        };
        put().map_err(|source| Error::Io { path: path.clone(), source })
    }
}
