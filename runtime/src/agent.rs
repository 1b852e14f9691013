//! The node agent: one loop over a closed enum of events.

/// Why an agent could not go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot reach the API server")]
    Api(#[source] kube::Error),
    #[error("cannot prepare {path}")]
    Directory { path: std::path::PathBuf, source: std::io::Error },
}
