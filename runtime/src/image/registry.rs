//! Pulls a component from an OCI registry.

use std::error::Error as _;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;
use oci_client::manifest::{
    IMAGE_MANIFEST_LIST_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE, OCI_IMAGE_INDEX_MEDIA_TYPE, OCI_IMAGE_MEDIA_TYPE,
    OciDescriptor, OciImageIndex, OciImageManifest,
};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use serde_json::Value;
use tokio::io::AsyncWrite;

use super::artifact::{self, Content};
use super::{MAX_COMPONENT_BYTES, layer};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest silence of a registry.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest manifest or config that is read.
const MAX_MANIFEST_BYTES: usize = 4 << 20;
/// Layers of a container image that are searched for its entrypoint.
const MAX_LAYERS: usize = 128;

/// What came from a registry.
#[derive(Debug)]
pub struct Pulled {
    pub manifest: Bytes,
    /// Digest of the manifest, by which the image is known.
    pub manifest_digest: String,
    pub component: Vec<u8>,
}

/// Why an image could not be pulled. Each displays as one sentence without the image's name.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to pull \"{image}\": not found in the registry")]
    NotFound { image: String },
    #[error("failed to pull \"{image}\": the registry refuses access: {why}")]
    Denied { image: String, why: String },
    #[error("failed to pull \"{image}\": {why}")]
    Registry { image: String, why: String },
    #[error("failed to pull \"{image}\": larger than {MAX_COMPONENT_BYTES} bytes")]
    TooLarge { image: String },
    #[error("failed to pull \"{image}\": {why}")]
    Broken { image: String, why: String },
    /// The image holds no component.
    #[error("{0}")]
    NotWasm(String),
}

/// Pulls one image. Digests are verified; registries on loopback and those in `insecure` are spoken to over HTTP.
///
/// # Errors
/// When the registry does not give it, or it is not wasm.
pub async fn pull(reference: &Reference, auth: &RegistryAuth, insecure: &[String]) -> Result<Pulled, Error> {
    let plain = is_plain(reference.registry(), insecure);
    let config = ClientConfig {
        protocol: if plain { ClientProtocol::Http } else { ClientProtocol::Https },
        connect_timeout: Some(CONNECT_TIMEOUT),
        read_timeout: Some(READ_TIMEOUT),
        user_agent: concat!("k8w/", env!("CARGO_PKG_VERSION")),
        ..ClientConfig::default()
    };
    // A client of its own for each pull: it remembers credentials, and those belong to one pod.
    let client = Client::try_from(config).map_err(|error| registry_error(reference, error))?;
    Pull { client: &client, reference, auth }.run().await
}

struct Pull<'a> {
    client: &'a Client,
    reference: &'a Reference,
    auth: &'a RegistryAuth,
}

