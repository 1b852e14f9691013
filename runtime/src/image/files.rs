//! What lies where in the file system that the layers of a container image make, and which file of it a process is started from.
//!
//! Only names and links are looked at, so that nothing is unpacked to the disk for the one file that is wanted. Links lead about
//! within the image alone, as they do for a process whose root it is.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use k8w_storage::metered::{Failure, MAX_NAME_BYTES, Meter, members};
use tar::{Entry, EntryType};

use super::layer::{Layer, beneath, refused};
use super::{OPAQUE, WHITEOUT};

/// Entries of all layers together.
const MAX_ENTRIES: usize = 200_000;
/// What their names and links may take together, in bytes.
const MAX_NAMES_BYTES: usize = 64 << 20;
/// Names that are looked up, to find all entries their places and then the program.
const MAX_STEPS: u64 = 10_000_000;
/// Links that are followed on one path, as on Linux.
const MAX_LINKS: usize = 40;

const ROOT: Directory = 0;

type Directory = u32;

/// A directory, and a name in it.
type Key = (Directory, OsString);

/// The file system of an image.
#[derive(Default)]
pub struct Files {
    entries: BTreeMap<Key, Placed>,
    last_directory: Directory,
    names_bytes: usize,
    steps: Cell<u64>,
}

struct Placed {
    /// Which layer it has come with.
    layer: usize,
    node: Node,
}

#[derive(Clone)]
enum Node {
    Directory(Directory),
    Link(PathBuf),
    File(Place),
}

/// Where the content of a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    layer: usize,
    member: usize,
}

/// Where a path leads.
enum Found {
    /// The directory, after those above it.
    Directory(Vec<Directory>),
    File(Place),
    /// There would be something, if this were there.
    Missing(Key),
    Nowhere,
}

/// Where a process would be looked for.
pub struct Search<'a> {
    pub working_dir: &'a str,
    /// `PATH`: directories, with colons between them.
    pub path: &'a str,
}

impl Files {
    /// The file system that layers make, the lowest first.
    ///
    /// # Errors
    /// When a layer is broken, or there is more in it than is allowed.
    pub fn of(layers: &[Layer], meter: &Meter) -> io::Result<Files> {
        let mut files = Files::default();
        for (number, layer) in layers.iter().enumerate() {
            if !layer.is_archive() {
                files.put(number, &layer.file_name(), Node::File(Place { layer: number, member: 0 }))?;
                continue;
            }
            let mut member = 0;
            members(layer.open(meter)?, |entry| {
                let added = files.add(&entry, Place { layer: number, member });
                member += 1;
                added
            })?;
        }
        Ok(files)
    }

    /// The file that a process is started from. One that is called by its name alone is looked for in `PATH`, and then where
    /// the process begins, as those do who run WebAssembly.
    ///
    /// # Errors
    /// When its links are more than are followed.
    pub fn program(&self, program: &str, search: &Search<'_>) -> io::Result<Option<Place>> {
        let begin = match self.walk(&[ROOT], Path::new(search.working_dir))? {
            Found::Directory(at) => at,
            _ => vec![ROOT],
        };
        if !program.contains('/') {
            for dir in search.path.split(':') {
                if let Found::File(place) = self.walk(&begin, &Path::new(dir).join(program))? {
                    return Ok(Some(place));
                }
            }
        }
        Ok(match self.walk(&begin, Path::new(program))? {
            Found::File(place) => Some(place),
            _ => None,
        })
    }

