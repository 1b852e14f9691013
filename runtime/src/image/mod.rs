//! Images: from a reference in a manifest to one `.wasm` file on this node.
//!
//! The local store is asked first, and the registry only when the pull policy says so. Images whose registry is
//! `localhost` (no port) were loaded by hand and are never pulled.
//!
//! * [`artifact`]: which of a manifest's layers is the component; [`config`]: what a container image says beside it.
//! * [`registry`]: what is asked of an OCI registry, and what is believed of its answers; [`session`]: the requests;
//!   [`registries`]: where they go; [`tls`]: who is believed there.
//! * [`keyring`]: credentials from a pod's pull secrets; [`readers`]: who needs none for what is here.
//! * [`garbage`]: which images go when the disk fills up.
//! * [`layer`]: what the layers of an image unpack to; [`files`]: which file of a container image is its entrypoint;
//!   [`unpack`]: all that is in one, for a volume.

pub mod artifact;
pub mod config;
pub mod files;
pub mod garbage;
mod keyring;
pub mod layer;
mod readers;
pub mod registries;
mod registry;
mod session;
mod store;
#[cfg(test)]
mod tests;
mod tls;
mod unpack;

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{ContainerImage, Pod};
use k8w_storage::blob::{BlobStore, Digest};
use k8w_storage::volume::image as image_volume;
use oci_client::Reference;
use oci_client::secrets::RegistryAuth;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use crate::engine::Artifact;
use crate::node::Inventory;
use crate::pod::refs::Contents;
use crate::pod::state::RefusalReason;
use crate::recorder::Recorder;

use config::Config;
use readers::Readers;
use registries::Registries;
pub use store::{LoadError, LocalImages};

/// Pulls that may run at once.
const MAX_PULLS: usize = 4;
/// Largest component that is pulled, in bytes.
const MAX_COMPONENT_BYTES: u64 = 256 << 20;
/// Content without a name stays as long: it may be about to get one.
const UNNAMED_FOR: Duration = Duration::from_secs(120);
/// Who shows no credentials.
static ANONYMOUS: RegistryAuth = RegistryAuth::Anonymous;
/// An entry of a layer whose name has this prefix means that the rest of it is gone; this name, that everything beside it is.
const WHITEOUT: &str = ".wh.";
const OPAQUE: &str = ".wh..wh..opq";
/// The registry name of images that were loaded by hand.
const LOCAL_REGISTRY: &str = "localhost";

/// The images of one node.
pub struct Images {
    blobs: Arc<BlobStore>,
    registries: Registries,
    pulls: Semaphore,
    /// One pull per reference at a time.
    locks: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    /// By digest, since this process runs.
    seen: Mutex<HashMap<String, Seen>>,
    /// Whether this process has looked through them before.
    collected: AtomicBool,
    changed: Arc<Notify>,
}

/// When this process first saw an image, and last used it; what was here before it has no time.
#[derive(Clone, Copy)]
struct Seen {
    first: Option<Instant>,
    last_used: Option<Instant>,
}

/// What a collection of images has done.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// How much of the disk was in use that should not be.
    pub excess_bytes: u64,
    pub freed_bytes: u64,
    /// The names that are gone.
    pub removed: Vec<String>,
    /// Digests of all components that are left.
    pub kept: HashSet<String>,
}

/// What a container asks for, or a pod for a volume.
pub struct Request<'a> {
    pub image: &'a str,
    pub policy: Policy,
    pub pod: &'a Pod,
    /// `None` for a volume.
    pub container: Option<&'a str>,
    pub recorder: &'a Recorder,
}

impl Request<'_> {
    fn emit(&self, reason: &str, text: String) {
        self.recorder.pod(self.pod, self.container, false, reason, text);
    }

    fn emit_present(&self) {
        let image = self.image;
        self.emit(
            "Pulled",
            format!("Container image \"{image}\" already present on machine and can be accessed by the pod"),
        );
    }

    fn emit_pulled(&self, begun: Instant, waited_from: Instant, size_bytes: u64) {
        let (image, took, waiting) = (self.image, begun.elapsed().as_millis(), waited_from.elapsed().as_millis());
        self.emit(
            "Pulled",
            format!(
                "Successfully pulled image \"{image}\" in {took}ms ({waiting}ms including waiting). Image size: {size_bytes} bytes."
            ),
        );
    }
}

/// `imagePullPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    Always,
    IfNotPresent,
    Never,
}

/// An image on this node.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    pub artifact: Artifact,
    /// `imageID`: `<repository>@<digest>`.
    pub id: String,
    /// What a container image says of its process; nothing for a wasm artifact.
    pub config: Config,
}

