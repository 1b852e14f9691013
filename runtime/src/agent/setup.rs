//! Makes a pod's sandbox and volumes, and makes the volumes anew when what they show has changed.
//!
//! The table of volume sources is [`Maker::make`]: a source that is not in it is refused by name. Volumes do not depend on
//! each other: one that cannot be made keeps its pod from beginning, and no other volume from being made or renewed.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, EmptyDirVolumeSource, KeyToPath, Pod, Volume, VolumeProjection,
};
use k8s_openapi::api::node::v1::RuntimeClass;
use k8w_storage::volume::{
    self, File, Files, Item, atomic, config_map, downward_api, empty_dir, ephemeral, host_path, memory, nfs,
    persistent, projected, secret,
};
use kube::ResourceExt;
use kube::api::Api;
use serde_json::{Map, Value};
use tokio_util::task::TaskTracker;

use super::shared::Shared;
use super::tokens::Tokens;
use super::{Event, claims, trust};
use crate::node::RUNTIME_HANDLER;
use crate::pod::refs::{self, Contents, Reference};
use crate::pod::state::SetupError;
use crate::pod::{backoff, downward, hostname, modes, mounts, quantity, resources};

/// Permission bits of projected files when the volume gives none.
const DEFAULT_MODE: u32 = 0o644;

/// What is to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pass {
    /// The sandbox and all volumes of a pod that is to begin.
    First,
    /// Those volumes of a pod that runs whose content follows the API. The others stay as they were made, whatever became of
    /// what they were made from: a claim that is deleted stays until its pods are gone.
    Refresh,
}

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Made {
    /// When the volumes that were made are due again.
    pub due: Option<Timestamp>,
    pub failed: Vec<SetupError>,
}

impl Made {
    pub fn into_result(self) -> Result<(), Vec<SetupError>> {
        if self.failed.is_empty() { Ok(()) } else { Err(self.failed) }
    }
}

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
    #[error("{0} volumes are not supported on this node")]
    Unsupported(String),
    #[error("emptyDir medium {0} is not supported on this node")]
    Medium(String),
    #[error("the node is stopping")]
    Stopping,
    /// Of several sources of one volume.
    #[error("[{}]", .0.iter().map(Error::to_string).collect::<Vec<_>>().join(", "))]
    Sources(Vec<Error>),
}

/// Makes what is to be made and tells the loop.
pub(super) async fn run(
    shared: Arc<Shared>,
    pod: Arc<Pod>,
    address: Option<Ipv4Addr>,
    tokens: Arc<Tokens>,
    makers: TaskTracker,
    pass: Pass,
) {
    let uid = pod.uid().unwrap_or_default();
    let made = match sandbox(&shared, &pod, address, pass).await {
        Ok(address) => {
            let pod_dir = shared.pod_dir(&uid);
            let address = IpAddr::V4(address);
            let maker = Maker {
                shared: &shared,
                pod: &pod,
                uid: &uid,
                pod_dir: &pod_dir,
                address,
                tokens: &tokens,
                makers: &makers,
            };
            maker.make_all(pass).await
        }
        Err(error) => Made { due: None, failed: vec![error] },
    };
    shared.tell(Event::Volumes { uid, made }).await;
}

/// Checks that the pod can have a sandbox, if it does not have it yet; returns its address.
async fn sandbox(shared: &Shared, pod: &Pod, address: Option<Ipv4Addr>, pass: Pass) -> Result<Ipv4Addr, SetupError> {
    if pass == Pass::First {
        check_runtime_class(shared, pod).await?;
        hostname::hostname(pod, &shared.config.cluster_domain).map_err(|error| sandbox_error(error.to_string()))?;
    }
    let range = shared.config.wasm_cidr;
    address.ok_or_else(|| sandbox_error(format!("no pod address is free in this node's range {range}")))
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
    /// What the pod's volumes have of them.
    tokens: &'a Tokens,
    /// Knows of work that goes on when the pod is gone.
    makers: &'a TaskTracker,
}

