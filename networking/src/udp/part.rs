//! The UDP port of a part of k8w, such as cluster DNS: it answers, and sends nothing by itself.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{Mutex, mpsc};

use super::{Datagram, Queue, RECEIVE_QUEUE_DATAGRAMS};
use crate::network::Network;
use crate::policy::Part;
use crate::registry::Owner;

/// A port that answers. Dropping it gives the port back.
pub(crate) struct PartSocket {
    network: Arc<Network>,
    address: SocketAddr,
    queue: Queue,
    incoming: Mutex<mpsc::Receiver<Datagram>>,
}

impl Network {
    /// Takes a UDP port at an address of a part of k8w. Errors: `AddrInUse`.
    pub(crate) fn answer_as(self: &Arc<Self>, part: &'static Part, address: SocketAddr) -> io::Result<PartSocket> {
        let (datagrams, incoming) = mpsc::channel(RECEIVE_QUEUE_DATAGRAMS);
        let queue = Queue::new(Owner::Part(part), address.ip(), false, datagrams);
        if !self.udp_ports().claim(address, &queue) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        Ok(PartSocket { network: self.clone(), address, queue, incoming: Mutex::new(incoming) })
    }
}

impl PartSocket {
    /// The next question, in order of arrival. Cancel safe.
    pub async fn receive(&self) -> Datagram {
        match self.incoming.lock().await.recv().await {
            Some(datagram) => {
                self.queue.taken(&datagram);
                datagram
            }
            // This socket holds a sender itself.
            None => std::future::pending().await,
        }
    }

    /// Answers a question by the way that it came. What cannot be sent is lost.
    pub fn answer(&self, question: &Datagram, bytes: Bytes) {
        match &question.door {
            Some(door) => drop(door.send_to(&bytes, question.peer)),
            None => {
                if let Some(queue) = self.network.udp_ports().get(question.peer) {
                    queue.offer(Datagram { bytes, peer: self.address, door: None });
                }
            }
        }
    }
}

impl Drop for PartSocket {
    fn drop(&mut self) {
        self.network.udp_ports().release(self.address);
    }
}