/// Why a container has no image.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("Failed to apply default image tag \"{0}\": couldn't parse image name \"{0}\": invalid reference format")]
    InvalidName(String),
    #[error("Container image \"{0}\" is not present with pull policy of Never")]
    NeverPull(String),
    #[error("image \"{0}\" is not on this node and its registry is the node itself: load it with `k8w image load`")]
    NotLoaded(String),
    #[error("{0}")]
    Pull(#[from] registry::Error),
    #[error("image \"{image}\" is a container image and this node has no CRI runtime to run it: {why}")]
    NotWasm { image: String, why: String },
    #[error("failed to unpack \"{image}\": {why}")]
    Unpack { image: String, why: io::Error },
    #[error("the image store failed: {0}")]
    Store(#[from] io::Error),
}

impl Error {
    /// The waiting reason that the kubelet gives for it.
    pub fn waiting_reason(&self) -> RefusalReason {
        match self {
            Error::InvalidName(_) => RefusalReason::InvalidImageName,
            Error::NeverPull(_) => RefusalReason::ErrImageNeverPull,
            Error::NotLoaded(_) | Error::Pull(_) | Error::Unpack { .. } => RefusalReason::ErrImagePull,
            Error::NotWasm { .. } | Error::Store(_) => RefusalReason::CreateContainerError,
        }
    }
}

impl Policy {
    /// The API sets the field on every pod; what is missing is `IfNotPresent`.
    pub fn parse(text: Option<&str>) -> Policy {
        match text {
            Some("Always") => Policy::Always,
            Some("Never") => Policy::Never,
            _ => Policy::IfNotPresent,
        }
    }
}

impl Images {
    /// The images in `blobs`, and what can be pulled from `registries`.
    pub fn new(blobs: Arc<BlobStore>, registries: Registries, changed: Arc<Notify>) -> Images {
        let pulls = Semaphore::new(MAX_PULLS);
        let (locks, seen, collected) = (Mutex::default(), Mutex::default(), AtomicBool::new(false));
        Images { blobs, registries, pulls, locks, seen, collected, changed }
    }

    /// Makes sure that an image is on this node, and that the pod may use it. `secrets` is asked only when that is not known.
    ///
    /// # Errors
    /// When it is not and may not or cannot be pulled, or is no WebAssembly.
    pub async fn ensure(
        &self,
        request: Request<'_>,
        secrets: impl Future<Output = Vec<Contents>>,
    ) -> Result<Image, Error> {
        let name = request.image;
        let reference: Reference = name.parse().map_err(|_| Error::InvalidName(name.to_owned()))?;
        let waited_from = Instant::now();
        let lock = self.lock_for(&reference.whole());
        // Who waited for another's pull of the same image finds it here.
        let _alone = lock.lock().await;
        let mut keys = Keys::new(secrets, &reference);
        if let Some(image) = self.present(&request, &reference)?
            && self.may_use(&request, &reference, &mut keys).await?
        {
            request.emit_present();
            self.mark_used(&image.artifact.digest, Instant::now());
            return Ok(image);
        }
        self.pull(&request, &reference, waited_from, keys.get().await).await
    }

    /// Whether the pod may use an image that is here without asking its registry.
    ///
    /// # Errors
    /// When it may not, and the registry may not be asked.
    async fn may_use<F: Future<Output = Vec<Contents>>>(
        &self,
        request: &Request<'_>,
        reference: &Reference,
        keys: &mut Keys<'_, F>,
    ) -> Result<bool, Error> {
        let Some(readers) = store::readers(&self.blobs, reference)? else { return Ok(true) };
        match readers.include(keys.get().await) {
            false if request.policy == Policy::Never => Err(Error::NeverPull(request.image.to_owned())),
            may => Ok(may),
        }
    }

    /// The image, if it is on this node and need not be asked for; `None` if it is to be pulled.
    ///
    /// # Errors
    /// When it is not and may not or cannot be pulled.
    fn present(&self, request: &Request<'_>, reference: &Reference) -> Result<Option<Image>, Error> {
        let only_local = reference.registry() == LOCAL_REGISTRY;
        if (request.policy != Policy::Always || only_local)
            && let Some(image) = store::find(&self.blobs, reference)?
        {
            return Ok(Some(image));
        }
        match request.policy {
            Policy::Never => Err(Error::NeverPull(request.image.to_owned())),
            _ if only_local => Err(Error::NotLoaded(request.image.to_owned())),
            _ => Ok(None),
        }
    }

    async fn pull(
        &self,
        request: &Request<'_>,
        reference: &Reference,
        waited_from: Instant,
        keys: &[RegistryAuth],
    ) -> Result<Image, Error> {
        let _permit = self.pulls.acquire().await;
        let begun = Instant::now();
        let name = request.image;
        request.emit("Pulling", format!("Pulling image \"{name}\""));
        let pulled = with_each(keys, |key| registry::pull(reference, key, &self.registries, &self.blobs)).await;
        let (pulled, pulled_by) = pulled.map_err(|error| match error {
            registry::Error::NotWasm(why) => Error::NotWasm { image: name.to_owned(), why },
            error => Error::Pull(error),
        })?;
        let size_bytes = pulled.component.len() as u64;
        let (blobs, of) = (self.blobs.clone(), reference.clone());
        let image = blocking(move || store::keep(&blobs, &of, &pulled, pulled_by)).await?;
        self.mark_used(&image.artifact.digest, Instant::now());
        request.emit_pulled(begun, waited_from, size_bytes);
        self.changed.notify_one();
        Ok(image)
    }

    /// Unpacks an image into `dir`, unless that is there. A component that is on this node is a file of it; of any other
    /// image the layers are kept by their digests, and pulled when they are not here. `secrets` is asked only when a
    /// registry is. What writes to `dir` is one of `makers`: it goes on when nobody waits for it any more.
    ///
    /// # Errors
    /// When it is not here and may not or cannot be pulled, or cannot be unpacked.
    pub async fn unpack(
        &self,
        request: Request<'_>,
        secrets: impl Future<Output = Vec<Contents>>,
        dir: PathBuf,
        makers: &TaskTracker,
    ) -> Result<(), Error> {
        let name = request.image;
        let reference: Reference = name.parse().map_err(|_| Error::InvalidName(name.to_owned()))?;
        let waited_from = Instant::now();
        let lock = self.lock_for(&reference.whole());
        // Who waited for another's pull of the same image finds it here, also in `dir`.
        let _alone = lock.lock().await;
        if image_volume::is_made(&dir) {
            return Ok(());
        }
        let mut keys = Keys::new(secrets, &reference);
        if request.policy != Policy::Always
            && let Some((digest, layers)) = self.layers(&reference).await?
            && self.may_use(&request, &reference, &mut keys).await?
        {
            request.emit_present();
            self.mark_used(&digest.to_string(), Instant::now());
            return made(name, makers.spawn_blocking(move || unpack::unpack(&layers, &dir))).await;
        }
        let image = self.present(&request, &reference)?;
        if let Some(image) = image.filter(|_| store::is_component(&self.blobs, &reference).unwrap_or(false))
            && self.may_use(&request, &reference, &mut keys).await?
        {
            request.emit_present();
            let file = format!("{}.wasm", reference.repository().rsplit('/').next().unwrap_or_default());
            return made(name, makers.spawn_blocking(move || unpack::copy(&image.artifact.path, &file, &dir))).await;
        }
        if request.policy == Policy::Never {
            return Err(Error::NeverPull(name.to_owned()));
        }
        let _permit = self.pulls.acquire().await;
        let begun = Instant::now();
        request.emit("Pulling", format!("Pulling image \"{name}\""));
        let pull = |key| registry::pull_layers(&reference, key, &self.registries, &self.blobs);
        let ((manifest, layers), pulled_by) = with_each(keys.get().await, pull).await?;
        // First: only what is as its config says is kept.
        let unpack = move || unpack::unpack(&layers, &dir).map(|()| layers);
        let layers = made(name, makers.spawn_blocking(unpack)).await?;
        let blobs = self.blobs.clone();
        let keep = move || {
            let size_bytes = layers.iter().map(layer::Layer::sent_bytes).sum::<io::Result<u64>>()?;
            Ok((store::keep_layers(&blobs, &reference, &manifest, &layers, pulled_by)?, size_bytes))
        };
        let (digest, size_bytes) = blocking(keep).await?;
        request.emit_pulled(begun, waited_from, size_bytes);
        self.mark_used(&digest.to_string(), Instant::now());
        self.changed.notify_one();
        Ok(())
    }

    /// The layers of an image that was pulled whole, if it was.
    async fn layers(&self, reference: &Reference) -> Result<Option<(Digest, Vec<layer::Layer>)>, Error> {
        let (blobs, reference) = (self.blobs.clone(), reference.clone());
        blocking(move || store::find_layers(&blobs, &reference)).await
    }

    /// Where images lie, for who measures the disk.
    pub fn folder(&self) -> &Path {
        self.blobs.folder()
    }

    /// Removes what the policy says of the images that were pulled and that none of the names `in_use` stands for, and
    /// content that has no name any more. What was loaded by hand stays: it could not be pulled again. Blocks.
    ///
    /// # Errors
    /// When the store cannot be read or changed.
    pub fn collect(
        &self,
        in_use: &HashSet<String>,
        policy: garbage::Policy,
        disk: garbage::Disk,
        now: Instant,
    ) -> io::Result<Collected> {
        let in_use: HashSet<String> =
            in_use.iter().filter_map(|name| Some(name.parse::<Reference>().ok()?.whole())).collect();
        let stored = store::all(&self.blobs)?;
        let is_first = !self.collected.swap(true, Ordering::Relaxed);
        let since = (!is_first).then_some(now);
        let mut candidates = Vec::new();
        for (digest, image) in &stored {
            let is_used = image.names.iter().any(|name| in_use.contains(name));
            let seen =
                if is_used { self.mark_used(&digest.to_string(), now) } else { self.see(&digest.to_string(), since) };
            if !is_used && !image.loaded {
                let (first_seen, last_used) = (seen.first, seen.last_used);
                let size_bytes = image.size_bytes;
                candidates.push(garbage::Candidate { digest: *digest, size_bytes, first_seen, last_used });
            }
        }
        let mut collected = Collected { excess_bytes: policy.excess_bytes(disk), ..Collected::default() };
        for image in policy.choose(candidates, collected.excess_bytes, now) {
            let mut is_free = true;
            for name in &stored[&image.digest].names {
                // A container asks for it at this very moment.
                let lock = self.lock_for(name);
                let Ok(_alone) = lock.try_lock() else {
                    is_free = false;
                    continue;
                };
                store::remove(&self.blobs, name)?;
                collected.removed.push(name.clone());
            }
            if is_free {
                collected.freed_bytes += image.size_bytes;
            }
        }
        self.blobs.remove_unreferenced(UNNAMED_FOR)?;
        collected.kept = self.blobs.list()?.iter().map(Digest::to_string).collect();
        self.lock_seen().retain(|digest, _| collected.kept.contains(digest));
        Ok(collected)
    }

    fn mark_used(&self, digest: &str, now: Instant) -> Seen {
        let mut all = self.lock_seen();
        let seen = all.entry(digest.to_owned()).or_insert(Seen { first: Some(now), last_used: None });
        seen.last_used = Some(now);
        *seen
    }

    fn see(&self, digest: &str, since: Option<Instant>) -> Seen {
        *self.lock_seen().entry(digest.to_owned()).or_insert(Seen { first: since, last_used: None })
    }

    fn lock_seen(&self) -> std::sync::MutexGuard<'_, HashMap<String, Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_for(&self, key: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        locks.retain(|_, lock| Arc::strong_count(lock) > 1);
        locks.entry(key.to_owned()).or_default().clone()
    }
}

