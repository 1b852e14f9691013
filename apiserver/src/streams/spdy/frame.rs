//! Frames of SPDY/3.1: bytes to frames and back, with no IO.
//!
//! ```text
//! data      0 stream(31) | flags(8) length(24) | bytes
//! control   1 version(15) type(16) | flags(8) length(24) | payload
//! ```
//!
//! A data frame may be as long as 16 MiB; it is handed on in the pieces in which it comes, so that nobody has to hold it.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::headers::{self, Headers};

/// The longest payload of a control frame.
pub const MAX_CONTROL_BYTES: usize = 16 << 10;
/// The longest piece of a data frame that is handed on at once.
pub const MAX_DATA_BYTES: usize = 64 << 10;

const VERSION: u16 = 3;
const FRAME_HEADER_BYTES: usize = 8;
const FIN: u8 = 0x01;
const STREAM_ID: u32 = 0x7fff_ffff;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const SETTINGS: u16 = 4;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;
const WINDOW_UPDATE: u16 = 9;

/// A frame, or a piece of a long data frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Opens a stream. `fin`: the sender sends nothing on it.
    SynStream {
        stream: u32,
        headers: Headers,
        fin: bool,
    },
    SynReply {
        stream: u32,
        headers: Headers,
        fin: bool,
    },
    /// `fin`: the sender's last bytes on this stream.
    Data {
        stream: u32,
        bytes: Bytes,
        fin: bool,
    },
    Reset {
        stream: u32,
        status: u32,
    },
    Ping(u32),
    /// No streams are opened any more.
    GoAway {
        last_stream: u32,
    },
    /// A frame that changes nothing here: SETTINGS, HEADERS, WINDOW_UPDATE, by its type.
    Other(u16),
}

/// Why bytes are no SPDY. Nothing that comes after can be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("SPDY version {0} is not spoken here")]
    Version(u16),
    #[error("no control frame has type {0}")]
    Type(u16),
    #[error("a control frame of type {0} has the wrong length")]
    Length(u16),
    #[error("the {0} is too long")]
    TooLong(&'static str),
    #[error("a header block is not compressed as SPDY/3 says")]
    Compression,
    #[error("a header block is not a list of names and values")]
    Headers,
    #[error("stream 0 does not exist")]
    StreamZero,
}

/// Takes frames out of bytes that come in pieces of any size.
#[derive(Default)]
pub struct Decoder {
    buffer: BytesMut,
    headers: headers::Reader,
    /// The data frame whose bytes are coming in.
    data: Option<Data>,
}

struct Data {
    stream: u32,
    left: usize,
    fin: bool,
}

impl Decoder {
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next frame, if it has come.
    ///
    /// # Errors
    /// [`Malformed`]; the decoder is of no use afterwards.
    pub fn pop(&mut self) -> Result<Option<Frame>, Malformed> {
        if self.data.is_some() {
            return Ok(self.data_piece());
        }
        if self.buffer.len() < FRAME_HEADER_BYTES {
            return Ok(None);
        }
        let mut head = &self.buffer[..FRAME_HEADER_BYTES];
        let (first, second) = (head.get_u32(), head.get_u32());
        let (flags, length) = ((second >> 24) as u8, (second & 0x00ff_ffff) as usize);
        if first & !STREAM_ID == 0 {
            if first == 0 {
                return Err(Malformed::StreamZero);
            }
            self.buffer.advance(FRAME_HEADER_BYTES);
            self.data = Some(Data { stream: first, left: length, fin: flags & FIN != 0 });
            return Ok(self.data_piece());
        }
        let (version, kind) = ((first >> 16 & 0x7fff) as u16, first as u16);
        if version != VERSION {
            return Err(Malformed::Version(version));
        }
        if length > MAX_CONTROL_BYTES {
            return Err(Malformed::TooLong("control frame"));
        }
        if self.buffer.len() < FRAME_HEADER_BYTES + length {
            return Ok(None);
        }
        self.buffer.advance(FRAME_HEADER_BYTES);
        let payload = self.buffer.split_to(length).freeze();
        self.control(kind, flags, payload).map(Some)
    }

