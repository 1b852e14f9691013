//! Makes a pod's sandbox and volumes, and makes the volumes anew when what they show has changed.
//!
//! The table of volume sources is [`make`]: a source that is not in it is refused by name.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, EmptyDirVolumeSource, ImageVolumeSource, KeyToPath, Pod, Volume, VolumeProjection,
};
use k8s_openapi::api::node::v1::RuntimeClass;
use k8w_storage::volume::{
    self, File, Files, Item, atomic, config_map, downward_api, empty_dir, host_path, memory, nfs, persistent,
    projected, secret,
};
use kube::ResourceExt;
use kube::api::Api;
use serde_json::{Map, Value};
use tokio_util::task::TaskTracker;

use super::shared::Shared;
use super::{Event, claims, launch, tokens, trust};
use crate::image;
use crate::node::RUNTIME_HANDLER;
use crate::pod::refs::{self, Contents, Reference};
use crate::pod::state::SetupError;
use crate::pod::{backoff, downward, hostname, mounts, quantity, resources};

/// Permission bits of projected files when the volume gives none, and of tokens, which only the node's user may read.
const DEFAULT_MODE: u32 = 0o644;
const TOKEN_MODE: u32 = 0o600;

/// Why one volume could not be made.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Volume(#[from] volume::Error),
    #[error(transparent)]
    Claim(#[from] claims::Error),
    #[error(transparent)]
    Missing(#[from] refs::Missing),
    #[error(transparent)]
    Unavailable(#[from] super::refs::Unavailable),
    #[error(transparent)]
    Downward(#[from] downward::Error),
    #[error("failed to fetch token: {0}")]
    Token(String),
    #[error("failed to fetch trust anchors: {0}")]
    TrustBundle(String),
    #[error("failed to prepare image volume: {0}")]
    Image(#[from] image::Error),
    #[error("{0} volumes are not supported on this node")]
    Unsupported(String),
    #[error("emptyDir medium {0} is not supported on this node")]
    Medium(String),
    #[error("hostPath type \"{0}\" is unknown")]
    HostPathType(String),
    #[error("the node is stopping")]
    Stopping,
}

/// Makes everything and tells the loop, with when the volumes are due again.
pub(super) async fn run(shared: Arc<Shared>, pod: Arc<Pod>, address: Option<Ipv4Addr>, makers: TaskTracker) {
    let uid = pod.uid().unwrap_or_default();
    let result = set_up(&shared, &pod, &uid, address, &makers).await;
    shared.tell(Event::Volumes { uid, result }).await;
}

async fn set_up(
    shared: &Shared,
    pod: &Pod,
    uid: &str,
    address: Option<Ipv4Addr>,
    makers: &TaskTracker,
) -> Result<Option<Timestamp>, SetupError> {
    check_runtime_class(shared, pod).await?;
    hostname::hostname(pod, &shared.config.cluster_domain).map_err(|error| sandbox_error(error.to_string()))?;
    let Some(address) = address else {
        let range = shared.config.wasm_cidr;
        return Err(sandbox_error(format!("no pod address is free in this node's range {range}")));
    };
    let pod_dir = shared.pod_dir(uid);
    let maker = Maker { shared, pod, uid, pod_dir: &pod_dir, address: IpAddr::V4(address), makers };
    let mut due = None;
    for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
        let renew_at = maker.make(volume).await.map_err(|error| SetupError {
            reason: "FailedMount",
            message: format!("MountVolume.SetUp failed for volume \"{}\" : {error}", volume.name),
        })?;
        due = [due, renew_at].into_iter().flatten().min();
    }
    Ok(due)
}

/// A pod may name the runtime class of this node's engine, or none.
async fn check_runtime_class(shared: &Shared, pod: &Pod) -> Result<(), SetupError> {
    let class = pod.spec.as_ref().and_then(|spec| spec.runtime_class_name.as_deref()).filter(|name| !name.is_empty());
    let Some(class) = class else { return Ok(()) };
    let handler = match shared.known_handler(class) {
        Some(handler) => handler,
        None => {
            let api: Api<RuntimeClass> = Api::all(shared.client.clone());
            let found = api.get_opt(class).await.map_err(|error| sandbox_error(sentence(error)))?;
            let missing = || sandbox_error(format!("RuntimeClass \"{class}\" not found"));
            let handler = found.ok_or_else(missing)?.handler;
            shared.remember_handler(class, &handler);
            handler
        }
    };
    match handler.as_str() {
        RUNTIME_HANDLER => Ok(()),
        handler => Err(sandbox_error(format!("no runtime for \"{handler}\" is configured"))),
    }
}

fn sandbox_error(message: String) -> SetupError {
    SetupError { reason: "FailedCreatePodSandBox", message: format!("Failed to create pod sandbox: {message}") }
}

struct Maker<'a> {
    shared: &'a Shared,
    pod: &'a Pod,
    uid: &'a str,
    pod_dir: &'a Path,
    address: IpAddr,
    /// Knows of work that goes on when the pod is gone.
    makers: &'a TaskTracker,
}

impl Maker<'_> {
    /// Makes one volume; returns when it is due again.
    async fn make(&self, volume: &Volume) -> Result<Option<Timestamp>, Error> {
        let dir = mounts::place(volume, self.pod_dir).dir;
        let namespace = self.namespace();
        if let Some(source) = &volume.empty_dir {
            match source.medium.as_deref().unwrap_or_default() {
                "" => self.blocking(move || empty_dir::create(&dir)).await?,
                "Memory" => {
                    let size_bytes = self.memory_for(source);
                    self.blocking(move || memory::create(&dir, size_bytes)).await?;
                }
                other => return Err(Error::Medium(other.to_owned())),
            }
        } else if let Some(source) = &volume.host_path {
            let word = source.type_.clone().unwrap_or_default();
            let kind = host_path::Kind::parse(&word).ok_or(Error::HostPathType(word))?;
            let path = PathBuf::from(&source.path);
            self.blocking(move || host_path::check(&path, kind)).await?;
        } else if let Some(claim) = claims::claim_name(self.pod, volume) {
            match claims::find(&self.shared.client, self.pod, volume, &claim).await? {
                claims::Source::Directory { path, kind } => {
                    self.blocking(move || {
                        host_path::check(&path, kind)?;
                        persistent::link(&dir, &path)
                    })
                    .await?;
                }
                claims::Source::Nfs(source) => self.blocking(move || nfs::mount(&dir, &source)).await?,
            }
        } else if let Some(source) = &volume.nfs {
            let source = nfs::Source {
                server: source.server.clone(),
                path: source.path.clone(),
                read_only: source.read_only.unwrap_or(false),
                options: Vec::new(),
            };
            self.blocking(move || nfs::mount(&dir, &source)).await?;
        } else if let Some(source) = &volume.image {
            self.image(&volume.name, source, dir).await?;
        } else if let Some(source) = &volume.config_map {
            let reference = Reference::config_map(&namespace, &source.name);
            let optional = source.optional.unwrap_or(false);
            let data = self.contents(&reference, optional).await?;
            let mode = mode(source.default_mode, DEFAULT_MODE);
            let files = config_map::files(&data.files, &items(source.items.as_deref()), mode, optional)?;
            self.write(dir, files).await?;
        } else if let Some(source) = &volume.secret {
            let reference = Reference::secret(&namespace, source.secret_name.as_deref().unwrap_or_default());
            let optional = source.optional.unwrap_or(false);
            let data = self.contents(&reference, optional).await?;
            let mode = mode(source.default_mode, DEFAULT_MODE);
            let files = secret::files(&data.files, &items(source.items.as_deref()), mode, optional)?;
            self.write(dir, files).await?;
        } else if let Some(source) = &volume.downward_api {
            let mode = mode(source.default_mode, DEFAULT_MODE);
            let files = self.downward(source.items.as_deref().unwrap_or_default(), mode)?;
            self.write(dir, files).await?;
        } else if let Some(source) = &volume.projected {
            let mode = mode(source.default_mode, DEFAULT_MODE);
            let mut parts = Vec::new();
            let mut due = None;
            for source in source.sources.iter().flatten() {
                let (files, renew_at) = self.projection(source, mode).await?;
                parts.push(files);
                due = [due, renew_at].into_iter().flatten().min();
            }
            self.write(dir, projected::files(parts)?).await?;
            return Ok(due);
        } else {
            return Err(Error::Unsupported(source_name(volume)));
        }
        Ok(None)
    }

    async fn projection(&self, source: &VolumeProjection, mode: u32) -> Result<(Files, Option<Timestamp>), Error> {
        let namespace = self.namespace();
        if let Some(source) = &source.config_map {
            let optional = source.optional.unwrap_or(false);
            let data = self.contents(&Reference::config_map(&namespace, &source.name), optional).await?;
            Ok((config_map::files(&data.files, &items(source.items.as_deref()), mode, optional)?, None))
        } else if let Some(source) = &source.secret {
            let optional = source.optional.unwrap_or(false);
            let data = self.contents(&Reference::secret(&namespace, &source.name), optional).await?;
            Ok((secret::files(&data.files, &items(source.items.as_deref()), mode, optional)?, None))
        } else if let Some(source) = &source.downward_api {
            Ok((self.downward(source.items.as_deref().unwrap_or_default(), mode)?, None))
        } else if let Some(source) = &source.service_account_token {
            let now = Timestamp::now();
            let token = tokens::request(&self.shared.client, self.pod, source, now)
                .await
                .map_err(|error| Error::Token(sentence(error)))?;
            let file = File { bytes: token.text.into(), mode: TOKEN_MODE };
            Ok((Files::from([(source.path.clone(), file)]), Some(token.renew_at)))
        } else if let Some(source) = &source.cluster_trust_bundle {
            let pem = trust::anchors(&self.shared.client, source).await.map_err(Error::TrustBundle)?;
            let renew_at = backoff::after(Timestamp::now(), trust::RENEW_AFTER);
            Ok((Files::from([(source.path.clone(), File { bytes: pem.into(), mode })]), Some(renew_at)))
        } else if source.pod_certificate.is_some() {
            Err(Error::Unsupported("projected podCertificate".to_owned()))
        } else {
            Ok((Files::new(), None))
        }
    }

    /// How large an emptyDir in memory may get: its own limit, the pod's, the node's, whichever is least.
    fn memory_for(&self, source: &EmptyDirVolumeSource) -> u64 {
        let own = source.size_limit.as_ref().and_then(quantity::units).filter(|bytes| *bytes > 0);
        let pod = self.pod.spec.as_ref().and_then(resources::pod_memory_limit);
        let node = self.shared.allocatable.get("memory").and_then(quantity::units);
        [own, pod, node].into_iter().flatten().min().unwrap_or_default()
    }

    /// Unpacks an image, once in the life of the pod.
    async fn image(&self, name: &str, source: &ImageVolumeSource, dir: PathBuf) -> Result<(), Error> {
        if dir.exists() {
            return Ok(());
        }
        let request = image::Request {
            image: source.reference.as_deref().unwrap_or_default(),
            policy: image::Policy::parse(source.pull_policy.as_deref()),
            pod: self.pod,
            container: name,
            recorder: &self.shared.recorder,
        };
        let keys = launch::pull_secrets(self.shared, self.pod);
        Ok(self.shared.images.unpack(request, keys, dir).await?)
    }

    async fn contents(&self, reference: &Reference, optional: bool) -> Result<Contents, Error> {
        let found = self.shared.refs.get(self.uid, std::slice::from_ref(reference)).await?;
        Ok(refs::contents(&found, reference, optional)?.unwrap_or_default())
    }

    fn downward(&self, items: &[DownwardAPIVolumeFile], default_mode: u32) -> Result<Files, Error> {
        let facts = downward::Facts {
            pod: self.pod,
            host_ip: self.shared.config.address,
            pod_ip: self.address,
            allocatable: &self.shared.allocatable,
        };
        let mut files = Vec::new();
        for item in items {
            let text = match (&item.field_ref, &item.resource_field_ref) {
                (Some(field), _) => downward::field(&facts, &field.field_path)?,
                (None, Some(resource)) => downward::resource(&facts, resource, "")?,
                (None, None) => String::new(),
            };
            files.push((item.path.clone(), text, mode(item.mode, default_mode)));
        }
        Ok(downward_api::files(files)?)
    }

    async fn write(&self, dir: PathBuf, files: Files) -> Result<(), Error> {
        self.blocking(move || atomic::write(&dir, &files).map(drop)).await
    }

    async fn blocking(&self, work: impl FnOnce() -> Result<(), volume::Error> + Send + 'static) -> Result<(), Error> {
        Ok(self.makers.spawn_blocking(work).await.map_err(|_| Error::Stopping)??)
    }

    fn namespace(&self) -> String {
        self.pod.namespace().unwrap_or_default()
    }
}

fn items(items: Option<&[KeyToPath]>) -> Vec<Item> {
    let item = |item: &KeyToPath| Item {
        key: item.key.clone(),
        path: item.path.clone(),
        mode: item.mode.and_then(|mode| u32::try_from(mode).ok()),
    };
    items.unwrap_or_default().iter().map(item).collect()
}

fn mode(given: Option<i32>, default: u32) -> u32 {
    given.and_then(|mode| u32::try_from(mode).ok()).unwrap_or(default)
}

/// The name of a volume's source in the API, for those that are refused.
fn source_name(volume: &Volume) -> String {
    let fields = match serde_json::to_value(volume) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    };
    fields.into_iter().map(|(name, _)| name).find(|name| name != "name").unwrap_or_else(|| "emptyDir".to_owned())
}

/// What the API server said, or what kept it from saying anything.
pub(super) fn sentence(error: kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message,
        other => other.to_string(),
    }
}
