//! What clients do with pods and nodes by way of the API server: logs, exec, attach, port-forward and proxies.
//!
//! ```text
//! client ── WebSocket, SPDY/3.1, SPDY in a WebSocket ── remote_command, port_forward ── node ── NodeConnector
//!        ── HTTP ─────────────────────────────────────── proxy, log ─────────────────────┘
//! ```
//!
//! * [`target`]: which pod, container and node is meant, and whether it may be.
//! * [`upgrade`]: from an HTTP/1.1 request to the connection beneath it.
//! * [`websocket`] and [`spdy`]: what is spoken on that connection.
//! * [`node`]: what is spoken with the node instead. A node knows none of the protocols above.

pub mod log;
pub(crate) mod node;
pub mod port_forward;
pub mod proxy;
pub mod remote_command;
pub mod spdy;
mod target;
mod upgrade;
pub mod websocket;
