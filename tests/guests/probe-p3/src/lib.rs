//! Does on request whatever the host's tests want to see of WASI 0.3: an http server (the path says what) and a command
//! (the first argument does).

mod calls;
mod command;
mod files;
mod headers;
mod http;
mod net;
mod questions;
#[path = "../../probe/src/taken.rs"]
mod taken;
mod write;

pub use write::write;

pub async fn print(text: &str) {
    write(text, wasip3::cli::stdout::write_via_stream).await.expect("standard output takes lines");
}

pub async fn println(line: &str) {
    print(&format!("{line}\n")).await;
}

/// What an error is called in WIT.
pub fn name(error: impl core::fmt::Debug) -> String {
    format!("{error:?}")
}
