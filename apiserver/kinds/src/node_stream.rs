//! What an API server and a node say to each other while a command runs in a container.
//!
//! The body of the request and that of its response are each a series of messages, both under way at once: HTTP gives
//! back-pressure and an end, in process and over HTTP/2 alike, and a node needs to know none of the protocols that
//! clients speak. A message is a byte for its kind, four for the length of its payload (big endian), and the payload.
//! A request's body that ends before the command has means that the client is gone.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The longest payload of a message.
pub const MAX_PAYLOAD_BYTES: usize = 1 << 20;

const HEADER_BYTES: usize = 5;

/// One thing that happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// To the node: bytes for standard input.
    Stdin(Bytes),
    /// To the node: standard input ends.
    StdinEnd,
    /// To the node: the client's terminal has another size.
    Resize {
        columns: u16,
        rows: u16,
    },
    Stdout(Bytes),
    Stderr(Bytes),
    /// From the node, the last one: the command ended.
    Exit(i32),
    /// From the node, the last one: the command could not be run, and why.
    Failed(String),
}

/// Bytes that are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("no message has kind {0}")]
    Kind(u8),
    #[error("a message of kind {kind} cannot have {length} bytes")]
    Length { kind: u8, length: usize },
}

impl Message {
    const STDIN: u8 = 0;
    const STDOUT: u8 = 1;
    const STDERR: u8 = 2;
    const EXIT: u8 = 3;
    const RESIZE: u8 = 4;
    const STDIN_END: u8 = 5;
    const FAILED: u8 = 6;

    /// The message as it is sent; its payload is no longer than [`MAX_PAYLOAD_BYTES`].
    pub fn encode(&self) -> Bytes {
        match self {
            Message::Stdin(bytes) => encode(Self::STDIN, bytes),
            Message::StdinEnd => encode(Self::STDIN_END, &[]),
            Message::Resize { columns, rows } => {
                let ([a, b], [c, d]) = (columns.to_be_bytes(), rows.to_be_bytes());
                encode(Self::RESIZE, &[a, b, c, d])
            }
            Message::Stdout(bytes) => encode(Self::STDOUT, bytes),
            Message::Stderr(bytes) => encode(Self::STDERR, bytes),
            Message::Exit(code) => encode(Self::EXIT, &code.to_be_bytes()),
            Message::Failed(why) => encode(Self::FAILED, why.as_bytes()),
        }
    }

    fn decode(kind: u8, mut payload: Bytes) -> Result<Message, Malformed> {
        let wrong = Malformed::Length { kind, length: payload.len() };
        match (kind, payload.len()) {
            (Self::STDIN, _) => Ok(Message::Stdin(payload)),
            (Self::STDIN_END, 0) => Ok(Message::StdinEnd),
            (Self::STDOUT, _) => Ok(Message::Stdout(payload)),
            (Self::STDERR, _) => Ok(Message::Stderr(payload)),
            (Self::EXIT, 4) => Ok(Message::Exit(payload.get_i32())),
            (Self::RESIZE, 4) => Ok(Message::Resize { columns: payload.get_u16(), rows: payload.get_u16() }),
            (Self::FAILED, _) => Ok(Message::Failed(String::from_utf8_lossy(&payload).into_owned())),
            (Self::STDIN_END | Self::EXIT | Self::RESIZE, _) => Err(wrong),
            _ => Err(Malformed::Kind(kind)),
        }
    }
}

fn encode(kind: u8, payload: &[u8]) -> Bytes {
    let payload = &payload[..payload.len().min(MAX_PAYLOAD_BYTES)];
    let mut message = BytesMut::with_capacity(HEADER_BYTES + payload.len());
    message.put_u8(kind);
    message.put_u32(u32::try_from(payload.len()).unwrap_or(u32::MAX));
    message.put_slice(payload);
    message.freeze()
}

/// Takes messages out of bytes that come in pieces of any size.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: BytesMut,
}

impl Decoder {
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message, if it has come.
    ///
    /// # Errors
    /// [`Malformed`]: nothing after it can be understood.
    pub fn pop(&mut self) -> Result<Option<Message>, Malformed> {
        if self.buffer.len() < HEADER_BYTES {
            return Ok(None);
        }
        let kind = self.buffer[0];
        let length = (&self.buffer[1..HEADER_BYTES]).get_u32() as usize;
        if length > MAX_PAYLOAD_BYTES {
            return Err(Malformed::Length { kind, length });
        }
        if self.buffer.len() < HEADER_BYTES + length {
            return Ok(None);
        }
        self.buffer.advance(HEADER_BYTES);
        Message::decode(kind, self.buffer.split_to(length).freeze()).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_message() -> impl Strategy<Value = Message> {
        let bytes = || proptest::collection::vec(any::<u8>(), 0..64).prop_map(Bytes::from);
        prop_oneof![
            bytes().prop_map(Message::Stdin),
            Just(Message::StdinEnd),
            any::<(u16, u16)>().prop_map(|(columns, rows)| Message::Resize { columns, rows }),
            bytes().prop_map(Message::Stdout),
            bytes().prop_map(Message::Stderr),
            any::<i32>().prop_map(Message::Exit),
            ".*".prop_map(Message::Failed),
        ]
    }

    proptest! {
        #[test]
        fn messages_are_read_as_they_were_written(
            messages in proptest::collection::vec(any_message(), 0..8),
            piece in 1usize..40,
        ) {
            let wire: Vec<u8> = messages.iter().flat_map(|message| message.encode().to_vec()).collect();
            let (mut decoder, mut read) = (Decoder::default(), Vec::new());
            for piece in wire.chunks(piece) {
                decoder.push(piece);
                while let Some(message) = decoder.pop().unwrap() {
                    read.push(message);
                }
            }
            prop_assert_eq!(read, messages);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut decoder = Decoder::default();
            decoder.push(&bytes);
            while let Ok(Some(_)) = decoder.pop() {}
        }
    }

    #[test]
    fn what_is_too_long_is_refused_before_it_has_come() {
        let mut decoder = Decoder::default();
        decoder.push(&[0, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(decoder.pop(), Err(Malformed::Length { kind: 0, length: 0xffff_ffff }));
    }
}
