//! How much the API server takes on at once, and for how long.

use crate::request_info::RequestInfo;
use crate::status::Status;
use k8w_kinds::machine_code::PATH as MACHINE_CODE;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

/// How many reads run at the same time, as in Kubernetes.
const READS_IN_FLIGHT: usize = 400;
/// How many writes run at the same time, as in Kubernetes.
const WRITES_IN_FLIGHT: usize = 200;
/// How many connections may be switched to a stream at the same time (exec, attach, port-forward).
const STREAMS: usize = 4_000;
/// How long a request waits for its turn.
const QUEUE_WAIT_MS: u64 = 5_000;
/// How long a request may take, unless it is one that is meant to last.
pub const REQUEST_TIMEOUT_MS: u64 = 60_000;
/// When a client that was turned away may come back.
const RETRY_AFTER_SECONDS: u32 = 1;

/// Turns for requests.
pub struct Limits {
    reads: Semaphore,
    writes: Semaphore,
    streams: Arc<Semaphore>,
    queue_wait_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            reads: Semaphore::new(READS_IN_FLIGHT),
            writes: Semaphore::new(WRITES_IN_FLIGHT),
            streams: Arc::new(Semaphore::new(STREAMS)),
            queue_wait_ms: QUEUE_WAIT_MS,
        }
    }
}

impl Limits {
    /// Waits for a turn. Paths that are no resources need none, so that health can always be asked.
    ///
    /// # Errors
    /// 429 when there is none within five seconds.
    pub async fn turn(&self, info: &RequestInfo) -> Result<Option<SemaphorePermit<'_>>, Status> {
        if !info.is_resource_request {
            return Ok(None);
        }
        let turns = if is_mutating(info) { &self.writes } else { &self.reads };
        if let Ok(permit) = turns.try_acquire() {
            return Ok(Some(permit));
        }
        match tokio::time::timeout(Duration::from_millis(self.queue_wait_ms), turns.acquire()).await {
            Ok(Ok(permit)) => Ok(Some(permit)),
            _ => Err(too_many()),
        }
    }

    /// A place for a connection that is switched to a stream.
    ///
    /// # Errors
    /// 429 when there is none.
    pub fn stream(&self) -> Result<OwnedSemaphorePermit, Status> {
        self.streams.clone().try_acquire_owned().map_err(|_| too_many())
    }
}

fn too_many() -> Status {
    Status::too_many_requests("Too many requests, please try again later.", RETRY_AFTER_SECONDS)
}

pub fn is_mutating(info: &RequestInfo) -> bool {
    !matches!(info.verb, "get" | "list" | "watch")
}

/// Requests that last as long as their client wants: watches and streams, and the wait for machine code.
pub fn is_long_running(info: &RequestInfo) -> bool {
    let is_stream = matches!(info.subresource.as_str(), "log" | "exec" | "attach" | "portforward" | "proxy");
    info.verb == "watch" || is_stream || info.path == MACHINE_CODE
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::Query;
    use http::Method;

    fn request(method: Method) -> RequestInfo {
        RequestInfo::new(&method, "/api/v1/namespaces/default/pods", &Query::parse(""))
    }

    #[tokio::test]
    async fn who_finds_no_turn_is_told_to_come_back() {
        let mut limits = Limits { queue_wait_ms: 0, ..Limits::default() };
        let (read, write) = (request(Method::GET), request(Method::POST));
        for _ in 0..WRITES_IN_FLIGHT {
            // Writes that do not end.
            limits.turn(&write).await.unwrap().unwrap().forget();
        }
        let refused = limits.turn(&write).await.map(drop).unwrap_err();
        assert_eq!((refused.code, refused.reason), (429, "TooManyRequests"));
        assert_eq!(refused.details.unwrap().retry_after_seconds, Some(RETRY_AFTER_SECONDS));
        // Writes that are many do not keep reads away, nor whoever asks for health.
        assert!(limits.turn(&read).await.unwrap().is_some());
        let health = RequestInfo::new(&Method::GET, "/livez", &Query::parse(""));
        assert!(limits.turn(&health).await.unwrap().is_none());
        limits.queue_wait_ms = QUEUE_WAIT_MS;
        let (waiting, ()) = tokio::join!(limits.turn(&write), async { limits.writes.add_permits(1) });
        assert!(waiting.unwrap().is_some());
    }

    #[test]
    fn streams_have_so_many_places() {
        let limits = Limits::default();
        let places: Vec<_> = (0..STREAMS).map(|_| limits.stream().unwrap()).collect();
        assert_eq!(limits.stream().map(drop).unwrap_err().code, 429);
        drop(places);
        assert!(limits.stream().is_ok());
    }
}
