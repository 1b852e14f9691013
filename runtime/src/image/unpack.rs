//! Unpacks an image into a directory, for volumes that show one (KEP-4639).
//!
//! Layers that are archives are applied one over the other, with the deletions that they mark (OCI image specification,
//! `layer.md`); any other layer is one file. Everything is made beneath the directory's own handle, so that no name and no
//! link in an archive leads outside. Owners, devices and modes beyond permission bits are left out: there is nobody who
//! could use them.

use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;
use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt as _};
use flate2::read::MultiGzDecoder;
use oci_client::manifest::OciDescriptor;
use tar::{Archive, Entry, EntryType};

/// Entries of all layers together.
const MAX_ENTRIES: usize = 200_000;
/// What all layers may unpack to, in bytes.
const MAX_BYTES: u64 = 1 << 30;

/// Names a file that is no archive.
const TITLE: &str = "org.opencontainers.image.title";
/// A name with this prefix means that the rest of it is gone; this name, that everything beside it is.
const WHITEOUT: &str = ".wh.";
const OPAQUE: &str = ".wh..wh..opq";

/// One layer as it was sent.
pub struct Layer {
    pub descriptor: OciDescriptor,
    pub bytes: Bytes,
}

/// Unpacks layers, the lowest first, into `dir`, which must not be there. Blocks.
///
/// # Errors
/// When an archive is broken or too large. Nothing is left behind then.
pub fn unpack(layers: &[Layer], dir: &Path) -> io::Result<()> {
    make(dir, |made| {
        let mut target = Target { root: Dir::open_ambient_dir(made, ambient_authority())?, entries: 0, bytes: 0 };
        layers.iter().try_for_each(|layer| target.apply(layer))
    })
}

/// Copies one file into `dir`, which must not be there, under a name. Blocks.
///
/// # Errors
/// The file system's. Nothing is left behind then.
pub fn copy(file: &Path, name: &str, dir: &Path) -> io::Result<()> {
    make(dir, |made| std::fs::copy(file, made.join(name)).map(drop))
}

/// Makes a directory that is there as a whole or not at all.
fn make(dir: &Path, fill: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let parent = dir.parent().unwrap_or(dir);
    std::fs::create_dir_all(parent)?;
    let made = tempfile::Builder::new().prefix(".unpacking-").tempdir_in(parent)?;
    fill(made.path())?;
    std::fs::rename(made.keep(), dir)
}

struct Target {
    root: Dir,
    entries: usize,
    bytes: u64,
}

impl Target {
    fn apply(&mut self, layer: &Layer) -> io::Result<()> {
        let media_type = layer.descriptor.media_type.as_str();
        let bytes = layer.bytes.as_ref();
        match (media_type.contains(".tar"), media_type.ends_with("zstd")) {
            (_, true) => Err(refused("a layer is compressed with zstd, which is not supported")),
            (true, _) if bytes.starts_with(&[0x1f, 0x8b]) => self.extract(MultiGzDecoder::new(bytes)),
            (true, _) => self.extract(bytes),
            (false, _) => {
                let name = file_name(&layer.descriptor);
                self.count(bytes.len() as u64)?;
                self.write(&name, 0o644, bytes)
            }
        }
    }

    fn extract(&mut self, archive: impl Read) -> io::Result<()> {
        for entry in Archive::new(archive).entries()? {
            let entry = entry?;
            self.count(entry.size())?;
            let Some(path) = beneath(&entry.path()?) else { continue };
            self.place(entry, &path)?;
        }
        Ok(())
    }

    fn count(&mut self, bytes: u64) -> io::Result<()> {
        self.entries += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        if self.entries > MAX_ENTRIES || self.bytes > MAX_BYTES {
            return Err(refused("its layers unpack to more than is allowed"));
        }
        Ok(())
    }

