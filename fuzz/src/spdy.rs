//! SPDY/3.1: frames do not depend on the pieces in which bytes come, and are read as they were written.

use k8w_apiserver::streams::spdy::frame::{Decoder, Encoder, Frame, Malformed};

/// See the module.
pub fn check(input: &[u8]) {
    let Some((piece, wire)) = input.split_first() else { return };
    let (frames, end) = decode(wire, wire.len().max(1));
    assert_eq!(decode(wire, usize::from(*piece).max(1)), (frames.clone(), end));
    let (mut encoder, mut written) = (Encoder::default(), Vec::new());
    frames.iter().for_each(|frame| encoder.encode(frame, &mut written));
    let expected = frames.into_iter().filter(|frame| !matches!(frame, Frame::Other(_)));
    assert_eq!(decode(&written, written.len().max(1)), (joined(expected.collect()), None));
}

/// Whole frames, and why there are no more. A data frame that has not come to its end counts with what came of it.
fn decode(wire: &[u8], piece: usize) -> (Vec<Frame>, Option<Malformed>) {
    let (mut decoder, mut frames) = (Decoder::default(), Vec::new());
    for piece in wire.chunks(piece) {
        decoder.push(piece);
        loop {
            match decoder.pop() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(malformed) => return (joined(frames), Some(malformed)),
            }
        }
    }
    (joined(frames), None)
}

/// With neighbouring data of one stream put together: in how many pieces it comes is nobody's business.
fn joined(frames: Vec<Frame>) -> Vec<Frame> {
    let mut joined: Vec<Frame> = Vec::new();
    for frame in frames {
        match (joined.last_mut(), frame) {
            (Some(Frame::Data { stream, bytes, fin }), Frame::Data { stream: next, bytes: more, fin: last })
                if *stream == next && !*fin =>
            {
                *bytes = [&bytes[..], &more[..]].concat().into();
                *fin = last;
            }
            (_, frame) => joined.push(frame),
        }
    }
    joined
}
