//! Pulls a component from an OCI registry.

use std::fs::File;
use std::path::Path;
use std::{fmt, io};

use bytes::Bytes;
use k8w_storage::blob::{BlobStore, Digest};
use oci_client::Reference;
use oci_client::manifest::{
    IMAGE_CONFIG_MEDIA_TYPE, IMAGE_DOCKER_CONFIG_MEDIA_TYPE, IMAGE_MANIFEST_LIST_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE,
    OCI_IMAGE_INDEX_MEDIA_TYPE, OCI_IMAGE_MEDIA_TYPE, OciDescriptor, OciImageIndex, OciImageManifest,
};
use oci_client::secrets::RegistryAuth;
use reqwest::Url;
use serde_json::Value;
use tokio::io::AsyncWrite;

use super::MAX_COMPONENT_BYTES;
use super::artifact::{self, Content};
use super::config::{self, Config};
use super::files::{self, Files};
use super::layer::{self, Layer, size};
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

/// Pulls one image, with a pod's credentials. Digests are verified. Layers of a container image that `blobs` has are not asked
/// for, and none is kept there.
///
/// # Errors
/// When the registry does not give it, or it is not wasm.
pub async fn pull(
    reference: &Reference,
    auth: &RegistryAuth,
    registries: &Registries,
    blobs: &BlobStore,
) -> Result<Pulled, Error> {
    Pull::new(reference, auth, registries, blobs)?.run().await
}

/// Pulls the manifest and all layers of an image, whatever it is for, the lowest first. Layers that `blobs` has are not asked
/// for, and none is kept there. A container image's are to be held to what its config says that they unpack to.
///
/// # Errors
/// When the registry does not give it, it is too large, or it is not what it says.
pub async fn pull_layers(
    reference: &Reference,
    auth: &RegistryAuth,
    registries: &Registries,
    blobs: &BlobStore,
) -> Result<(Bytes, Vec<Layer>), Error> {
    let mut pull = Pull::new(reference, auth, registries, blobs)?;
    let (manifest, _, image) = pull.manifest().await?;
    let is_container_image =
        [IMAGE_CONFIG_MEDIA_TYPE, IMAGE_DOCKER_CONFIG_MEDIA_TYPE].contains(&image.config.media_type.as_str());
    let configuration = if is_container_image { pull.configuration(&image).await?.1 } else { Value::Null };
    Ok((manifest, pull.layers(&image, &configuration).await?))
}

struct Pull<'a> {
    /// Mirrors first. One at which nobody answers is not asked twice.
    sessions: Vec<Session<'a>>,
    /// Those of the mirrors at which nobody answered.
    silent: LeftOut,
    reference: &'a Reference,
    blobs: &'a BlobStore,
}

impl<'a> Pull<'a> {
    fn new(
        reference: &'a Reference,
        auth: &RegistryAuth,
        registries: &Registries,
        blobs: &'a BlobStore,
    ) -> Result<Self, Error> {
        let endpoints = registries.endpoints(reference, auth);
        let endpoints = endpoints.map_err(|error| registry_error(reference, LeftOut::default(), error.into()))?;
        let sessions = endpoints.into_iter().map(|endpoint| Session::new(endpoint, reference.repository())).collect();
        Ok(Self { sessions, silent: LeftOut::default(), reference, blobs })
    }

