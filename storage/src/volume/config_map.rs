//! The files of a ConfigMap volume.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Error, Files, Item, keyed};

/// The ConfigMap's keys as files, or just its `items`. Keys of `items` that are missing are left out when `optional`.
///
/// # Errors
/// When a key is missing, or a path leads out of the volume.
pub fn files(
    data: &BTreeMap<String, Bytes>,
    items: &[Item],
    default_mode: u32,
    optional: bool,
) -> Result<Files, Error> {
    keyed::project("config", data, items, default_mode, optional)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data() -> BTreeMap<String, Bytes> {
        BTreeMap::from([("a".to_owned(), Bytes::from_static(b"1")), ("b".to_owned(), Bytes::from_static(b"2"))])
    }

    fn item(key: &str, path: &str) -> Item {
        Item { key: key.to_owned(), path: path.to_owned(), mode: Some(0o400) }
    }

    #[test]
    fn items_choose_keys_paths_and_modes() {
        let all = files(&data(), &[], 0o644, false).unwrap();
        assert_eq!(all.keys().collect::<Vec<_>>(), ["a", "b"]);
        let some = files(&data(), &[item("b", "dir/b.txt")], 0o644, false).unwrap();
        assert_eq!(some["dir/b.txt"].mode, 0o400);
        assert_eq!(some.len(), 1);
    }

    #[test]
    fn missing_keys_are_named_unless_optional() {
        let missing = files(&data(), &[item("c", "c")], 0o644, false).unwrap_err();
        assert_eq!(missing.to_string(), "references non-existent config key: c");
        assert!(files(&data(), &[item("c", "c")], 0o644, true).unwrap().is_empty());
    }

    #[test]
    fn paths_stay_inside() {
        for path in ["../x", "/x", "a/../../x", "", "..data"] {
            assert!(files(&data(), &[item("a", path)], 0o644, false).is_err(), "{path}");
        }
    }
}
