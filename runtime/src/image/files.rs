//! What lies where in the file system that the layers of a container image make, and which file of it a process is started from.
//!
//! Only names and links are looked at, so that nothing is unpacked to the disk for the one file that is wanted. Links lead about
//! within the image alone, as they do for a process whose root it is.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use k8w_storage::metered::{Failure, MAX_NAME_BYTES, Meter, members};
use tar::{Entry, EntryType};

use super::layer::{Layer, MAX_ENTRIES, beneath, refused, size, too_long_a_name, too_many_entries};
use super::{OPAQUE, WHITEOUT};

/// What the names and links of all layers may take together, in bytes.
const MAX_NAMES_BYTES: usize = 64 << 20;
/// Names that are looked up, to find all entries their places and then the program.
const MAX_STEPS: u64 = 10_000_000;
/// Links that are followed on one path, as on Linux.
const MAX_LINKS: usize = 40;
/// Places that an error names where a program was looked for, and how much of each it shows.
const MAX_SHOWN_PLACES: usize = 8;
const MAX_SHOWN_BYTES: usize = 256;

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
struct Found {
    /// The last directory on it, after those above that.
    at: Vec<Directory>,
    end: End,
}

enum End {
    /// That directory itself.
    Directory,
    /// A file in it.
    File(OsString, Place),
    /// It has no such name, or that of a file; beneath which these steps, the last one first, would be.
    Missing(OsString, Vec<Step>),
    Beneath(OsString, Vec<Step>),
    TooManyLinks,
}

/// A name to look up, or `None` for `..`.
type Step = Option<OsString>;

/// Where a process would be looked for.
pub struct Search<'a> {
    pub working_dir: &'a str,
    /// `PATH`: directories, with colons between them.
    pub path: &'a str,
}

impl Files {
    /// The file system that layers make, the lowest first. They are held to the image's config.
    ///
    /// # Errors
    /// When a layer is broken or another than that says, or there is more in it than is allowed.
    pub fn of(layers: &[Layer], meter: &Meter) -> io::Result<Files> {
        let mut files = Files::default();
        for (number, layer) in layers.iter().enumerate() {
            layer.see(meter, |content| {
                let mut place = Place { layer: number, member: 0 };
                if !layer.is_archive() {
                    return files.put(number, &layer.file_name(), Node::File(place));
                }
                Ok(members(content, |entry| {
                    let added = files.add(&entry, place);
                    place.member += 1;
                    added
                })?)
            })?;
        }
        Ok(files)
    }

    /// The file that a process is started from, by its own name and where it is. One that is called by its name alone is looked
    /// for in `PATH`, and then where the process begins, as those do who run WebAssembly.
    ///
    /// # Errors
    /// When it is nowhere, with all that was tried.
    pub fn program(&self, program: &str, search: &Search<'_>) -> io::Result<(PathBuf, Place)> {
        let begin = match self.walk(&[ROOT], Path::new(search.working_dir))? {
            Found { at, end: End::Directory } => at,
            _ => vec![ROOT],
        };
        let in_path = (!program.contains('/')).then(|| search.path.split(':'));
        let mut tried = Vec::new();
        let mut others = 0;
        for dir in in_path.into_iter().flatten().chain([""]) {
            let path = Path::new(dir).join(program);
            let Found { at, end } = self.walk(&begin, &path)?;
            match end {
                End::File(name, place) => return Ok((self.path(&at).join(name), place)),
                end if tried.len() < MAX_SHOWN_PLACES => tried.push(self.missed(&begin, &path, &at, end)),
                _ => others += 1,
            }
        }
        let others = if others == 0 { String::new() } else { format!(", nor is it in {others} other places") };
        let (program, tried) = (shown(Path::new(program)), tried.join(", "));
        Err(refused(format!("its entrypoint \"{program}\" is no file of it: {tried}{others}")))
    }

    /// Why there is no file at a path.
    fn missed(&self, begin: &[Directory], path: &Path, at: &[Directory], end: End) -> String {
        // Without `.`, which leads nowhere else.
        let tried: PathBuf = self.path(begin).join(path).components().collect();
        let mut end_path = self.path(at);
        let why = match end {
            End::TooManyLinks => return format!("{} leads through more than {MAX_LINKS} links", shown(&tried)),
            End::Directory | End::File(..) => "is a directory",
            End::Missing(name, rest) | End::Beneath(name, rest) => {
                end_path.push(name);
                end_path.extend(rest.into_iter().rev().map(|step| step.unwrap_or_else(|| "..".into())));
                "is not there"
            }
        };
        if end_path == tried {
            format!("{} {why}", shown(&tried))
        } else {
            format!("{} leads to {}, which {why}", shown(&tried), shown(&end_path))
        }
    }

