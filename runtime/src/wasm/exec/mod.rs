//! Commands that are run beside a container's own process, in its sandbox: same files, environment, network and limits.
//!
//! A command is a built-in one ([`builtin`]), the container's own component under its own name, or a `.wasm` file that one
//! of the container's mounts shows. There is no shell.

mod builtin;
mod tree;

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::command;
use super::components::Components;
use super::config::WasmConfig;
use super::container::Container;
use super::stdio::Stdio;
use super::tty::{self, Keys};
use crate::engine::{Artifact, Command, EngineError, ExecError, Io, Output};
use crate::guest_path;
use tree::Tree;

/// How many pieces wait on their way between a client and a built-in command, in each direction.
const QUEUED_PIECES: usize = 8;
/// Names under which people look for a shell.
const SHELLS: &[&str] =
    &["ash", "bash", "busybox", "csh", "dash", "fish", "ksh", "powershell", "pwsh", "sh", "tcsh", "zsh"];

/// Runs a command to its exit code. `processes` are those that it sees beside itself; `digest` is that of the container's own
/// component.
///
/// # Errors
/// As [`Engine::exec`](crate::engine::Engine::exec).
pub async fn run(
    components: &Components,
    config: &WasmConfig,
    container: Arc<Container>,
    processes: Vec<String>,
    digest: &str,
    command: Command,
    io: Io,
) -> Result<i32, ExecError> {
    let Command { argv, tty } = command;
    let name = argv.first().cloned().unwrap_or_default();
    let interrupt = container.interrupt.child_token();
    // A client that is gone ends the command: its future is dropped.
    let _end = interrupt.clone().drop_guard();
    // What it reads ends with its only client as well.
    let keys = Keys { interrupt: interrupt.clone(), end: CancellationToken::new() };
    let io = if tty { tty::between(io, keys) } else { io };
    if let Some(builtin) = builtin::find(&name) {
        return Ok(run_builtin(builtin, container, processes, argv, io, interrupt).await);
    }
    let failed = |source| ExecError::Engine { command: name.clone(), source };
    let loaded = if container.args.first() == Some(&name) {
        components.get(digest).await
    } else {
        match copy_of(&container, &name, config).await? {
            Some((artifact, _copy)) => components.prepare(&artifact, &container.network.pod.namespace).await,
            None if SHELLS.contains(&base_name(&name)) => return Err(ExecError::NoShell(name)),
            None => return Err(ExecError::NotFound(name)),
        }
    };
    let loaded = loaded.map_err(failed)?;
    let pre = loaded
        .command
        .clone()
        .ok_or_else(|| failed(EngineError::NothingToRun("it does not export wasi:cli/run".to_owned())))?;
    let Io { stdin, output } = io;
    let mut beside = container.command(argv, Stdio::of_command(stdin, output, tty));
    beside.interrupt = interrupt;
    let process = command::start(pre, loaded.need, Arc::new(beside));
    let process = process.map_err(|error| failed(EngineError::Capacity(error.to_string())))?;
    Ok(process.await.exit_code)
}

