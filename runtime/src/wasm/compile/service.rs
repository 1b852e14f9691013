//! A control plane compiles for nodes that are too small to: as a node does for itself, in turn among nodes.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use sha2::{Digest as _, Sha256};
use tokio::fs::File;
use tokio::io::AsyncWriteExt as _;

use super::code::{hex, name_of};
use super::kept::touch;
use super::request::{Refusal, Request};
use super::{Kept, Lanes, worker};
use crate::engine::EngineError;
use crate::wasm::config::{CompileLimits, OWN_EXECUTABLE};

/// Requests of one node at the same time; it makes no more than it would have workers, and one that it has just given up.
const REQUESTS_PER_NODE: usize = 4;
/// Requests of all nodes. Each may have its component on disk.
const REQUESTS: usize = 64;
/// How long sending a component may take.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(180);
/// Machine code that is kept for nodes to come.
const KEPT_BYTES: u64 = 4 << 30;

/// Compiles for nodes.
pub struct CompileService {
    kept: Kept,
    lanes: Lanes,
    worker: PathBuf,
    limits: CompileLimits,
    /// How many requests there are, by who makes them.
    asking: Mutex<HashMap<String, usize>>,
    /// Held by who compiles what has this name: others with the same component wait for that.
    making: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
}

/// A whole file of machine code.
#[derive(Debug)]
pub struct MachineCode {
    pub file: File,
    pub bytes: u64,
}

impl CompileService {
    /// Keeps machine code in `dir`, and compiles by this very executable. Blocks on the disk.
    ///
    /// # Errors
    /// When the directory cannot be made, or others could write to it.
    pub fn open(dir: PathBuf) -> io::Result<CompileService> {
        CompileService::with(dir, OWN_EXECUTABLE.into(), CompileLimits::default())
    }

    /// Likewise, with another executable: see [`WasmConfig::worker`](crate::wasm::WasmConfig::worker).
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn with(dir: PathBuf, worker: PathBuf, limits: CompileLimits) -> io::Result<CompileService> {
        let (kept, lanes) = (Kept::open(dir)?, Lanes::new(&limits));
        Ok(CompileService { kept, lanes, worker, limits, asking: Mutex::default(), making: Mutex::default() })
    }

    /// The machine code of the component in `body`, that `node` asks for in a `query`. Dropping the future ends the work.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn compile<B>(&self, node: &str, query: &str, body: B) -> Result<MachineCode, Refusal>
    where
        B: http_body::Body<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display,
    {
        let request = Request::parse(query)?;
        let engine = request.compiler()?;
        let _place = self.place(node)?;
        let unfinished = self.kept.unfinished().map_err(internal)?;
        let component = unfinished.path().join("component");
        let received = tokio::time::timeout(UPLOAD_TIMEOUT, receive(body, &component, self.limits.input_bytes)).await;
        let digest =
            received.unwrap_or_else(|_| Err(Refusal::Malformed("the component came too slowly".to_owned())))?;
        if digest != request.digest {
            let wanted = &request.digest;
            return Err(Refusal::Malformed(format!("the component is {digest} and not, as the query says, {wanted}")));
        }
        let name = name_of(&engine, &digest);
        let making = self.making(&name);
        let _making = making.lock().await;
        let path = self.kept.path(&name);
        if let Some(known) = open(path.clone()).await? {
            return Ok(known);
        }
        let output = unfinished.path().join("code");
        let work = || async {
            // What was begun in another lane has left nothing whole.
            let _ = tokio::fs::remove_file(&output).await;
            worker::compile(&component, &output, &request.code, &self.worker, &self.limits).await
        };
        self.lanes.run(node, work).await.map_err(Refusal::Engine)?;
        tokio::fs::rename(&output, &path).await.map_err(internal)?;
        self.kept.trim(KEPT_BYTES).map_err(internal)?;
        let made = open(path).await?;
        made.ok_or_else(|| Refusal::Engine(EngineError::Internal("the machine code vanished".to_owned())))
    }

    /// Room for a request.
    fn place(&self, node: &str) -> Result<Place<'_>, Refusal> {
        let mut asking = lock(&self.asking);
        if asking.values().sum::<usize>() >= REQUESTS {
            return Err(Refusal::Busy);
        }
        let own = asking.entry(node.to_owned()).or_default();
        if *own >= REQUESTS_PER_NODE {
            return Err(Refusal::Busy);
        }
        *own += 1;
        Ok(Place { service: self, node: node.to_owned() })
    }

    fn making(&self, name: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut making = lock(&self.making);
        making.retain(|_, made| made.strong_count() > 0);
        if let Some(found) = making.get(name).and_then(Weak::upgrade) {
            return found;
        }
        let fresh = Arc::default();
        making.insert(name.to_owned(), Arc::downgrade(&fresh));
        fresh
    }
}

