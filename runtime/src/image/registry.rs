//! Pulls a component from an OCI registry.

use std::net::IpAddr;

use bytes::Bytes;
use k8w_storage::blob::Digest;
use oci_client::Reference;
use oci_client::manifest::{
    IMAGE_MANIFEST_LIST_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE, OCI_IMAGE_INDEX_MEDIA_TYPE, OCI_IMAGE_MEDIA_TYPE,
    OciDescriptor, OciImageIndex, OciImageManifest,
};
use oci_client::secrets::RegistryAuth;
use serde_json::Value;

use super::artifact::{self, Content};
use super::session::{Failure, Session};
use super::unpack::Layer;
use super::{MAX_COMPONENT_BYTES, layer};

/// Largest manifest or config that is read.
const MAX_MANIFEST_BYTES: u64 = 4 << 20;
/// Layers that a container image may have.
const MAX_LAYERS: usize = 128;
/// What all layers of a container image may have together, as they are sent and again unpacked.
const MAX_LAYERS_BYTES: u64 = 1 << 30;

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
    Pull::new(reference, auth, insecure)?.run().await
}

/// Pulls the manifest and all layers of an image, whatever it is for, the lowest first. What `known` has of them by their
/// digests is not asked for.
///
/// # Errors
/// When the registry does not give it, or it is too large.
pub async fn pull_layers<K: Future<Output = Option<Bytes>>>(
    reference: &Reference,
    auth: &RegistryAuth,
    insecure: &[String],
    known: impl Fn(Digest) -> K,
) -> Result<(Bytes, Vec<Layer>), Error> {
    let mut pull = Pull::new(reference, auth, insecure)?;
    let (manifest, _, image) = pull.manifest().await?;
    pull.check_layers(&image)?;
    let mut layers = Vec::new();
    let mut left_bytes = MAX_LAYERS_BYTES;
    for descriptor in image.layers {
        let size_bytes = pull.size_bytes("layer", &descriptor, left_bytes)?;
        let here = match descriptor.digest.parse() {
            Ok(digest) => known(digest).await,
            Err(_) => None,
        };
        let bytes = match here.filter(|bytes| bytes.len() as u64 == size_bytes) {
            Some(bytes) => bytes,
            None => pull.blob("layer", &descriptor, left_bytes).await?.into(),
        };
        left_bytes = left_bytes.saturating_sub(bytes.len() as u64);
        layers.push(Layer { descriptor, bytes });
    }
    Ok((manifest, layers))
}

struct Pull<'a> {
    session: Session<'a>,
    reference: &'a Reference,
}

impl<'a> Pull<'a> {
    fn new(reference: &'a Reference, auth: &'a RegistryAuth, insecure: &[String]) -> Result<Self, Error> {
        let plain = is_plain(reference.registry(), insecure);
        // A session of its own for each pull: it remembers credentials, and those belong to one pod.
        let session = Session::new(reference, auth, plain).map_err(|failure| registry_error(reference, failure))?;
        Ok(Self { session, reference })
    }

    async fn run(&mut self) -> Result<Pulled, Error> {
        let (manifest, manifest_digest, image) = self.manifest().await?;
        let component = match artifact::content(&image).map_err(Error::NotWasm)? {
            Content::Layer(layer) => self.blob("layer", &layer, MAX_COMPONENT_BYTES).await?,
            Content::Entrypoint => self.entrypoint(&image).await?,
        };
        Ok(Pulled { manifest, manifest_digest, component })
    }