    fn place(&mut self, entry: Entry<'_, impl Read>, path: &Path) -> io::Result<()> {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name == OPAQUE {
            return self.clear(path.parent().unwrap_or(Path::new("")));
        }
        if let Some(gone) = name.strip_prefix(WHITEOUT) {
            return self.remove(&path.with_file_name(gone));
        }
        let link = entry.link_name()?.map(std::borrow::Cow::into_owned);
        let mode = entry.header().mode().unwrap_or(0o644);
        match (entry.header().entry_type(), link) {
            (EntryType::Directory, _) => match self.root.symlink_metadata(path) {
                Ok(found) if found.is_dir() => Ok(()),
                _ => {
                    self.remove(path)?;
                    self.root.create_dir_all(path)
                }
            },
            (EntryType::Symlink, Some(to)) => {
                self.make_room(path)?;
                self.root.symlink_contents(to, path)
            }
            (EntryType::Link, Some(to)) => {
                let Some(to) = beneath(&to) else { return Err(refused("a hard link leads outside")) };
                self.make_room(path)?;
                self.root.hard_link(to, &self.root, path)
            }
            (EntryType::Regular | EntryType::Continuous, _) => self.write(path, mode, entry),
            _ => Ok(()),
        }
    }

    fn write(&self, path: impl AsRef<Path>, mode: u32, mut content: impl Read) -> io::Result<()> {
        let path = path.as_ref();
        self.make_room(path)?;
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(mode & 0o777);
        io::copy(&mut content, &mut self.root.open_with(path, &options)?).map(drop)
    }

    /// Takes away what is at a path, and makes what is above it.
    fn make_room(&self, path: &Path) -> io::Result<()> {
        self.remove(path)?;
        match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            Some(parent) => self.root.create_dir_all(parent),
            None => Ok(()),
        }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match self.root.symlink_metadata(path) {
            Ok(found) if found.is_dir() => self.root.remove_dir_all(path),
            Ok(_) => self.root.remove_file(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn clear(&self, dir: &Path) -> io::Result<()> {
        let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        for entry in self.root.read_dir(dir)? {
            self.remove(&dir.join(entry?.file_name()))?;
        }
        Ok(())
    }
}

/// A path of an archive as one beneath its root; `None` for the root itself and for one that leads outside.
fn beneath(path: &Path) -> Option<PathBuf> {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(part) => plain.push(part),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    (!plain.as_os_str().is_empty()).then_some(plain)
}

/// What a layer that is no archive is called: as it says, or by its digest.
fn file_name(descriptor: &OciDescriptor) -> PathBuf {
    let title = descriptor.annotations.as_ref().and_then(|annotations| annotations.get(TITLE));
    let digest = || descriptor.digest.split_once(':').map_or("layer", |(_, hex)| hex).into();
    title.and_then(|title| beneath(Path::new(title))).unwrap_or_else(digest)
}

fn refused(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAR: &str = "application/vnd.oci.image.layer.v1.tar";

    fn layer(media_type: &str, title: Option<&str>, bytes: Vec<u8>) -> Layer {
        let annotations = title.map(|title| [(TITLE.to_owned(), title.to_owned())].into());
        let (media_type, digest) = (media_type.to_owned(), "sha256:abc".to_owned());
        let descriptor = OciDescriptor { media_type, digest, annotations, ..Default::default() };
        Layer { descriptor, bytes: bytes.into() }
    }

    /// Files by name; a directory ends in a slash, and `->` and `=>` make a symbolic and a hard link.
    fn tar(entries: &[&str]) -> Layer {
        let mut archive = tar::Builder::new(Vec::new());
        for entry in entries {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o755);
            header.set_size(0);
            let links = [(" -> ", EntryType::Symlink), (" => ", EntryType::Link)];
            let link = links.iter().find_map(|(arrow, kind)| Some((entry.split_once(arrow)?, *kind)));
            // Set by hand: the crate refuses names that lead outside.
            let name = |header: &mut tar::Header, name: &str| {
                let field = &mut header.as_gnu_mut().unwrap().name;
                field[..name.len()].copy_from_slice(name.as_bytes());
            };
            match link {
                Some(((path, to), kind)) => {
                    header.set_entry_type(kind);
                    header.as_gnu_mut().unwrap().linkname[..to.len()].copy_from_slice(to.as_bytes());
                    name(&mut header, path);
                    header.set_cksum();
                    archive.append(&header, io::empty()).unwrap();
                }
                None => {
                    let kind = if entry.ends_with('/') { EntryType::Directory } else { EntryType::Regular };
                    header.set_entry_type(kind);
                    let content = if kind == EntryType::Regular { entry.as_bytes() } else { b"" };
                    header.set_size(content.len() as u64);
                    name(&mut header, entry);
                    header.set_cksum();
                    archive.append(&header, content).unwrap();
                }
            }
        }
        layer(TAR, None, archive.into_inner().unwrap())
    }

    fn shown(dir: &Path) -> Vec<String> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            match std::fs::symlink_metadata(&path).unwrap() {
                kind if kind.is_symlink() => found.push(format!("{name}@")),
                kind if kind.is_dir() => found.extend(shown(&path).iter().map(|inner| format!("{name}/{inner}"))),
                _ => found.push(name),
            }
        }
        found.sort();
        found
    }

    #[test]
    fn layers_lie_one_over_the_other() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("volume");
        let lower = tar(&["a/", "a/one", "a/two", "b/three", "c", "d -> a"]);
        let upper = tar(&["a/.wh.one", "b/.wh..wh..opq", "b/four", "c/", "c/five", "d", "e => a/two"]);
        unpack(&[lower, upper, layer("text/plain", Some("notes/read.me"), b"text".to_vec())], &dir).unwrap();
        assert_eq!(shown(&dir), ["a/two", "b/four", "c/five", "d", "e", "notes/read.me"]);
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1, "nothing else is left");
        let plain = root.path().join("plain");
        unpack(&[layer("application/wasm", None, b"\0asm".to_vec())], &plain).unwrap();
        assert_eq!(shown(&plain), ["abc"]);
    }

    #[test]
    fn nothing_is_written_outside() {
        let root = tempfile::tempdir().unwrap();
        let outside = root.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("kept"), "kept").unwrap();
        let to = outside.to_str().unwrap();
        for (number, entries) in [
            vec!["../outside/new".to_owned()],
            vec![format!("out -> {to}"), "out/new".to_owned()],
            vec!["out -> ../outside".to_owned(), "out/.wh.kept".to_owned()],
            vec!["out -> ../outside".to_owned(), "out/.wh..wh..opq".to_owned()],
            vec!["x => ../outside/kept".to_owned()],
        ]
        .iter()
        .enumerate()
        {
            let entries: Vec<&str> = entries.iter().map(String::as_str).collect();
            // Whether it is refused or left out does not matter.
            let _ = unpack(&[tar(&entries)], &root.path().join(number.to_string()));
            assert_eq!(shown(&outside), ["kept"], "{entries:?}");
        }
    }

    #[test]
    fn what_is_broken_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let mut cut = tar(&["a"]);
        cut.bytes.truncate(600);
        assert!(unpack(&[cut], &root.path().join("volume")).is_err());
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
    }
}
