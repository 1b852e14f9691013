//! From a component to machine code.
//!
//! ```text
//! on a node       components -> lanes -> worker (a process) ─────────────────┬─> kept -> mapped and run
//!                                     -> client ──┐                          │
//! control plane                                   └─> service -> lanes -> worker -> kept -> sent back
//! ```
//!
//! * `code`: what machine code must be like to run on a node.
//! * [`worker`]: the process that compiles, and can be killed.
//! * `lanes`: whose turn it is to compile.
//! * `kept`: machine code on disk.
//! * `request`: what a node asks its control plane, and what it is told.
//! * [`client`]: a node that is too small to compile asks; [`service`]: its control plane answers.

pub mod client;
mod code;
mod kept;
mod lanes;
mod request;
pub mod service;
pub mod worker;

pub(super) use code::{Code, name_of};
pub(super) use kept::Kept;
pub(super) use lanes::Lanes;
pub use request::Refusal;
pub use worker::{SUBCOMMAND, available_cpus, worker_main};

use super::config::CompileLimits;
use client::ControlPlane;

/// Where components are compiled.
#[derive(Clone, Debug, Default)]
pub enum Place {
    /// By processes of this machine.
    #[default]
    Here,
    ControlPlane(ControlPlane),
}

/// What the compiler may take: a machine, or a control group, with less memory is too small to compile.
pub fn memory_needed_bytes() -> u64 {
    CompileLimits::default().memory_bytes
}
