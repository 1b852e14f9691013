//! How a guest ended, in the words of a container's status.

use wasmtime_wasi::I32Exit;

use super::config::TrapBurst;
use super::memory::OutOfMemory;
use super::store::Interrupted;
use crate::engine::{ContainerId, EngineEvent, ExitReason};

/// What a trap exits with: that of a process which aborted (128 + SIGABRT).
const TRAPPED: i32 = 134;
/// 128 + SIGKILL.
const KILLED: i32 = 137;
/// 128 + SIGTERM.
const TERMINATED: i32 = 143;
/// Longest message of a status (the kubelet's limit for termination messages).
const MAX_MESSAGE_BYTES: usize = 4_096;

/// A container's end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub exit_code: i32,
    pub reason: ExitReason,
    pub message: String,
}

impl Outcome {
    /// Ended by itself, or stopped when nothing was left to do.
    pub fn exited(exit_code: i32) -> Outcome {
        let reason = if exit_code == 0 { ExitReason::Completed } else { ExitReason::Error };
        Outcome { exit_code, reason, message: String::new() }
    }

    /// Interrupted on request, before (`SIGTERM`) or after (`SIGKILL`) its grace had passed.
    pub fn interrupted(grace_passed: bool) -> Outcome {
        Outcome::exited(if grace_passed { KILLED } else { TERMINATED })
    }

    /// What an error that ended a guest means.
    pub fn of(error: &wasmtime::Error) -> Outcome {
        if let Some(I32Exit(code)) = error.downcast_ref() {
            return Outcome::exited(*code);
        }
        if error.downcast_ref::<Interrupted>().is_some() {
            return Outcome::interrupted(false);
        }
        if let Some(memory) = error.downcast_ref::<OutOfMemory>() {
            return Outcome { exit_code: KILLED, reason: ExitReason::OOMKilled, message: memory.to_string() };
        }
        Outcome { exit_code: TRAPPED, reason: ExitReason::Error, message: describe(error) }
    }

    /// Too many requests trapped in too short a time, the last of them with this error.
    pub fn burst(burst: TrapBurst, last: &wasmtime::Error) -> Outcome {
        let TrapBurst { traps, within } = burst;
        let message = cut(format!("{traps} requests trapped within {within:?}, the last with: {}", describe(last)));
        Outcome { exit_code: TRAPPED, reason: ExitReason::Error, message }
    }

    /// The event that reports it.
    pub fn event(self, id: ContainerId) -> EngineEvent {
        let Outcome { exit_code, reason, message } = self;
        EngineEvent::Exited { id, exit_code, reason, message }
    }
}

/// A trap with its wasm backtrace, cut to what a status may hold.
///
/// Put together here: what the error itself prints may have frames of the host, which are nobody's business.
pub fn describe(error: &wasmtime::Error) -> String {
    let mut text = error.to_string();
    for (number, cause) in error.chain().skip(1).enumerate() {
        let heading = if number == 0 { "\n\nCaused by:" } else { "" };
        text += &format!("{heading}\n    {number}: {cause}");
    }
    cut(text)
}

/// A trap in one line: what it comes from in the end.
pub fn cause(error: &wasmtime::Error) -> String {
    cut(error.chain().last().map_or_else(|| error.to_string(), |cause| cause.to_string()))
}

/// What a guest, or what ended it, says of itself, cut to what a status may hold.
pub fn cut(mut text: String) -> String {
    if text.len() > MAX_MESSAGE_BYTES {
        let end = (0..=MAX_MESSAGE_BYTES).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_become_exit_codes() {
        let of = |error: wasmtime::Error| {
            let outcome = Outcome::of(&error);
            (outcome.exit_code, outcome.reason)
        };
        assert_eq!(of(I32Exit(0).into()), (0, ExitReason::Completed));
        assert_eq!(of(I32Exit(3).into()), (3, ExitReason::Error));
        assert_eq!(of(OutOfMemory::Alone { limit_bytes: 1 }.into()), (137, ExitReason::OOMKilled));
        assert_eq!(of(Interrupted.into()), (143, ExitReason::Error));
        assert_eq!(of(wasmtime::Trap::UnreachableCodeReached.into()), (134, ExitReason::Error));
    }

    #[test]
    fn a_message_is_cut_between_characters() {
        let error = wasmtime::format_err!("{}", "ä".repeat(MAX_MESSAGE_BYTES));
        assert!(describe(&error).len() <= MAX_MESSAGE_BYTES);
    }
}