impl Maker<'_> {
    async fn make_all(&self, pass: Pass) -> Made {
        let mut made = Made::default();
        let volumes = self.pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        for volume in volumes.filter(|volume| pass == Pass::First || follows_the_api(volume)) {
            match self.make(volume).await {
                Ok(due) => made.due = [made.due, due].into_iter().flatten().min(),
                Err(error) => made.failed.push(SetupError {
                    reason: "FailedMount",
                    message: format!("MountVolume.SetUp failed for volume \"{}\" : {error}", volume.name),
                }),
            }
        }
        made
    }

    /// Makes one volume; returns when it is due again.
    async fn make(&self, volume: &Volume) -> Result<Option<Timestamp>, Error> {
        let dir = mounts::place(volume, self.pod_dir).path;
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
            let kind = host_path::Kind::parse(source.type_.as_deref().unwrap_or_default())?;
            let path = PathBuf::from(&source.path);
            self.blocking(move || host_path::check(&path, kind)).await?;
        } else if let Some(source) = &volume.persistent_volume_claim {
            self.claimed(volume, dir, &source.claim_name).await?;
        } else if volume.ephemeral.is_some() {
            let claim = ephemeral::claim_name(&self.pod.name_any(), &volume.name);
            self.claimed(volume, dir, &claim).await?;
        } else if let Some(source) = &volume.nfs {
            let source = nfs::Source {
                server: source.server.clone(),
                path: source.path.clone(),
                read_only: source.read_only.unwrap_or(false),
                options: Vec::new(),
            };
            self.blocking(move || nfs::mount(&dir, &source)).await?;
        } else if volume.image.is_some() {
            // The launch of a container that mounts it makes it (`volume::image`).
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
            let (mut parts, mut due, mut errors) = (Vec::new(), None, Vec::new());
            for source in source.sources.iter().flatten() {
                match self.projection(source, mode).await {
                    Ok((files, renew_at)) => {
                        parts.push(files);
                        due = [due, renew_at].into_iter().flatten().min();
                    }
                    Err(error) => errors.push(error),
                }
            }
            return match errors.len() {
                0 => self.write(dir, projected::files(parts)?).await.map(|()| due),
                1 => Err(errors.remove(0)),
                _ => Err(Error::Sources(errors)),
            };
        } else {
            return Err(Error::Unsupported(source_name(volume)));
        }
        Ok(None)
    }

    /// Makes the volume of a claim.
    async fn claimed(&self, volume: &Volume, dir: PathBuf, claim: &str) -> Result<(), Error> {
        // One that the pod has already (the node was restarted) is its own to the end.
        let has_it = dir.symlink_metadata().is_ok();
        match claims::find(&self.shared.client, self.pod, volume, claim, has_it).await? {
            claims::Source::Local { path, kind } => {
                let link = move || {
                    host_path::check(&path, kind)?;
                    persistent::link(&dir, &path)
                };
                self.blocking(link).await
            }
            claims::Source::Nfs(source) => self.blocking(move || nfs::mount(&dir, &source)).await,
        }
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
            let token = self.tokens.get(&self.shared.client, self.pod, source, Timestamp::now()).await;
            let token = token.map_err(|error| Error::Token(sentence(error)))?;
            let file = File { bytes: token.text.into(), mode: self.private_mode(mode) };
            Ok((Files::from([(source.path.clone(), file)]), Some(token.renew_at)))
        } else if let Some(source) = &source.cluster_trust_bundle {
            let pem = trust::anchors(&self.shared.client, source).await.map_err(Error::TrustBundle)?;
            let renew_at = backoff::after(Timestamp::now(), trust::RENEW_AFTER);
            let file = File { bytes: pem.into(), mode: self.private_mode(mode) };
            Ok((Files::from([(source.path.clone(), file)]), Some(renew_at)))
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

    fn private_mode(&self, mode: u32) -> u32 {
        self.pod.spec.as_ref().map_or(mode, |spec| modes::private(spec, mode))
    }

    async fn write(&self, dir: PathBuf, mut files: Files) -> Result<(), Error> {
        for file in files.values_mut() {
            file.mode = self.pod.spec.as_ref().map_or(file.mode, |spec| modes::shared(spec, file.mode));
        }
        self.blocking(move || atomic::write(&dir, &files).map(drop)).await
    }

    async fn blocking(&self, work: impl FnOnce() -> Result<(), volume::Error> + Send + 'static) -> Result<(), Error> {
        Ok(self.makers.spawn_blocking(work).await.map_err(|_| Error::Stopping)??)
    }

    fn namespace(&self) -> String {
        self.pod.namespace().unwrap_or_default()
    }
}

/// Whether what a volume shows changes with the objects that it is made from.
fn follows_the_api(volume: &Volume) -> bool {
    volume.config_map.is_some()
        || volume.secret.is_some()
        || volume.downward_api.is_some()
        || volume.projected.is_some()
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
