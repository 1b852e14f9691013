//! A hostPath: a file or directory of the node, checked by its type
//! (<https://kubernetes.io/docs/concepts/storage/volumes/#hostpath>).
//!
//! A component has no way to open anything else that has a name in a file system: sockets and devices are refused.

use std::fs::{self, Metadata, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use super::Error;

/// What must be at the path, or is made there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory or a file. Where nothing is, a directory is made: Kubernetes leaves that to container runtimes, and they
    /// do so.
    Any,
    DirectoryOrCreate,
    Directory,
    FileOrCreate,
    File,
}

impl Kind {
    /// Reads `hostPath.type`.
    ///
    /// # Errors
    /// [`Error::HostPathType`] for what no component can open.
    pub fn parse(text: &str) -> Result<Kind, Error> {
        Ok(match text {
            "" => Kind::Any,
            "DirectoryOrCreate" => Kind::DirectoryOrCreate,
            "Directory" => Kind::Directory,
            "FileOrCreate" => Kind::FileOrCreate,
            "File" => Kind::File,
            other => return Err(Error::HostPathType(other.to_owned())),
        })
    }
}

/// Checks the path, and makes it where the kind says so.
///
/// # Errors
/// When something else is there, or nothing is and nothing can be made.
pub fn check(path: &Path, kind: Kind) -> Result<(), Error> {
    let found = fs::metadata(path).ok();
    let fails = |problem| Err(Error::HostPath { path: path.to_owned(), problem });
    let is = |test: fn(&Metadata) -> bool| found.as_ref().is_some_and(test);
    match kind {
        Kind::Any | Kind::DirectoryOrCreate if found.is_none() => {
            fs::DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(Error::io(path))
        }
        Kind::FileOrCreate if found.is_none() => {
            let file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path);
            file.map(drop).map_err(Error::io(path))
        }
        Kind::Directory | Kind::DirectoryOrCreate if !is(Metadata::is_dir) => fails("is not a directory"),
        Kind::File | Kind::FileOrCreate if !is(Metadata::is_file) => fails("is not a file"),
        Kind::Any if !is(|found| found.is_dir() || found.is_file()) => fails("is neither a directory nor a file"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_and_creates() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("a/b");
        assert!(check(&dir, Kind::Directory).is_err());
        check(&dir, Kind::DirectoryOrCreate).unwrap();
        check(&dir, Kind::Directory).unwrap();
        let file = dir.join("f");
        check(&file, Kind::FileOrCreate).unwrap();
        check(&file, Kind::File).unwrap();
        assert!(check(&file, Kind::DirectoryOrCreate).unwrap_err().to_string().ends_with("is not a directory"));
        assert!(check(&dir, Kind::FileOrCreate).is_err());
        for found in [&file, &dir, &dir.join("none")] {
            check(found, Kind::Any).unwrap();
        }
        assert!(dir.join("none").is_dir());
        let socket = dir.join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        for (kind, problem) in [(Kind::Any, "is neither a directory nor a file"), (Kind::File, "is not a file")] {
            for path in [&socket, Path::new("/dev/null")] {
                assert!(check(path, kind).unwrap_err().to_string().ends_with(problem), "{}", path.display());
            }
        }
    }

    #[test]
    fn what_no_component_can_open_is_refused_by_name() {
        for word in ["", "DirectoryOrCreate", "Directory", "FileOrCreate", "File"] {
            assert!(Kind::parse(word).is_ok(), "{word}");
        }
        for word in ["Socket", "CharDevice", "BlockDevice"] {
            let refused = Kind::parse(word).unwrap_err().to_string();
            assert!(refused.starts_with(&format!("hostPath type {word} is not supported on this node")), "{refused}");
        }
    }
}
