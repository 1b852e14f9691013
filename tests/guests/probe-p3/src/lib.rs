//! Does on request whatever the host's tests want to see of WASI 0.3: an http server (the path says what) and a command
//! (the first argument does).

mod calls;
mod command;
mod files;
mod http;
mod net;
mod questions;
#[path = "../../probe/src/taken.rs"]
mod taken;

use wasip3::wit_bindgen::rt::async_support::{FutureReader, StreamReader};
use wasip3::wit_stream;

/// Writes text as a stream to its end, and waits until that is taken.
pub async fn write<E: 'static>(
    text: &str,
    to: impl FnOnce(StreamReader<u8>) -> FutureReader<Result<(), E>>,
) -> Result<(), E> {
    let (mut writer, reader) = wit_stream::new();
    let written = to(reader);
    writer.write_all(text.as_bytes().to_vec()).await;
    drop(writer);
    written.await
}

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
