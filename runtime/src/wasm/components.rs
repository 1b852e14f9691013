//! Compiled components: on disk by what they depend on, in memory while something uses them.
//!
//! A file's name is a digest of the image's digest, the exact wasmtime version and every setting that shapes machine
//! code. Files are written once under another name, renamed, and never changed: they are mapped and executed. That only
//! the node's own user can write to the directory is the trust boundary, and is checked.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs;
use std::hash::{Hash as _, Hasher};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use sha2::{Digest as _, Sha256};
use tokio::sync::OnceCell;
use wasmtime::Engine;
use wasmtime::component::{Component, InstancePre, Linker};
use wasmtime_wasi::{p2, p3};
use wasmtime_wasi_http::handler::ProxyPre;
use wasmtime_wasi_http::{p2 as http_p2, p3 as http_p3};

use super::answers::{self, Answers};
use super::compile;
use super::config::WasmConfig;
use super::store::State;
use super::turns::Turns;
use crate::engine::{Artifact, EngineError, RunsAs};
use crate::host;

/// The exact version, because the artifact's own check sees the major version only.
const WASMTIME_VERSION: &str = "48.0.8";

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
    config: WasmConfig,
    dir: PathBuf,
    loaded: Mutex<HashMap<String, Cell>>,
    /// Those that begin, and those of them that take long and begin again here.
    workers: Arc<Turns>,
    slow_workers: Arc<Turns>,
}

impl Components {
    /// Opens the directory of compiled components.
    ///
    /// # Errors
    /// When it cannot be made, or others than the node's user could write to it.
    pub fn open(engine: Engine, linker: Linker<State>, config: WasmConfig) -> io::Result<Components> {
        let dir = config.data_dir.join("compiled");
        own_directory(&dir)?;
        remove_unfinished(&dir)?;
        let workers = Turns::new(config.compile.concurrent.max(1));
        let slow_workers = Turns::new(config.compile.concurrent_slow.max(1));
        let loaded = Mutex::default();
        Ok(Components { engine, linker: Arc::new(linker), config, dir, loaded, workers, slow_workers })
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
        let mut names = fs::read_dir(&self.dir)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()?;
        // Asked after the directory was listed: what is compiled from now on is not in the list.
        let loaded: Vec<String> = self.lock().keys().cloned().collect();
        let kept: HashSet<OsString> = digests.iter().chain(&loaded).map(|digest| self.name(digest).into()).collect();
        names.retain(|name| !kept.contains(name) && !name.to_string_lossy().starts_with(UNFINISHED));
        for name in &names {
            match tokio::fs::remove_file(self.dir.join(name)).await {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(names.len())
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
        self.compile(&artifact.path, &path, owner).await?;
        self.load(&path).await.map_err(|error| match error {
            Load::Refused(error) => error,
            Load::NotThere => EngineError::Internal("the compiled component vanished".to_owned()),
            Load::Unusable(error) => EngineError::InvalidModule(format!("{error:#}")),
        })
    }

    /// Most components are compiled within moments. One that is not, while others wait, begins anew where it holds up none
    /// but its like.
    async fn compile(&self, input: &Path, path: &Path, owner: &str) -> Result<(), EngineError> {
        let quick = self.config.compile.quick;
        {
            let _worker = self.workers.take(owner).await;
            let holds_up_others = async {
                tokio::time::sleep(quick).await;
                self.workers.wanted().await;
            };
            tokio::select! {
                compiled = self.work(input, path) => return compiled,
                () = holds_up_others => {}
            }
        }
        let _worker = self.slow_workers.take(owner).await;
        self.work(input, path).await
    }

    async fn work(&self, input: &Path, path: &Path) -> Result<(), EngineError> {
        let internal = |error: &dyn std::fmt::Display| EngineError::Internal(error.to_string());
        let unfinished =
            tempfile::Builder::new().prefix(UNFINISHED).tempdir_in(&self.dir).map_err(|error| internal(&error))?;
        let output = unfinished.path().join("code");
        compile::compile(input, &output, &self.config).await?;
        fs::rename(&output, path).map_err(|error| internal(&error))
    }

    async fn load(&self, path: &Path) -> Result<Arc<Loaded>, Load> {
        let (engine, linker, path) = (self.engine.clone(), self.linker.clone(), path.to_owned());
        let loading = tokio::task::spawn_blocking(move || load(&engine, &linker, &path));
        loading.await.map_err(|error| Load::Unusable(error.into()))?.map(Arc::new)
    }

    /// Where the machine code of an image lies.
    fn path(&self, digest: &str) -> PathBuf {
        self.dir.join(self.name(digest))
    }

    fn name(&self, digest: &str) -> String {
        let mut key = Key(Sha256::new());
        key.0.update(digest.as_bytes());
        key.0.update(WASMTIME_VERSION.as_bytes());
        self.engine.precompile_compatibility_hash().hash(&mut key);
        let mut name = String::new();
        for byte in key.0.finalize() {
            name.push_str(&format!("{byte:02x}"));
        }
        name
    }
}

/// Directories of compilations under way begin with this.
const UNFINISHED: &str = ".unfinished-";

fn own_directory(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let metadata = fs::metadata(dir)?;
    let own = metadata.uid() == nix::unistd::geteuid().as_raw();
    if !own || metadata.mode() & 0o022 != 0 {
        let why = format!("{} holds code that is executed and must be writable by its owner alone", dir.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    Ok(())
}

/// What a killed node left behind.
fn remove_unfinished(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// Why machine code is not loaded.
enum Load {
    NotThere,
    /// The file is no machine code of this very engine.
    Unusable(wasmtime::Error),
    /// The component itself cannot run here.
    Refused(EngineError),
}

#[allow(unsafe_code)]
fn load(engine: &Engine, linker: &Linker<State>, path: &Path) -> Result<Loaded, Load> {
    if !path.exists() {
        return Err(Load::NotThere);
    }
    // SAFETY: the file was written by this node's own compile worker under the name that its content is derived from,
    // it is never modified in place, and `own_directory` made sure that nobody else can write to its directory.
    let component = unsafe { Component::deserialize_file(engine, path) }.map_err(Load::Unusable)?;
    link(engine, linker, &component).map_err(Load::Refused)
}

fn link(engine: &Engine, linker: &Linker<State>, component: &Component) -> Result<Loaded, EngineError> {
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
    let answers = own.next().map(|(name, _)| Answers { pre, export: name.to_owned() });
    Ok(Loaded { runs_as, http, command, answers })
}

/// Feeds what is hashed to SHA-256.
struct Key(Sha256);

impl Hasher for Key {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        // Only the digest itself is used.
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_in_the_key_is_the_one_that_is_built_in() {
        let lock = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock")).unwrap();
        let entry = format!("name = \"wasmtime\"\nversion = \"{WASMTIME_VERSION}\"\n");
        assert!(lock.contains(&entry), "Cargo.lock has another wasmtime than {WASMTIME_VERSION}");
    }

    #[test]
    fn a_directory_that_others_can_write_to_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(own_directory(dir.path()).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    }
}
