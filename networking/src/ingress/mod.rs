//! The built-in ingress: which Service a request from outside is for, and the server that takes it there.
//!
//! [`rules`] decides by host and path, without IO; [`server`] listens.

mod class;
pub mod rules;
mod server;

pub use rules::{Backend, Rules};
pub use server::{Config, MAX_REQUEST_BODY_BYTES, RESPONSE_TIMEOUT, serve};
