//! The files that a guest sees, as one tree: its mounts, and the directories above them.
//!
//! Everything happens beneath a mount's open directory, where links cannot lead out, and nothing is written in mounts
//! that are read-only. What is laid over a file of a volume is seen, and written, in its place.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use cap_std::fs::{Dir, File, Metadata, MetadataExt as _, OpenOptions};
use k8w_networking::open_files::check_room;
use wasmtime_wasi::filesystem::Dir as Preopen;

use crate::guest_path::{Parts, absolute};
use crate::host::filesystem::by_name::{self, Request};
use crate::host::filesystem::overlays::{Overlay, Overlays};
use crate::wasm::preopens::Preopens;

/// What a path is, as far as commands show it.
#[derive(Clone, Debug)]
pub struct Info {
    pub kind: Kind,
    pub mode: u32,
    pub size: u64,
    pub links: u64,
    pub owner: u32,
    pub group: u32,
    pub inode: u64,
    pub modified: SystemTime,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    File,
    Directory,
    Link,
    Other,
}

impl Info {
    /// A directory that is there because something beneath it is mounted.
    const MADE: Info = Info {
        kind: Kind::Directory,
        mode: 0o755,
        size: 0,
        links: 2,
        owner: 0,
        group: 0,
        inode: 0,
        modified: SystemTime::UNIX_EPOCH,
    };

    pub fn is_file(&self) -> bool {
        self.kind == Kind::File
    }

    pub fn is_dir(&self) -> bool {
        self.kind == Kind::Directory
    }
}

impl From<Metadata> for Info {
    fn from(found: Metadata) -> Info {
        let kind = match found.file_type() {
            kind if kind.is_file() => Kind::File,
            kind if kind.is_dir() => Kind::Directory,
            kind if kind.is_symlink() => Kind::Link,
            _ => Kind::Other,
        };
        Info {
            kind,
            mode: found.mode() & 0o7777,
            size: found.size(),
            links: found.nlink(),
            owner: found.uid(),
            group: found.gid(),
            inode: found.ino(),
            modified: found.modified().map_or(SystemTime::UNIX_EPOCH, cap_std::time::SystemTime::into_std),
        }
    }
}

struct Mount {
    at: Parts,
    dir: Dir,
    writable: bool,
}

/// All mounts of a container.
pub struct Tree {
    mounts: Vec<Mount>,
    overlays: Overlays,
}

impl Tree {
    /// # Errors
    /// ENFILE where the node has no room for more open files of guests.
    pub fn new(preopens: &Preopens) -> io::Result<Tree> {
        let mount = |(preopen, at): &(Preopen, String)| {
            let dir = Dir::from_std_file(preopen.dir.try_clone()?);
            check_room(&dir)?;
            Ok(Mount { at: absolute(None, at), dir, writable: !preopen.perms.write_not_permitted() })
        };
        let mounts = preopens.dirs.iter().map(mount).collect::<io::Result<_>>()?;
        Ok(Tree { mounts, overlays: preopens.overlays.clone() })
    }

    /// The mount that a path lies in, the innermost one, and the path beneath it.
    fn locate(&self, path: &[String]) -> io::Result<(&Mount, PathBuf)> {
        let holding = self.mounts.iter().filter(|mount| path.starts_with(&mount.at));
        let mount = holding.max_by_key(|mount| mount.at.len()).ok_or(ErrorKind::NotFound)?;
        let beneath: PathBuf = path[mount.at.len()..].iter().collect();
        Ok((mount, if beneath.as_os_str().is_empty() { Path::new(".").to_owned() } else { beneath }))
    }

    fn locate_writable(&self, path: &[String]) -> io::Result<(&Mount, PathBuf)> {
        match self.locate(path) {
            Ok((mount, beneath)) if mount.writable => Ok((mount, beneath)),
            _ => Err(ErrorKind::ReadOnlyFilesystem.into()),
        }
    }

    /// What is laid over the file at a path.
    fn overlay_at(&self, path: &[String], follow: bool) -> Option<&Overlay> {
        let (mount, beneath) = self.locate(path).ok()?;
        self.overlays.at(&mount.dir, &beneath, follow)
    }

    /// Whether something is mounted beneath a path.
    fn is_above_a_mount(&self, path: &[String]) -> bool {
        path.is_empty() || self.mounts.iter().any(|mount| mount.at.len() > path.len() && mount.at.starts_with(path))
    }

