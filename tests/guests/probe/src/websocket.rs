//! A WebSocket server (RFC 6455), as a program that listens by itself: it sends back what it is told.

use std::io::{Read, Write};

use wasip2::io::streams::{InputStream, OutputStream};
use wasip2::sockets::network::ErrorCode;

use crate::net::{listener, println, wait};

/// What a server adds to a client's key (section 1.3).
const MAGIC: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Serves one connection after the other.
pub fn serve(ip: &str, port: u16) -> Result<(), ErrorCode> {
    let socket = listener(ip, port)?;
    println(&format!("listening on {port}"));
    loop {
        let (accepted, mut input, mut output) = wait(&socket, || socket.accept())?;
        // A client that leaves in the middle of something is no failure.
        let _ = converse(&mut input, &mut output);
        drop((input, output));
        drop(accepted);
    }
}

fn converse(input: &mut InputStream, output: &mut OutputStream) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        input.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head);
    let header = |name: &str| {
        let lines = head.lines().filter_map(|line| line.split_once(':'));
        lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
    };
    let Some(key) = header("sec-websocket-key") else {
        output.write_all(b"HTTP/1.1 426 Upgrade Required\r\nupgrade: websocket\r\ncontent-length: 0\r\n\r\n")?;
        return output.flush();
    };
    let accept = base64(&sha1(format!("{key}{MAGIC}").as_bytes()));
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: {accept}\r\n\r\n"
    );
    output.write_all(answer.as_bytes())?;
    output.flush()?;
    loop {
        let (first, message) = frame(input)?;
        let kind = match first & 0xf {
            PING => 0x80 | PONG,
            _ => first,
        };
        let length = u16::try_from(message.len()).expect("frames of these tests are small");
        let mut answer = vec![kind];
        match length {
            0..126 => answer.push(length as u8),
            _ => {
                answer.push(126);
                answer.extend(length.to_be_bytes());
            }
        }
        answer.extend(message);
        output.write_all(&answer)?;
        output.flush()?;
        if first & 0xf == CLOSE {
            return Ok(());
        }
    }
}

/// A client's frame: its first byte, and what it says.
fn frame(input: &mut InputStream) -> std::io::Result<(u8, Vec<u8>)> {
    let (mut head, mut long, mut mask) = ([0; 2], [0; 2], [0; 4]);
    input.read_exact(&mut head)?;
    let length = match head[1] & 0x7f {
        126 => {
            input.read_exact(&mut long)?;
            u16::from_be_bytes(long)
        }
        short => short.into(),
    };
    input.read_exact(&mut mask)?;
    let mut message = vec![0; length.into()];
    input.read_exact(&mut message)?;
    message.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    Ok((head[0], message))
}

fn sha1(data: &[u8]) -> [u8; 20] {
    let mut state: [u32; 5] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];
    let mut padded = data.to_vec();
    padded.push(0x80);
    while padded.len() % 64 != 56 {
        padded.push(0);
    }
    padded.extend((data.len() as u64 * 8).to_be_bytes());
    for block in padded.chunks_exact(64) {
        let mut words = [0u32; 80];
        for (word, bytes) in words.iter_mut().zip(block.chunks_exact(4)) {
            *word = u32::from_be_bytes(bytes.try_into().expect("four bytes"));
        }
        for n in 16..80 {
            words[n] = (words[n - 3] ^ words[n - 8] ^ words[n - 14] ^ words[n - 16]).rotate_left(1);
        }
        let [mut a, mut b, mut c, mut d, mut e] = state;
        for (n, word) in words.into_iter().enumerate() {
            let (mixed, constant) = match n / 20 {
                0 => ((b & c) | (!b & d), 0x5a82_7999),
                1 => (b ^ c ^ d, 0x6ed9_eba1),
                2 => ((b & c) | (b & d) | (c & d), 0x8f1b_bcdc),
                _ => (b ^ c ^ d, 0xca62_c1d6u32),
            };
            let next = a.rotate_left(5).wrapping_add(mixed).wrapping_add(e).wrapping_add(constant).wrapping_add(word);
            (e, d, c, b, a) = (d, c, b.rotate_left(30), a, next);
        }
        for (sum, part) in state.iter_mut().zip([a, b, c, d, e]) {
            *sum = sum.wrapping_add(part);
        }
    }
    let mut digest = [0; 20];
    for (bytes, word) in digest.chunks_exact_mut(4).zip(state) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    digest
}

fn base64(data: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in data.chunks(3) {
        let bits = chunk.iter().chain([&0, &0]).take(3).fold(0u32, |bits, byte| bits << 8 | u32::from(*byte));
        for n in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * n) & 0x3f) as usize];
            text.push(if n <= chunk.len() { letter.into() } else { '=' });
        }
    }
    text
}
