//! One pod on this node, as pure functions: what it asks for, what happens to it, and what its status says.
//!
//! ```text
//! Pod ──plan──▶ PodPlan ─┐
//!                        ├─▶ state::step ─▶ actions (the agent executes them)
//! events ────────────────┘        │
//!                                 └─▶ status::build ─▶ PATCH /status
//! ```
//!
//! [`support`] is the table of what a wasm pod may not ask for; it is refused by name, never ignored; so is what
//! [`security_context`] says of its fields, and what [`annotations`] does not know.

pub mod admission;
pub mod annotations;
pub mod backoff;
pub mod containers;
pub mod downward;
pub mod duration;
pub mod env;
pub mod hostname;
pub mod identity;
pub mod logs;
pub mod modes;
pub mod mounts;
pub mod names;
pub mod plan;
pub mod probe;
pub mod quantity;
pub mod refs;
pub mod resources;
pub mod room;
pub mod security_context;
pub mod state;
pub mod static_pod;
pub mod status;
pub mod support;
