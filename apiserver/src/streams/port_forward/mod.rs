//! `pods/portforward`: connections to a pod's ports, any number of them on one connection of the client.
//!
//! The node is asked for one byte stream per forwarded connection. Clients have three ways to speak: SPDY, SPDY inside of
//! a WebSocket (what kubectl does now), and the channels of a WebSocket (one connection per port).

mod pairs;
mod websocket;

use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::json;
use tokio::sync::mpsc;

use super::node::{self, Conversation};
use super::spdy::Connection;
use super::upgrade::{self, Transport};
use super::{target, websocket as socket};
use crate::ApiServer;
use crate::call::Call;
use crate::routes::Answer;
use crate::status::Status;

/// The one protocol on SPDY's streams.
const PROTOCOL: &str = "portforward.k8s.io";
/// The same, when SPDY's bytes are the messages of a WebSocket.
const TUNNELLED: &str = "SPDY/3.1+portforward.k8s.io";
/// Bytes that the pipe between a WebSocket and SPDY holds.
const PIPE_BYTES: usize = 64 << 10;

/// `pods/{name}/portforward`.
pub fn serve(server: Arc<ApiServer>, call: Call) -> BoxFuture<'static, Answer> {
    answer(server, call).boxed()
}

async fn answer(server: Arc<ApiServer>, mut call: Call) -> Answer {
    if !matches!(call.parts.method.as_str(), "GET" | "POST") {
        return Err(Status::no_such_method());
    }
    target::authorize_create(&server, &call)?;
    let ports = websocket::ports(&call.query);
    let options =
        json!({"kind": "PodPortForwardOptions", "apiVersion": "v1", "ports": ports.clone().unwrap_or_default()});
    target::admit(&server, &call, options).await?;
    let pod = target::pod(&server, &call).await?;
    let to = Target::new(&server, &pod, &call)?;
    let transport = upgrade::transport(&call.parts.headers)?;
    match transport {
        Transport::Spdy => {
            let agreement = upgrade::agree(&call.parts.headers, transport, &[PROTOCOL])?;
            upgrade::switch(&server.clone(), &mut call, agreement, move |io| async move {
                let (connection, run) = Connection::new(io);
                tokio::join!(run, pairs::serve(connection, to));
            })
        }
        Transport::WebSocket => {
            let spoken = [&[TUNNELLED], websocket::NAMES].concat();
            let agreement = upgrade::agree(&call.parts.headers, transport, &spoken)?;
            if agreement.protocol == TUNNELLED {
                return upgrade::switch(&server.clone(), &mut call, agreement, move |io| async move {
                    let (near, far) = tokio::io::duplex(PIPE_BYTES);
                    let (connection, run) = Connection::new(far);
                    let tunnel = async { socket::tunnel(socket::open(io).await, near).await };
                    tokio::join!(tunnel, run, pairs::serve(connection, to));
                });
            }
            let (protocol, ports) = (agreement.protocol, ports?);
            upgrade::switch(&server.clone(), &mut call, agreement, move |io| websocket::run(io, protocol, ports, to))
        }
    }
}

/// The pod whose ports are connected to.
#[derive(Clone)]
struct Target {
    server: Arc<ApiServer>,
    node: String,
    namespace: String,
    pod: String,
    uid: String,
}

impl Target {
    fn new(server: &Arc<ApiServer>, pod: &serde_json::Value, call: &Call) -> Result<Target, Status> {
        Ok(Target {
            server: server.clone(),
            node: target::node(pod)?.to_owned(),
            namespace: call.info.namespace.clone(),
            pod: call.info.name.clone(),
            uid: k8w_kinds::object::text(pod, &["metadata", "uid"]).to_owned(),
        })
    }

    /// Carries bytes between a client and a port, until the pod has said everything or the client listens no more.
    ///
    /// # Errors
    /// The sentence for the client's error stream.
    async fn exchange<F>(&self, port: u16, from: mpsc::Receiver<Bytes>, say: impl Fn(Bytes) -> F) -> Result<(), String>
    where
        F: Future<Output = bool>,
    {
        let Target { server, node, namespace, pod, uid } = self;
        let failed = |why: &dyn std::fmt::Display| {
            format!("error forwarding port {port} to pod {pod}_{namespace}, uid {uid}: {why}")
        };
        let connected = dial(server, node, namespace, pod, port).await;
        let Conversation { sender, mut receiver } = connected.map_err(|error| failed(&error.message))?;
        let outwards = async {
            while let Some(bytes) = receiver.bytes().await.map_err(|error| failed(&error))? {
                if !say(bytes).await {
                    break;
                }
            }
            Ok(())
        };
        let inwards = async {
            pass(from, sender).await;
            // The pod may still answer.
            std::future::pending().await
        };
        tokio::select! {
            ended = outwards => ended,
            never = inwards => never,
        }
    }
}

/// A byte stream to a port of a pod, by way of its node.
///
/// # Errors
/// What the node says: there is no such pod, or nothing listens on the port.
pub async fn dial(
    server: &ApiServer,
    node: &str,
    namespace: &str,
    pod: &str,
    port: u16,
) -> Result<Conversation, Status> {
    node::converse(server, node, &format!("/portForward/{namespace}/{pod}?port={port}")).await
}

/// Passes on what the client sends; dropping the sender is its end.
async fn pass(mut from: mpsc::Receiver<Bytes>, to: mpsc::Sender<Bytes>) {
    while let Some(bytes) = from.recv().await {
        if to.send(bytes).await.is_err() {
            return;
        }
    }
}
