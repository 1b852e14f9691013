//! What a container leaves to say about its own end: `terminationMessagePath` and `terminationMessagePolicy`
//! (<https://kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure/>).

use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use tokio::sync::mpsc;

use super::shared::Shared;
use crate::pod::logs::Options;
use crate::pod::{containers, state};
use crate::server::log_stream;

/// What of the file, and what of the log, becomes a message at most (the kubelet's limits).
const FILE_BYTES: u64 = 4_096;
const LOG_LINES: u64 = 80;
const LOG_BYTES: usize = 2_048;

/// The directory of the files that a container's attempts write their messages to, one by the number of each.
pub(super) fn dir(shared: &Shared, pod_uid: &str, container: &str) -> PathBuf {
    shared.pod_dir(pod_uid).join("containers").join(container)
}

/// For the end of an attempt: a task that tells the pod's state machine of it with what the attempt has left as message.
/// `None` for everything else.
pub(super) fn explain(
    shared: &Arc<Shared>,
    pod: &Arc<Pod>,
    event: &state::Event,
) -> Option<impl Future<Output = ()> + Send + use<>> {
    let state::Event::Exited { container, attempt, exit_code, .. } = event else { return None };
    let spec = containers::find(pod, container)?;
    let reads_log = *exit_code != 0 && spec.termination_message_policy.as_deref() == Some("FallbackToLogsOnError");
    let uid = pod.uid()?;
    let file = dir(shared, &uid, container).join(attempt.to_string());
    let log = shared.log_path(pod, container, *attempt);
    let path = spec.termination_message_path.clone().unwrap_or_default();
    let (shared, mut event) = (shared.clone(), event.clone());
    Some(async move {
        let left = tokio::task::spawn_blocking(move || left_in(&file)).await;
        let mut left = match left.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(text) => text,
            Err(error) => format!("Error on reading termination log {path}: {error}"),
        };
        if left.is_empty() && reads_log {
            left = log_tail(log).await;
        }
        if let state::Event::Exited { message, .. } = &mut event {
            match (message.is_empty(), left.is_empty()) {
                (_, true) => {}
                (true, false) => *message = left,
                (false, false) => *message = format!("{message}: {left}"),
            }
        }
        shared.tell_pod(&uid, event).await;
    })
}

/// The end of a message's file, which then goes; empty where there is none.
fn left_in(path: &Path) -> io::Result<String> {
    let mut file = match std::fs::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        opened => opened?,
    };
    let begin = file.metadata()?.len().saturating_sub(FILE_BYTES);
    file.seek(SeekFrom::Start(begin))?;
    let mut text = Vec::new();
    file.take(FILE_BYTES).read_to_end(&mut text)?;
    std::fs::remove_file(path)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// The last lines of a log.
async fn log_tail(path: PathBuf) -> String {
    let options = Options { tail: Some(LOG_LINES), ..Options::default() };
    let (sender, mut chunks) = mpsc::channel(1);
    tokio::spawn(log_stream::send(path, options, std::future::pending(), sender));
    let mut text = Vec::new();
    while let Some(Ok(chunk)) = chunks.recv().await {
        text.extend_from_slice(&chunk);
        let excess = text.len().saturating_sub(LOG_BYTES);
        text.drain(..excess);
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_file_is_the_message() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0");
        assert_eq!(left_in(&path).unwrap(), "");
        std::fs::write(&path, "x".repeat(5_000) + "end").unwrap();
        let text = left_in(&path).unwrap();
        assert!(text.len() == 4_096 && text.ends_with("xend"));
        assert!(!path.exists());
    }
}
