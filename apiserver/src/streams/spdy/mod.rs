//! SPDY/3.1, as far as Kubernetes' streams use it: what `kubectl` speaks inside a WebSocket to forward ports, and what
//! older clients speak for exec, attach and port-forward.
//!
//! * [`frame`]: bytes to frames and back, with no IO.
//! * [`headers`]: compressed blocks of headers.
//! * [`connection`]: the streams of one connection, as a server sees them.
//!
//! Clients of Kubernetes neither keep nor honour windows, and wait for ever for one that a server would insist on: what
//! holds a sender back is that the connection is not read while a stream's reader is behind.
//! Source: draft-mbelshe-httpbis-spdy-00 (SPDY/3) with the changes of 3.1, and `moby/spdystream` for what clients do.

pub mod connection;
pub mod frame;
pub mod headers;

pub use connection::{Connection, Stream, Writer};
