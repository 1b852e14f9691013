//! Plain HTTP/1.1 requests: one connection each, or many on one.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(20);

/// An HTTP answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Header lines as received, lower-cased names.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

/// GETs `path` from `address` for `host`, and reads the answer to its end.
pub fn get(address: SocketAddr, host: &str, path: &str) -> Result<Answer, String> {
    send(address, "GET", path, &[("host", host)], b"")
}

/// GETs as [`get`]; any answer but one of status 200 is an error.
pub fn get_ok(address: SocketAddr, host: &str, path: &str) -> Result<Answer, String> {
    let answer = get(address, host, path)?;
    if answer.status == 200 { Ok(answer) } else { Err(format!("{answer:?}")) }
}

/// Sends one request, and reads the answer to its end. Without a `host` among the headers it is the address.
pub fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<Answer, String> {
    exchange(address, method, path, headers, body)
        .map_err(|error| format!("{method} http://{address}{path} {headers:?}: {error}"))
}

fn exchange(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
    if !headers.iter().any(|(name, _)| *name == "host") {
        head += &format!("host: {address}\r\n");
    }
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    stream.write_all(body)?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    parse(&bytes).ok_or_else(|| std::io::Error::other(format!("no HTTP answer: {:?}", String::from_utf8_lossy(&bytes))))
}

/// A connection whose requests follow one another.
pub struct KeptAlive {
    address: SocketAddr,
    stream: BufReader<TcpStream>,
}

impl KeptAlive {
    pub fn open(address: SocketAddr) -> Result<Self, String> {
        let opened = TcpStream::connect_timeout(&address, TIMEOUT);
        let stream = opened.and_then(|stream| stream.set_read_timeout(Some(TIMEOUT)).map(|()| stream));
        let stream = stream.map_err(|error| format!("{address}: {error}"))?;
        Ok(Self { address, stream: BufReader::new(stream) })
    }

    /// Sends one request, head and body at once, and reads the answer to its end.
    pub fn send(&mut self, method: &str, host: &str, path: &str, body: &[u8]) -> Result<Answer, String> {
        let exchanged = self.exchange(method, host, path, body);
        exchanged.map_err(|error| format!("{method} http://{host}{path} at {}, kept alive: {error}", self.address))
    }

    fn exchange(&mut self, method: &str, host: &str, path: &str, body: &[u8]) -> std::io::Result<Answer> {
        let head = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {}\r\n\r\n", body.len());
        self.stream.get_mut().write_all(&[head.as_bytes(), body].concat())?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if self.stream.read_until(b'\n', &mut head)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
        let no_answer = || std::io::Error::other(format!("no HTTP answer: {:?}", String::from_utf8_lossy(&head)));
        let mut answer = parse_head(&head[..head.len() - 4]).ok_or_else(no_answer)?;
        let mut body = Vec::new();
        if answer.is_chunked() {
            while self.chunk(&mut body)? {}
        } else {
            let length = answer.header("content-length").and_then(|length| length.parse().ok());
            body.resize(length.ok_or_else(no_answer)?, 0);
            self.stream.read_exact(&mut body)?;
        }
        answer.body = String::from_utf8_lossy(&body).into_owned();
        Ok(answer)
    }

    /// Reads one chunk; whether it was not the last.
    fn chunk(&mut self, body: &mut Vec<u8>) -> std::io::Result<bool> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let size = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16);
        let size = size.map_err(std::io::Error::other)?;
        let before = body.len();
        body.resize(before + size, 0);
        self.stream.read_exact(&mut body[before..])?;
        self.stream.read_exact(&mut [0; 2])?;
        Ok(size > 0)
    }
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn is_chunked(&self) -> bool {
        self.header("transfer-encoding") == Some("chunked")
    }
}

fn parse(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let answer = parse_head(&bytes[..end])?;
    let body = &bytes[end + 4..];
    let body = if answer.is_chunked() { unchunk(body)? } else { body.to_vec() };
    Some(Answer { body: String::from_utf8_lossy(&body).into_owned(), ..answer })
}

/// An answer whose body is yet to be read.
fn parse_head(head: &[u8]) -> Option<Answer> {
    let mut lines = std::str::from_utf8(head).ok()?.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    Some(Answer { status, headers, body: String::new() })
}

fn unchunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|window| window == b"\r\n")?;
        let size =
            usize::from_str_radix(std::str::from_utf8(&rest[..line]).ok()?.split(';').next()?.trim(), 16).ok()?;
        rest = &rest[line + 2..];
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size + 2..)?;
    }
}