    async fn run(&mut self) -> Result<Pulled, Error> {
        let (manifest, manifest_digest, image) = self.manifest().await?;
        let (configuration, component) = match artifact::content(&image).map_err(Error::NotWasm)? {
            Content::Layer(layer) => {
                let what = layer::which(&image.layers, 0);
                (None, self.blob(&what, &layer, MAX_COMPONENT_BYTES, memory).await?)
            }
            Content::Entrypoint => {
                let (bytes, configuration) = self.configuration(&image).await?;
                let component = self.entrypoint(&image, &configuration).await?;
                (Some(bytes), component)
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
        let too_large = format!("its manifest is larger than {}", size(MAX_MANIFEST_BYTES));
        let (bytes, digest) = self.get(&path, &ACCEPTED.join(", "), MAX_MANIFEST_BYTES, &too_large, memory).await?;
        if let Some(expected) = reference.digest() {
            self.verify("manifest", digest, expected.parse().map_err(|error| self.broken(error))?)?;
        }
        Ok((bytes.into(), digest.to_string()))
    }

    /// The image's config, as it was sent and what it says.
    async fn configuration(&mut self, image: &OciImageManifest) -> Result<(Vec<u8>, Value), Error> {
        let bytes = self.blob("config", &image.config, MAX_MANIFEST_BYTES, memory).await?;
        let configuration = serde_json::from_slice(&bytes).map_err(|error| self.broken(error))?;
        Ok((bytes, configuration))
    }

    async fn entrypoint(&mut self, image: &OciImageManifest, configuration: &Value) -> Result<Vec<u8>, Error> {
        let config = artifact::entrypoint(image, configuration).map_err(Error::NotWasm)?;
        let layers = self.layers(image, configuration).await?;
        let finding = tokio::task::spawn_blocking(move || find(&layers, &config));
        let found = finding.await.map_err(|error| self.broken(error))?;
        found.map_err(|error| self.broken(error))?.map_err(Error::NotWasm)
    }

    /// All layers, the lowest first, each with what the image's config says of it.
    async fn layers(&mut self, image: &OciImageManifest, configuration: &Value) -> Result<Vec<Layer>, Error> {
        let descriptors = &image.layers;
        let many = descriptors.len();
        if many > MAX_LAYERS {
            return Err(self.broken(format!("it has {many} layers, and {MAX_LAYERS} is the most")));
        }
        let diff_ids = config::diff_ids(configuration).map_err(|error| self.broken(error))?;
        if let Some(named) = diff_ids.as_ref().map(Vec::len).filter(|named| *named != many) {
            return Err(self.broken(format!("it has {many} layers, and its config names {named}")));
        }
        // What is too much is not asked for.
        let mut all_bytes = 0_u64;
        for (number, descriptor) in descriptors.iter().enumerate() {
            all_bytes = all_bytes.saturating_add(u64::try_from(descriptor.size).unwrap_or(u64::MAX));
            if all_bytes > MAX_LAYERS_BYTES {
                let (which, most) = (layer::which(descriptors, number), size(MAX_LAYERS_BYTES));
                let why = format!("its {which}: with it the layers have more than {most} as they are sent");
                return Err(self.broken(why));
            }
        }
        let mut layers = Vec::new();
        for (number, descriptor) in descriptors.iter().enumerate() {
            let which = layer::which(descriptors, number);
            let content = self.layer(&which, descriptor).await?;
            let diff_id = diff_ids.as_ref().and_then(|ids| ids.get(number)).cloned();
            layers.push(Layer { which, descriptor: descriptor.clone(), content, diff_id });
        }
        Ok(layers)
    }

    /// One that is here is not asked for.
    async fn layer(&mut self, which: &str, descriptor: &OciDescriptor) -> Result<File, Error> {
        let blobs = self.blobs;
        let here = descriptor.digest.parse().ok().and_then(|digest| blobs.file(&digest).ok().flatten());
        let is_whole =
            |file: &File| file.metadata().is_ok_and(|found| i64::try_from(found.len()) == Ok(descriptor.size));
        if let Some(file) = here.filter(is_whole) {
            return Ok(file);
        }
        let nameless = || blobs.nameless().map(tokio::fs::File::from_std);
        Ok(self.blob(which, descriptor, MAX_LAYERS_BYTES, nameless).await?.into_std().await)
    }

    /// What a descriptor stands for, written to what is begun for it.
    async fn blob<W: AsyncWrite + Unpin>(
        &mut self,
        what: &str,
        descriptor: &OciDescriptor,
        max_bytes: u64,
        begin: impl Fn() -> io::Result<W>,
    ) -> Result<W, Error> {
        // No more than the manifest says.
        let stated_bytes = u64::try_from(descriptor.size).ok().filter(|bytes| *bytes <= max_bytes);
        let too_large = || self.broken(format!("its {what} is larger than {}", size(max_bytes)));
        let stated_bytes = stated_bytes.ok_or_else(too_large)?;
        // Part of a path: nothing but a digest may be in it.
        let digest = descriptor.digest.parse::<Digest>();
        let digest = digest.map_err(|error| self.broken(format!("its {what}: {error}")))?;
        let too_large = format!("its {what} is larger than its manifest says ({stated_bytes} bytes)");
        let (content, found) = self.get(&format!("blobs/{digest}"), "*/*", stated_bytes, &too_large, begin).await?;
        self.verify(what, found, digest)?;
        Ok(content)
    }

    /// From the first that gives it, with its digest. What the last one says, which is the registry itself, decides why nobody
    /// does.
    async fn get<W: AsyncWrite + Unpin>(
        &mut self,
        path: &str,
        accept: &str,
        max_bytes: u64,
        too_large: &str,
        begin: impl Fn() -> io::Result<W>,
    ) -> Result<(W, Digest), Error> {
        let mut next = 0;
        let mut refused = Vec::new();
        loop {
            let is_last = next + 1 == self.sessions.len();
            let Some(session) = self.sessions.get_mut(next) else {
                return Err(self.broken("its name has no registry"));
            };
            let got = match begin() {
                Ok(mut to) => session.get(path, accept, max_bytes, &mut to).await.map(|digest| (to, digest)),
                Err(error) => Err(error.into()),
            };
            let failure = match got {
                Ok(got) => return Ok(got),
                Err(failure @ Failure::Place(_)) => return Err(self.broken(failure)),
                Err(failure) => failure,
            };
            if is_last {
                return Err(match failure {
                    Failure::TooLarge { .. } => self.broken(too_large),
                    failure => {
                        let mirrors = self.silent.0.iter().cloned().chain(refused).collect();
                        registry_error(self.reference, LeftOut(mirrors), failure)
                    }
                });
            }
            tracing::info!(image = self.reference.whole(), mirror = %session.base(), path, %failure, "mirror left out");
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

    fn verify(&self, what: &str, found: Digest, expected: Digest) -> Result<(), Error> {
        match found == expected {
            true => Ok(()),
            false => Err(self.broken(format!("its {what} has digest {found}, not {expected}"))),
        }
    }

    fn broken(&self, why: impl ToString) -> Error {
        Error::Broken { image: self.reference.whole(), why: why.to_string() }
    }
}

/// For what is as small as a component.
fn memory() -> io::Result<Vec<u8>> {
    Ok(Vec::new())
}

/// The component that an image starts; with the reason when that file is none. Blocks.
fn find(layers: &[Layer], config: &Config) -> io::Result<Result<Vec<u8>, String>> {
    let meter = || layer::meter(layer::MAX_UNPACKED_BYTES);
    let program = config.program().unwrap_or_default();
    let (path, place) = Files::of(layers, &meter())?.program(program, &config.search())?;
    let content = files::read(layers, place, MAX_COMPONENT_BYTES, &meter())?;
    if content.starts_with(b"\0asm") {
        return Ok(Ok(content));
    }
    let (program, path) = (files::shown(Path::new(program)), files::shown(&path));
    Ok(Err(format!("its entrypoint \"{program}\" is {path}, which is no WebAssembly: it does not begin with \\0asm")))
}

fn registry_error(reference: &Reference, mirrors: LeftOut, failure: Failure) -> Error {
    let (image, why) = (reference.whole(), failure.to_string());
    match failure {
        Failure::Status { status, .. } if status == 404 => Error::NotFound { image, mirrors },
        Failure::Status { status, .. } if status == 401 || status == 403 => Error::Denied { image, mirrors, why },
        _ => Error::Registry { image, mirrors, why },
    }
}
