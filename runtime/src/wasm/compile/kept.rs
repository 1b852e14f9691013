//! Machine code on disk.
//!
//! A file's name is a digest of what decides its content ([`code::name_of`](super::code::name_of)). Files are written once
//! under another name, renamed, and never changed: they are mapped and executed. That only the node's own user can write to
//! the directory is the trust boundary, and is checked.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tempfile::TempDir;

/// Directories of work under way begin with this.
const UNFINISHED: &str = ".unfinished-";

/// A directory of machine code.
pub struct Kept(PathBuf);

impl Kept {
    /// # Errors
    /// When it cannot be made, or others than this user could write to it.
    pub fn open(dir: PathBuf) -> io::Result<Kept> {
        own_directory(&dir)?;
        remove_unfinished(&dir)?;
        Ok(Kept(dir))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A place for work whose result is renamed to its [`path`](Self::path) once it is whole.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn unfinished(&self) -> io::Result<TempDir> {
        tempfile::Builder::new().prefix(UNFINISHED).tempdir_in(&self.0)
    }

    /// The names of what is here.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn names(&self) -> io::Result<Vec<OsString>> {
        let mut names = fs::read_dir(&self.0)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()?;
        names.retain(|name| !name.to_string_lossy().starts_with(UNFINISHED));
        Ok(names)
    }

    /// Removes those of `names` that are not in `kept`. Returns how many files that were.
    ///
    /// # Errors
    /// When the directory cannot be changed.
    pub async fn remove(&self, mut names: Vec<OsString>, kept: &HashSet<OsString>) -> io::Result<usize> {
        names.retain(|name| !kept.contains(name));
        for name in &names {
            match tokio::fs::remove_file(self.0.join(name)).await {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(names.len())
    }

    /// Removes what was used longest ago, until no more than `most_bytes` are here; the newest stays in any case. Blocks on
    /// the disk.
    ///
    /// # Errors
    /// When the directory cannot be read or changed.
    pub fn trim(&self, most_bytes: u64) -> io::Result<()> {
        let mut files = Vec::new();
        for name in self.names()? {
            let path = self.0.join(name);
            match fs::metadata(&path) {
                Ok(metadata) => files.push((metadata.modified()?, metadata.len(), path)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        files.sort();
        let mut bytes: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
        files.pop();
        for (_, length, path) in files {
            if bytes <= most_bytes {
                break;
            }
            fs::remove_file(&path)?;
            bytes -= length;
        }
        Ok(())
    }
}

/// Remembers that a file is used now: see [`Kept::trim`].
pub fn touch(file: &fs::File) -> io::Result<()> {
    file.set_modified(SystemTime::now())
}

fn own_directory(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let metadata = fs::metadata(dir)?;
    let own = metadata.uid() == nix::unistd::geteuid().as_raw();
    if !own || metadata.mode() & 0o022 != 0 {
        let why = format!("{} holds code that is executed and must be writable by its owner alone", dir.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    Ok(())
}

/// What a killed process left behind.
fn remove_unfinished(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_directory_that_others_can_write_to_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(own_directory(dir.path()).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    }

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Kept::open(dir.path().join("kept")).unwrap();
        for (age, name) in [(3, "old"), (2, "middle"), (1, "new")] {
            fs::write(kept.path(name), [0; 10]).unwrap();
            let file = fs::File::options().write(true).open(kept.path(name)).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(60 * age)).unwrap();
        }
        let _under_way = kept.unfinished().unwrap();
        let names = |kept: &Kept| {
            let mut names = kept.names().unwrap();
            names.sort();
            names
        };
        kept.trim(30).unwrap();
        assert_eq!(names(&kept), ["middle", "new", "old"]);
        touch(&fs::File::open(kept.path("old")).unwrap()).unwrap();
        kept.trim(20).unwrap();
        assert_eq!(names(&kept), ["new", "old"]);
        kept.trim(0).unwrap();
        assert_eq!(names(&kept), ["old"]);
    }
}
