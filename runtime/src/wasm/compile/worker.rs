//! Compiles a component in a process of its own, which can be killed.
//!
//! Compiling hostile input may exhaust a compiler, so it happens in a worker: this same binary, started with
//! [`SUBCOMMAND`], that reads one [`Job`] from standard input, limits itself, writes one file, and answers with one
//! [`Answer`] on standard output. It inherits no environment and no other descriptor.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus, Stdio};

use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

use super::Code;
use crate::engine::EngineError;
use crate::wasm::adapt;
use crate::wasm::config::CompileLimits;

/// The hidden subcommand that must call [`worker_main`].
pub const SUBCOMMAND: &str = "compile-worker";

/// Bounds what is read of a worker's answer.
const MAX_ANSWER_BYTES: u64 = 64 << 10;

/// What a worker is to do.
#[derive(Debug, Serialize, Deserialize)]
struct Job {
    input: PathBuf,
    output: PathBuf,
    code: Code,
    limits: CompileLimits,
}

/// How it went.
#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Compiled,
    /// The input is at fault.
    Invalid(String),
    /// The input is of WASI 0.3, which the node does not run.
    SwitchedOff,
    /// The machine is at fault.
    Failed(String),
}

/// The worker: reads a job from standard input and does it. Never returns an error; it prints one.
pub fn worker_main() -> ExitCode {
    let mut job = Vec::new();
    let answer = match io::stdin().read_to_end(&mut job) {
        Ok(_) => match serde_json::from_slice::<Job>(&job) {
            Ok(job) => work(&job),
            Err(error) => Answer::Failed(format!("reading the job: {error}")),
        },
        Err(error) => Answer::Failed(format!("reading the job: {error}")),
    };
    let printed = serde_json::to_writer(io::stdout(), &answer).is_ok() && io::stdout().flush().is_ok();
    if printed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn work(job: &Job) -> Answer {
    let failed = |what: &str, error: &dyn std::fmt::Display| Answer::Failed(format!("{what}: {error}"));
    if let Err(error) = limit_self(&job.limits) {
        return failed("setting limits", &error);
    }
    let module = match std::fs::read(&job.input) {
        Ok(module) => module,
        // As any other allocation that fails: the parent knows what that means.
        Err(error) if error.kind() == io::ErrorKind::OutOfMemory => std::process::abort(),
        Err(error) => return failed("reading the component", &error),
    };
    let component = match adapt::componentize(&module) {
        Ok(component) => component,
        Err(error) => return Answer::Invalid(error.to_string()),
    };
    let engine = match job.code.compiler() {
        Ok(engine) => engine,
        Err(error) => return failed("configuring the compiler", &error),
    };
    let code = match engine.precompile_component(&component) {
        Ok(code) => code,
        Err(error) => return refusal(&error),
    };
    if code.len() as u64 > job.limits.output_bytes {
        return Answer::Invalid(format!("its machine code has {} bytes", code.len()));
    }
    match write_durably(&job.output, &code) {
        Ok(()) => Answer::Compiled,
        Err(error) => failed("writing the compiled component", &error),
    }
}

/// It is renamed into place afterwards: what stands under the final name must be whole even after a power cut.
fn write_durably(path: &Path, code: &[u8]) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).open(path)?;
    file.write_all(code)?;
    file.sync_all()
}

/// What the validator says of anything that only WASI 0.3 has. Its errors have no kinds, so that they are known by these
/// words: the test `a_node_without_wasi_0_3_says_so` fails when a later validator has others.
const NEEDS_P3: &str = "requires the component model async feature";

