//! `/healthz`, `/livez`, `/readyz`: named checks, alone or together.
//!
//! `?verbose` lists the checks, `?exclude=NAME` leaves one out, and `/readyz/NAME` runs a single one, as in Kubernetes'
//! "API health endpoints". Why a check failed is in the log, not in the answer: anybody may ask.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Response, StatusCode};

use crate::ApiServer;
use crate::body::Body;
use crate::call::Call;
use crate::respond;
use crate::routes::Answer;
use crate::status::Status;

/// A datastore that does not answer by then counts as ill.
const CHECK_MS: u64 = 5_000;

/// One thing that can be wrong.
struct Check {
    name: &'static str,
    /// Whether a server that fails this must be restarted. All checks count for readiness.
    live: bool,
    run: fn(Arc<ApiServer>) -> BoxFuture<'static, Result<(), String>>,
}

const CHECKS: &[Check] = &[
    Check { name: "ping", live: true, run: |_| async { Ok(()) }.boxed() },
    Check { name: "log", live: true, run: |_| async { Ok(()) }.boxed() },
    // The name that Kubernetes' users know for the store, whichever it is.
    Check { name: "etcd", live: true, run: |server| datastore(server).boxed() },
    Check { name: "informer-sync", live: false, run: |server| watch_cache(server).boxed() },
];

async fn datastore(server: Arc<ApiServer>) -> Result<(), String> {
    server.datastore.revision().await.map(drop).map_err(|error| error.to_string())
}

async fn watch_cache(server: Arc<ApiServer>) -> Result<(), String> {
    server.cache.catch_up().await.map(drop).map_err(|status| status.to_string())
}

/// `GET /healthz`, `/livez`, `/readyz` and what lies below them.
pub fn serve(server: Arc<ApiServer>, call: Call) -> BoxFuture<'static, Answer> {
    async move {
        let (endpoint, name) = call.info.path[1..].split_once('/').unwrap_or((&call.info.path[1..], ""));
        let excluded = |check: &Check| name.is_empty() && call.query.all("exclude").any(|name| name == check.name);
        let chosen = |check: &&Check| {
            if name.is_empty() { check.live || endpoint != "livez" } else { check.name == name }
        };
        let checks: Vec<&Check> = CHECKS.iter().filter(chosen).collect();
        if checks.is_empty() {
            return Err(Status::no_such_resource());
        }
        let result = async |check: &Check| excluded(check) || run(check, &server).await;
        let results = futures::future::join_all(checks.iter().map(|check| result(check))).await;
        let passed = results.iter().all(|passed| *passed);
        if passed && call.query.get("verbose").is_none() {
            return Ok(respond::text("ok"));
        }
        let mut report = String::new();
        for (check, passed) in checks.iter().zip(results) {
            let line = match passed {
                true if excluded(check) => ("+", "excluded: ok"),
                true => ("+", "ok"),
                false => ("-", "failed: reason withheld"),
            };
            let _ = writeln!(report, "[{}]{} {}", line.0, check.name, line.1);
        }
        let _ = writeln!(report, "{endpoint} check {}", if passed { "passed" } else { "failed" });
        let mut response: Response<Body> = respond::text(report);
        if !passed {
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        }
        Ok(response)
    }
    .boxed()
}

async fn run(check: &Check, server: &Arc<ApiServer>) -> bool {
    let result = tokio::time::timeout(Duration::from_millis(CHECK_MS), (check.run)(server.clone())).await;
    match result {
        Ok(Ok(())) => return true,
        Ok(Err(reason)) => tracing::warn!(check = check.name, reason, "health check failed"),
        Err(_) => tracing::warn!(check = check.name, "health check took too long"),
    }
    false
}