/// Connects a client to a container's own process until it has ended, or the client is gone.
pub async fn attach(container: &Container, io: Io) {
    let (interrupt, end) = (container.interrupt.clone(), CancellationToken::new());
    let keys = Keys { interrupt: interrupt.clone(), end: end.clone() };
    let io = if container.stdio.tty { tty::between(io, keys) } else { io };
    let Io { stdin, output } = io;
    container.stdio.clients.add(output.clone());
    let fill = async {
        if let (Some(stdin), Some(client)) = (&container.stdio.stdin, stdin) {
            stdin.fill(client).await;
            if end.is_cancelled() {
                stdin.end();
            }
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = interrupt.cancelled() => {}
        () = output.closed() => {}
        () = fill => {}
    }
    container.stdio.clients.remove(&output);
}

/// Code of a command that was killed: 128 + SIGKILL.
const KILLED: i32 = 137;

async fn run_builtin(
    builtin: &'static builtin::Builtin,
    container: Arc<Container>,
    processes: Vec<String>,
    argv: Vec<String>,
    io: Io,
    interrupt: CancellationToken,
) -> i32 {
    // A thread cannot be interrupted: this one ends when it next reads or writes, because the other ends are gone by then.
    let (io, passed) = until(&interrupt, io);
    let running = tokio::task::spawn_blocking(move || builtin::run(builtin, &container, processes, argv, io));
    let done = async {
        let code = running.await.unwrap_or(KILLED);
        // The last that it said.
        let _ = passed.await;
        code
    };
    tokio::select! {
        biased;
        () = interrupt.cancelled() => KILLED,
        code = done => code,
    }
}

/// Passes on what is said, in both directions, until `interrupt`: whoever waits for either end hears that it is over. The task
/// ends once all output was passed on.
fn until(interrupt: &CancellationToken, io: Io) -> (Io, JoinHandle<()>) {
    let stdin = io.stdin.map(|client| {
        let (to, stdin) = mpsc::channel(QUEUED_PIECES);
        tokio::spawn(pass(interrupt.clone(), client, to));
        stdin
    });
    let (output, written) = mpsc::channel(QUEUED_PIECES);
    let passed = tokio::spawn(pass(interrupt.clone(), written, io.output));
    (Io { stdin, output }, passed)
}

async fn pass<T>(interrupt: CancellationToken, mut from: mpsc::Receiver<T>, to: mpsc::Sender<T>) {
    let passing = async {
        while let Some(piece) = from.recv().await {
            if to.send(piece).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = interrupt.cancelled() => {}
        () = passing => {}
        () = to.closed() => {}
    }
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// A copy of a `.wasm` file that the container sees, and the directory that holds it; `None` when there is no such file.
/// The guest could change the file while it is compiled, so that it is not compiled where it lies.
async fn copy_of(
    container: &Arc<Container>,
    name: &str,
    config: &WasmConfig,
) -> Result<Option<(Artifact, tempfile::TempDir)>, ExecError> {
    let (container, owned, data_dir) = (container.clone(), name.to_owned(), config.data_dir.clone());
    let limit_bytes = config.compile.input_bytes;
    let copying = tokio::task::spawn_blocking(move || copy(&container, &owned, limit_bytes, &data_dir));
    let failed = |why: String| ExecError::Engine { command: name.to_owned(), source: EngineError::Internal(why) };
    copying.await.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error.to_string()))
}

fn copy(
    container: &Container,
    name: &str,
    limit_bytes: u64,
    data_dir: &Path,
) -> std::io::Result<Option<(Artifact, tempfile::TempDir)>> {
    let tree = Tree::new(&container.preopens)?;
    let path = guest_path::absolute(container.working_dir.as_deref(), name);
    let is_file = tree.metadata(&path).is_ok_and(|found| found.is_file());
    if !name.ends_with(".wasm") || !is_file {
        return Ok(None);
    }
    let mut wasm = Vec::new();
    tree.open(&path)?.take(limit_bytes + 1).read_to_end(&mut wasm)?;
    if wasm.len() as u64 > limit_bytes {
        return Err(std::io::Error::other(format!("it is larger than {limit_bytes} bytes")));
    }
    let hex: String = Sha256::digest(&wasm).iter().map(|byte| format!("{byte:02x}")).collect();
    let dir = tempfile::tempdir_in(data_dir)?;
    let copy = dir.path().join("command.wasm");
    std::fs::write(&copy, &wasm)?;
    Ok(Some((Artifact { digest: format!("sha256:{hex}"), path: copy }, dir)))
}

/// A near end of standard output or error, for code that blocks.
struct Writer {
    output: mpsc::Sender<Output>,
    wrap: fn(bytes::Bytes) -> Output,
    buffer: Vec<u8>,
}

/// Bytes that are sent at once.
const CHUNK_BYTES: usize = 32 << 10;

impl Writer {
    fn new(output: mpsc::Sender<Output>, wrap: fn(bytes::Bytes) -> Output) -> Writer {
        Writer { output, wrap, buffer: Vec::new() }
    }
}

impl std::io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let length = bytes.len().min(CHUNK_BYTES - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..length]);
        if self.buffer.len() == CHUNK_BYTES {
            self.flush()?;
        }
        Ok(length)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let bytes = std::mem::take(&mut self.buffer).into();
        let sent = self.output.blocking_send((self.wrap)(bytes));
        sent.map_err(|_| std::io::ErrorKind::BrokenPipe.into())
    }
}

/// A near end of standard input, for code that blocks.
struct Reader {
    input: Option<mpsc::Receiver<bytes::Bytes>>,
    pending: bytes::Bytes,
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.pending.is_empty() {
            match self.input.as_mut().and_then(mpsc::Receiver::blocking_recv) {
                Some(bytes) => self.pending = bytes,
                None => return Ok(0),
            }
        }
        let length = buffer.len().min(self.pending.len());
        buffer[..length].copy_from_slice(&self.pending.split_to(length));
        Ok(length)
    }
}