/// The innermost cause says what is wrong with the input.
fn refusal(error: &wasmtime::Error) -> Answer {
    let why = error.root_cause().to_string();
    if why.contains(NEEDS_P3) {
        return Answer::SwitchedOff;
    }
    Answer::Invalid(why.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn limit_self(limits: &CompileLimits) -> nix::Result<()> {
    // CPU time over all threads; the parent counts the time that passes.
    let cpu_seconds = limits.time.as_secs().max(1) * available_cpus() as u64;
    for (resource, value) in [
        (Resource::RLIMIT_AS, limits.memory_bytes),
        (Resource::RLIMIT_FSIZE, limits.output_bytes),
        (Resource::RLIMIT_CPU, cpu_seconds),
        (Resource::RLIMIT_CORE, 0),
    ] {
        setrlimit(resource, value, value)?;
    }
    Ok(())
}

/// How many processors this process may use.
pub fn available_cpus() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Compiles `input` to the new file `output` by the executable `worker`. Dropping the future kills the worker.
///
/// # Errors
/// [`EngineError::InvalidModule`] and [`EngineError::CompileLimit`] are the input's fault, [`EngineError::Internal`] is
/// the machine's.
pub async fn compile(
    input: &Path,
    output: &Path,
    code: &Code,
    worker: &Path,
    limits: &CompileLimits,
) -> Result<(), EngineError> {
    check_input(input, limits)?;
    let job = Job { input: input.to_owned(), output: output.to_owned(), code: code.clone(), limits: *limits };
    let job = serde_json::to_vec(&job).map_err(|error| EngineError::Internal(error.to_string()))?;
    let internal = |error: io::Error| EngineError::Internal(format!("compile worker {}: {error}", worker.display()));
    let mut child = Command::new(worker)
        .arg(SUBCOMMAND)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(internal)?;
    let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(internal(io::ErrorKind::BrokenPipe.into()));
    };
    let run = async {
        // A worker that dies while it reads says why by its exit status.
        let _ = stdin.write_all(&job).await;
        drop(stdin);
        let mut answer = Vec::new();
        stdout.take(MAX_ANSWER_BYTES).read_to_end(&mut answer).await?;
        Ok((answer, child.wait().await?))
    };
    let out_of_time = || EngineError::CompileLimit(format!("more than {} s", limits.time.as_secs()));
    let (answer, status) =
        tokio::time::timeout(limits.time, run).await.map_err(|_| out_of_time())?.map_err(internal)?;
    match serde_json::from_slice(&answer) {
        Ok(Answer::Compiled) => Ok(()),
        Ok(Answer::Invalid(why)) => Err(EngineError::InvalidModule(why)),
        Ok(Answer::SwitchedOff) => Err(EngineError::SwitchedOff),
        Ok(Answer::Failed(why)) => Err(EngineError::Internal(why)),
        Err(_) => Err(death(status, limits)),
    }
}

/// Looks at size and magic number, so that a text file costs no process.
///
/// # Errors
/// As [`compile`].
pub fn check_input(input: &Path, limits: &CompileLimits) -> Result<(), EngineError> {
    let read = || {
        let file = File::open(input)?;
        let mut head = Vec::new();
        (&file).take(8).read_to_end(&mut head)?;
        Ok((file.metadata()?.len(), head))
    };
    let (length, head) =
        read().map_err(|error: io::Error| EngineError::Internal(format!("{}: {error}", input.display())))?;
    if length > limits.input_bytes {
        return Err(EngineError::CompileLimit(format!("more than {} bytes of input", limits.input_bytes)));
    }
    adapt::kind(&head).map(drop).map_err(|error| EngineError::InvalidModule(error.to_string()))
}

/// What the death of a worker without an answer means.
fn death(status: ExitStatus, limits: &CompileLimits) -> EngineError {
    let signal = status.signal().and_then(|signal| Signal::try_from(signal).ok());
    match signal {
        Some(Signal::SIGXCPU) => {
            EngineError::CompileLimit(format!("more than {} s of CPU time", limits.time.as_secs()))
        }
        Some(Signal::SIGXFSZ) => {
            EngineError::CompileLimit(format!("more than {} bytes of machine code", limits.output_bytes))
        }
        Some(Signal::SIGABRT | Signal::SIGKILL | Signal::SIGSEGV | Signal::SIGBUS) => {
            EngineError::CompileLimit(format!("more than {} bytes of memory", limits.memory_bytes))
        }
        _ => EngineError::Internal(format!("the compile worker ended without an answer: {status}")),
    }
}
