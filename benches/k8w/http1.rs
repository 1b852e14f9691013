//! A client of HTTP/1.1 with keep-alive that costs little, so that the server is what is measured.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::compare::Client;

/// An answer beyond this is no answer to a greeting.
pub const MAX_ANSWER_BYTES: usize = 64 << 10;

/// One connection that asks for `/` again and again.
pub struct Http1 {
    stream: TcpStream,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Http1 {
    /// As many connections as `count` to `address`, asking for `host`.
    pub async fn open(count: usize, address: SocketAddr, host: &str) -> Result<Vec<Self>> {
        let mut clients = Vec::with_capacity(count);
        for _ in 0..count {
            let stream = TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
            stream.set_nodelay(true)?;
            let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n").into_bytes();
            clients.push(Self { stream, request, answer: Vec::with_capacity(1024) });
        }
        Ok(clients)
    }
}

impl Client for Http1 {
    async fn request(&mut self) -> Result<()> {
        self.stream.write_all(&self.request).await?;
        self.answer.clear();
        loop {
            if self.stream.read_buf(&mut self.answer).await? == 0 {
                bail!("the server closed the connection");
            }
            if is_complete(&self.answer)? {
                return Ok(());
            }
            if self.answer.len() > MAX_ANSWER_BYTES {
                bail!("the answer is longer than {MAX_ANSWER_BYTES} bytes");
            }
        }
    }
}

/// Whether a whole answer was read; anything but 200 is an error.
pub fn is_complete(answer: &[u8]) -> Result<bool> {
    let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(false) };
    let (head, body) = (&answer[..end], &answer[end + 4..]);
    if !head.starts_with(b"HTTP/1.1 200 ") {
        bail!("the answer is no 200: {}", String::from_utf8_lossy(head));
    }
    let lines = head.split(|byte| *byte == b'\n');
    const LENGTH: &[u8] = b"content-length:";
    let length = lines.filter(|line| line.len() > LENGTH.len()).find_map(|line| {
        let (name, value) = line.split_at(LENGTH.len());
        name.eq_ignore_ascii_case(LENGTH).then_some(value)
    });
    match length {
        Some(length) => Ok(body.len() >= std::str::from_utf8(length)?.trim().parse::<usize>()?),
        None => Ok(body.ends_with(b"0\r\n\r\n")),
    }
}
