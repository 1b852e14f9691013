//! A terminal's line discipline for processes that have no terminal: what a kernel's pty does between `kubectl -t` and a
//! guest, as far as people notice.
//!
//! Input is edited and handed over line by line, and echoed; ^C ends the process, ^D the input. Newlines on the way out
//! become CR LF, because the client's own terminal is in raw mode.

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::engine::{Io, Output};

/// A longer line is handed over without its end, as a kernel does.
const MAX_LINE_BYTES: usize = 4_096;
/// Pieces that wait between the terminal and the process.
const QUEUED_PIECES: usize = 16;

const INTERRUPT: u8 = 0x03;
const END: u8 = 0x04;
const BACKSPACE: u8 = 0x08;
const KILL_LINE: u8 = 0x15;
const DELETE: u8 = 0x7f;

/// What typed bytes lead to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Typed {
    /// Shown to whoever types.
    echo: Vec<u8>,
    /// Whole lines for the process.
    lines: Vec<u8>,
    ended: bool,
    interrupted: bool,
}

/// The line that is being typed.
#[derive(Debug, Default)]
struct Line(Vec<u8>);

impl Line {
    fn type_in(&mut self, bytes: &[u8]) -> Typed {
        let mut typed = Typed::default();
        for byte in bytes {
            match *byte {
                b'\r' | b'\n' => {
                    typed.echo.extend_from_slice(b"\r\n");
                    typed.lines.append(&mut self.0);
                    typed.lines.push(b'\n');
                }
                INTERRUPT => {
                    typed.echo.extend_from_slice(b"^C\r\n");
                    typed.interrupted = true;
                    return typed;
                }
                END if self.0.is_empty() => {
                    typed.ended = true;
                    return typed;
                }
                END => typed.lines.append(&mut self.0),
                BACKSPACE | DELETE => self.rub_out(&mut typed.echo),
                KILL_LINE => {
                    while !self.0.is_empty() {
                        self.rub_out(&mut typed.echo);
                    }
                }
                byte if self.0.len() < MAX_LINE_BYTES => {
                    self.0.push(byte);
                    if byte < b' ' && byte != b'\t' {
                        typed.echo.extend_from_slice(&[b'^', byte + b'@']);
                    } else {
                        typed.echo.push(byte);
                    }
                }
                _ => typed.echo.push(0x07),
            }
        }
        typed
    }

    /// Removes the last character, all bytes of it.
    fn rub_out(&mut self, echo: &mut Vec<u8>) {
        while let Some(byte) = self.0.pop() {
            if byte & 0xc0 != 0x80 {
                echo.extend_from_slice(b"\x08 \x08");
                return;
            }
        }
    }
}

/// Newlines as a terminal in raw mode needs them.
fn show(bytes: &[u8]) -> Bytes {
    let mut shown = Vec::with_capacity(bytes.len() + 8);
    for byte in bytes {
        if *byte == b'\n' {
            shown.push(b'\r');
        }
        shown.push(*byte);
    }
    shown.into()
}

/// What keys do to the process behind a terminal.
pub struct Keys {
    /// Ends it (^C).
    pub interrupt: CancellationToken,
    /// Ends what it reads (^D), which is more than that the client is gone.
    pub end: CancellationToken,
}

/// Puts a terminal between a client and a process.
pub fn between(client: Io, keys: Keys) -> Io {
    let (output, written) = mpsc::channel(QUEUED_PIECES);
    let (lines, stdin) = mpsc::channel(QUEUED_PIECES);
    let Io { stdin: typed, output: screen } = client;
    let has_stdin = typed.is_some();
    if let Some(typed) = typed {
        tokio::spawn(read(typed, screen.clone(), lines, keys));
    }
    tokio::spawn(write(written, screen));
    Io { stdin: has_stdin.then_some(stdin), output }
}

async fn read(mut typed: mpsc::Receiver<Bytes>, screen: mpsc::Sender<Output>, lines: mpsc::Sender<Bytes>, keys: Keys) {
    let mut line = Line::default();
    loop {
        let bytes = tokio::select! {
            bytes = typed.recv() => bytes,
            // The process reads no more, or is gone.
            () = lines.closed() => return,
        };
        let Some(bytes) = bytes else { return };
        let typed = line.type_in(&bytes);
        if !typed.echo.is_empty() {
            let _ = screen.send(Output::Stdout(typed.echo.into())).await;
        }
        if !typed.lines.is_empty() && lines.send(typed.lines.into()).await.is_err() {
            return;
        }
        if typed.interrupted {
            keys.interrupt.cancel();
        }
        if typed.ended {
            keys.end.cancel();
        }
        if typed.ended || typed.interrupted {
            return;
        }
    }
}

async fn write(mut written: mpsc::Receiver<Output>, screen: mpsc::Sender<Output>) {
    while let Some(Output::Stdout(bytes) | Output::Stderr(bytes)) = written.recv().await {
        if screen.send(Output::Stdout(show(&bytes))).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(echo: &str, lines: &str) -> Typed {
        Typed { echo: echo.into(), lines: lines.into(), ..Typed::default() }
    }

    #[test]
    fn lines_are_edited_before_they_are_handed_over() {
        let mut line = Line::default();
        assert_eq!(line.type_in(b"lx"), typed("lx", ""));
        assert_eq!(line.type_in(b"\x7fs\r"), typed("\x08 \x08s\r\n", "ls\n"));
        assert_eq!(line.type_in("ä\x08b\r".as_bytes()), typed("ä\x08 \x08b\r\n", "b\n"));
        assert_eq!(line.type_in(b"ab\x15c\n"), typed("ab\x08 \x08\x08 \x08c\r\n", "c\n"));
    }

    #[test]
    fn control_characters_end_input_and_process() {
        let mut line = Line::default();
        assert!(line.type_in(b"\x04").ended);
        assert_eq!(line.type_in(b"half\x04"), typed("half", "half"));
        let interrupted = line.type_in(b"x\x03y");
        assert!(interrupted.interrupted);
        assert_eq!(interrupted.echo, b"x^C\r\n");
    }

    #[tokio::test]
    async fn a_terminal_shows_what_is_typed_and_what_is_written() {
        let (keys, stdin) = mpsc::channel(4);
        let (output, mut screen) = mpsc::channel(4);
        let ended = CancellationToken::new();
        let to = Keys { interrupt: CancellationToken::new(), end: ended.clone() };
        let mut process = between(Io { stdin: Some(stdin), output }, to);
        keys.send(Bytes::from_static(b"hi\r")).await.unwrap();
        assert_eq!(process.stdin.as_mut().unwrap().recv().await.unwrap(), "hi\n");
        process.output.send(Output::Stderr(Bytes::from_static(b"ho\n"))).await.unwrap();
        assert_eq!(screen.recv().await, Some(Output::Stdout(Bytes::from_static(b"hi\r\n"))));
        assert_eq!(screen.recv().await, Some(Output::Stdout(Bytes::from_static(b"ho\r\n"))));
        assert!(!ended.is_cancelled());
        keys.send(Bytes::from_static(b"\x04")).await.unwrap();
        assert_eq!(process.stdin.as_mut().unwrap().recv().await, None);
        assert!(ended.is_cancelled(), "it was the key");
        drop((process, keys));
        assert_eq!(screen.recv().await, None);
    }
}