    /// What a path is, following links.
    pub fn metadata(&self, path: &[String]) -> io::Result<Info> {
        self.info(path, true)
    }

    /// What a path is itself.
    pub fn link_metadata(&self, path: &[String]) -> io::Result<Info> {
        self.info(path, false)
    }

    fn read_metadata(&self, path: &[String], follow: bool) -> io::Result<Metadata> {
        let (Mount { dir, .. }, beneath) = self.locate(path)?;
        match self.overlays.at(dir, &beneath, follow) {
            Some(overlay) => overlay.metadata(),
            None if follow => dir.metadata(beneath),
            None => dir.symlink_metadata(beneath),
        }
    }

    fn info(&self, path: &[String], follow: bool) -> io::Result<Info> {
        match self.read_metadata(path, follow) {
            Ok(found) => Ok(found.into()),
            Err(_) if self.is_above_a_mount(path) => Ok(Info::MADE),
            Err(error) => Err(error),
        }
    }

    /// What a directory holds, in the order of names.
    pub fn entries(&self, path: &[String]) -> io::Result<BTreeMap<String, Info>> {
        let mut names = BTreeSet::new();
        let read = self.locate(path).and_then(|(mount, beneath)| mount.dir.read_dir(beneath));
        match read {
            Ok(entries) => {
                for entry in entries {
                    names.insert(entry?.file_name().to_string_lossy().into_owned());
                }
            }
            Err(_) if self.is_above_a_mount(path) => {}
            Err(error) => return Err(error),
        }
        let beneath = self.mounts.iter().filter(|mount| mount.at.starts_with(path));
        names.extend(beneath.filter_map(|mount| mount.at.get(path.len()).cloned()));
        let mut entries = BTreeMap::new();
        for name in names {
            // What vanishes meanwhile is not there.
            if let Ok(info) = self.link_metadata(&[path, std::slice::from_ref(&name)].concat()) {
                entries.insert(name, info);
            }
        }
        Ok(entries)
    }

    pub fn open(&self, path: &[String]) -> io::Result<File> {
        if let Some(overlay) = self.overlay_at(path, true) {
            return overlay.open(Request { read: true, ..Request::default() }).map(File::from_std);
        }
        let (mount, beneath) = self.locate(path)?;
        by_name::open(&mount.dir, &beneath, OpenOptions::new().read(true), true).map(File::from_std)
    }

    pub fn read_link(&self, path: &[String]) -> io::Result<PathBuf> {
        let (mount, beneath) = self.locate(path)?;
        mount.dir.read_link_contents(beneath)
    }

    /// Makes an empty file, in place of what was there unless that is a directory. What is laid over a file is emptied.
    pub fn create(&self, path: &[String]) -> io::Result<File> {
        if let Some(overlay) = self.overlay_at(path, false) {
            return match overlay.open(Request { write: true, truncate: true, ..Request::default() }) {
                Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(ErrorKind::ReadOnlyFilesystem.into()),
                opened => opened.map(File::from_std),
            };
        }
        let (mount, beneath) = self.locate_writable(path)?;
        remove(&mount.dir, &beneath)?;
        mount.dir.open_with(beneath, OpenOptions::new().write(true).create_new(true))
    }

    /// Makes a directory and those above it, as far as they are not there.
    pub fn create_dir_all(&self, path: &[String]) -> io::Result<()> {
        if self.metadata(path).is_ok_and(|found| found.is_dir()) {
            return Ok(());
        }
        let (mount, beneath) = self.locate_writable(path)?;
        mount.dir.create_dir_all(beneath)
    }

    /// Makes a symbolic link, in place of what was there unless that is a directory.
    pub fn link(&self, path: &[String], target: &Path) -> io::Result<()> {
        if self.overlay_at(path, false).is_some() {
            return Err(ErrorKind::ResourceBusy.into());
        }
        let (mount, beneath) = self.locate_writable(path)?;
        remove(&mount.dir, &beneath)?;
        mount.dir.symlink(target, beneath)
    }

    /// Sets permissions of a directory.
    pub fn set_mode(&self, path: &[String], mode: u32) -> io::Result<()> {
        let (mount, beneath) = self.locate_writable(path)?;
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
        mount.dir.set_permissions(beneath, cap_std::fs::Permissions::from_std(permissions))
    }
}

