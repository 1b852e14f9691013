//! Starts one attempt of a container: image, configuration, preparation, start, in that order, each with its own
//! waiting reason when it fails.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, Volume};
use k8w_storage::volume::sub_path;
use kube::ResourceExt;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::own_files::{self, OwnFile};
use super::shared::Shared;
use crate::engine::{ContainerId, ContainerSpec, EngineError, Preopen, Prepared, RunsAs};
use crate::image;
use crate::pod::identity::identity;
use crate::pod::state::{Event, Refusal, RefusalReason};
use crate::pod::{
    annotations, containers, downward, env, hostname, mounts, names, refs, resources, security_context, support,
};
use crate::server::log_stream;

/// Port of an http component whose container names none.
const DEFAULT_HTTP_PORT: u16 = 8080;
/// What is compiled sooner is not worth a word.
const COMPILING_SHOWN: Duration = Duration::from_millis(500);
/// How long a launch waits for the first list of Services.
const SERVICES_WAIT: Duration = Duration::from_secs(5);

/// What is to be started.
pub(super) struct Attempt {
    pub container: String,
    pub number: u32,
    /// The attempt before it runs: this one is to take its place.
    pub beside: bool,
}

/// Runs the launch and tells the loop how it went. Up to the start it can be called off.
pub(super) async fn run(
    shared: Arc<Shared>,
    pod: Arc<Pod>,
    address: Option<Ipv4Addr>,
    makers: TaskTracker,
    Attempt { container, number: attempt, beside }: Attempt,
    cancel: CancellationToken,
) {
    let uid = pod.uid().unwrap_or_default();
    let launch = Launch { shared: &shared, pod: &pod, uid: &uid, address, makers, name: &container, attempt, beside };
    let refusal = match cancel.run_until_cancelled(launch.prepare()).await {
        None => Refusal::new(RefusalReason::Cancelled, ""),
        Some(Err(refusal)) => refusal,
        Some(Ok(spec)) => {
            if let Err(error) = shared.engine.start(spec).await {
                let message = error.to_string();
                shared.tell_pod(&uid, Event::StartFailed { container, attempt, message }).await;
            }
            return;
        }
    };
    shared.tell_pod(&uid, Event::Refused { container, attempt, refusal }).await;
}

struct Launch<'a> {
    shared: &'a Shared,
    pod: &'a Pod,
    uid: &'a str,
    address: Option<Ipv4Addr>,
    /// Knows of what writes to the pod's directories, and goes on when the launch is called off.
    makers: TaskTracker,
    name: &'a str,
    attempt: u32,
    beside: bool,
}

