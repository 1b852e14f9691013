//! What a container writes to views: directories that show single files of volumes, where a guest may make others.

use std::collections::HashMap;
use std::path::Path;

use k8w_storage::tree;

/// The directory of a container's views, and each view in it, are the node's.
const OWN_DEPTH: usize = 1;

/// Bytes that what lies in views takes on the disk, as for an emptyDir, but for the files that are a volume's: a file belongs to
/// a view when all of its links do. What cannot be looked at to its end is more than any limit. Blocks.
pub fn bytes(views: &Path) -> u64 {
    let found = tree::walk(views, |(directories, files): &mut (u64, HashMap<_, (u64, u64)>), found| {
        if !found.is_dir {
            let (elsewhere, _) = files.entry(found.id).or_insert((found.links, found.disk_bytes));
            *elsewhere = elsewhere.saturating_sub(1);
        } else if found.depth > OWN_DEPTH {
            *directories = directories.saturating_add(found.disk_bytes);
        }
    });
    match found {
        Ok((directories, files)) => {
            let own = files.values().filter(|(elsewhere, _)| *elsewhere == 0);
            own.fold(directories, |total, (_, bytes)| total.saturating_add(*bytes))
        }
        Err(error) if tree::says_nothing(&error) => 0,
        Err(_) => u64::MAX,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn what_a_view_shows_of_a_volume_is_not_counted() {
        let root = tempfile::tempdir().unwrap();
        let (volume, view) = (root.path().join("volume"), root.path().join("views/0"));
        fs::create_dir_all(view.join("dir")).unwrap();
        fs::write(&volume, [0; 100_000]).unwrap();
        fs::hard_link(&volume, view.join("shown")).unwrap();
        fs::write(view.join("own"), [0; 10_000]).unwrap();
        fs::hard_link(view.join("own"), view.join("dir/again")).unwrap();
        fs::File::create(view.join("hole")).unwrap().set_len(1 << 30).unwrap();
        let blocks = |name: &str| fs::metadata(view.join(name)).unwrap().blocks() * 512;
        assert_eq!(bytes(&root.path().join("views")), blocks("own") + blocks("dir") + blocks("hole"));
        assert_eq!(bytes(&root.path().join("none")), 0);
    }
}