/// A pod's credentials for an image, which nobody looks for before they are needed.
struct Keys<'a, F> {
    reference: &'a Reference,
    secrets: Option<F>,
    found: Vec<RegistryAuth>,
}

impl<'a, F: Future<Output = Vec<Contents>>> Keys<'a, F> {
    fn new(secrets: F, reference: &'a Reference) -> Keys<'a, F> {
        Keys { reference, secrets: Some(secrets), found: Vec::new() }
    }

    async fn get(&mut self) -> &[RegistryAuth] {
        if let Some(secrets) = self.secrets.take() {
            self.found = keyring::credentials(&secrets.await, self.reference);
        }
        &self.found
    }
}

/// Pulls with one key after the other, as long as the registry does not give whoever has it what is asked for. Answers with
/// who has pulled it.
async fn with_each<'k, T, F: Future<Output = Result<T, registry::Error>>>(
    keys: &'k [RegistryAuth],
    pull: impl Fn(&'k RegistryAuth) -> F,
) -> Result<(T, Option<Readers>), registry::Error> {
    let (last, others) = keys.split_last().unwrap_or((&ANONYMOUS, &[]));
    for key in others {
        match pull(key).await {
            Err(error) if error.is_refusal() => tracing::info!(%error, "trying other credentials"),
            pulled => return Ok((pulled?, Readers::with(key))),
        }
    }
    Ok((pull(last).await?, Readers::with(last)))
}

/// What became of an image that is unpacked.
async fn made<T>(image: &str, work: JoinHandle<io::Result<T>>) -> Result<T, Error> {
    let unpacked = work.await.map_err(io::Error::other)?;
    unpacked.map_err(|why| Error::Unpack { image: image.to_owned(), why })
}

/// Does what blocks where nothing else waits for it.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

impl Inventory for Images {
    fn images(&self) -> Vec<ContainerImage> {
        store::list(&self.blobs)
    }
}
