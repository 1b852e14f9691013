//! Pulls a component from an OCI registry.

use std::{fmt, io};

use bytes::Bytes;
use k8w_storage::blob::Digest;
use oci_client::Reference;
use oci_client::manifest::{
    IMAGE_CONFIG_MEDIA_TYPE, IMAGE_DOCKER_CONFIG_MEDIA_TYPE, IMAGE_MANIFEST_LIST_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE,
    OCI_IMAGE_INDEX_MEDIA_TYPE, OCI_IMAGE_MEDIA_TYPE, OciDescriptor, OciImageIndex, OciImageManifest,
};
use oci_client::secrets::RegistryAuth;
use reqwest::Url;
use serde_json::Value;

use super::MAX_COMPONENT_BYTES;
use super::artifact::{self, Content};
use super::config::{self, Config};
use super::files::{self, Files};
use super::layer::{self, Layer};
use super::registries::Registries;
use super::session::{Failure, Session};

/// Largest manifest or config that is read.
const MAX_MANIFEST_BYTES: u64 = 4 << 20;
/// Layers that a container image may have.
const MAX_LAYERS: usize = 128;
/// What all layers of a container image may have together, as they are sent.
const MAX_LAYERS_BYTES: u64 = 1 << 30;

/// What came from a registry.
#[derive(Debug)]
pub struct Pulled {
    pub manifest: Bytes,
    /// Digest of the manifest, by which the image is known.
    pub manifest_digest: String,
    /// Of a container image.
    pub configuration: Option<Vec<u8>>,
    pub component: Vec<u8>,
}

/// Why an image could not be pulled. Each displays as one sentence without the image's name. What kept it from coming from
/// the registry's mirrors stands before what its registry says.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to pull \"{image}\": {mirrors}not found in the registry")]
    NotFound { image: String, mirrors: LeftOut },
    #[error("failed to pull \"{image}\": {mirrors}the registry refuses access: {why}")]
    Denied { image: String, mirrors: LeftOut, why: String },
    #[error("failed to pull \"{image}\": {mirrors}{why}")]
    Registry { image: String, mirrors: LeftOut, why: String },
    #[error("failed to pull \"{image}\": {why}")]
    Broken { image: String, why: String },
    /// The image holds no component.
    #[error("{0}")]
    NotWasm(String),
}

impl Error {
    /// Whether others may be given what these credentials were not: a registry may hide what one may not see.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Error::Denied { .. } | Error::NotFound { .. })
    }
}

/// Mirrors that did not give what they were asked for, each with its reason.
#[derive(Clone, Debug, Default)]
pub struct LeftOut(Vec<(Url, String)>);

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(mirror, why)| write!(f, "mirror {mirror}: {why}; "))
    }
}

/// Pulls one image, with a pod's credentials. Digests are verified.
///
/// # Errors
/// When the registry does not give it, or it is not wasm.
pub async fn pull(reference: &Reference, auth: &RegistryAuth, registries: &Registries) -> Result<Pulled, Error> {
    Pull::new(reference, auth, registries)?.run().await
}

/// Pulls the manifest and all layers of an image, whatever it is for, the lowest first. What `known` has of them by their
/// digests is not asked for. A container image's are what its config says that they unpack to.
///
/// # Errors
/// When the registry does not give it, it is too large, or it is not what it says.
pub async fn pull_layers<K: Future<Output = Option<Bytes>>>(
    reference: &Reference,
    auth: &RegistryAuth,
    registries: &Registries,
    known: impl Fn(Digest) -> K,
) -> Result<(Bytes, Vec<Layer>), Error> {
    let mut pull = Pull::new(reference, auth, registries)?;
    let (manifest, _, image) = pull.manifest().await?;
    let layers = pull.layers(&image, known).await?;
    if ![IMAGE_CONFIG_MEDIA_TYPE, IMAGE_DOCKER_CONFIG_MEDIA_TYPE].contains(&image.config.media_type.as_str()) {
        return Ok((manifest, layers));
    }
    let configuration = pull.blob("config", &image.config, MAX_MANIFEST_BYTES).await?;
    let configuration = serde_json::from_slice(&configuration).map_err(|error| pull.broken(error))?;
    Ok((manifest, pull.verified_layers(layers, &configuration).await?))
}

