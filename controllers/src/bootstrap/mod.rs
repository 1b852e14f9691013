//! Controllers of what a cluster starts with: tokens that let machines join.

pub mod signer;
mod token;
pub mod token_cleaner;