    /// The path of a directory.
    fn path(&self, at: &[Directory]) -> PathBuf {
        let name = |pair: &[Directory]| {
            let is_it = |placed: &Placed| matches!(placed.node, Node::Directory(dir) if Some(&dir) == pair.last());
            let mut inside = self.entries.range(inside(*pair.first()?));
            inside.find(|(_, placed)| is_it(placed)).map(|((_, name), _)| name.clone())
        };
        Path::new("/").join(at.windows(2).filter_map(name).collect::<PathBuf>())
    }

    fn add(&mut self, entry: &Entry<'_, impl Read>, place: Place) -> io::Result<()> {
        let link = entry.link_name_bytes().map_or(0, |link| link.len());
        let length = entry.path_bytes().len().max(link);
        if length > MAX_NAME_BYTES {
            return Err(too_long_a_name(length));
        }
        let Some(path) = beneath(&entry.path()?) else { return Ok(()) };
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let layer = place.layer;
        if name == OPAQUE {
            let dir = path.parent().unwrap_or(Path::new(""));
            if let Found { at, end: End::Directory } = self.walk(&[ROOT], dir)? {
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
        if self.entries.len() > MAX_ENTRIES {
            return Err(too_many_entries());
        }
        if self.names_bytes > MAX_NAMES_BYTES {
            let most = size(MAX_NAMES_BYTES as u64);
            return Err(refused(format!("with it the names and links of the image take more than {most}")));
        }
        Ok(())
    }

    /// The directory at a path, which is made as far as it is not there. `None` where a link leads nowhere.
    fn make(&mut self, layer: usize, path: &Path) -> io::Result<Option<Directory>> {
        loop {
            let Found { at, end } = self.walk(&[ROOT], path)?;
            let dir = at.last().copied().unwrap_or(ROOT);
            let key = match end {
                End::Directory => return Ok(Some(dir)),
                End::Missing(name, _) => (dir, name),
                End::File(..) => match self.key(path)? {
                    Some(key) => key,
                    None => return Ok(None),
                },
                End::Beneath(..) | End::TooManyLinks => return Ok(None),
            };
            self.last_directory += 1;
            self.insert(key, Placed { layer, node: Node::Directory(self.last_directory) })?;
        }
    }

    /// Takes away what the layers below have in a directory.
    fn clear(&mut self, at: &[Directory], layer: usize) {
        let Some(&dir) = at.last() else { return };
        let below = self.entries.range(inside(dir)).filter(|(_, placed)| placed.layer < layer);
        let below: Vec<Key> = below.map(|(key, _)| key.clone()).collect();
        for key in below {
            self.entries.remove(&key);
        }
    }

    /// Where what is at a path itself is kept, be it a link; `None` where no directory is above it.
    fn key(&self, path: &Path) -> io::Result<Option<Key>> {
        let (Some(above), Some(name)) = (path.parent(), path.file_name()) else { return Ok(None) };
        Ok(match self.walk(&[ROOT], above)? {
            Found { at, end: End::Directory } => at.last().map(|dir| (*dir, name.to_owned())),
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
                let why = format!("to follow the names and links of the image takes more than {MAX_STEPS} steps");
                return Err(refused(why));
            }
            let Some(name) = part else {
                if at.len() > 1 {
                    at.pop();
                }
                continue;
            };
            let key = (at.last().copied().unwrap_or(ROOT), name);
            let end = match self.entries.get(&key).map(|placed| &placed.node) {
                Some(Node::Directory(dir)) => {
                    at.push(*dir);
                    continue;
                }
                Some(Node::Link(to)) if links < MAX_LINKS => {
                    links += 1;
                    follow(to, &mut at, &mut waiting);
                    continue;
                }
                Some(Node::File(place)) if waiting.is_empty() => End::File(key.1, *place),
                Some(Node::File(_)) => End::Beneath(key.1, waiting),
                Some(Node::Link(_)) => End::TooManyLinks,
                None => End::Missing(key.1, waiting),
            };
            return Ok(Found { at, end });
        }
        Ok(Found { at, end: End::Directory })
    }
}

/// All that may lie in a directory.
fn inside(dir: Directory) -> Range<Key> {
    (dir, OsString::new())..(dir + 1, OsString::new())
}

/// A path for an error, as far as anybody reads it.
pub fn shown(path: &Path) -> String {
    let path = path.to_string_lossy();
    match path.floor_char_boundary(MAX_SHOWN_BYTES) {
        end if end < path.len() => format!("{}…", &path[..end]),
        _ => path.into_owned(),
    }
}

/// What a path says to do next, the last of it first.
fn follow(path: &Path, at: &mut Vec<Directory>, waiting: &mut Vec<Step>) {
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
    let all = |mut content: &mut dyn Read, bytes: u64| {
        if bytes > max_bytes {
            let most = size(max_bytes);
            return Err(refused(format!("the entrypoint in it has {bytes} bytes, and {most} is the most")));
        }
        let mut all = Vec::new();
        match (&mut content).take(bytes).read_to_end(&mut all)? {
            read if read as u64 == bytes => Ok(all),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    };
    let layer = layers.get(place.layer).ok_or(io::ErrorKind::NotFound)?;
    // Once it was seen there is nothing more to look for.
    layer.glance(meter, |content| {
        if !layer.is_archive() {
            return all(content, layer.sent_bytes()?);
        }
        let mut member = 0;
        let seen = members(content, |mut entry| {
            member += 1;
            if member <= place.member {
                return Ok(());
            }
            let bytes = entry.size();
            Err(all(&mut entry, bytes))
        });
        match seen {
            Err(Failure::Seen(content)) => content,
            Err(Failure::Broken { error, .. }) => Err(error),
            Ok(()) => Err(io::ErrorKind::NotFound.into()),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::layer::meter;
    use crate::image::unpack::tests::{TAR, cut, layer, tar};

    const BYTES: u64 = 1 << 20;

    const SEARCH: Search<'_> = Search { working_dir: "", path: "/usr/bin:/bin" };

    /// What the program is that is found in these layers, by its content: each file's is its own name.
    fn found(layers: &[&[&str]], program: &str, search: &Search<'_>) -> Result<String, String> {
        let layers: Vec<Layer> = layers.iter().map(|entries| tar(entries)).collect();
        let (_, place) = placed(&layers, program, search)?;
        Ok(String::from_utf8(read(&layers, place, 100, &meter(BYTES)).unwrap()).unwrap())
    }

    fn placed(layers: &[Layer], program: &str, search: &Search<'_>) -> Result<(String, Place), String> {
        let found = Files::of(layers, &meter(BYTES)).unwrap().program(program, search);
        found.map(|(path, place)| (path.display().to_string(), place)).map_err(|error| error.to_string())
    }

    fn program(entries: &[&str], program: &str) -> Option<String> {
        found(&[entries], program, &SEARCH).ok()
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
        let at = |working_dir, path, name| found(&[&entries], name, &Search { working_dir, path }).ok();
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
        let at = |name| found(&[lower, upper], name, &SEARCH).ok();
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
        assert_eq!(found(&[lower, &["b/five", "b/.wh..wh..opq"]], "/b/five", &SEARCH).as_deref(), Ok("b/five"));
        let file = [layer("application/octet-stream", Some("app"), b"as it is")];
        let (_, place) = placed(&file, "/app", &SEARCH).unwrap();
        assert_eq!(read(&file, place, 100, &meter(BYTES)).unwrap(), b"as it is");
    }

    #[test]
    fn it_is_said_where_a_program_was_looked_for() {
        let entries = [
            "bin/dir/",
            "bin/gone -> ../opt/none/app",
            "bin/deep -> /opt/app.wasm/../x",
            "bin/round -> round",
            "bin/up -> ..",
            "opt/app.wasm",
            "srv/",
            "to-srv -> srv",
        ];
        let long = "x".repeat(1_000);
        let dirs: Vec<String> = (0..20).map(|number| format!("/d{number}")).collect();
        let dirs = dirs.join(":");
        for (working_dir, path, name, expected) in [
            ("", "/bin", "/app", "\"/app\" is no file of it: /app is not there"),
            ("", "/bin", "/opt/app.wasm/x", "\"/opt/app.wasm/x\" is no file of it: /opt/app.wasm/x is not there"),
            ("/srv", "/bin", "./app", "\"./app\" is no file of it: /srv/app is not there"),
            ("/to-srv", "/bin", "../app", "\"../app\" is no file of it: /srv/../app leads to /app, which is not there"),
            ("/none", "/bin", "a/b", "\"a/b\" is no file of it: /a/b is not there"),
            ("", "/bin", "/opt", "\"/opt\" is no file of it: /opt is a directory"),
            (
                "",
                "/bin:usr",
                "app",
                "\"app\" is no file of it: /bin/app is not there, /usr/app is not there, /app is not there",
            ),
            ("/srv", "/bin", "dir", "\"dir\" is no file of it: /bin/dir is a directory, /srv/dir is not there"),
            (
                "/srv",
                "/bin",
                "gone",
                "\"gone\" is no file of it: /bin/gone leads to /opt/none/app, which is not there, /srv/gone is not there",
            ),
            (
                "",
                "",
                "/bin/deep",
                "\"/bin/deep\" is no file of it: /bin/deep leads to /opt/app.wasm/../x, which is not there",
            ),
            ("", "", "/bin/round", "\"/bin/round\" is no file of it: /bin/round leads through more than 40 links"),
            ("", "", "/bin/up", "\"/bin/up\" is no file of it: /bin/up leads to /, which is a directory"),
            (
                "",
                &dirs,
                "a",
                "\"a\" is no file of it: /d0/a is not there, /d1/a is not there, /d2/a is not there, /d3/a is not there, \
                 /d4/a is not there, /d5/a is not there, /d6/a is not there, /d7/a is not there, nor is it in 13 other places",
            ),
            (
                "",
                "",
                &format!("/{long}"),
                &format!("\"/{0}…\" is no file of it: /{0}… is not there", &long[..MAX_SHOWN_BYTES - 1]),
            ),
        ] {
            let told = found(&[&entries], name, &Search { working_dir, path }).unwrap_err();
            assert_eq!(told, format!("its entrypoint {expected}"));
        }
        let at =
            |name| placed(&[tar(&entries), tar(&["bin/app -> ../opt/app.wasm"])], name, &SEARCH).map(|found| found.0);
        assert_eq!(at("app").as_deref(), Ok("/opt/app.wasm"), "where the links lead");
    }

    #[test]
    fn what_is_too_large_or_broken_is_refused() {
        let layers = [tar(&["app.wasm"])];
        let (_, place) = placed(&layers, "/app.wasm", &SEARCH).unwrap();
        assert_eq!(read(&layers, place, 8, &meter(BYTES)).unwrap(), b"app.wasm");
        let told = |result: io::Result<()>| result.unwrap_err().to_string();
        assert_eq!(
            told(read(&layers, place, 7, &meter(BYTES)).map(drop)),
            "its layer 2 of 3: the entrypoint in it has 8 bytes, and 7 bytes is the most"
        );
        let files = |layer: Layer| told(Files::of(&[layer], &meter(BYTES)).map(drop));
        let cut = files(cut(&tar(&["app.wasm"]), 516));
        assert!(cut.starts_with("its layer 2 of 3: "), "{cut}");
        let mut long = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        long.append_link(&mut header, "a", "x/".repeat(3_000)).unwrap();
        assert_eq!(
            files(layer(TAR, None, &long.into_inner().unwrap())),
            "its layer 2 of 3: a name or a link in it has 6000 bytes, and 4096 is the most"
        );
    }

    #[test]
    fn names_and_entries_are_counted_in_all_layers() {
        let entries = |count: usize| Files {
            entries: (0..count)
                .map(|number| ((ROOT, number.to_string().into()), Placed { layer: 0, node: Node::Directory(1) }))
                .collect(),
            ..Files::default()
        };
        let put =
            |mut files: Files| files.put(1, Path::new("more"), Node::Link("to".into())).map_err(|e| e.to_string());
        assert_eq!(put(entries(MAX_ENTRIES - 1)), Ok(()));
        let told = "with it the image has more than 200000 files, directories and links";
        assert_eq!(put(entries(MAX_ENTRIES)), Err(told.to_owned()));
        let named = |names_bytes| Files { names_bytes, ..Files::default() };
        assert_eq!(put(named(MAX_NAMES_BYTES - 6)), Ok(()));
        let told = "with it the names and links of the image take more than 64 MiB";
        assert_eq!(put(named(MAX_NAMES_BYTES - 5)), Err(told.to_owned()));
    }

    #[test]
    fn only_so_many_names_are_looked_up() {
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        archive.append_data(&mut header, format!("{}app", "d/".repeat(1_000)), io::empty()).unwrap();
        let files = Files::of(&[layer(TAR, None, &archive.into_inner().unwrap())], &meter(BYTES)).unwrap();
        let deep = format!("/{}app", "d/".repeat(1_000));
        assert!(files.program(&deep, &SEARCH).is_ok());
        files.steps.set(MAX_STEPS - 1_000);
        let refused = files.program(&deep, &SEARCH).unwrap_err();
        assert_eq!(refused.to_string(), "to follow the names and links of the image takes more than 10000000 steps");
    }
}
