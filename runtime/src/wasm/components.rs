//! The components of a node: as machine code on disk ([`compile`]), in memory while something uses them.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tokio::sync::OnceCell;
use wasmtime::Engine;
use wasmtime::component::{Component, InstancePre, Linker};
use wasmtime_wasi::{p2, p3};
use wasmtime_wasi_http::handler::ProxyPre;
use wasmtime_wasi_http::{p2 as http_p2, p3 as http_p3};

use super::answers::{self, Answers};
use super::compile::{self, Code, Kept, Lanes, Place};
use super::config::WasmConfig;
use super::slots::Need;
use super::store::State;
use crate::engine::{Artifact, EngineError, RunsAs};
use crate::host;

/// What can run. A component that exports the same in both versions runs as the newer one.
const HTTP_EXPORT: &str = "wasi:http/incoming-handler@0.2.";
const HTTP_P3_EXPORT: &str = "wasi:http/handler@0.3.";
const COMMAND_EXPORT: &str = "wasi:cli/run@0.2.";
const COMMAND_P3_EXPORT: &str = "wasi:cli/run@0.3.";

/// A component that is compiled, mapped and linked. One for all pods that run the same image.
pub struct Loaded {
    pub runs_as: RunsAs,
    pub http: Option<Arc<ProxyPre<State>>>,
    pub command: Option<CommandPre>,
    pub answers: Option<Answers>,
    /// What an instance of it needs.
    pub need: Need,
}

/// A component with a `wasi:cli/run`, ready to be instantiated.
#[derive(Clone)]
pub enum CommandPre {
    P2(p2::bindings::CommandPre<State>),
    P3(InstancePre<State>, Arc<p3::bindings::CommandIndices>),
}

impl CommandPre {
    pub fn engine(&self) -> &Engine {
        match self {
            CommandPre::P2(pre) => pre.engine(),
            CommandPre::P3(pre, _) => pre.engine(),
        }
    }
}

type Cell = Arc<OnceCell<Arc<Loaded>>>;

/// All components of a node.
pub struct Components {
    engine: Engine,
    linker: Arc<Linker<State>>,
    code: Code,
    config: WasmConfig,
    kept: Kept,
    loaded: Mutex<HashMap<String, Cell>>,
    lanes: Lanes,
}

impl Components {
    /// Opens the directory of compiled components. `code` is what `engine` runs.
    ///
    /// # Errors
    /// When it cannot be made, or others than the node's user could write to it.
    pub fn open(engine: Engine, linker: Linker<State>, code: Code, config: WasmConfig) -> io::Result<Components> {
        let kept = Kept::open(config.data_dir.join("compiled"))?;
        let (lanes, loaded) = (Lanes::new(&config.compile), Mutex::default());
        Ok(Components { engine, linker: Arc::new(linker), code, config, kept, loaded, lanes })
    }

    /// The component of an artifact: in memory, or mapped from disk, or compiled first. Concurrent calls share the work;
    /// what has to wait is compiled in turn among owners.
    ///
    /// # Errors
    /// As [`Engine::prepare`](crate::engine::Engine::prepare).
    pub async fn prepare(&self, artifact: &Artifact, owner: &str) -> Result<Arc<Loaded>, EngineError> {
        let cell = self.lock().entry(artifact.digest.clone()).or_default().clone();
        let prepared = cell.get_or_try_init(|| self.load_or_compile(artifact, owner)).await.cloned();
        if prepared.is_err() {
            self.forget(&artifact.digest);
        }
        prepared
    }

    /// The component of a digest that was prepared before. It may have left memory since.
    ///
    /// # Errors
    /// When nothing was prepared under this digest.
    pub async fn get(&self, digest: &str) -> Result<Arc<Loaded>, EngineError> {
        let cell = self.lock().entry(digest.to_owned()).or_default().clone();
        let path = self.path(digest);
        let found = cell.get_or_try_init(|| self.load(&path)).await.cloned();
        found.map_err(|error| {
            self.forget(digest);
            match error {
                Load::NotThere => EngineError::Internal(format!("image {digest} was not prepared")),
                Load::Unusable(error) => EngineError::Internal(format!("compiled image {digest}: {error:#}")),
                Load::Refused(error) => error,
            }
        })
    }