/// A request that is counted until it is answered.
struct Place<'s> {
    service: &'s CompileService,
    node: String,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut asking = lock(&self.service.asking);
        let Some(own) = asking.get_mut(&self.node) else { return };
        *own -= 1;
        if *own == 0 {
            asking.remove(&self.node);
        }
    }
}

/// Writes a component to a new file, and answers its digest.
async fn receive<B>(mut body: B, path: &Path, most_bytes: u64) -> Result<String, Refusal>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let mut file = File::options().write(true).create_new(true).open(path).await.map_err(internal)?;
    let (mut digest, mut left) = (Sha256::new(), most_bytes);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Refusal::Malformed(format!("the component broke off: {error}")))?;
        let chunk = frame.into_data().unwrap_or_else(|_| Bytes::new());
        left = left.checked_sub(chunk.len() as u64).ok_or(Refusal::TooLarge(most_bytes))?;
        digest.update(&chunk);
        file.write_all(&chunk).await.map_err(internal)?;
    }
    file.flush().await.map_err(internal)?;
    Ok(format!("sha256:{}", hex(&digest.finalize())))
}

/// What was compiled before, if it was.
async fn open(path: PathBuf) -> Result<Option<MachineCode>, Refusal> {
    let opened = tokio::task::spawn_blocking(move || {
        let file = std::fs::File::open(path)?;
        touch(&file)?;
        let bytes = file.metadata()?.len();
        io::Result::Ok((file, bytes))
    });
    match opened.await.map_err(|error| internal(io::Error::other(error)))? {
        Ok((file, bytes)) => Ok(Some(MachineCode { file: File::from_std(file), bytes })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(internal(error)),
    }
}

fn internal(error: io::Error) -> Refusal {
    Refusal::Engine(EngineError::Internal(error.to_string()))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;

    use super::*;
    use crate::wasm::compile::Code;
    use crate::wasm::config::PoolLimits;

    const COMPONENT: &[u8] = b"no component";

    fn service(dir: &Path) -> CompileService {
        // Nothing that these tests ask for is compiled.
        let limits = CompileLimits { input_bytes: COMPONENT.len() as u64, ..CompileLimits::default() };
        CompileService::with(dir.join("kept"), "/nowhere".into(), limits).unwrap()
    }

    fn query(component: &[u8]) -> Request {
        let digest = format!("sha256:{}", hex(&Sha256::digest(component)));
        Request::new(&digest, &Code::here(&PoolLimits::default(), false)).unwrap()
    }

    #[tokio::test]
    async fn a_greedy_node_costs_only_itself() {
        let dir = tempfile::tempdir().unwrap();
        let service = service(dir.path());
        let mut places: Vec<_> = (0..REQUESTS_PER_NODE).map(|_| service.place("greedy").unwrap()).collect();
        assert_eq!(service.place("greedy").map(drop), Err(Refusal::Busy));
        drop(service.place("modest").unwrap());
        places.pop();
        places.push(service.place("greedy").unwrap());
        let others = (0..REQUESTS - REQUESTS_PER_NODE).map(|node| service.place(&node.to_string()).unwrap());
        let others: Vec<_> = others.collect();
        assert_eq!(service.place("modest").map(drop), Err(Refusal::Busy));
        drop((places, others));
        assert!(lock(&service.asking).is_empty());
    }

    #[tokio::test]
    async fn what_is_sent_is_what_was_said() {
        let dir = tempfile::tempdir().unwrap();
        let service = service(dir.path());
        let compile = async |query: &Request, component: &'static [u8]| {
            let sent = service.compile("a", &query.to_string(), Full::new(Bytes::from_static(component))).await;
            sent.map(|code| code.bytes)
        };
        let query_of = query(COMPONENT);
        // What was compiled before takes no compiler.
        let name = name_of(&query_of.compiler().unwrap(), &query_of.digest);
        std::fs::write(service.kept.path(&name), "code").unwrap();
        assert_eq!(compile(&query_of, COMPONENT).await, Ok(4));
        assert!(
            matches!(compile(&query_of, b"another").await, Err(Refusal::Malformed(why)) if why.contains("and not"))
        );
        assert_eq!(compile(&query_of, b"no component!").await, Err(Refusal::TooLarge(COMPONENT.len() as u64)));
        let text = query(b"a text");
        assert!(matches!(compile(&text, b"a text").await, Err(Refusal::Engine(EngineError::InvalidModule(_)))));
        // Nothing is left of those that were refused.
        assert_eq!(std::fs::read_dir(dir.path().join("kept")).unwrap().count(), 1);
    }
}
