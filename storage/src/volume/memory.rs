//! A file system in memory for an emptyDir (`medium: Memory`): mounted, so that its size is a bound and not a wish.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};

use super::{Error, mounted};

/// Mounts one of at most `size_bytes` at `dir`, which is made; one that is there stays as it is.
///
/// # Errors
/// When this process may not mount.
pub fn create(dir: &Path, size_bytes: u64) -> Result<(), Error> {
    fs::create_dir_all(dir).map_err(Error::io(dir))?;
    if mounted::is_at(dir).map_err(Error::io(dir))? {
        return Ok(());
    }
    let options = format!("size={size_bytes},mode=0777");
    let flags = MsFlags::MS_NODEV | MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    mount(Some("tmpfs"), dir, Some("tmpfs"), flags, Some(options.as_str()))
        .map_err(|source| Error::Mount { path: dir.to_owned(), source: source.into() })
}

/// Says how much a file system in memory holds, for as long as it is there.
#[derive(Debug)]
pub struct Meter(File);

impl Meter {
    /// # Errors
    /// When `dir` cannot be opened.
    pub fn open(dir: &Path) -> io::Result<Meter> {
        File::open(dir).map(Meter)
    }

    /// Bytes in memory; what is not a file system of its own in memory holds none.
    pub fn used_bytes(&self) -> u64 {
        let Ok(found) = fstatfs(&self.0) else { return 0 };
        if found.filesystem_type() != TMPFS_MAGIC {
            return 0;
        }
        let blocks = found.blocks().saturating_sub(found.blocks_free());
        blocks.saturating_mul(u64::try_from(found.block_size()).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::super::mounted::remove_beneath;
    use super::*;

    /// Takes away what a failing test leaves mounted.
    struct Root(tempfile::TempDir);

    impl Drop for Root {
        fn drop(&mut self) {
            let _ = remove_beneath(self.0.path());
        }
    }

    #[test]
    fn its_size_is_a_bound_and_it_goes_with_what_it_held() {
        let root = Root(tempfile::tempdir().unwrap());
        let dir = root.0.path().join("with space/volume");
        match create(&dir, 64 << 10) {
            Err(Error::Mount { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => {
                return println!("skipped: this user may not mount");
            }
            made => made.unwrap(),
        }
        let meter = Meter::open(&dir).unwrap();
        assert_eq!(meter.used_bytes(), 0);
        fs::write(dir.join("a"), [1; 4 << 10]).unwrap();
        assert_eq!(meter.used_bytes(), 4 << 10);
        create(&dir, 64 << 10).unwrap();
        assert!(dir.join("a").exists(), "what is there stays");
        let full = fs::write(dir.join("b"), vec![1; 128 << 10]).unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        remove_beneath(root.0.path()).unwrap();
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
        assert_eq!(Meter::open(root.0.path()).unwrap().used_bytes(), 0, "not in memory, or not its own");
        remove_beneath(&root.0.path().join("none")).unwrap();
    }
}