fn remove(dir: &Dir, path: &Path) -> io::Result<()> {
    match dir.remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::host::filesystem;

    /// `/data`, which can be written to, with a read-only `/data/fixed` in it; both are directories of `root`.
    pub fn preopens(root: &Path) -> Preopens {
        let open = |name: &str, read_only| {
            let path = root.join(name);
            std::fs::create_dir_all(&path).unwrap();
            filesystem::descriptor(filesystem::open_root(&path).unwrap().into_std_file(), read_only)
        };
        let dirs = vec![(open("data", false), "/data".to_owned()), (open("fixed", true), "/data/fixed".to_owned())];
        Preopens { dirs, overlays: Overlays::default() }
    }

    fn names(tree: &Tree, path: &str) -> Vec<String> {
        tree.entries(&absolute(None, path)).unwrap().into_keys().collect()
    }

    #[test]
    fn mounts_and_what_is_above_them_are_one_tree() {
        let root = tempfile::tempdir().unwrap();
        let tree = Tree::new(&preopens(root.path())).unwrap();
        std::fs::write(root.path().join("data/file"), "x").unwrap();
        std::fs::write(root.path().join("fixed/other"), "y").unwrap();
        assert_eq!(names(&tree, "/"), ["data"]);
        assert_eq!(names(&tree, "/data"), ["file", "fixed"]);
        assert_eq!(names(&tree, "/data/fixed"), ["other"]);
        assert!(tree.metadata(&absolute(None, "/data/file")).unwrap().is_file());
        assert_eq!(tree.metadata(&absolute(None, "/etc")).unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn nothing_leads_out_and_nothing_writes_where_it_must_not() {
        let root = tempfile::tempdir().unwrap();
        let tree = Tree::new(&preopens(root.path())).unwrap();
        std::os::unix::fs::symlink("/etc", root.path().join("data/etc")).unwrap();
        std::os::unix::fs::symlink("../..", root.path().join("data/up")).unwrap();
        for outside in ["/data/etc/passwd", "/data/up/etc/passwd", "/data/etc"] {
            assert!(tree.open(&absolute(None, outside)).is_err(), "{outside}");
        }
        let kind = |path: &str| tree.create(&absolute(None, path)).unwrap_err().kind();
        assert_eq!(kind("/data/fixed/new"), ErrorKind::ReadOnlyFilesystem);
        assert_eq!(kind("/new"), ErrorKind::ReadOnlyFilesystem);
        // A link at the place of a new file is replaced, not followed.
        tree.create(&absolute(None, "/data/up")).unwrap();
        assert!(tree.link_metadata(&absolute(None, "/data/up")).unwrap().is_file());
    }

    #[test]
    fn what_is_laid_over_a_file_is_seen_and_written_in_its_place() {
        let root = tempfile::tempdir().unwrap();
        let mut preopens = preopens(root.path());
        let write = |path: &str, text: &str| std::fs::write(root.path().join(path), text).unwrap();
        write("data/file", "beneath");
        write("fixed/file", "beneath");
        write("over", "above all");
        let find = |dir: &str, name: &str| {
            by_name::find(&filesystem::open_root(&root.path().join(dir)).unwrap(), Path::new(name), true).unwrap()
        };
        let lay = |dir: &str, read_only| Overlay::new(find(dir, "file"), find("", "over"), read_only).unwrap();
        preopens.overlays = [lay("data", true), lay("fixed", false)].into_iter().collect();
        let tree = Tree::new(&preopens).unwrap();
        for path in ["/data/file", "/data/fixed/file"] {
            let path = absolute(None, path);
            assert_eq!(io::read_to_string(tree.open(&path).unwrap()).unwrap(), "above all");
            assert_eq!((tree.metadata(&path).unwrap().size, tree.link_metadata(&path).unwrap().size), (9, 9));
            assert_eq!(tree.link(&path, Path::new("x")).unwrap_err().kind(), ErrorKind::ResourceBusy);
        }
        let entries = tree.entries(&absolute(None, "/data")).unwrap();
        assert_eq!(entries["file"].size, 9);
        let refused = tree.create(&absolute(None, "/data/file")).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ReadOnlyFilesystem);
        io::Write::write_all(&mut tree.create(&absolute(None, "/data/fixed/file")).unwrap(), b"new").unwrap();
        let read = |path: &str| std::fs::read_to_string(root.path().join(path)).unwrap();
        assert_eq!(["over", "data/file", "fixed/file"].map(read), ["new", "beneath", "beneath"]);
    }
}
