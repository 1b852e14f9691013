//! Controllers of volumes: claims find volumes, volumes outlive their claims or not, and `local-path` makes new ones.

pub mod binder;
pub mod ephemeral;
pub mod expansion;
mod facts;
pub mod local_path;
pub mod protection;
pub mod reclaim;
#[cfg(test)]
mod tests;
