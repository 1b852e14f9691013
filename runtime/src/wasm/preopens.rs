//! Opens what a container's mounts show, once, when it starts.
//!
//! A preopen is a directory. A mount of a single file within another mount's directory is laid over a file that is there, or
//! that is made there ([`Overlay`]), as container runtimes do. Elsewhere it appears in a directory made for it (a view) that
//! holds just that file, as a hard link, so that writes reach the volume. A preopen is read-only as a whole: a file that is,
//! in a view where another can be written to, is a copy, so that what a guest writes there never reaches the volume.
//!
//! A device, a socket or a named pipe is mounted as a file is, but for its view, where it is laid over an empty file: it can be
//! told of, and not be opened.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use cap_std::fs::{Dir as CapDir, OpenOptions};
use nix::errno::Errno;
use wasmtime_wasi::filesystem::Dir;

use crate::engine::{EngineError, Preopen};
use crate::host::filesystem::overlays::{Overlay, Overlays};
use crate::host::filesystem::{self, by_name};

/// What a container sees of its volumes.
#[derive(Clone, Default)]
pub struct Preopens {
    pub dirs: Vec<(Dir, String)>,
    /// Within these directories.
    pub overlays: Overlays,
}

impl Preopens {
    /// How many files are open for them.
    pub fn open_files(&self) -> usize {
        self.dirs.len() + self.overlays.open_files()
    }
}

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
pub fn open(preopens: &[Preopen], views: &Path) -> Result<Preopens, EngineError> {
    let (mut directories, mut files) = (Vec::new(), Vec::new());
    for preopen in preopens {
        match resolve(preopen).map_err(|error| refused(preopen, &error))? {
            Target::Directory(dir) => directories.push((preopen, dir)),
            Target::File { volume, path } => files.push((preopen, volume, path)),
        }
    }
    // Whatever the order in the manifest: what lies deeper is on top, as container runtimes have it.
    files.sort_by_key(|(preopen, ..)| preopen.depth());
    let mut overlays = Vec::new();
    let mut views_of: BTreeMap<String, Vec<FileMount>> = BTreeMap::new();
    for (preopen, volume, path) in files {
        let around = directories.iter().filter_map(|(holder, dir)| {
            let beneath = holder.beneath(&preopen.guest_path).filter(|beneath| !beneath.as_os_str().is_empty())?;
            Some((holder, dir, beneath))
        });
        match around.max_by_key(|(holder, ..)| holder.depth()) {
            Some((holder, dir, beneath)) => {
                let placeholder = placeholder(dir, beneath, holder.read_only);
                let placeholder = placeholder.map_err(|error| refused_over(preopen, holder, &error))?;
                let laid = lay(placeholder, &volume, &path, preopen.read_only);
                overlays.push(laid.map_err(|error| refused(preopen, &error))?);
            }
            None => {
                let split = split(&preopen.guest_path);
                let (parent, name) = split.ok_or_else(|| refused(preopen, &io::ErrorKind::InvalidInput.into()))?;
                let file = FileMount { volume, path, name, read_only: preopen.read_only };
                views_of.entry(parent).or_default().push(file);
            }
        }
    }
    let shown = directories.into_iter().map(|(preopen, dir)| {
        (filesystem::descriptor(dir.into_std_file(), preopen.read_only), preopen.guest_path.clone())
    });
    let mut dirs: Vec<_> = shown.collect();
    for (number, (guest_path, files)) in views_of.into_iter().enumerate() {
        let context = |error: io::Error| EngineError::InvalidSpec(format!("mount of a file in {guest_path}: {error}"));
        let read_only = files.iter().all(|file| file.read_only);
        let dir = make_view(&views.join(number.to_string()), &files, read_only, &mut overlays).map_err(context)?;
        dirs.push((filesystem::descriptor(dir.into_std_file(), read_only), guest_path));
    }
    Ok(Preopens { dirs, overlays: overlays.into_iter().collect() })
}

fn refused(preopen: &Preopen, error: &io::Error) -> EngineError {
    EngineError::InvalidSpec(format!("mount {}: {error}", preopen.guest_path))
}

fn refused_over(preopen: &Preopen, holder: &Preopen, error: &io::Error) -> EngineError {
    let (file, dir) = (&preopen.guest_path, &holder.guest_path);
    let why = match error.kind() {
        io::ErrorKind::NotFound if holder.read_only => "there is none, and the volume is mounted read-only".to_owned(),
        _ => error.to_string(),
    };
    EngineError::InvalidSpec(format!("mount {file}: it cannot be laid over a file of the volume at {dir}: {why}"))
}

/// The file that another is to be laid over; one that is not there is made, and the directories above it. Links are followed
/// only beneath the volume.
fn placeholder(dir: &CapDir, path: &Path, read_only: bool) -> io::Result<fs::File> {
    let found = match by_name::find(dir, path, true) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && !read_only => {
            dir.create_dir_all(path.parent().unwrap_or(Path::new("")))?;
            by_name::open(dir, path, OpenOptions::new().write(true).create(true), true)?;
            by_name::find(dir, path, true)?
        }
        found => found?,
    };
    if found.metadata()?.is_dir() { Err(Errno::EISDIR.into()) } else { Ok(found) }
}

