//! Unpacks an image into a directory, for volumes that show one (KEP-4639).
//!
//! Layers that are archives are applied one over the other, with the deletions that they mark (OCI image specification,
//! `layer.md`); any other layer is one file. Everything is made beneath the directory's own handle, so that no name and no
//! link in an archive leads outside. Owners, devices and modes beyond permission bits are left out: there is nobody who
//! could use them.

use std::io::{self, Read};
use std::path::Path;

use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt as _};
use k8w_storage::metered::{MAX_NAME_BYTES, Meter, members};
use k8w_storage::tree;
use k8w_storage::volume::image;
use tar::{Entry, EntryType};

use super::layer::{
    self, Layer, MAX_ENTRIES, MAX_UNPACKED_BYTES, beneath, refused, size, too_long_a_name, too_many_entries,
};
use super::{OPAQUE, WHITEOUT};

/// Unpacks layers, the lowest first, into `dir`, which must not be there. They are held to the image's config. Blocks.
///
/// # Errors
/// When an archive is broken, too large, or another than that says. Nothing is left behind then.
pub fn unpack(layers: &[Layer], dir: &Path) -> io::Result<()> {
    image::create(dir, |made| {
        let mut target = Target { root: Dir::open_ambient_dir(made, ambient_authority())?, entries: 0, bytes: 0 };
        let meter = layer::meter(MAX_UNPACKED_BYTES);
        layers.iter().try_for_each(|layer| target.apply(layer, &meter))
    })
}

/// Copies one file into `dir`, which must not be there, under a name. Blocks.
///
/// # Errors
/// The file system's. Nothing is left behind then.
pub fn copy(file: &Path, name: &str, dir: &Path) -> io::Result<()> {
    image::create(dir, |made| std::fs::copy(file, made.join(name)).map(drop))
}

struct Target {
    root: Dir,
    entries: usize,
    /// What the files have, sparse ones as they would be read.
    bytes: u64,
}

impl Target {
    fn apply(&mut self, layer: &Layer, meter: &Meter) -> io::Result<()> {
        layer.see(meter, |content| {
            if !layer.is_archive() {
                self.count(layer.sent_bytes()?)?;
                return self.write(layer.file_name(), 0o644, content);
            }
            Ok(members(content, |entry| {
                self.count(entry.size())?;
                let length = entry.path_bytes().len();
                if length > MAX_NAME_BYTES {
                    return Err(too_long_a_name(length));
                }
                match beneath(&entry.path()?) {
                    Some(path) => self.place(entry, &path),
                    None => Ok(()),
                }
            })?)
        })
    }