    /// The image's manifest; of an index, that of its wasm image.
    async fn manifest(&mut self) -> Result<(Bytes, String, OciImageManifest), Error> {
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

    async fn raw_manifest(&mut self, reference: &Reference) -> Result<(Bytes, String), Error> {
        const ACCEPTED: [&str; 4] = [
            OCI_IMAGE_MEDIA_TYPE,
            OCI_IMAGE_INDEX_MEDIA_TYPE,
            IMAGE_MANIFEST_MEDIA_TYPE,
            IMAGE_MANIFEST_LIST_MEDIA_TYPE,
        ];
        let name = reference.digest().or(reference.tag()).unwrap_or("latest");
        let path = format!("manifests/{name}");
        let bytes = self.get("manifest", &path, &ACCEPTED.join(", "), MAX_MANIFEST_BYTES).await?;
        let digest = match reference.digest() {
            Some(expected) => self.verified("manifest", &bytes, expected)?,
            None => Digest::of(&bytes),
        };
        Ok((bytes.into(), digest.to_string()))
    }

    async fn entrypoint(&mut self, image: &OciImageManifest) -> Result<Vec<u8>, Error> {
        let config = self.blob("config", &image.config, MAX_MANIFEST_BYTES).await?;
        let config: Value = serde_json::from_slice(&config).map_err(|error| self.broken(error))?;
        let path = artifact::entrypoint(image, &config).map_err(Error::NotWasm)?;
        self.check_layers(image)?;
        let mut left = layer::Budget { file_bytes: MAX_COMPONENT_BYTES, unpacked_bytes: MAX_LAYERS_BYTES };
        let mut sent_bytes = 0;
        // The last layer that has the file is the one that counts.
        for descriptor in image.layers.iter().rev() {
            if descriptor.media_type.ends_with("zstd") {
                return Err(self.broken("a layer is compressed with zstd, which is not supported"));
            }
            let bytes = self.blob("layer", descriptor, MAX_LAYERS_BYTES - sent_bytes).await?;
            sent_bytes += bytes.len() as u64;
            let wanted = path.clone();
            let search = move || (layer::find(&bytes, &wanted, &mut left), left);
            let (found, rest) = tokio::task::spawn_blocking(search).await.map_err(|error| self.broken(error))?;
            left = rest;
            if let Some(component) = found.map_err(|error| self.broken(error))? {
                return Ok(component);
            }
        }
        Err(self.broken(format!("its entrypoint /{path} is in none of its layers")))
    }

    fn check_layers(&self, image: &OciImageManifest) -> Result<(), Error> {
        match image.layers.len() {
            0..=MAX_LAYERS => Ok(()),
            many => Err(self.broken(format!("it has {many} layers, and {MAX_LAYERS} is the most"))),
        }
    }

    async fn blob(&mut self, what: &str, descriptor: &OciDescriptor, max_bytes: u64) -> Result<Vec<u8>, Error> {
        // No more than the manifest says.
        let size_bytes = self.size_bytes(what, descriptor, max_bytes)?;
        let bytes = self.get(what, &format!("blobs/{}", descriptor.digest), "*/*", size_bytes).await?;
        self.verified(what, &bytes, &descriptor.digest)?;
        Ok(bytes)
    }

    /// What the manifest says that a blob has, which must not be too much.
    fn size_bytes(&self, what: &str, descriptor: &OciDescriptor, max_bytes: u64) -> Result<u64, Error> {
        let size_bytes = u64::try_from(descriptor.size).ok().filter(|size_bytes| *size_bytes <= max_bytes);
        size_bytes.ok_or_else(|| self.broken(format!("its {what} is larger than {max_bytes} bytes")))
    }

    async fn get(&mut self, what: &str, path: &str, accept: &str, max_bytes: u64) -> Result<Vec<u8>, Error> {
        let got = self.session.get(path, accept, max_bytes).await;
        got.map_err(|failure| match failure {
            Failure::TooLarge { max_bytes } => self.broken(format!("its {what} is larger than {max_bytes} bytes")),
            failure => registry_error(self.reference, failure),
        })
    }

    fn verified(&self, what: &str, bytes: &[u8], expected: &str) -> Result<Digest, Error> {
        let expected: Digest = expected.parse().map_err(|error| self.broken(error))?;
        let found = Digest::of(bytes);
        match found == expected {
            true => Ok(found),
            false => Err(self.broken(format!("its {what} has digest {found}, not {expected}"))),
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

fn registry_error(reference: &Reference, failure: Failure) -> Error {
    let (image, why) = (reference.whole(), failure.to_string());
    match failure {
        Failure::Status { status, .. } if status == 404 => Error::NotFound { image },
        Failure::Status { status, .. } if status == 401 || status == 403 => Error::Denied { image, why },
        _ => Error::Registry { image, why },
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