    /// Lets a component go when nobody but this table holds it.
    pub fn release(&self, digest: &str) {
        let mut loaded = self.lock();
        let unused = |cell: &Cell| {
            Arc::strong_count(cell) == 1 && cell.get().is_none_or(|component| Arc::strong_count(component) == 1)
        };
        if loaded.get(digest).is_some_and(unused) {
            loaded.remove(digest);
        }
    }

    /// Removes the machine code of images that are neither among `digests` nor in memory, and of other settings and
    /// versions than this engine's. Returns how many files that were.
    ///
    /// # Errors
    /// When the directory cannot be read or changed.
    pub async fn keep(&self, digests: &HashSet<String>) -> io::Result<usize> {
        let names = self.kept.names()?;
        // Asked after the directory was listed: what is compiled from now on is not in the list.
        let loaded: Vec<String> = self.lock().keys().cloned().collect();
        let kept: HashSet<OsString> = digests.iter().chain(&loaded).map(|digest| self.name(digest).into()).collect();
        self.kept.remove(names, &kept).await
    }

    /// Drops what failed, unless somebody has succeeded meanwhile.
    fn forget(&self, digest: &str) {
        let mut loaded = self.lock();
        if loaded.get(digest).is_some_and(|cell| !cell.initialized()) {
            loaded.remove(digest);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Cell>> {
        self.loaded.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    async fn load_or_compile(&self, artifact: &Artifact, owner: &str) -> Result<Arc<Loaded>, EngineError> {
        let path = self.path(&artifact.digest);
        match self.load(&path).await {
            Ok(loaded) => return Ok(loaded),
            Err(Load::Refused(error)) => return Err(error),
            Err(Load::NotThere) => {}
            Err(Load::Unusable(error)) => {
                tracing::warn!(path = %path.display(), "compiled component is compiled again: {error:#}");
                fs::remove_file(&path).map_err(|error| EngineError::Internal(error.to_string()))?;
            }
        }
        self.compile(artifact, &path, owner).await?;
        self.load(&path).await.map_err(|error| match error {
            Load::Refused(error) => error,
            Load::NotThere => EngineError::Internal("the compiled component vanished".to_owned()),
            Load::Unusable(error) => EngineError::InvalidModule(format!("{error:#}")),
        })
    }

    async fn compile(&self, artifact: &Artifact, path: &Path, owner: &str) -> Result<(), EngineError> {
        self.lanes.run(owner, || self.work(artifact, path)).await
    }

    async fn work(&self, artifact: &Artifact, path: &Path) -> Result<(), EngineError> {
        let internal = |error: &dyn std::fmt::Display| EngineError::Internal(error.to_string());
        let WasmConfig { worker, compile: limits, compiles, .. } = &self.config;
        let unfinished = self.kept.unfinished().map_err(|error| internal(&error))?;
        let output = unfinished.path().join("code");
        match compiles {
            Place::Here => compile::worker::compile(&artifact.path, &output, &self.code, worker, limits).await?,
            Place::ControlPlane(control_plane) => {
                control_plane.compile(artifact, &output, &self.code, limits).await?;
            }
        }
        fs::rename(&output, path).map_err(|error| internal(&error))
    }

    async fn load(&self, path: &Path) -> Result<Arc<Loaded>, Load> {
        let (engine, linker, path) = (self.engine.clone(), self.linker.clone(), path.to_owned());
        let (code, core_instances) = (self.code.clone(), self.config.pool.core_instances_per_component);
        let loading = tokio::task::spawn_blocking(move || {
            let component = read(&engine, &code, &path)?;
            let need = Need::of(&component, core_instances);
            link(&engine, &linker, &component, need).map_err(Load::Refused)
        });
        loading.await.map_err(|error| Load::Unusable(error.into()))?.map(Arc::new)
    }

    /// Where the machine code of an image lies.
    fn path(&self, digest: &str) -> PathBuf {
        self.kept.path(&self.name(digest))
    }

    fn name(&self, digest: &str) -> String {
        compile::name_of(&self.engine, digest)
    }
}

/// Why machine code is not loaded.
enum Load {
    NotThere,
    /// The file is no machine code of this very engine.
    Unusable(wasmtime::Error),
    /// The component itself cannot run here.
    Refused(EngineError),
}

/// Maps machine code from disk.
fn read(engine: &Engine, code: &Code, path: &Path) -> Result<Component, Load> {
    if !path.exists() {
        return Err(Load::NotThere);
    }
    deserialize(engine, path).map_err(|error| {
        // Where an engine without pools takes it, nothing is wrong with the file: an instance would not fit into a pool.
        match code.compiler().and_then(|unpooled| deserialize(&unpooled, path)) {
            Ok(_) => Load::Refused(EngineError::InstanceLimit(format!("{error:#}"))),
            Err(_) => Load::Unusable(error),
        }
    })
}

#[allow(unsafe_code)]
fn deserialize(engine: &Engine, path: &Path) -> wasmtime::Result<Component> {
    // SAFETY: the file was written by this node's own compile worker, or sent by the control plane that this node has joined,
    // under the name that its content is derived from; it is never modified in place, and `Kept` made sure that nobody else
    // can write to its directory.
    unsafe { Component::deserialize_file(engine, path) }
}

fn link(engine: &Engine, linker: &Linker<State>, component: &Component, need: Need) -> Result<Loaded, EngineError> {
    let ty = component.component_type();
    let has_p3 = engine.get_concurrency_support();
    for (name, _) in ty.imports(engine) {
        match host::provider(name) {
            None => return Err(EngineError::UnknownImport(format!("\"{name}\""))),
            Some(interface) if interface.is_p3() && !has_p3 => return Err(EngineError::SwitchedOff),
            Some(_) => {}
        }
    }
    let invalid = |error: wasmtime::Error| EngineError::InvalidModule(format!("{error:#}"));
    let pre = linker.instantiate_pre(component).map_err(invalid)?;
    let exports = |prefix: &str| ty.exports(engine).any(|(name, _)| name.starts_with(prefix));
    let http = match (exports(HTTP_P3_EXPORT), exports(HTTP_EXPORT)) {
        (true, _) => Some(http_p3::bindings::ServicePre::new(pre.clone()).map(ProxyPre::P3)),
        (false, true) => Some(http_p2::bindings::ProxyPre::new(pre.clone()).map(ProxyPre::P2)),
        (false, false) => None,
    };
    let command = match (exports(COMMAND_P3_EXPORT), exports(COMMAND_EXPORT)) {
        (true, _) => {
            let indices = p3::bindings::CommandIndices::new(&pre);
            Some(indices.map(|indices| CommandPre::P3(pre.clone(), Arc::new(indices))))
        }
        (false, true) => Some(p2::bindings::CommandPre::new(pre.clone()).map(CommandPre::P2)),
        (false, false) => None,
    };
    let runs_as = match (&http, &command) {
        (Some(_), Some(_)) => RunsAs::HttpOrCommand,
        (Some(_), None) => RunsAs::Http,
        (None, Some(_)) => RunsAs::Command,
        (None, None) => {
            let found: Vec<&str> = ty.exports(engine).map(|(name, _)| name).collect();
            let found = if found.is_empty() { "nothing".to_owned() } else { found.join(", ") };
            let wanted = "wasi:http/incoming-handler@0.2, wasi:http/handler@0.3 or wasi:cli/run is needed";
            return Err(EngineError::NothingToRun(format!("it exports {found}; {wanted}")));
        }
    };
    let (http, command) = (http.transpose().map_err(invalid)?.map(Arc::new), command.transpose().map_err(invalid)?);
    let mut own = ty.exports(engine).filter(|(name, _)| name.starts_with(answers::EXPORT));
    let answers = own.next().map(|(name, _)| Answers { pre, export: name.to_owned(), need });
    Ok(Loaded { runs_as, http, command, answers, need })
}
