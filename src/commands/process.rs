//! A process that runs until it is told to stop.

use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::memory;

/// A start, and what it leaves to do, is over by then.
const STARTED: Duration = Duration::from_secs(5);
/// How long a clean stop may take before the process ends anyway.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);
/// How long the end may take when no clean stop is waited for.
const ABANDON_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs `work` until it ends; it is told by the token when the user wants it to.
///
/// # Errors
/// Those of `work`.
pub fn run<W: Future<Output = Result<()>>>(work: impl FnOnce(CancellationToken) -> W) -> Result<()> {
    run_or(|| {}, work)
}

/// As [`run`]; where the user does not wait for a clean stop, the process ends with `abandon`, for which it does not wait long.
///
/// # Errors
/// Those of `work`.
pub fn run_or<W: Future<Output = Result<()>>>(
    abandon: impl FnOnce() + Send + 'static,
    work: impl FnOnce(CancellationToken) -> W,
) -> Result<()> {
    init_tracing();
    allow_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        let stop = CancellationToken::new();
        cancel_on_signal(stop.clone(), abandon)?;
        tokio::spawn(async {
            tokio::time::sleep(STARTED).await;
            memory::forget_code();
        });
        work(stop).await
    });
    // Blocking work that is still under way (a guest that will not end) must not keep the process alive.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

/// Takes as many open files as this process may have: shells give fewer to begin with, often 1024, which a few clients use up.
fn allow_open_files() {
    let allowed =
        getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most));
    if let Err(error) = allowed {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

/// Waits for a clean stop, but not for ever.
pub async fn stop(stopping: impl Future<Output = ()>) {
    eprintln!("Stopping");
    if tokio::time::timeout(STOP_TIMEOUT, stopping).await.is_err() {
        tracing::warn!("some tasks did not stop in time");
    }
}

/// This machine's name in the form that a Node may have: lower case, RFC 1123.
pub fn host_name() -> Result<String> {
    let raw = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .context("cannot read this machine's host name; name the node with --node-name")?;
    let clean: String = raw
        .trim()
        .to_ascii_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' })
        .take(63)
        .collect();
    let clean = clean.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    Ok(if clean.is_empty() { "node".into() } else { clean.into() })
}

/// The first Ctrl-C or SIGTERM asks for a clean stop, a second one for the end; a third one does not even wait for `abandon`.
fn cancel_on_signal(stop: CancellationToken, abandon: impl FnOnce() + Send + 'static) -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut told = async move || {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    tokio::spawn(async move {
        told().await;
        stop.cancel();
        told().await;
        // On a thread of its own: those of the runtime may all have work.
        let (done, abandoned) = oneshot::channel();
        std::thread::spawn(move || {
            abandon();
            let _ = done.send(());
        });
        tokio::select! {
            _ = abandoned => {}
            () = tokio::time::sleep(ABANDON_TIMEOUT) => {}
            () = told() => {}
        }
        std::process::exit(130);
    });
    Ok(())
}

/// Warnings on standard error; what a client library says of requests that fail, their callers say in their own words.
const LOG: &str = "warn,kube_client::client=off";

/// Logs what [`LOG`] says, or `K8W_LOG` (both in the syntax of tracing's `EnvFilter`).
pub fn init_tracing() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("K8W_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(LOG));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}
