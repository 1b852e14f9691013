//! How guests of WASI 0.3 write.

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