    fn count(&mut self, bytes: u64) -> io::Result<()> {
        self.entries += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        if self.entries > MAX_ENTRIES {
            return Err(too_many_entries());
        }
        if self.bytes > MAX_UNPACKED_BYTES {
            let most = size(MAX_UNPACKED_BYTES);
            return Err(refused(format!("with it the files of the image have more than {most}")));
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
                    self.make_dirs(path)
                }
            },
            (EntryType::Symlink, Some(to)) => {
                self.make_room(path)?;
                self.root.symlink_contents(to, path)
            }
            (EntryType::Link, Some(to)) => {
                let Some(to) = beneath(&to) else { return Err(refused("a hard link in it leads outside")) };
                self.make_room(path)?;
                self.root.hard_link(to, &self.root, path)
            }
            (EntryType::Regular | EntryType::Continuous, _) => self.write(path, mode, entry),
            _ => Ok(()),
        }
    }

    fn write(&mut self, path: impl AsRef<Path>, mode: u32, mut content: impl Read) -> io::Result<()> {
        let path = path.as_ref();
        self.make_room(path)?;
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(mode & 0o777);
        io::copy(&mut content, &mut self.root.open_with(path, &options)?).map(drop)
    }

    /// Takes away what is at a path, and makes what is above it.
    fn make_room(&mut self, path: &Path) -> io::Result<()> {
        self.remove(path)?;
        path.parent().map_or(Ok(()), |parent| self.make_dirs(parent))
    }

    /// Makes a directory and those above it, as far as they are not there; each is an entry.
    fn make_dirs(&mut self, dir: &Path) -> io::Result<()> {
        let above = dir.ancestors().filter(|dir| !dir.as_os_str().is_empty());
        let missing: Vec<&Path> = above.take_while(|dir| !self.root.is_dir(dir)).collect();
        for dir in missing.into_iter().rev() {
            self.count(0)?;
            self.root.create_dir(dir)?;
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
        match self.root.open_dir(or_here(parent)) {
            Ok(parent) => tree::remove_at(parent, Path::new(name)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn clear(&self, dir: &Path) -> io::Result<()> {
        let dir = or_here(dir);
        for entry in self.root.read_dir(dir)? {
            self.remove(&dir.join(entry?.file_name()))?;
        }
        Ok(())
    }
}

fn or_here(dir: &Path) -> &Path {
    if dir.as_os_str().is_empty() { Path::new(".") } else { dir }
}

#[cfg(test)]
pub mod tests {
    use oci_client::manifest::OciDescriptor;

    use super::*;

    pub const TAR: &str = "application/vnd.oci.image.layer.v1.tar";

    pub fn layer(media_type: &str, title: Option<&str>, content: &[u8]) -> Layer {
        let annotations = title.map(|title| [("org.opencontainers.image.title".to_owned(), title.to_owned())].into());
        let (media_type, digest) = (media_type.to_owned(), "sha256:abc".to_owned());
        let descriptor = OciDescriptor { media_type, digest, annotations, ..Default::default() };
        Layer { which: "layer 2 of 3".to_owned(), descriptor, ..Layer::only("", content).unwrap() }
    }

    /// The begin of a layer.
    pub fn cut(layer: &Layer, length: u64) -> Layer {
        let mut content = Vec::new();
        layer.sent().unwrap().take(length).read_to_end(&mut content).unwrap();
        self::layer(&layer.descriptor.media_type, None, &content)
    }

    /// Files by name; a directory ends in a slash, and `->` and `=>` make a symbolic and a hard link.
    pub fn tar(entries: &[&str]) -> Layer {
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
        layer(TAR, None, &archive.into_inner().unwrap())
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
        unpack(&[lower, upper, layer("text/plain", Some("notes/read.me"), b"text")], &dir).unwrap();
        assert_eq!(shown(&dir), ["a/two", "b/four", "c/five", "d", "e", "notes/read.me"]);
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1, "nothing else is left");
        let plain = root.path().join("plain");
        unpack(&[layer("application/wasm", None, b"\0asm")], &plain).unwrap();
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

    /// Appends an entry whose header is written by hand.
    fn append(archive: &mut tar::Builder<impl io::Write>, kind: EntryType, name: &str, content: impl Read, size: u64) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o755);
        header.set_size(size);
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        archive.append(&header, content).unwrap();
    }

    #[test]
    fn records_are_no_longer_than_is_allowed() {
        let root = tempfile::tempdir().unwrap();
        for kind in [EntryType::GNULongName, EntryType::GNULongLink, EntryType::XHeader] {
            let gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            let mut archive = tar::Builder::new(gzip);
            append(&mut archive, EntryType::Regular, "large", io::repeat(0).take(3 << 20), 3 << 20);
            append(&mut archive, kind, "record", io::repeat(b'x').take(2 << 20), 2 << 20);
            append(&mut archive, EntryType::Regular, "file", io::empty(), 0);
            let large = layer(&format!("{TAR}+gzip"), None, &archive.into_inner().unwrap().finish().unwrap());
            let refused = unpack(&[large], &root.path().join("volume")).unwrap_err();
            assert_eq!(refused.to_string(), "its layer 2 of 3: a record is longer than 1 MiB");
        }
        let mut archive = tar::Builder::new(Vec::new());
        let long = "d/".repeat(3_000);
        append(&mut archive, EntryType::GNULongName, "record", long.as_bytes(), long.len() as u64);
        append(&mut archive, EntryType::Directory, "d", io::empty(), 0);
        let long = layer(TAR, None, &archive.into_inner().unwrap());
        let refused = unpack(&[long], &root.path().join("volume")).unwrap_err();
        let told = "its layer 2 of 3: a name or a link in it has 6000 bytes, and 4096 is the most";
        assert_eq!(refused.to_string(), told);
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[test]
    fn directories_above_an_entry_count_and_take_no_stack() {
        let root = tempfile::tempdir().unwrap();
        let mut archive = tar::Builder::new(Vec::new());
        let deep = format!("{}f", "d/".repeat(2_000));
        append(&mut archive, EntryType::GNULongName, "record", deep.as_bytes(), deep.len() as u64);
        append(&mut archive, EntryType::Regular, "f", io::empty(), 0);
        append(&mut archive, EntryType::Regular, ".wh.d", io::empty(), 0);
        let deep = layer(TAR, None, &archive.into_inner().unwrap());
        let dir = root.path().join("volume");
        let unpacking = std::thread::Builder::new().stack_size(512 << 10).spawn(move || {
            image::create(&dir, |made| {
                let root = Dir::open_ambient_dir(made, ambient_authority())?;
                let mut target = Target { root, entries: 0, bytes: 0 };
                target.apply(&deep, &layer::meter(1 << 20))?;
                assert_eq!((target.entries, shown(made)), (2_002, Vec::<String>::new()));
                Ok(())
            })
        });
        unpacking.unwrap().join().unwrap().unwrap();
    }

    #[test]
    fn what_is_broken_or_too_much_leaves_nothing_and_is_told_of() {
        let root = tempfile::tempdir().unwrap();
        let whole = || tar(&["a"]);
        let other = Layer { diff_id: Some("sha256:0".to_owned()), ..whole() };
        // A sparse file of a terabyte takes a block.
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(EntryType::GNUSparse);
        header.as_gnu_mut().unwrap().name[0] = b'f';
        header.as_gnu_mut().unwrap().realsize.copy_from_slice(b"20000000000\0");
        header.as_gnu_mut().unwrap().sparse[0].offset.copy_from_slice(b"20000000000\0");
        header.as_gnu_mut().unwrap().sparse[0].numbytes.copy_from_slice(b"00000000000\0");
        header.set_size(0);
        header.set_cksum();
        let mut sparse = tar::Builder::new(Vec::new());
        sparse.append(&header, io::empty()).unwrap();
        let sparse = layer(TAR, None, &sparse.into_inner().unwrap());
        for (layer, expected) in [
            (cut(&whole(), 600), ""),
            (other, "it unpacks to sha256:"),
            (sparse, "with it the files of the image have more than 1 GiB"),
            (layer(&format!("{TAR}+zstd"), None, b""), "it is compressed with zstd, which is not supported"),
            (tar(&["b => ../a"]), "a hard link in it leads outside"),
        ] {
            let told = unpack(&[whole(), layer], &root.path().join("volume")).unwrap_err().to_string();
            assert!(told.starts_with(&format!("its layer 2 of 3: {expected}")), "{told}");
            assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0, "{told}");
        }
        let root = Dir::open_ambient_dir(root.path(), ambient_authority()).unwrap();
        let mut full = Target { root, entries: MAX_ENTRIES, bytes: 0 };
        let told = full.apply(&whole(), &layer::meter(1 << 20)).unwrap_err().to_string();
        assert!(told.ends_with("with it the image has more than 200000 files, directories and links"), "{told}");
    }
}
