//! What guests write: lines of the CRI log format that do not depend on the pieces that bytes come in, lose nothing and add
//! nothing, and are never longer than a part may be.

use jiff::Timestamp;
use k8w_runtime::wasm::lines::{Lines, MAX_PART_BYTES, Source};

/// An input is a byte for the length of pieces, one for how often the rest is repeated, and bytes.
pub fn check(input: &[u8]) {
    let Some((&[piece, times], bytes)) = input.split_first_chunk() else { return };
    let written = bytes.repeat(usize::from(times) + 1);
    let pieces = parts(written.chunks((usize::from(piece) * 64).max(1)));
    assert_eq!(pieces, parts(std::iter::once(&written[..])));
    let mut read = Vec::new();
    for (whole, text) in &pieces {
        assert!(text.len() <= MAX_PART_BYTES && !text.contains(&b'\n'));
        assert!(*whole || text.len() == MAX_PART_BYTES, "only a line that is too long comes in parts");
        read.extend_from_slice(text);
        read.extend(whole.then_some(b'\n'));
    }
    let ended = read.strip_suffix(b"\n").filter(|_| !written.ends_with(b"\n") && !written.is_empty());
    assert_eq!(ended.unwrap_or(&read), written);
}

/// What the lines say, and whether each is whole.
fn parts<'b>(pieces: impl Iterator<Item = &'b [u8]>) -> Vec<(bool, Vec<u8>)> {
    let (mut lines, mut formatted) = (Lines::new(Source::Stdout), Vec::new());
    for piece in pieces {
        formatted.extend(lines.push(Timestamp::UNIX_EPOCH, piece));
    }
    formatted.extend(lines.end(Timestamp::UNIX_EPOCH));
    let Some(formatted) = formatted.strip_suffix(b"\n") else { return Vec::new() };
    let heads: [&[u8]; 2] = [b"1970-01-01T00:00:00.000000000Z stdout P ", b"1970-01-01T00:00:00.000000000Z stdout F "];
    let line = |line: &[u8]| {
        let whole = line.starts_with(heads[1]);
        let text = line.strip_prefix(heads[usize::from(whole)]).expect("a line of the format");
        (whole, text.to_vec())
    };
    formatted.split(|byte| *byte == b'\n').map(line).collect()
}