impl Pull<'_> {
    async fn run(&self) -> Result<Pulled, Error> {
        let (manifest, manifest_digest, image) = self.manifest().await?;
        let component = match artifact::content(&image).map_err(Error::NotWasm)? {
            Content::Layer(layer) => self.blob(&layer, MAX_COMPONENT_BYTES).await?,
            Content::Entrypoint => self.entrypoint(&image).await?,
        };
        Ok(Pulled { manifest, manifest_digest, component })
    }

    /// The image's manifest; of an index, that of its wasm image.
    async fn manifest(&self) -> Result<(Bytes, String, OciImageManifest), Error> {
        let (bytes, digest) = self.raw_manifest(self.reference).await?;
        let value: Value = serde_json::from_slice(&bytes).map_err(|error| self.broken(error))?;
        if value.get("manifests").is_none() {
            let image = serde_json::from_value(value).map_err(|error| self.broken(error))?;
            return Ok((bytes, digest, image));
        }
        let index: OciImageIndex = serde_json::from_value(value).map_err(|error| self.broken(error))?;
        let none = || Error::NotWasm("none of its platforms is wasi/wasm".to_owned());
        let chosen = artifact::choose(&index.manifests).ok_or_else(none)?;
        let (bytes, digest) = self.raw_manifest(&self.reference.clone_with_digest(chosen)).await?;
        let image = serde_json::from_slice(&bytes).map_err(|error| self.broken(error))?;
        Ok((bytes, digest, image))
    }

    async fn raw_manifest(&self, reference: &Reference) -> Result<(Bytes, String), Error> {
        let accepted = [
            OCI_IMAGE_MEDIA_TYPE,
            OCI_IMAGE_INDEX_MEDIA_TYPE,
            IMAGE_MANIFEST_MEDIA_TYPE,
            IMAGE_MANIFEST_LIST_MEDIA_TYPE,
        ];
        let pulled = self.client.pull_manifest_raw(reference, self.auth, &accepted).await;
        let (bytes, digest) = pulled.map_err(|error| registry_error(self.reference, error))?;
        if bytes.len() > MAX_MANIFEST_BYTES {
            return Err(self.broken(format!("its manifest is larger than {MAX_MANIFEST_BYTES} bytes")));
        }
        Ok((bytes, digest))
    }

    async fn entrypoint(&self, image: &OciImageManifest) -> Result<Vec<u8>, Error> {
        let config = self.blob(&image.config, MAX_MANIFEST_BYTES).await?;
        let config: Value = serde_json::from_slice(&config).map_err(|error| self.broken(error))?;
        let path = artifact::entrypoint(image, &config).map_err(Error::NotWasm)?;
        // The last layer that has the file is the one that counts.
        for descriptor in image.layers.iter().rev().take(MAX_LAYERS) {
            if descriptor.media_type.ends_with("zstd") {
                return Err(self.broken("a layer is compressed with zstd, which is not supported"));
            }
            let bytes = self.blob(descriptor, MAX_COMPONENT_BYTES).await?;
            let wanted = path.clone();
            let search = move || layer::find(&bytes, &wanted, MAX_COMPONENT_BYTES as u64);
            let found = tokio::task::spawn_blocking(search).await.map_err(|error| self.broken(error))?;
            if let Some(component) = found.map_err(|error| self.broken(error))? {
                return Ok(component);
            }
        }
        Err(self.broken(format!("its entrypoint /{path} is in none of its layers")))
    }

    async fn blob(&self, descriptor: &OciDescriptor, max_bytes: usize) -> Result<Vec<u8>, Error> {
        let too_large = || Error::TooLarge { image: self.reference.whole() };
        if usize::try_from(descriptor.size).map_or(true, |size| size > max_bytes) {
            return Err(too_large());
        }
        let mut out = Limited { bytes: Vec::new(), left: max_bytes };
        match self.client.pull_blob(self.reference, descriptor, &mut out).await {
            Ok(()) => Ok(out.bytes),
            Err(OciDistributionError::IoError(error)) if error.kind() == io::ErrorKind::FileTooLarge => {
                Err(too_large())
            }
            Err(error) => Err(registry_error(self.reference, error)),
        }
    }

    fn broken(&self, why: impl ToString) -> Error {
        Error::Broken { image: self.reference.whole(), why: why.to_string() }
    }
}

/// Whether a registry is spoken to without TLS.
fn is_plain(registry: &str, insecure: &[String]) -> bool {
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    loopback || insecure.iter().any(|name| name == registry)
}

fn registry_error(reference: &Reference, error: OciDistributionError) -> Error {
    let image = reference.whole();
    let (not_found, denied) = match &error {
        OciDistributionError::ImageManifestNotFoundError(_) => (true, false),
        OciDistributionError::UnauthorizedError { .. } | OciDistributionError::AuthenticationFailure(_) => {
            (false, true)
        }
        OciDistributionError::ServerError { code, .. } => (*code == 404, *code == 401 || *code == 403),
        OciDistributionError::RegistryError { envelope, .. } => {
            let text = envelope.to_string();
            let has = |code: &str| text.contains(code);
            (has("ManifestUnknown") || has("NameUnknown") || has("NotFound"), has("Unauthorized") || has("Denied"))
        }
        _ => (false, false),
    };
    let why = chain(&error);
    if not_found {
        Error::NotFound { image }
    } else if denied {
        Error::Denied { image, why }
    } else {
        Error::Registry { image, why }
    }
}

/// An error with its sources, which most HTTP errors say the interesting part in.
fn chain(error: &OciDistributionError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// Collects bytes up to a limit, whatever a registry sends.
struct Limited {
    bytes: Vec<u8>,
    left: usize,
}

impl AsyncWrite for Limited {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.left.checked_sub(bytes.len()) {
            None => Poll::Ready(Err(io::ErrorKind::FileTooLarge.into())),
            Some(left) => {
                self.left = left;
                self.bytes.extend_from_slice(bytes);
                Poll::Ready(Ok(bytes.len()))
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_and_listed_registries_are_plain() {
        let insecure = ["registry.test:5000".to_owned()];
        for registry in ["localhost:5000", "127.0.0.1:80", "127.9.9.9", "[::1]:5000", "registry.test:5000"] {
            assert!(is_plain(registry, &insecure), "{registry}");
        }
        for registry in ["docker.io", "registry.test", "localhost.example.com", "10.0.0.1:5000"] {
            assert!(!is_plain(registry, &insecure), "{registry}");
        }
    }
}
