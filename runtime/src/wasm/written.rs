//! What a container writes to views: directories that show single files of volumes, where a guest may make others.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Most entries that are looked at.
const MAX_ENTRIES: usize = 1_000_000;

/// Bytes in files beneath, but for those that are a volume's: a file belongs to a view when all of its links do. Too many to be
/// looked at are more than any limit. Blocks.
pub fn bytes(views: &Path) -> u64 {
    let mut links: HashMap<u64, (u64, u64)> = HashMap::new();
    let mut entries = 0;
    let mut pending: Vec<_> = fs::read_dir(views).into_iter().collect();
    while let Some(directory) = pending.pop() {
        for entry in directory.flatten() {
            entries += 1;
            if entries > MAX_ENTRIES {
                return u64::MAX;
            }
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                pending.extend(fs::read_dir(entry.path()));
                continue;
            }
            let (elsewhere, _) = links.entry(metadata.ino()).or_insert((metadata.nlink(), metadata.len()));
            *elsewhere = elsewhere.saturating_sub(1);
        }
    }
    links.values().filter(|(elsewhere, _)| *elsewhere == 0).map(|(_, length)| length).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_view_shows_of_a_volume_is_not_counted() {
        let root = tempfile::tempdir().unwrap();
        let (volume, view) = (root.path().join("volume"), root.path().join("views/0"));
        fs::create_dir_all(&view).unwrap();
        fs::write(&volume, [0; 1_000]).unwrap();
        fs::hard_link(&volume, view.join("shown")).unwrap();
        fs::write(view.join("own"), [0; 10]).unwrap();
        fs::hard_link(view.join("own"), view.join("again")).unwrap();
        assert_eq!(bytes(&root.path().join("views")), 10);
        assert_eq!(bytes(&root.path().join("none")), 0);
    }
}