fn lay(placeholder: fs::File, volume: &CapDir, path: &Path, read_only: bool) -> io::Result<Overlay> {
    let file = by_name::find(volume, path, true)?;
    // By now the name may be something else's.
    if file.metadata()?.is_dir() {
        return Err(Errno::EISDIR.into());
    }
    Overlay::new(placeholder, file, read_only)
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
    match volume.metadata(&path)?.is_dir() {
        true => volume.open_dir(&path).map(Target::Directory),
        false => Ok(Target::File { volume, path }),
    }
}

/// `/etc/app/config.toml` as `/etc/app` and `config.toml`.
fn split(guest_path: &str) -> Option<(String, String)> {
    let (parent, name) = guest_path.rsplit_once('/')?;
    let parent = if parent.is_empty() { "/" } else { parent };
    (!name.is_empty()).then(|| (parent.to_owned(), name.to_owned()))
}

fn make_view(path: &Path, files: &[FileMount], read_only: bool, overlays: &mut Vec<Overlay>) -> io::Result<CapDir> {
    fs::create_dir_all(path)?;
    let dir = filesystem::open_root(path)?;
    for file in files {
        if file.volume.metadata(&file.path)?.is_file() {
            show(file, &dir, read_only)?;
        } else {
            dir.create(&file.name)?;
            let placeholder = by_name::find(&dir, Path::new(&file.name), false)?;
            overlays.push(lay(placeholder, &file.volume, &file.path, file.read_only)?);
        }
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
    use cap_std::fs::MetadataExt as _;

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

        fn open(&self, guest_path: &str, sub_path: &str) -> Result<Preopens, EngineError> {
            open(&[self.preopen(guest_path, sub_path, true)], &self.views())
        }

        /// A mount of one of two volumes: `data`, which others are laid over, and `text`, whose files say where they lie.
        fn mount(&self, guest_path: &str, volume: &str, sub_path: &str, read_only: bool) -> Preopen {
            let host_dir = self.0.path().join(volume);
            fs::create_dir_all(host_dir.join("sub")).unwrap();
            for file in ["key", "sub/key"] {
                fs::write(host_dir.join(file), format!("{volume}/{file}")).unwrap();
            }
            Preopen { host_dir, guest_path: guest_path.to_owned(), read_only, sub_path: Some(sub_path.to_owned()) }
        }

        /// What each of `paths` beneath the volume `data` shows.
        fn shown(&self, mounts: &[Preopen], paths: &[&str]) -> Result<Vec<String>, String> {
            let opened = open(mounts, &self.views()).map_err(|error| error.to_string())?;
            let data = filesystem::open_root(&self.0.path().join("data")).unwrap();
            let text = |path: &&str| match opened.overlays.at(&data, Path::new(path), true) {
                Some(overlay) => {
                    let file = overlay.open(by_name::Request { read: true, ..Default::default() });
                    io::read_to_string(file.unwrap()).unwrap()
                }
                None => data.read_to_string(path).unwrap(),
            };
            Ok(paths.iter().map(text).collect())
        }
    }

    #[test]
    fn a_file_is_shown_in_a_directory_of_its_own() {
        let fixture = Fixture::new();
        let opened = fixture.open("/etc/app/config", "sub/file").unwrap();
        assert_eq!(opened.dirs[0].1, "/etc/app");
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
        assert_eq!(open(&mounts, &fixture.views()).unwrap().dirs.len(), 1);
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
    fn a_device_or_socket_is_shown_and_not_opened() {
        let fixture = Fixture::new();
        let _listener = std::os::unix::net::UnixListener::bind(fixture.volume().join("sub/socket")).unwrap();
        let device = |guest_path: &str| Preopen {
            host_dir: "/dev/null".into(),
            guest_path: guest_path.to_owned(),
            read_only: false,
            sub_path: None,
        };
        let mounts = [
            fixture.mount("/n", "data", "", false),
            fixture.preopen("/n/socket", "sub/socket", false),
            device("/n/null"),
            fixture.preopen("/run/socket", "sub/socket", false),
            fixture.preopen("/run/file", "sub/file", false),
            device("/run/null"),
        ];
        let opened = open(&mounts, &fixture.views()).unwrap();
        for dir in [fixture.0.path().join("data"), fixture.views().join("0")] {
            let names = filesystem::open_root(&dir).unwrap();
            for (name, number) in [("socket", 0), ("null", 0x103)] {
                let overlay = opened.overlays.at(&names, Path::new(name), true).unwrap();
                let found = overlay.metadata().unwrap();
                assert_eq!((found.is_file(), found.is_dir(), found.rdev()), (false, false, number), "{name}");
                for (read, write) in [(true, false), (false, true), (true, true)] {
                    let refused = overlay.open(by_name::Request { read, write, ..Default::default() });
                    assert_eq!(refused.unwrap_err().raw_os_error(), Some(Errno::EPERM as i32), "{name}");
                }
                assert!(fs::symlink_metadata(dir.join(name)).unwrap().is_file(), "the name is that of a file");
            }
        }
        assert_eq!(fs::read_to_string(fixture.views().join("0/file")).unwrap(), "text");
    }

    #[test]
    fn a_mount_cannot_leave_its_volume() {
        let fixture = Fixture::new();
        std::os::unix::fs::symlink("/etc", fixture.volume().join("escape")).unwrap();
        std::os::unix::fs::symlink("sub", fixture.volume().join("inside")).unwrap();
        for outside in ["../volume", "sub/../../x", "/etc", "escape", "escape/passwd"] {
            assert!(fixture.open("/data", outside).is_err(), "{outside} was opened");
        }
        assert_eq!(fixture.open("/data", "inside").unwrap().dirs[0].1, "/data");
    }

    #[test]
    fn a_file_is_laid_over_one_of_the_innermost_directory_whatever_the_order() {
        let fixture = Fixture::new();
        let mut mounts = vec![
            fixture.mount("/n/", "data", "", false),
            fixture.mount("/n/sub", "data", "sub", false),
            fixture.mount("/n/key", "text", "key", true),
            fixture.mount("/n/sub/key", "text", "sub/key", true),
            fixture.mount("/n/sub/new/below/key", "text", "key", true),
            fixture.mount("/na/key", "text", "key", true),
        ];
        let paths = ["key", "sub/key", "sub/new/below/key"];
        for _ in 0..mounts.len() {
            mounts.rotate_left(1);
            assert_eq!(fixture.shown(&mounts, &paths).unwrap(), ["text/key", "text/sub/key", "text/key"]);
            fs::remove_dir_all(fixture.views()).unwrap();
            let mut dirs: Vec<_> = open(&mounts, &fixture.views()).unwrap().dirs.into_iter().map(|dir| dir.1).collect();
            fs::remove_dir_all(fixture.views()).unwrap();
            dirs.sort();
            assert_eq!(dirs, ["/n/", "/n/sub", "/na"]);
        }
        // The volume itself has what it had, and an empty file where there was none.
        let beneath = |path: &str| fs::read_to_string(fixture.0.path().join("data").join(path)).unwrap();
        assert_eq!(paths.map(beneath), ["data/key", "data/sub/key", ""]);
    }

    #[test]
    fn of_two_files_that_are_laid_over_one_the_last_is_seen() {
        let fixture = Fixture::new();
        let mounts = [
            fixture.mount("/n", "data", "", false),
            fixture.mount("/n/link", "text", "sub/key", true),
            fixture.mount("/n/key", "text", "key", true),
        ];
        std::os::unix::fs::symlink("key", fixture.0.path().join("data/link")).unwrap();
        assert_eq!(fixture.shown(&mounts, &["key", "link"]).unwrap(), ["text/key", "text/key"]);
    }

    #[test]
    fn a_file_that_cannot_be_laid_over_another_names_both_mounts() {
        let fixture = Fixture::new();
        let lay = |at: &str, read_only| {
            let mounts = [fixture.mount("/n", "data", "", read_only), fixture.mount(at, "text", "key", true)];
            fixture.shown(&mounts, &["key"])
        };
        assert_eq!(lay("/n/key", true).unwrap(), ["text/key"]);
        std::os::unix::fs::symlink("../text", fixture.0.path().join("data/out")).unwrap();
        std::os::unix::fs::symlink("/nowhere", fixture.0.path().join("data/absolute")).unwrap();
        for (at, read_only, why) in [
            ("/n/none", true, "there is none, and the volume is mounted read-only"),
            ("/n/sub", false, "Is a directory (os error 21)"),
            ("/n/key/below", false, "Not a directory (os error 20)"),
            ("/n/out/key", false, "a path led outside of the filesystem"),
            ("/n/absolute", false, "a path led outside of the filesystem"),
        ] {
            let expected = format!("mount {at}: it cannot be laid over a file of the volume at /n: {why}");
            assert_eq!(lay(at, read_only), Err(expected));
        }
        assert!(!fixture.0.path().join("data/none").exists());
    }

    /// As a mount, and unlike a hard link.
    #[test]
    #[cfg(target_os = "linux")]
    fn a_file_of_another_file_system_is_laid_over_one_and_written_to() {
        let (fixture, elsewhere) = (Fixture::new(), tempfile::tempdir_in("/dev/shm").unwrap());
        let source = elsewhere.path().join("version");
        fs::write(&source, "text").unwrap();
        let file =
            Preopen { host_dir: source.clone(), guest_path: "/n/key".to_owned(), read_only: false, sub_path: None };
        let opened = open(&[fixture.mount("/n", "data", "", false), file], &fixture.views()).unwrap();
        let data = filesystem::open_root(&fixture.0.path().join("data")).unwrap();
        let overlay = opened.overlays.at(&data, Path::new("key"), false).unwrap();
        let write = by_name::Request { write: true, truncate: true, ..Default::default() };
        io::Write::write_all(&mut overlay.open(write).unwrap(), b"written").unwrap();
        assert_eq!(fs::read_to_string(source).unwrap(), "written");
    }
}
