//! A hostPath: a file or directory of the node, checked by its type
//! (<https://kubernetes.io/docs/concepts/storage/volumes/#hostpath>).

use std::fs::{self, Metadata, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

use super::Error;

/// What must be at the path, or is made there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing is checked.
    Any,
    DirectoryOrCreate,
    Directory,
    FileOrCreate,
    File,
    Socket,
    CharDevice,
    BlockDevice,
}

impl Kind {
    /// Reads `hostPath.type`; `None` for a word that the API does not have.
    pub fn parse(text: &str) -> Option<Kind> {
        Some(match text {
            "" => Kind::Any,
            "DirectoryOrCreate" => Kind::DirectoryOrCreate,
            "Directory" => Kind::Directory,
            "FileOrCreate" => Kind::FileOrCreate,
            "File" => Kind::File,
            "Socket" => Kind::Socket,
            "CharDevice" => Kind::CharDevice,
            "BlockDevice" => Kind::BlockDevice,
            _ => return None,
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
        Kind::Any => Ok(()),
        Kind::DirectoryOrCreate if found.is_none() => {
            fs::DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(Error::io(path))
        }
        Kind::FileOrCreate if found.is_none() => {
            let file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path);
            file.map(drop).map_err(Error::io(path))
        }
        Kind::Directory | Kind::DirectoryOrCreate if !is(Metadata::is_dir) => fails("is not a directory"),
        Kind::File | Kind::FileOrCreate if !is(Metadata::is_file) => fails("is not a file"),
        Kind::Socket if !is(|found| found.file_type().is_socket()) => fails("is not a socket file"),
        Kind::CharDevice if !is(|found| found.file_type().is_char_device()) => fails("is not a character device"),
        Kind::BlockDevice if !is(|found| found.file_type().is_block_device()) => fails("is not a block device"),
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
        assert!(check(&file, Kind::Socket).is_err());
        check(Path::new("/dev/null"), Kind::CharDevice).unwrap();
        check(&dir.join("none"), Kind::Any).unwrap();
        let socket = dir.join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        check(&socket, Kind::Socket).unwrap();
        assert!(check(&socket, Kind::File).is_err());
        for (kind, problem) in
            [(Kind::CharDevice, "is not a character device"), (Kind::BlockDevice, "is not a block device")]
        {
            assert!(check(&file, kind).unwrap_err().to_string().ends_with(problem));
        }
        for word in
            ["", "DirectoryOrCreate", "Directory", "FileOrCreate", "File", "Socket", "CharDevice", "BlockDevice"]
        {
            assert!(Kind::parse(word).is_some(), "{word}");
        }
        assert_eq!(Kind::parse("Pipe"), None);
    }
}