    /// What has come of the data frame; an empty frame is a piece too, because it may end the stream.
    fn data_piece(&mut self) -> Option<Frame> {
        let data = self.data.as_mut()?;
        let length = data.left.min(self.buffer.len()).min(MAX_DATA_BYTES);
        if length == 0 && data.left > 0 {
            return None;
        }
        data.left -= length;
        let (stream, fin) = (data.stream, data.fin && data.left == 0);
        if data.left == 0 {
            self.data = None;
        }
        Some(Frame::Data { stream, bytes: self.buffer.split_to(length).freeze(), fin })
    }

    fn control(&mut self, kind: u16, flags: u8, mut payload: Bytes) -> Result<Frame, Malformed> {
        let least = match kind {
            SYN_STREAM => 10,
            SYN_REPLY | SETTINGS | PING | HEADERS => 4,
            RST_STREAM | GOAWAY | WINDOW_UPDATE => 8,
            _ => return Err(Malformed::Type(kind)),
        };
        if payload.len() < least {
            return Err(Malformed::Length(kind));
        }
        let word = payload.get_u32();
        let (stream, fin) = (word & STREAM_ID, flags & FIN != 0);
        if stream == 0 && matches!(kind, SYN_STREAM | SYN_REPLY | RST_STREAM | HEADERS) {
            return Err(Malformed::StreamZero);
        }
        Ok(match kind {
            SYN_STREAM => {
                // The associated stream, the priority and the slot say nothing to us.
                payload.advance(6);
                Frame::SynStream { stream, headers: self.headers.read(&payload)?, fin }
            }
            SYN_REPLY => Frame::SynReply { stream, headers: self.headers.read(&payload)?, fin },
            HEADERS => {
                // Nobody needs them, but they are part of the one compressed stream.
                self.headers.read(&payload)?;
                Frame::Other(kind)
            }
            RST_STREAM => Frame::Reset { stream, status: payload.get_u32() },
            PING => Frame::Ping(word),
            GOAWAY => Frame::GoAway { last_stream: stream },
            _ => Frame::Other(kind),
        })
    }
}

/// Writes frames.
#[derive(Default)]
pub struct Encoder {
    headers: headers::Writer,
}

impl Encoder {
    /// Appends a frame to `out`. A data frame's bytes must be less than 16 MiB.
    pub fn encode(&mut self, frame: &Frame, out: &mut Vec<u8>) {
        match frame {
            Frame::SynStream { stream, headers, fin } => {
                let mut payload = stream.to_be_bytes().to_vec();
                payload.extend_from_slice(&[0; 6]);
                self.headers.write(headers, &mut payload);
                control(SYN_STREAM, *fin, &payload, out);
            }
            Frame::SynReply { stream, headers, fin } => {
                let mut payload = stream.to_be_bytes().to_vec();
                self.headers.write(headers, &mut payload);
                control(SYN_REPLY, *fin, &payload, out);
            }
            Frame::Data { stream, bytes, fin } => {
                out.put_u32(*stream & STREAM_ID);
                out.put_u32(u32::from(*fin) << 24 | bytes.len() as u32 & 0x00ff_ffff);
                out.extend_from_slice(bytes);
            }
            Frame::Reset { stream, status } => control(RST_STREAM, false, &words([*stream, *status]), out),
            Frame::Ping(id) => control(PING, false, &id.to_be_bytes(), out),
            Frame::GoAway { last_stream } => control(GOAWAY, false, &words([*last_stream, 0]), out),
            Frame::Other(_) => {}
        }
    }
}

fn words([first, second]: [u32; 2]) -> Vec<u8> {
    [first.to_be_bytes(), second.to_be_bytes()].concat()
}

