//! Removes the directories of deleted `local-path` volumes, when the controller that knows of their deletion asks.

use http::StatusCode;
use k8w_storage::volume::persistent;
use serde_json::json;

use super::{Answer, Failure, json_answer};
use crate::config::NodeConfig;

/// Answers once nothing is left of the volume.
pub(super) async fn remove(config: &NodeConfig, name: &str) -> Answer {
    let failure = |status, message| Failure { status, message };
    if !k8w_kinds::names::dns_subdomain(name).is_empty() {
        return Err(failure(StatusCode::BAD_REQUEST, format!("\"{name}\" is no name of a volume")));
    }
    let directory = config.local_path_dir().join(name);
    let removed = tokio::task::spawn_blocking(move || persistent::remove(&directory)).await;
    let removed = removed.map_err(|error| failure(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    removed.map_err(|error| failure(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    Ok(json_answer(&json!({})))
}
