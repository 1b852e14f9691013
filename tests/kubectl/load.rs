//! Clients that ask without a pause while something changes.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use k8w_testkit::{eventually, get_ok};

use crate::Sandbox;

/// Clients that ask the ingress for a host, on a connection for each request, until this is dropped.
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

impl Load {
    pub fn start(ingress: SocketAddr, host: &str) -> Self {
        let asked = Arc::<Asked>::default();
        let client = |_| {
            let (asked, host) = (asked.clone(), host.to_owned());
            std::thread::spawn(move || {
                while !asked.stopped.load(Ordering::Relaxed) {
                    match get_ok(ingress, &host, "/") {
                        Ok(_) => {
                            asked.answered.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(error) => asked.failures.lock().unwrap_or_else(PoisonError::into_inner).push(error),
                    }
                }
            })
        };
        Self { clients: (0..4).map(client).collect(), asked }
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

impl Sandbox {
    /// A Service of something whose port is 8080, and an Ingress of that, both of its name; gives the host, once it
    /// answers.
    pub fn expose(&self, kind: &str, name: &str) -> String {
        self.kubectl.ok(&["expose", kind, name, "--port=80", "--target-port=8080"]);
        let host = format!("{}.test", self.namespace);
        let rule = format!("--rule={host}/*={name}:80");
        self.kubectl.ok(&["create", "ingress", name, "--class=k8w", &rule]);
        eventually("the ingress answers", || get_ok(self.cluster.ingress_http(), &host, "/"));
        host
    }
}