impl Launch<'_> {
    async fn prepare(&self) -> Result<ContainerSpec, Refusal> {
        let (spec, container) = self.container().ok_or_else(|| config_error("the container is not in the pod"))?;
        let container = container.as_ref();
        if let Some(refusal) = support::refusal(spec, container) {
            return Err(config_error(refusal));
        }
        let http = annotations::http_settings(self.pod).map_err(config_error)?;
        self.image_volumes(spec, container).await?;
        let image = self.image(container).await?;
        if let Some(refusal) = security_context::user_refusal(self.pod, container) {
            return Err(config_error(refusal));
        }
        let environment = self.environment(spec, container).await?;
        let event =
            Event::Imaged { container: self.name.to_owned(), attempt: self.attempt, image_id: image.id.clone() };
        self.shared.tell_pod(self.uid, event).await;
        let prepared = self.compiled(container, &image).await?;
        if prepared.answers {
            let event = Event::Answers { container: self.name.to_owned(), attempt: self.attempt };
            self.shared.tell_pod(self.uid, event).await;
        }
        let called = container.command.is_some() || container.args.is_some();
        let force_command = called && prepared.runs_as == RunsAs::HttpOrCommand;
        let is_process = force_command || prepared.runs_as == RunsAs::Command;
        match (is_process, self.beside) {
            (true, true) => return Err(Refusal::new(RefusalReason::NoServer, "")),
            (true, false) => {}
            (false, _) => {
                let event = Event::Serves { container: self.name.to_owned(), attempt: self.attempt };
                self.shared.tell_pod(self.uid, event).await;
            }
        }
        let preopens = self.preopens(spec, container, &environment, is_process).await?;
        let log_path = self.shared.log_path(self.pod, self.name, self.attempt);
        self.make_log_dir(&log_path).await?;
        let argv = env::argv(container, &environment, &image.config).map_err(config_error)?;
        let hostname = hostname::hostname(self.pod, &self.shared.config.cluster_domain).map_err(config_error)?;
        let own_dir = container.working_dir.as_ref().filter(|dir| !dir.is_empty());
        let working_dir = own_dir.unwrap_or(&image.config.working_dir);
        Ok(ContainerSpec {
            id: ContainerId { pod_uid: self.uid.to_owned(), container: self.name.to_owned(), attempt: self.attempt },
            pod: identity(self.pod, self.pod_ip()),
            container_name: self.name.to_owned(),
            digest: prepared.digest,
            argv,
            env: env::of_process([("HOSTNAME".to_owned(), hostname)], &image.config, environment),
            preopens,
            memory_volumes: mounts::memory_volumes(spec, self.name, &self.shared.pod_dir(self.uid)),
            names: names::of(spec),
            working_dir: Some(working_dir.clone()).filter(|dir| !dir.is_empty()),
            http_port: (prepared.runs_as != RunsAs::Command).then(|| http_port(container)),
            http,
            limits: resources::limits(spec, container),
            log_path,
            force_command,
            stdin: container.stdin == Some(true),
            stdin_once: container.stdin_once == Some(true),
            tty: container.tty == Some(true),
            shares_processes: spec.share_process_namespace == Some(true),
        })
    }

    fn container(&self) -> Option<(&PodSpec, Cow<'_, Container>)> {
        Some((self.pod.spec.as_ref()?, containers::find(self.pod, self.name)?))
    }

    /// Mostly the component was compiled before. Where it was not, the pod says what it waits for.
    async fn compiled(&self, container: &Container, image: &image::Image) -> Result<Prepared, Refusal> {
        let begun = Instant::now();
        let namespace = self.pod.namespace().unwrap_or_default();
        let mut preparing = self.shared.engine.prepare(&image.artifact, &namespace);
        if let Ok(prepared) = tokio::time::timeout(COMPILING_SHOWN, &mut preparing).await {
            return prepared.map_err(create_error);
        }
        let emit = |reason: &str, text: String| {
            self.shared.recorder.pod(self.pod, Some(self.name), false, reason, text);
        };
        let name = container.image.as_deref().unwrap_or_default();
        emit("Compiling", format!("Compiling the component of image \"{name}\""));
        let event = Event::Compiling { container: self.name.to_owned(), attempt: self.attempt };
        self.shared.tell_pod(self.uid, event).await;
        let prepared = preparing.await.map_err(create_error)?;
        let took = begun.elapsed().as_millis();
        emit("Compiled", format!("Successfully compiled the component of image \"{name}\" in {took}ms"));
        Ok(prepared)
    }

    /// Asks for an image by its name and pull policy, for a container or for a volume.
    fn request<'i>(
        &'i self,
        image: Option<&'i str>,
        policy: Option<&str>,
        container: Option<&'i str>,
    ) -> image::Request<'i> {
        let (image, policy) = (image.unwrap_or_default(), image::Policy::parse(policy));
        image::Request { image, policy, pod: self.pod, container, recorder: &self.shared.recorder }
    }

    async fn image(&self, container: &Container) -> Result<image::Image, Refusal> {
        let (image, policy) = (container.image.as_deref(), container.image_pull_policy.as_deref());
        let keys = pull_secrets(self.shared, self.pod);
        let image = self.shared.images.ensure(self.request(image, policy, Some(self.name)), keys).await;
        image.map_err(|error| Refusal::new(error.waiting_reason(), error))
    }

    /// Unpacks the images that the container mounts as volumes, each once in the life of the pod. One that cannot be had keeps
    /// those containers alone from starting that mount it, as the kubelet has it.
    async fn image_volumes(&self, spec: &PodSpec, container: &Container) -> Result<(), Refusal> {
        let is_mounted = |name: &str| container.volume_mounts.iter().flatten().any(|mount| mount.name == name);
        for volume in spec.volumes.iter().flatten().filter(|volume| is_mounted(&volume.name)) {
            let Some(source) = &volume.image else { continue };
            let request = self.request(source.reference.as_deref(), source.pull_policy.as_deref(), None);
            let keys = pull_secrets(self.shared, self.pod);
            let dir = mounts::place(volume, &self.shared.pod_dir(self.uid)).path;
            let unpacked = self.shared.images.unpack(request, keys, dir, &self.makers).await;
            unpacked.map_err(|error| Refusal {
                volume_image: Some(source.reference.clone().unwrap_or_default()),
                ..Refusal::new(error.waiting_reason(), error)
            })?;
        }
        Ok(())
    }

    async fn environment(&self, spec: &PodSpec, container: &Container) -> Result<Vec<(String, String)>, Refusal> {
        let namespace = self.pod.namespace().unwrap_or_default();
        let wanted = env::references(container, &namespace);
        let found = self.shared.refs.get(self.uid, &wanted).await.map_err(config_error)?;
        // A pod whose Services are not known yet runs without their variables rather than not at all.
        let _ = tokio::time::timeout(SERVICES_WAIT, self.shared.services.wait_until_ready()).await;
        let services = self.shared.services.state();
        let links = spec.enable_service_links.unwrap_or(true);
        let services = env::service_variables(services.iter().map(AsRef::as_ref), &namespace, links);
        let facts = downward::Facts {
            pod: self.pod,
            host_ip: self.shared.config.address,
            pod_ip: self.pod_ip(),
            allocatable: &self.shared.allocatable,
        };
        let files = self.files(spec, container).await?;
        env::environment(container, &facts, services, &found, &files).map_err(config_error)
    }

    /// What is in the files that variables of the container come from. Why one cannot be read is for its variable to say.
    async fn files(&self, spec: &PodSpec, container: &Container) -> Result<env::files::Files, Refusal> {
        let pod_dir = self.shared.pod_dir(self.uid);
        let mut wanted = Vec::new();
        for place in env::files::wanted(container) {
            let is_it = |volume: &&Volume| volume.name == place.0 && volume.empty_dir.is_some();
            let Some(volume) = spec.volumes.iter().flatten().find(is_it) else { continue };
            wanted.push((mounts::place(volume, &pod_dir).path, place));
        }
        if wanted.is_empty() {
            return Ok(env::files::Files::new());
        }
        let read = self.makers.spawn_blocking(move || {
            let mut room = env::files::MAX_FILES_BYTES;
            let read = wanted.into_iter().map(|(dir, place)| {
                let read = sub_path::read(&dir, &place.1, room.min(env::files::MAX_FILE_BYTES));
                room = room.saturating_sub(read.as_ref().map_or(0, Vec::len));
                (place, read)
            });
            read.collect()
        });
        read.await.map_err(config_error)
    }

    /// The preopens; directories that a `subPath` names and nobody made are made.
    async fn preopens(
        &self,
        spec: &PodSpec,
        container: &Container,
        environment: &[(String, String)],
        is_process: bool,
    ) -> Result<Vec<Preopen>, Refusal> {
        let pod_dir = self.shared.pod_dir(self.uid);
        let mut preopens = mounts::preopens(spec, container, &pod_dir, environment).map_err(config_error)?;
        let own = own_files::of(self.shared, self.pod, container, self.attempt, self.pod_ip(), is_process);
        let own = own.map_err(config_error)?;
        let own: Vec<OwnFile> = own.into_iter().filter(|file| !file.is_covered(&preopens)).collect();
        let made = self.makers.spawn_blocking(move || {
            let with_sub_path = preopens.iter().filter_map(|preopen| Some((preopen, preopen.sub_path.as_deref()?)));
            for (preopen, path) in with_sub_path {
                let made = sub_path::ensure(&preopen.host_dir, path);
                made.map_err(|error| format!("failed to prepare subPath for volumeMount: {error}"))?;
            }
            let (mut shown, mut left_out) = (Vec::new(), Vec::new());
            for file in &own {
                match file.find_place(&preopens) {
                    Ok(()) => {
                        file.make().map_err(|error| error.to_string())?;
                        shown.push(file.preopen());
                    }
                    Err(why) => left_out.push(why),
                }
            }
            preopens.append(&mut shown);
            Ok::<_, String>((preopens, left_out))
        });
        let (preopens, left_out) = made.await.map_err(config_error)?.map_err(config_error)?;
        for why in left_out {
            self.shared.recorder.pod(self.pod, Some(self.name), true, "FailedMount", why);
        }
        Ok(preopens)
    }

    async fn make_log_dir(&self, log_path: &Path) -> Result<(), Refusal> {
        let dir = log_path.parent().unwrap_or(log_path);
        let made = tokio::fs::create_dir_all(dir).await;
        made.map_err(|error| create_error(EngineError::Internal(format!("{}: {error}", dir.display()))))?;
        // The log of the attempt before stays for `kubectl logs --previous`; older ones go.
        if let Some(old) = self.attempt.checked_sub(2) {
            let old = self.shared.log_path(self.pod, self.name, old);
            let rotated = log_stream::rotated(&old).await.unwrap_or_default();
            for path in rotated.iter().chain([&old]) {
                let _ = tokio::fs::remove_file(path).await;
            }
        }
        Ok(())
    }

    fn pod_ip(&self) -> IpAddr {
        IpAddr::V4(self.address.unwrap_or(Ipv4Addr::UNSPECIFIED))
    }
}

/// A pod's pull secrets, those that exist.
async fn pull_secrets(shared: &Shared, pod: &Pod) -> Vec<refs::Contents> {
    let namespace = pod.namespace().unwrap_or_default();
    let names = pod.spec.iter().flat_map(|spec| spec.image_pull_secrets.iter().flatten());
    let wanted: Vec<_> = names.map(|secret| refs::Reference::secret(&namespace, &secret.name)).collect();
    match shared.refs.get(&pod.uid().unwrap_or_default(), &wanted).await {
        Ok(found) => found.into_values().flatten().collect(),
        Err(error) => {
            tracing::warn!(pod = pod.name_any(), %error, "pulling without the pod's pull secrets");
            Vec::new()
        }
    }
}

fn config_error(message: impl ToString) -> Refusal {
    Refusal::new(RefusalReason::CreateContainerConfigError, message)
}

fn create_error(error: EngineError) -> Refusal {
    Refusal::new(RefusalReason::CreateContainerError, error)
}

fn http_port(container: &Container) -> u16 {
    let first = container.ports.iter().flatten().next();
    first.and_then(|port| u16::try_from(port.container_port).ok()).unwrap_or(DEFAULT_HTTP_PORT)
}
