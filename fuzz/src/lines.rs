//! What guests write: lines of the CRI log format that do not depend on the pieces that bytes come in, lose nothing and add
//! nothing, and are never longer than a part may be.

use jiff::Timestamp;
use k8w_runtime::wasm::lines::{Lines, MAX_PART_BYTES, Source};

/// The longest input is two parts when it is repeated as often as this.
const MAX_TIMES: u8 = 64;

/// An input is a byte for the length of pieces, one for how often the rest is repeated, and bytes.
pub fn check(input: &[u8]) {
    let Some((&[piece, times], bytes)) = input.split_first_chunk() else { return };
    let written = bytes.repeat(usize::from(times % MAX_TIMES) + 1);
    let log = formatted(written.chunks((usize::from(piece) * 64).max(1)));
    assert_eq!(log, formatted(std::iter::once(&written[..])));
    let mut read = Vec::with_capacity(written.len() + 1);
    for (whole, text) in parts(&log) {
        assert!(text.len() <= MAX_PART_BYTES);
        assert!(whole || text.len() == MAX_PART_BYTES, "only a line that is too long comes in parts");
        read.extend_from_slice(text);
        read.extend(whole.then_some(b'\n'));
    }
    let ended = read.strip_suffix(b"\n").filter(|_| !written.ends_with(b"\n") && !written.is_empty());
    assert_eq!(ended.unwrap_or(&read), written);
}

fn formatted<'b>(pieces: impl Iterator<Item = &'b [u8]>) -> Vec<u8> {
    let (mut lines, mut formatted) = (Lines::new(Source::Stdout), Vec::new());
    for piece in pieces {
        lines.push(Timestamp::UNIX_EPOCH, piece, &mut formatted);
    }
    lines.end(Timestamp::UNIX_EPOCH, &mut formatted);
    formatted
}

/// What the lines of a log say, and whether each is whole.
fn parts(log: &[u8]) -> impl Iterator<Item = (bool, &[u8])> {
    let heads: [&[u8]; 2] = [b"1970-01-01T00:00:00.000000000Z stdout P ", b"1970-01-01T00:00:00.000000000Z stdout F "];
    let lines = log.strip_suffix(b"\n").map(|log| log.split(|byte| *byte == b'\n'));
    lines.into_iter().flatten().map(move |line| {
        let whole = line.starts_with(heads[1]);
        let text = line.strip_prefix(heads[usize::from(whole)]).expect("a line of the format");
        (whole, text)
    })
}
