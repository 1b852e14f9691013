//! Commands that probes and hooks run in a container.

use tokio::sync::mpsc;

use super::shared::Shared;
use crate::engine::{Command, ContainerId, ExecError, Io, Output};

/// Of what a command says, this much is kept; the rest is read and forgotten, so that it can go on.
const MAX_OUTPUT_BYTES: usize = 10 << 10;
/// Pieces of output that wait to be read.
const QUEUED_PIECES: usize = 8;

/// How a command ended.
pub(super) struct Ended {
    pub code: i32,
    /// Beginning of what it said on both of its streams.
    pub output: String,
}

/// Runs a command without input to its end. Dropping the future ends the command.
///
/// # Errors
/// When it cannot be run.
pub(super) async fn run(shared: &Shared, id: &ContainerId, argv: Vec<String>) -> Result<Ended, ExecError> {
    let (output, mut written) = mpsc::channel(QUEUED_PIECES);
    let kept = async {
        let mut kept = Vec::new();
        while let Some(Output::Stdout(bytes) | Output::Stderr(bytes)) = written.recv().await {
            let room = MAX_OUTPUT_BYTES - kept.len();
            kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
        String::from_utf8_lossy(&kept).into_owned()
    };
    let run = shared.engine.exec(id, Command { argv, tty: false }, Io { stdin: None, output });
    let (code, output) = tokio::join!(run, kept);
    Ok(Ended { code: code?, output })
}