fn control(kind: u16, fin: bool, payload: &[u8], out: &mut Vec<u8>) {
    out.put_u16(0x8000 | VERSION);
    out.put_u16(kind);
    out.put_u32(u32::from(fin) << 24 | payload.len() as u32 & 0x00ff_ffff);
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(bytes: &[u8], piece: usize) -> Result<Vec<Frame>, Malformed> {
        let (mut decoder, mut frames) = (Decoder::default(), Vec::new());
        for piece in bytes.chunks(piece) {
            decoder.push(piece);
            while let Some(frame) = decoder.pop()? {
                frames.push(frame);
            }
        }
        Ok(frames)
    }

    /// Pieces of one data frame put together again.
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

    fn any_frame() -> impl Strategy<Value = Frame> {
        let stream = || 1..=STREAM_ID;
        let headers = || proptest::collection::vec(("[a-z-]{1,12}", "[ -~]{0,30}"), 0..5);
        prop_oneof![
            (stream(), headers(), any::<bool>()).prop_map(|(stream, headers, fin)| Frame::SynStream {
                stream,
                headers,
                fin
            }),
            (stream(), headers(), any::<bool>()).prop_map(|(stream, headers, fin)| Frame::SynReply {
                stream,
                headers,
                fin
            }),
            (stream(), proptest::collection::vec(any::<u8>(), 0..300)).prop_map(|(stream, bytes)| Frame::Data {
                stream,
                bytes: bytes.into(),
                fin: true
            }),
            (stream(), any::<u32>()).prop_map(|(stream, status)| Frame::Reset { stream, status }),
            any::<u32>().prop_map(Frame::Ping),
            stream().prop_map(|last_stream| Frame::GoAway { last_stream }),
        ]
    }

    proptest! {
        #[test]
        fn frames_are_read_as_they_were_written(
            frames in proptest::collection::vec(any_frame(), 0..8),
            piece in 1usize..600,
        ) {
            let (mut encoder, mut wire) = (Encoder::default(), Vec::new());
            frames.iter().for_each(|frame| encoder.encode(frame, &mut wire));
            prop_assert_eq!(joined(decode(&wire, piece).unwrap()), frames);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300), kind in 0u16..12) {
            let _ = decode(&bytes, 7);
            let mut wire = Vec::new();
            control(kind, false, &bytes, &mut wire);
            let _ = decode(&wire, 64);
        }
    }

    #[test]
    fn hostile_frames_are_refused_by_name() {
        let framed = |kind: u16, payload: &[u8]| {
            let mut wire = Vec::new();
            control(kind, false, payload, &mut wire);
            decode(&wire, wire.len()).unwrap_err()
        };
        assert_eq!(framed(5, &[]), Malformed::Type(5));
        assert_eq!(framed(SYN_STREAM, &[0; 9]), Malformed::Length(SYN_STREAM));
        assert_eq!(framed(SYN_STREAM, &[0; 10]), Malformed::StreamZero);
        assert_eq!(framed(SYN_REPLY, &[0, 0, 0, 1, 1, 2, 3]), Malformed::Compression);
        assert_eq!(decode(&[0x80, 2, 0, 1, 0, 0, 0, 0], 8), Err(Malformed::Version(2)));
        assert_eq!(decode(&[0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff], 8), Err(Malformed::TooLong("control frame")));
        assert_eq!(decode(&[0; 8], 8), Err(Malformed::StreamZero));
    }

    #[test]
    fn a_long_data_frame_is_handed_on_as_it_comes() {
        let mut decoder = Decoder::default();
        decoder.push(&[0, 0, 0, 1, FIN, 0xff, 0xff, 0xff]);
        assert_eq!(decoder.pop(), Ok(None));
        decoder.push(b"abc");
        let piece = Frame::Data { stream: 1, bytes: Bytes::from_static(b"abc"), fin: false };
        assert_eq!(decoder.pop(), Ok(Some(piece)));
        assert_eq!(decoder.pop(), Ok(None));
    }
}
