//! GETs on one connection of HTTP/2 whose answers are lines, read with next to no work for each.
//!
//! A client like hyper's has a task, locks and flow control for each stream: on the server's own cores that would be the
//! greater part of what is measured. Here frames are counted as they come (RFC 9113), with windows that no measurement fills.

use anyhow::{Result, bail};
use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEAD_BYTES: usize = 9;
/// The greatest that there is.
const WINDOW_BYTES: u32 = (1 << 31) - 1;
/// A connection's window until it is told otherwise.
const FIRST_WINDOW_BYTES: u32 = (1 << 16) - 1;
const READ_BYTES: usize = 64 << 10;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

const INITIAL_WINDOW_SIZE: u16 = 4;
/// A header block that begins with `:status: 200`, as the static table of HPACK (RFC 7541) has it.
const STATUS_OK: u8 = 0x88;

/// A connection, its requests sent.
pub struct Frames {
    stream: TlsStream<TcpStream>,
    received: BytesMut,
}

struct Frame {
    kind: u8,
    flags: u8,
    payload: BytesMut,
}

impl Frames {
    /// Asks for all of `paths` at once, and waits until each is answered 200.
    pub async fn open(stream: TlsStream<TcpStream>, authority: &str, token: &str, paths: &[String]) -> Result<Self> {
        let mut asked = PREFACE.to_vec();
        let settings = [&INITIAL_WINDOW_SIZE.to_be_bytes()[..], &WINDOW_BYTES.to_be_bytes()].concat();
        write(&mut asked, SETTINGS, 0, 0, &settings);
        write(&mut asked, WINDOW_UPDATE, 0, 0, &(WINDOW_BYTES - FIRST_WINDOW_BYTES).to_be_bytes());
        for (path, stream) in paths.iter().zip((1..).step_by(2)) {
            write(&mut asked, HEADERS, END_STREAM | END_HEADERS, stream, &get(authority, path, token));
        }
        let mut frames = Frames { stream, received: BytesMut::new() };
        frames.stream.write_all(&asked).await?;
        let mut answered = 0;
        while answered < paths.len() {
            let frame = frames.next().await?;
            if frame.kind == HEADERS {
                if frame.payload.first() != Some(&STATUS_OK) {
                    bail!("a stream is refused: {:?}", frame.payload);
                }
                answered += 1;
            }
        }
        Ok(frames)
    }

    /// Waits for lines, and says how many have come.
    pub async fn lines(&mut self) -> Result<usize> {
        let mut lines = 0;
        while lines == 0 || self.is_whole() {
            let frame = self.next().await?;
            if frame.kind == DATA {
                lines += frame.payload.iter().filter(|byte| **byte == b'\n').count();
            }
        }
        Ok(lines)
    }

    async fn next(&mut self) -> Result<Frame> {
        while !self.is_whole() {
            self.received.reserve(READ_BYTES);
            if self.stream.read_buf(&mut self.received).await? == 0 {
                bail!("the server closed the connection");
            }
        }
        let (kind, flags) = (self.received[3], self.received[4]);
        let payload = self.received.split_to(self.length()).split_off(HEAD_BYTES);
        let frame = Frame { kind, flags, payload };
        self.heed(&frame).await?;
        Ok(frame)
    }

    /// Whether the next frame is there.
    fn is_whole(&self) -> bool {
        self.received.len() >= HEAD_BYTES && self.received.len() >= self.length()
    }

    /// Of the next frame with its head, which is there.
    fn length(&self) -> usize {
        let head = &self.received;
        HEAD_BYTES + u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize
    }

    /// Does what every client must.
    async fn heed(&mut self, frame: &Frame) -> Result<()> {
        match frame.kind {
            SETTINGS | PING if frame.flags & ACK == 0 => {
                let payload: &[u8] = if frame.kind == PING { &frame.payload } else { &[] };
                let mut answer = Vec::new();
                write(&mut answer, frame.kind, ACK, 0, payload);
                self.stream.write_all(&answer).await?;
            }
            RST_STREAM | GOAWAY => bail!("the server ends what it should go on with"),
            _ => {}
        }
        Ok(())
    }
}

fn write(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// The header block of a GET: fields whose names, and of two the values, are in the static table of HPACK.
fn get(authority: &str, path: &str, token: &str) -> Vec<u8> {
    const METHOD_GET: u8 = 0x82;
    const SCHEME_HTTPS: u8 = 0x87;
    let authorization = format!("Bearer {token}");
    let mut block = vec![METHOD_GET, SCHEME_HTTPS];
    for (name, value) in [(1, authority), (4, path), (19, "application/json"), (23, authorization.as_str())] {
        // A literal that nobody is to remember.
        integer(&mut block, 4, name);
        integer(&mut block, 7, value.len());
        block.extend_from_slice(value.as_bytes());
    }
    block
}

/// RFC 7541, section 5.1, the bits before the prefix being zero.
fn integer(out: &mut Vec<u8>, prefix_bits: u32, value: usize) {
    let most = (1 << prefix_bits) - 1;
    if value < most {
        return out.push(value as u8);
    }
    out.push(most as u8);
    let mut rest = value - most;
    while rest >= 1 << 7 {
        out.push(rest as u8 | 1 << 7);
        rest >>= 7;
    }
    out.push(rest as u8);
}
