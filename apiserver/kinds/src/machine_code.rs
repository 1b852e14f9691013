//! Where a node that is too small to compile asks its control plane for machine code.

/// The node POSTs a component and is answered with its machine code; `runtime/src/wasm/compile/request.rs` has the words.
pub const PATH: &str = "/k8w.dev/machine-code";
