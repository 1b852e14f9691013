//! Opens what a container's mounts show, once, when it starts.
//!
//! A preopen is a directory. A mount of a single file appears in a directory made for it (a view) that holds just that
//! file, as a hard link, so that writes reach the volume. A preopen is read-only as a whole: a file that is, in a view where
//! another can be written to, is a copy, so that what a guest writes there never reaches the volume.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use cap_std::fs::{Dir as CapDir, Metadata};
use wasmtime_wasi::filesystem::Dir;

use crate::engine::{EngineError, Preopen};
use crate::host::filesystem;

/// One of the files mounted into one directory of the guest.
struct FileMount {
    /// Where it lies.
    volume: CapDir,
    path: PathBuf,
    name: String,
    read_only: bool,
}

/// Opens all mounts. Views are made beneath `views`, which the caller removes when the container has ended.
///
/// # Errors
/// [`EngineError::InvalidSpec`] when a mount leaves its volume, is missing, or cannot be shown.
pub fn open(preopens: &[Preopen], views: &Path) -> Result<Vec<(Dir, String)>, EngineError> {
    let mut opened = Vec::new();
    let mut views_of: BTreeMap<String, Vec<FileMount>> = BTreeMap::new();
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
                let file = FileMount { volume, path, name, read_only: preopen.read_only };
                views_of.entry(parent).or_default().push(file);
            }
        }
    }
    for (number, (guest_path, files)) in views_of.into_iter().enumerate() {
        let context = |error: io::Error| EngineError::InvalidSpec(format!("mount of a file in {guest_path}: {error}"));
        let read_only = files.iter().all(|file| file.read_only);
        let dir = make_view(&views.join(number.to_string()), &files, read_only).map_err(context)?;
        opened.push((filesystem::descriptor(dir.into_std_file(), read_only), guest_path));
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
            // The volume itself is a file of the node. Links on the way to it are the node's, or lie where its manifest leads.
            let file = preopen.host_dir.canonicalize()?;
            let (Some(parent), Some(name)) = (file.parent(), file.file_name()) else {
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

fn make_view(path: &Path, files: &[FileMount], read_only: bool) -> io::Result<CapDir> {
    fs::create_dir_all(path)?;
    let dir = filesystem::open_root(path)?;
    for file in files {
        show(file, &dir, read_only)?;
    }
    Ok(dir)
}

/// Puts a file into its view, which is read-only as a whole or is not.
fn show(file: &FileMount, view: &CapDir, view_is_read_only: bool) -> io::Result<()> {
    let FileMount { volume, path, name, read_only } = file;
    let source = volume.canonicalize(path)?;
    if *read_only && !view_is_read_only {
        return volume.copy(&source, view, name).map(drop);
    }
    match volume.hard_link(&source, view, name) {
        // A link cannot cross file systems, and Linux refuses one to a file of somebody else (`fs.protected_hardlinks`).
        Err(error) if matches!(error.kind(), io::ErrorKind::CrossesDevices | io::ErrorKind::PermissionDenied) => {
            if *read_only {
                return volume.copy(&source, view, name).map(drop);
            }
            let why = format!("{name} cannot be linked for writing ({error}): mount the directory that it lies in");
            Err(io::Error::new(error.kind(), why))
        }
        linked => linked,
    }
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

        fn preopen(&self, guest_path: &str, sub_path: &str, read_only: bool) -> Preopen {
            Preopen {
                host_dir: self.volume(),
                guest_path: guest_path.to_owned(),
                read_only,
                sub_path: Some(sub_path.to_owned()),
            }
        }

        fn views(&self) -> PathBuf {
            self.0.path().join("views")
        }

        fn open(&self, guest_path: &str, sub_path: &str) -> Result<Vec<(Dir, String)>, EngineError> {
            open(&[self.preopen(guest_path, sub_path, true)], &self.views())
        }
    }

    #[test]
    fn a_file_is_shown_in_a_directory_of_its_own() {
        let fixture = Fixture::new();
        let opened = fixture.open("/etc/app/config", "sub/file").unwrap();
        assert_eq!(opened[0].1, "/etc/app");
        let view = fixture.views().join("0");
        assert_eq!(fs::read_to_string(view.join("config")).unwrap(), "text");
        assert_eq!(fs::read_dir(view).unwrap().count(), 1);
    }

    #[test]
    fn what_is_written_reaches_the_volume_unless_its_mount_is_read_only() {
        let fixture = Fixture::new();
        fs::write(fixture.volume().join("sub/kept"), "text").unwrap();
        let mounts =
            [fixture.preopen("/data/file", "sub/file", false), fixture.preopen("/data/kept", "sub/kept", true)];
        assert_eq!(open(&mounts, &fixture.views()).unwrap().len(), 1);
        for name in ["file", "kept"] {
            fs::write(fixture.views().join("0").join(name), "written").unwrap();
        }
        let read = |name| fs::read_to_string(fixture.volume().join("sub").join(name)).unwrap();
        assert_eq!([read("file"), read("kept")], ["written", "text"]);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_file_of_another_file_system_is_copied_for_reading_and_refused_for_writing() {
        let (fixture, elsewhere) = (Fixture::new(), tempfile::tempdir_in("/dev/shm").unwrap());
        fs::write(elsewhere.path().join("version"), "text").unwrap();
        let mount = |read_only| Preopen {
            host_dir: elsewhere.path().to_owned(),
            guest_path: "/etc/version".to_owned(),
            read_only,
            sub_path: Some("version".to_owned()),
        };
        open(&[mount(true)], &fixture.views()).unwrap();
        assert_eq!(fs::read_to_string(fixture.views().join("0/version")).unwrap(), "text");
        let error = open(&[mount(false)], &fixture.views().join("writable")).err().unwrap().to_string();
        let expected = "mount of a file in /etc: version cannot be linked for writing";
        assert!(error.starts_with(expected), "{error}");
    }

    #[test]
    fn a_volume_that_is_a_file_is_shown_through_links_of_the_node() {
        let fixture = Fixture::new();
        let link = fixture.0.path().join("link");
        std::os::unix::fs::symlink(fixture.volume().join("sub/file"), &link).unwrap();
        let preopen = Preopen { host_dir: link, guest_path: "/etc/file".to_owned(), read_only: false, sub_path: None };
        open(&[preopen], &fixture.views()).unwrap();
        std::fs::write(fixture.views().join("0/file"), "written").unwrap();
        assert_eq!(fs::read_to_string(fixture.volume().join("sub/file")).unwrap(), "written");
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