struct Pull<'a> {
    /// Mirrors first. One at which nobody answers is not asked twice.
    sessions: Vec<Session<'a>>,
    /// Those of the mirrors at which nobody answered.
    silent: LeftOut,
    reference: &'a Reference,
}

impl<'a> Pull<'a> {
    fn new(reference: &'a Reference, auth: &RegistryAuth, registries: &Registries) -> Result<Self, Error> {
        let endpoints = registries.endpoints(reference, auth);
        let endpoints = endpoints.map_err(|error| registry_error(reference, LeftOut::default(), error.into()))?;
        let sessions = endpoints.into_iter().map(|endpoint| Session::new(endpoint, reference.repository())).collect();
        Ok(Self { sessions, silent: LeftOut::default(), reference })
    }

    async fn run(&mut self) -> Result<Pulled, Error> {
        let (manifest, manifest_digest, image) = self.manifest().await?;
        let (configuration, component) = match artifact::content(&image).map_err(Error::NotWasm)? {
            Content::Layer(layer) => (None, self.blob("layer", &layer, MAX_COMPONENT_BYTES).await?),
            Content::Entrypoint => {
                let configuration = self.blob("config", &image.config, MAX_MANIFEST_BYTES).await?;
                let component = self.entrypoint(&image, &configuration).await?;
                (Some(configuration), component)
            }
        };
        Ok(Pulled { manifest, manifest_digest, configuration, component })
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
        let chosen: Digest = chosen.parse().map_err(|error| self.broken(error))?;
        let chosen = chosen.to_string();
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

    async fn entrypoint(&mut self, image: &OciImageManifest, configuration: &[u8]) -> Result<Vec<u8>, Error> {
        let configuration: Value = serde_json::from_slice(configuration).map_err(|error| self.broken(error))?;
        let config = artifact::entrypoint(image, &configuration).map_err(Error::NotWasm)?;
        let layers = self.layers(image, |_| std::future::ready(None)).await?;
        let layers = self.verified_layers(layers, &configuration).await?;
        let program = config.program().unwrap_or_default().to_owned();
        let finding = tokio::task::spawn_blocking(move || find(&layers, &config));
        let found = finding.await.map_err(|error| self.broken(error))?.map_err(|error| self.broken(error))?;
        match found {
            Some(component) if component.starts_with(b"\0asm") => Ok(component),
            Some(_) => Err(Error::NotWasm(format!("its entrypoint \"{program}\" is no WebAssembly"))),
            None => Err(self.broken(format!("its entrypoint \"{program}\" is no file of it"))),
        }
    }

    /// All layers, the lowest first. What `known` has of them by their digests is not asked for.
    async fn layers<K: Future<Output = Option<Bytes>>>(
        &mut self,
        image: &OciImageManifest,
        known: impl Fn(Digest) -> K,
    ) -> Result<Vec<Layer>, Error> {
        if image.layers.len() > MAX_LAYERS {
            let many = image.layers.len();
            return Err(self.broken(format!("it has {many} layers, and {MAX_LAYERS} is the most")));
        }
        let mut layers = Vec::new();
        let mut left_bytes = MAX_LAYERS_BYTES;
        for descriptor in &image.layers {
            let size_bytes = self.size_bytes("layer", descriptor, left_bytes)?;
            let here = match descriptor.digest.parse() {
                Ok(digest) => known(digest).await,
                Err(_) => None,
            };
            let bytes = match here.filter(|bytes| bytes.len() as u64 == size_bytes) {
                Some(bytes) => bytes,
                None => self.blob("layer", descriptor, left_bytes).await?.into(),
            };
            left_bytes = left_bytes.saturating_sub(bytes.len() as u64);
            layers.push(Layer { descriptor: descriptor.clone(), bytes });
        }
        Ok(layers)
    }

    /// The layers, if they are what the image's configuration says.
    async fn verified_layers(&self, layers: Vec<Layer>, configuration: &Value) -> Result<Vec<Layer>, Error> {
        let diff_ids = config::diff_ids(configuration).map_err(|error| self.broken(error))?;
        let Some(diff_ids) = diff_ids else { return Ok(layers) };
        let verify = move || layer::verify(&layers, &diff_ids).map(|()| layers);
        let verified = tokio::task::spawn_blocking(verify).await.map_err(|error| self.broken(error))?;
        verified.map_err(|why| self.broken(why))
    }

    async fn blob(&mut self, what: &str, descriptor: &OciDescriptor, max_bytes: u64) -> Result<Vec<u8>, Error> {
        // No more than the manifest says.
        let size_bytes = self.size_bytes(what, descriptor, max_bytes)?;
        // Part of a path: nothing but a digest may be in it.
        let digest: Digest = descriptor.digest.parse().map_err(|error| self.broken(error))?;
        let bytes = self.get(what, &format!("blobs/{digest}"), "*/*", size_bytes).await?;
        self.verified(what, &bytes, &descriptor.digest)?;
        Ok(bytes)
    }

    /// What the manifest says that a blob has, which must not be too much.
    fn size_bytes(&self, what: &str, descriptor: &OciDescriptor, max_bytes: u64) -> Result<u64, Error> {
        let size_bytes = u64::try_from(descriptor.size).ok().filter(|size_bytes| *size_bytes <= max_bytes);
        size_bytes.ok_or_else(|| self.broken(format!("its {what} is larger than {max_bytes} bytes")))
    }

    /// From the first that gives it. What the last one says, which is the registry itself, decides why nobody does.
    async fn get(&mut self, what: &str, path: &str, accept: &str, max_bytes: u64) -> Result<Vec<u8>, Error> {
        let mut next = 0;
        let mut refused = Vec::new();
        loop {
            let is_last = next + 1 == self.sessions.len();
            let Some(session) = self.sessions.get_mut(next) else {
                return Err(self.broken("its name has no registry"));
            };
            let failure = match session.get(path, accept, max_bytes).await {
                Ok(bytes) => return Ok(bytes),
                Err(failure) => failure,
            };
            if is_last {
                return Err(match failure {
                    Failure::TooLarge { .. } => self.broken(format!("its {what} is larger than {max_bytes} bytes")),
                    failure => {
                        let mirrors = self.silent.0.iter().cloned().chain(refused).collect();
                        registry_error(self.reference, LeftOut(mirrors), failure)
                    }
                });
            }
            tracing::info!(image = self.reference.whole(), mirror = %session.base(), what, %failure, "mirror left out");
            let reason = (session.base().clone(), failure.to_string());
            match failure {
                Failure::Unreachable(_) => {
                    self.sessions.remove(next);
                    self.silent.0.push(reason);
                }
                _ => {
                    refused.push(reason);
                    next += 1;
                }
            }
        }
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

/// The content of the file that an image starts, if it has that. Blocks.
fn find(layers: &[Layer], config: &Config) -> io::Result<Option<Vec<u8>>> {
    let meter = || layer::meter(layer::MAX_UNPACKED_BYTES);
    let place = Files::of(layers, &meter())?.program(config.program().unwrap_or_default(), &config.search())?;
    place.map(|place| files::read(layers, place, MAX_COMPONENT_BYTES, &meter())).transpose()
}

fn registry_error(reference: &Reference, mirrors: LeftOut, failure: Failure) -> Error {
    let (image, why) = (reference.whole(), failure.to_string());
    match failure {
        Failure::Status { status, .. } if status == 404 => Error::NotFound { image, mirrors },
        Failure::Status { status, .. } if status == 401 || status == 403 => Error::Denied { image, mirrors, why },
        _ => Error::Registry { image, mirrors, why },
    }
}
