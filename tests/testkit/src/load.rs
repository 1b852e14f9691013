//! Clients that ask without a pause while something changes.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::http::{KeptAlive, get_ok};
use crate::wait::eventually;

/// Clients that ask a server for a host, until this is dropped: some on a connection for each request, some on one that they
/// keep, and of these some with bodies.
pub struct Load {
    asked: Arc<Asked>,
    clients: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Asked {
    stopped: AtomicBool,
    answered: AtomicUsize,
    failures: Mutex<Vec<String>>,
}

type Ask = Box<dyn FnMut() -> Result<(), String> + Send>;

impl Load {
    pub fn start(at: SocketAddr, host: &str) -> Self {
        let asked = Arc::<Asked>::default();
        let clients = [each_time(at, host), each_time(at, host), kept(at, host, b""), kept(at, host, b"a body")];
        let clients = clients.map(|mut ask| {
            let asked = asked.clone();
            std::thread::spawn(move || {
                while !asked.stopped.load(Ordering::Relaxed) {
                    match ask() {
                        Ok(()) => {
                            asked.answered.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(error) => asked.failures.lock().unwrap_or_else(PoisonError::into_inner).push(error),
                    }
                }
            })
        });
        Self { clients: clients.into(), asked }
    }

    /// Waits until that many requests more are answered.
    pub fn answers(&self, more: usize) {
        let answered = || self.asked.answered.load(Ordering::Relaxed);
        let wanted = answered() + more;
        eventually("requests are answered", || match answered() {
            enough if enough >= wanted => Ok(()),
            few => Err(format!("{few} of {wanted}")),
        });
    }

    /// How many requests there were, and those that failed.
    pub fn stop(mut self) -> (usize, Vec<String>) {
        self.end();
        let failures = std::mem::take(&mut *self.asked.failures.lock().unwrap_or_else(PoisonError::into_inner));
        (self.asked.answered.load(Ordering::Relaxed) + failures.len(), failures)
    }

    fn end(&mut self) {
        self.asked.stopped.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            let _ = client.join();
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.end();
    }
}

fn each_time(at: SocketAddr, host: &str) -> Ask {
    let host = host.to_owned();
    Box::new(move || get_ok(at, &host, "/").map(drop))
}

/// One that asks on one connection, which is none of what changes: an end of it is a failure.
fn kept(at: SocketAddr, host: &str, body: &'static [u8]) -> Ask {
    let (host, mut connection) = (host.to_owned(), None);
    Box::new(move || {
        let mut open = match connection.take() {
            Some(open) => open,
            None => KeptAlive::open(at)?,
        };
        let method = if body.is_empty() { "GET" } else { "POST" };
        let answer = open.send(method, &host, "/", body)?;
        if answer.status != 200 {
            return Err(format!("{answer:?}"));
        }
        connection = Some(open);
        Ok(())
    })
}
