//! Keys of a ConfigMap or Secret as files: what the two sources share.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Error, File, Files, check_relative};

/// One entry of `items`: a key, where it goes, and its own permission bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    pub key: String,
    pub path: String,
    pub mode: Option<u32>,
}

/// All keys, or just the `items`.
pub(super) fn project(
    object: &'static str,
    data: &BTreeMap<String, Bytes>,
    items: &[Item],
    default_mode: u32,
    optional: bool,
) -> Result<Files, Error> {
    if items.is_empty() {
        let all = data.iter().map(|(key, bytes)| (key.clone(), File { bytes: bytes.clone(), mode: default_mode }));
        return Ok(all.collect());
    }
    let mut files = Files::new();
    for item in items {
        check_relative(&item.path)?;
        let Some(bytes) = data.get(&item.key) else {
            if optional {
                continue;
            }
            return Err(Error::MissingKey { object, key: item.key.clone() });
        };
        let file = File { bytes: bytes.clone(), mode: item.mode.unwrap_or(default_mode) };
        files.insert(item.path.clone(), file);
    }
    Ok(files)
}
