//! Opens what a container's mounts show, once, when it starts.
//!
//! A preopen is a directory. A mount of a single file appears in a directory made for it (a view) that holds just that
//! file, as a hard link, so that writes reach the volume.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use cap_std::fs::{Dir as CapDir, Metadata};
use wasmtime_wasi::filesystem::Dir;

use crate::engine::{EngineError, Preopen};
use crate::host::filesystem;

/// Files mounted into one directory of the guest.
#[derive(Default)]
struct View {
    /// Where it lies, and how many mounts it has.
    files: Vec<FileMount>,
    read_only: bool,
}

struct FileMount {
    volume: CapDir,
    path: PathBuf,
    name: String,
}

/// Opens all mounts. Views are made beneath `views`, which the caller removes when the container has ended.
///
/// # Errors
/// [`EngineError::InvalidSpec`] when a mount leaves its volume, is missing, or cannot be shown.
pub fn open(preopens: &[Preopen], views: &Path) -> Result<Vec<(Dir, String)>, EngineError> {
    let mut opened = Vec::new();
    let mut by_directory: BTreeMap<String, View> = BTreeMap::new();
    for preopen in preopens {
        let context = |error: io::Error| EngineError::InvalidSpec(format!("mount {}: {error}", preopen.guest_path));
        match resolve(preopen).map_err(context)? {
            Target::Directory(dir) => {
                let dir = filesystem::descriptor(dir.into_std_file(), preopen.read_only);
                opened.push((dir, preopen.guest_path.clone()));
            }
            Target::File { volume, path } => {
                let (parent, name) =
                    split(&preopen.guest_path).ok_or_else(|| context(io::ErrorKind::InvalidInput.into()))?;
                let view = by_directory.entry(parent).or_insert_with(|| View { read_only: true, ..View::default() });
                view.read_only &= preopen.read_only;
                view.files.push(FileMount { volume, path, name });
            }
        }
    }
    for (number, (guest_path, view)) in by_directory.into_iter().enumerate() {
        let context = |error: io::Error| EngineError::InvalidSpec(format!("mount of a file in {guest_path}: {error}"));
        let path = views.join(number.to_string());
        let dir = make_view(&path, &view).map_err(context)?;
        opened.push((filesystem::descriptor(dir.into_std_file(), view.read_only), guest_path));
    }
    Ok(opened)
}

enum Target {
    Directory(CapDir),
    File { volume: CapDir, path: PathBuf },
}

/// Finds what a mount shows, following links only beneath the volume.
fn resolve(preopen: &Preopen) -> io::Result<Target> {
    let Some(sub_path) = preopen.sub_path.as_deref().filter(|path| !path.is_empty()) else {
        if !preopen.host_dir.is_dir() {
            let (Some(parent), Some(name)) = (preopen.host_dir.parent(), preopen.host_dir.file_name()) else {
                return Err(io::ErrorKind::NotFound.into());
            };
            let volume = filesystem::open_root(parent)?;
            check_is_file(&volume.metadata(name)?)?;
            return Ok(Target::File { volume, path: name.into() });
        }
        return filesystem::open_root(&preopen.host_dir).map(Target::Directory);
    };
    let outside = |part| matches!(part, Component::ParentDir | Component::RootDir | Component::Prefix(_));
    if Path::new(sub_path).components().any(outside) {
        let why = format!("subPath \"{sub_path}\" must be relative and without \"..\"");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    let volume = filesystem::open_root(&preopen.host_dir)?;
    let path = match volume.canonicalize(sub_path) {
        Ok(path) => path,
        // As Kubernetes does for a volume that can be written to: a subPath that is missing becomes a directory.
        Err(error) if error.kind() == io::ErrorKind::NotFound && !preopen.read_only => {
            volume.create_dir_all(sub_path)?;
            volume.canonicalize(sub_path)?
        }
        Err(error) => return Err(error),
    };
    let found = volume.metadata(&path)?;
    if found.is_dir() {
        return volume.open_dir(&path).map(Target::Directory);
    }
    check_is_file(&found)?;
    Ok(Target::File { volume, path })
}

/// WASI has no words for sockets, pipes and devices of a file system.
fn check_is_file(found: &Metadata) -> io::Result<()> {
    match found.is_file() {
        true => Ok(()),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is neither a file nor a directory")),
    }
}

/// `/etc/app/config.toml` as `/etc/app` and `config.toml`.
fn split(guest_path: &str) -> Option<(String, String)> {
    let (parent, name) = guest_path.rsplit_once('/')?;
    let parent = if parent.is_empty() { "/" } else { parent };
    (!name.is_empty()).then(|| (parent.to_owned(), name.to_owned()))
}

fn make_view(path: &Path, view: &View) -> io::Result<CapDir> {
    fs::create_dir_all(path)?;
    let dir = filesystem::open_root(path)?;
    for FileMount { volume, path, name } in &view.files {
        let source = volume.canonicalize(path)?;
        match volume.hard_link(&source, &dir, name) {
            // A link cannot cross file systems; a copy does as well for a file that is only read.
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices && view.read_only => {
                volume.copy(&source, &dir, name)?;
            }
            linked => linked?,
        }
    }
    Ok(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixture(tempfile::TempDir);

    impl Fixture {
        fn new() -> Fixture {
            let fixture = Fixture(tempfile::tempdir().unwrap());
            fs::create_dir_all(fixture.volume().join("sub")).unwrap();
            fs::write(fixture.volume().join("sub/file"), "text").unwrap();
            fixture
        }

        fn volume(&self) -> PathBuf {
            self.0.path().join("volume")
        }

        fn open(&self, guest_path: &str, sub_path: &str) -> Result<Vec<(Dir, String)>, EngineError> {
            let preopen = Preopen {
                host_dir: self.volume(),
                guest_path: guest_path.to_owned(),
                read_only: true,
                sub_path: Some(sub_path.to_owned()),
            };
            open(&[preopen], &self.0.path().join("views"))
        }
    }

    #[test]
    fn a_file_is_shown_in_a_directory_of_its_own() {
        let fixture = Fixture::new();
        let opened = fixture.open("/etc/app/config", "sub/file").unwrap();
        assert_eq!(opened[0].1, "/etc/app");
        let view = fixture.0.path().join("views/0");
        assert_eq!(fs::read_to_string(view.join("config")).unwrap(), "text");
        assert_eq!(fs::read_dir(view).unwrap().count(), 1);
    }

    #[test]
    fn a_device_or_socket_is_not_shown() {
        let fixture = Fixture::new();
        let _listener = std::os::unix::net::UnixListener::bind(fixture.volume().join("socket")).unwrap();
        let error = fixture.open("/run/socket", "socket").err().unwrap().to_string();
        assert_eq!(error, "mount /run/socket: it is neither a file nor a directory");
        let preopen = Preopen {
            host_dir: "/dev/null".into(),
            guest_path: "/dev/null".to_owned(),
            read_only: true,
            sub_path: None,
        };
        assert!(open(&[preopen], &fixture.0.path().join("views")).is_err());
    }

    #[test]
    fn a_mount_cannot_leave_its_volume() {
        let fixture = Fixture::new();
        std::os::unix::fs::symlink("/etc", fixture.volume().join("escape")).unwrap();
        std::os::unix::fs::symlink("sub", fixture.volume().join("inside")).unwrap();
        for outside in ["../volume", "sub/../../x", "/etc", "escape", "escape/passwd"] {
            assert!(fixture.open("/data", outside).is_err(), "{outside} was opened");
        }
        assert_eq!(fixture.open("/data", "inside").unwrap()[0].1, "/data");
    }
}
