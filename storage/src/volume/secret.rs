//! The files of a Secret volume.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Error, Files, Item, keyed};

/// The Secret's keys as files, or just its `items`. Keys of `items` that are missing are left out when `optional`.
///
/// # Errors
/// When a key is missing, or a path leads out of the volume.
pub fn files(
    data: &BTreeMap<String, Bytes>,
    items: &[Item],
    default_mode: u32,
    optional: bool,
) -> Result<Files, Error> {
    keyed::project("secret", data, items, default_mode, optional)
}
