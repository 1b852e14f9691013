//! An image volume: what an image holds, unpacked once in the life of its pod and written to by nobody.
//!
//! What is in the image, and how it comes here, is the runtime's (`runtime/src/image`). The launch of a container that mounts it
//! unpacks it: one that cannot be pulled is that container's matter, and keeps no other from starting.

use std::io;
use std::path::Path;

use crate::tree;

/// Whether the volume was made before: it is there as a whole or not at all.
pub fn is_made(dir: &Path) -> bool {
    dir.symlink_metadata().is_ok()
}

/// Makes the volume at `dir`, which must not be there, of what `fill` puts into the directory that it is given. Blocks.
///
/// # Errors
/// Those of `fill`, and the file system's. Nothing is left behind then.
pub fn create(dir: &Path, fill: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let parent = dir.parent().unwrap_or(dir);
    std::fs::create_dir_all(parent)?;
    let made = tempfile::Builder::new().prefix(".unpacking-").tempdir_in(parent)?;
    // Its own way to remove itself is not for trees that others have made.
    let made = made.keep();
    let filled = fill(&made).and_then(|()| std::fs::rename(&made, dir));
    filled.inspect_err(|_| drop(tree::remove(&made)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_there_as_a_whole_or_not_at_all() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("volumes/image");
        let volumes = || std::fs::read_dir(root.path().join("volumes")).unwrap().count();
        let broken = create(&dir, |made| {
            std::fs::create_dir(made.join("sub"))?;
            std::fs::write(made.join("sub/file"), "part")?;
            assert!(!is_made(&dir));
            Err(io::ErrorKind::InvalidData.into())
        });
        assert_eq!(broken.unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert!(!is_made(&dir) && volumes() == 0);
        create(&dir, |made| std::fs::write(made.join("file"), "whole")).unwrap();
        assert!(is_made(&dir) && volumes() == 1);
        // Another that was as fast does not replace it.
        create(&dir, |made| std::fs::write(made.join("file"), "other")).unwrap_err();
        assert_eq!((std::fs::read_to_string(dir.join("file")).unwrap().as_str(), volumes()), ("whole", 1));
    }
}
