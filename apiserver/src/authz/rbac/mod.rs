pub mod index;
pub mod rule;