    fn add(&mut self, entry: &Entry<'_, impl Read>, place: Place) -> io::Result<()> {
        let link = entry.link_name_bytes().map_or(0, |link| link.len());
        if entry.path_bytes().len().max(link) > MAX_NAME_BYTES {
            return Err(refused("a name in a layer is too long"));
        }
        let Some(path) = beneath(&entry.path()?) else { return Ok(()) };
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let layer = place.layer;
        if name == OPAQUE {
            let dir = path.parent().unwrap_or(Path::new(""));
            if let Found::Directory(at) = self.walk(&[ROOT], dir)? {
                self.clear(&at, layer);
            }
            return Ok(());
        }
        if let Some(gone) = name.strip_prefix(WHITEOUT) {
            if let Some(key) = self.key(&path.with_file_name(gone))?
                && self.entries.get(&key).is_some_and(|placed| placed.layer < layer)
            {
                self.entries.remove(&key);
            }
            return Ok(());
        }
        let node = match (entry.header().entry_type(), entry.link_name()?) {
            (EntryType::Directory, _) => return self.make(layer, &path).map(drop),
            (EntryType::Symlink, Some(to)) => Node::Link(to.into_owned()),
            (EntryType::Link, Some(to)) => {
                let key = beneath(&to).map(|to| self.key(&to)).transpose()?.flatten();
                match key.and_then(|key| self.entries.get(&key)) {
                    Some(Placed { node, .. }) if !matches!(node, Node::Directory(_)) => node.clone(),
                    _ => return Ok(()),
                }
            }
            (EntryType::Regular | EntryType::Continuous, _) => Node::File(place),
            _ => return Ok(()),
        };
        self.put(layer, &path, node)
    }

