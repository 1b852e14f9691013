//! Where a connection goes: Services, ingress, cluster names and policy.
//!
//! One set of immutable tables, built from watched API objects ([`tables`]), answers every question about where a
//! connection goes, for host functions and for the node's listeners alike. [`endpoint`] is what a look-up ends in.

pub mod endpoint;
