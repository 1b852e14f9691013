//! An HTTP server of the test's own, for those that call somebody: hooks and probes.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long a client may take to say what it wants.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Listens on a port of the loopback, and remembers who asked for what. Ends with its test.
pub struct Recorder {
    port: u16,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    paths: Mutex<Vec<String>>,
    status: AtomicU16,
    redirects: Mutex<HashMap<String, String>>,
    ended: AtomicBool,
}

impl Recorder {
    /// Answers with 200 until it is told to answer something else.
    pub fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("the loopback has a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let shared = Shared {
            paths: Mutex::default(),
            status: AtomicU16::new(200),
            redirects: Mutex::default(),
            ended: AtomicBool::new(false),
        };
        let shared = Arc::new(shared);
        let thread = std::thread::spawn({
            let shared = shared.clone();
            move || {
                for stream in listener.incoming().flatten() {
                    if shared.ended.load(Ordering::Relaxed) {
                        return;
                    }
                    // A client that says nothing, or goes away, has not asked.
                    let _ = shared.answer(stream);
                }
            }
        });
        Self { port, shared, thread: Some(thread) }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// What is answered from now on.
    pub fn set_status(&self, status: u16) {
        self.shared.status.store(status, Ordering::Relaxed);
    }

    /// Sends whoever asks for a path to another place from now on.
    pub fn redirect(&self, path: &str, location: &str) {
        let mut redirects = self.shared.redirects.lock().unwrap_or_else(PoisonError::into_inner);
        redirects.insert(path.to_owned(), location.to_owned());
    }

    /// The paths that were asked for so far, in order.
    pub fn paths(&self) -> Vec<String> {
        self.shared.paths.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Shared {
    fn answer(&self, stream: TcpStream) -> std::io::Result<()> {
        stream.set_read_timeout(Some(TIMEOUT))?;
        let mut lines = BufReader::new(&stream).lines();
        let first = lines.next().transpose()?.unwrap_or_default();
        while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
        let Some(path) = first.split(' ').nth(1) else { return Ok(()) };
        self.paths.lock().unwrap_or_else(PoisonError::into_inner).push(path.to_owned());
        let redirect = self.redirects.lock().unwrap_or_else(PoisonError::into_inner).get(path).cloned();
        let (status, location) = match redirect {
            Some(location) => (302, format!("location: {location}\r\n")),
            None => (self.status.load(Ordering::Relaxed), String::new()),
        };
        write!(&stream, "HTTP/1.1 {status} So\r\n{location}content-length: 0\r\nconnection: close\r\n\r\n")
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        // Wakes the thread, which then ends.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
