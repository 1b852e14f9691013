//! Does on request whatever the host's tests want to see: an http server (the path says what) and a command (the first
//! argument does).

mod calls;
mod command;
mod excess;
mod http;
mod net;
mod proposals;
mod questions;
mod taken;
mod websocket;