    /// Puts something at a path, in place of what is there. What is left beneath that is reached from nowhere.
    fn put(&mut self, layer: usize, path: &Path, node: Node) -> io::Result<()> {
        let (Some(above), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
        let Some(dir) = self.make(layer, above)? else { return Ok(()) };
        self.insert((dir, name.to_owned()), Placed { layer, node })
    }

    fn insert(&mut self, key: Key, placed: Placed) -> io::Result<()> {
        let link = if let Node::Link(to) = &placed.node { to.as_os_str().len() } else { 0 };
        self.names_bytes += key.1.len() + link;
        self.entries.insert(key, placed);
        if self.entries.len() > MAX_ENTRIES || self.names_bytes > MAX_NAMES_BYTES {
            return Err(refused("its layers unpack to more than is allowed"));
        }
        Ok(())
    }

    /// The directory at a path, which is made as far as it is not there. `None` where a link leads nowhere.
    fn make(&mut self, layer: usize, path: &Path) -> io::Result<Option<Directory>> {
        loop {
            let key = match self.walk(&[ROOT], path)? {
                Found::Directory(at) => return Ok(at.last().copied()),
                Found::Missing(key) => key,
                Found::File(_) => match self.key(path)? {
                    Some(key) => key,
                    None => return Ok(None),
                },
                Found::Nowhere => return Ok(None),
            };
            self.last_directory += 1;
            self.insert(key, Placed { layer, node: Node::Directory(self.last_directory) })?;
        }
    }

    /// Takes away what the layers below have in a directory.
    fn clear(&mut self, at: &[Directory], layer: usize) {
        let Some(&dir) = at.last() else { return };
        let inside = (dir, OsString::new())..(dir + 1, OsString::new());
        let below = self.entries.range(inside).filter(|(_, placed)| placed.layer < layer);
        let below: Vec<Key> = below.map(|(key, _)| key.clone()).collect();
        for key in below {
            self.entries.remove(&key);
        }
    }

    /// Where what is at a path itself is kept, be it a link; `None` where no directory is above it.
    fn key(&self, path: &Path) -> io::Result<Option<Key>> {
        let (Some(above), Some(name)) = (path.parent(), path.file_name()) else { return Ok(None) };
        Ok(match self.walk(&[ROOT], above)? {
            Found::Directory(at) => at.last().map(|dir| (*dir, name.to_owned())),
            _ => None,
        })
    }

    /// Follows a path, and the links on it, from a directory.
    fn walk(&self, from: &[Directory], path: &Path) -> io::Result<Found> {
        let mut at = from.to_vec();
        let mut waiting = Vec::new();
        follow(path, &mut at, &mut waiting);
        let mut links = 0;
        while let Some(part) = waiting.pop() {
            self.steps.update(|steps| steps + 1);
            if self.steps.get() > MAX_STEPS {
                return Err(refused("the names in its layers lead too far"));
            }
            let Some(name) = part else {
                if at.len() > 1 {
                    at.pop();
                }
                continue;
            };
            let key = (at.last().copied().unwrap_or(ROOT), name);
            match self.entries.get(&key).map(|placed| &placed.node) {
                Some(Node::Directory(dir)) => at.push(*dir),
                Some(Node::File(place)) if waiting.is_empty() => return Ok(Found::File(*place)),
                Some(Node::Link(to)) if links < MAX_LINKS => {
                    links += 1;
                    follow(to, &mut at, &mut waiting);
                }
                Some(Node::File(_) | Node::Link(_)) => return Ok(Found::Nowhere),
                None => return Ok(Found::Missing(key)),
            }
        }
        Ok(Found::Directory(at))
    }
}

/// What a path says to do next, the last of it first: a name to look up, or `None` for `..`.
fn follow(path: &Path, at: &mut Vec<Directory>, waiting: &mut Vec<Option<OsString>>) {
    if path.is_absolute() {
        at.truncate(1);
    }
    waiting.extend(path.components().rev().filter_map(|part| match part {
        Component::Normal(name) => Some(Some(name.to_owned())),
        Component::ParentDir => Some(None),
        Component::CurDir | Component::RootDir | Component::Prefix(_) => None,
    }));
}

/// The content of a file.
///
/// # Errors
/// When there is more of it than is allowed, or its layer is broken.
pub fn read(layers: &[Layer], place: Place, max_bytes: u64, meter: &Meter) -> io::Result<Vec<u8>> {
    let too_large = || refused("its entrypoint is too large");
    let layer = layers.get(place.layer).ok_or(io::ErrorKind::NotFound)?;
    if !layer.is_archive() {
        return if layer.bytes.len() as u64 > max_bytes { Err(too_large()) } else { Ok(layer.bytes.to_vec()) };
    }
    let mut member = 0;
    // Once it was seen there is nothing more to look for.
    let seen = members(layer.open(meter)?, |mut entry| {
        member += 1;
        if member <= place.member {
            return Ok(());
        }
        if entry.size() > max_bytes {
            return Err(Err(too_large()));
        }
        let mut content = Vec::new();
        Err(match entry.read_to_end(&mut content) {
            Ok(read) if read as u64 == entry.size() => Ok(content),
            Ok(_) => Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) => Err(error),
        })
    });
    match seen {
        Err(Failure::Seen(content)) => content,
        Err(Failure::Broken { error, .. }) => Err(error),
        Ok(()) => Err(io::ErrorKind::NotFound.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::layer::meter;
    use crate::image::unpack::tests::{TAR, layer, tar};

    const BYTES: u64 = 1 << 20;

    const SEARCH: Search<'_> = Search { working_dir: "", path: "/usr/bin:/bin" };

    /// What the program is that is found in these layers, by its content: each file's is its own name.
    fn found(layers: &[&[&str]], program: &str, search: &Search<'_>) -> Option<String> {
        let layers: Vec<Layer> = layers.iter().map(|entries| tar(entries)).collect();
        let place = Files::of(&layers, &meter(BYTES)).unwrap().program(program, search).unwrap()?;
        Some(String::from_utf8(read(&layers, place, 100, &meter(BYTES)).unwrap()).unwrap())
    }

    fn program(entries: &[&str], program: &str) -> Option<String> {
        found(&[entries], program, &SEARCH)
    }

    #[test]
    fn links_are_followed_within_the_image() {
        let entries =
            ["opt/app.wasm", "abs -> /opt/app.wasm", "usr/rel -> ../opt/app.wasm", "dir -> opt", "top -> ../../dir"];
        for name in ["/opt/app.wasm", "/abs", "/usr/rel", "/dir/app.wasm", "/top/app.wasm", "/usr/../opt/./app.wasm"] {
            assert_eq!(program(&entries, name).as_deref(), Some("opt/app.wasm"), "{name}");
        }
        // A process whose root this is does not come above it either.
        let outside = ["a -> ../../../../etc/passwd", "b -> /etc/passwd", "etc/passwd"];
        for name in ["/a", "/b", "../../etc/passwd"] {
            assert_eq!(program(&outside, name).as_deref(), Some("etc/passwd"), "{name}");
        }
        for name in ["/none", "/opt", "/opt/app.wasm/x", "/loop", "/dangling"] {
            let entries = [&entries[..], &["loop -> loop", "dangling -> /nothing"]].concat();
            assert_eq!(program(&entries, name), None, "{name}");
        }
        assert_eq!(program(&["real", "hard => real"], "/hard").as_deref(), Some("real"));
        // A link among the directories of a later entry.
        let later = ["opt/", "app -> opt", "app/main.wasm"];
        assert_eq!(program(&later, "/opt/main.wasm").as_deref(), Some("app/main.wasm"));
    }

    #[test]
    fn a_name_alone_is_looked_for_in_path_and_then_where_the_process_begins() {
        let entries = ["bin/tool", "usr/bin/tool", "work/tool", "work/own", "own", "work/bin/near"];
        let at = |working_dir, path, name| found(&[&entries], name, &Search { working_dir, path });
        assert_eq!(at("", SEARCH.path, "tool").as_deref(), Some("usr/bin/tool"));
        assert_eq!(at("", "/none:/bin", "tool").as_deref(), Some("bin/tool"));
        assert_eq!(at("/work", SEARCH.path, "own").as_deref(), Some("work/own"));
        assert_eq!(at("/work", SEARCH.path, "./own").as_deref(), Some("work/own"));
        assert_eq!(at("/work", SEARCH.path, "../own").as_deref(), Some("own"));
        assert_eq!(at("/work", "bin", "near").as_deref(), Some("work/bin/near"), "a directory of PATH may be relative");
        assert_eq!(at("/work", ":/bin", "tool").as_deref(), Some("work/tool"), "and an empty one is where it begins");
        // What begins nowhere begins at the root: the directory is made for it.
        assert_eq!(at("/none", SEARCH.path, "own").as_deref(), Some("own"));
        assert_eq!(at("", SEARCH.path, "near"), None);
    }

    #[test]
    fn layers_lie_one_over_the_other() {
        let lower: &[&str] = &["a/one", "b/two", "c/three", "d -> a/one", "e/four"];
        let upper: &[&str] = &["a/.wh.one", "b/.wh..wh..opq", "b/five", "c", "d", "e/", "e/six"];
        let at = |name| found(&[lower, upper], name, &SEARCH);
        for (name, content) in [
            ("/a/one", None),
            ("/b/two", None),
            ("/b/five", Some("b/five")),
            ("/c", Some("c")),
            ("/c/three", None),
            ("/d", Some("d")),
        ] {
            assert_eq!(at(name).as_deref(), content, "{name}");
        }
        assert_eq!(at("/e/four").as_deref(), Some("e/four"));
        // Marks are for the layers below, wherever they stand in their own.
        assert_eq!(found(&[lower, &["b/five", "b/.wh..wh..opq"]], "/b/five", &SEARCH).as_deref(), Some("b/five"));
        let file = layer("application/octet-stream", Some("app"), b"as it is".to_vec());
        let place =
            Files::of(std::slice::from_ref(&file), &meter(BYTES)).unwrap().program("/app", &SEARCH).unwrap().unwrap();
        assert_eq!(read(&[file], place, 100, &meter(BYTES)).unwrap(), b"as it is");
    }

    #[test]
    fn what_is_too_large_or_broken_is_refused() {
        let layers = [tar(&["app.wasm"])];
        let place = Files::of(&layers, &meter(BYTES)).unwrap().program("/app.wasm", &SEARCH).unwrap().unwrap();
        assert_eq!(read(&layers, place, 8, &meter(BYTES)).unwrap(), b"app.wasm");
        assert_eq!(read(&layers, place, 7, &meter(BYTES)).unwrap_err().to_string(), "its entrypoint is too large");
        let mut cut = tar(&["app.wasm"]);
        cut.bytes.truncate(516);
        assert!(Files::of(&[cut], &meter(BYTES)).is_err());
        let mut long = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        long.append_link(&mut header, "a", "x/".repeat(3_000)).unwrap();
        let long = layer(TAR, None, long.into_inner().unwrap());
        assert!(
            Files::of(&[long], &meter(BYTES)).is_err_and(|error| error.to_string() == "a name in a layer is too long")
        );
    }

    #[test]
    fn only_so_many_names_are_looked_up() {
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        archive.append_data(&mut header, format!("{}app", "d/".repeat(1_000)), io::empty()).unwrap();
        let files = Files::of(&[layer(TAR, None, archive.into_inner().unwrap())], &meter(BYTES)).unwrap();
        let deep = format!("/{}app", "d/".repeat(1_000));
        assert!(files.program(&deep, &SEARCH).unwrap().is_some());
        files.steps.set(MAX_STEPS - 1_000);
        let refused = files.program(&deep, &SEARCH).unwrap_err();
        assert_eq!(refused.to_string(), "the names in its layers lead too far");
    }
}
