//! A small directory that is a guest's volume, and all around it that a guest must not reach.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirEntryExt as _, MetadataExt as _, OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8w_runtime::host::filesystem::overlays::{Overlay, Overlays};
use k8w_runtime::host::filesystem::types::HostDescriptor as _;
use k8w_runtime::host::filesystem::{
    Descriptor, Dir, File, FsPerms, OpenMode, WasiFilesystemCtx, WasiFilesystemCtxView,
};
use k8w_runtime::host::sockets::ResourceTable;
use nix::fcntl::{AT_FDCWD, OFlag};
use nix::sys::stat::{Mode, UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::mkfifo;
use tempfile::TempDir;

/// What a file says that no guest may read, and longer than anything that a guest makes.
pub const CANARY: &str = "whoever reads this, or hears that something is as long as it is, has got out of its volume";
/// What a file says that something is laid over.
pub const BENEATH: &str = "beneath";
/// What one says that is laid over it.
const ABOVE: &str = "above";

/// What a volume holds at first.
enum What {
    Directory,
    File(&'static str),
    /// What something is laid over.
    Placeholder,
    Link(&'static str),
    /// One that is not relative.
    LinkOutside,
    Pipe,
}

/// What is in the volume at first, with links that lead outside in every way.
const VOLUME: [(&str, What); 16] = [
    ("d", What::Directory),
    ("d/e", What::Directory),
    ("a", What::File("a")),
    ("d/b", What::File("b")),
    ("laid", What::Placeholder),
    ("d/fixed", What::Placeholder),
    ("out", What::Link("../outside/canary")),
    ("outside", What::Link("../outside")),
    ("up", What::Link("..")),
    ("proc", What::Link("/proc/self/root")),
    ("to-d", What::Link("d")),
    ("to-laid", What::Link("d/../laid")),
    ("loop", What::Link("loop")),
    ("d/far", What::Link("../../volume/../outside")),
    ("absolute", What::LinkOutside),
    ("pipe", What::Pipe),
];

/// When everything was made and changed that has not been since, and when it was read.
const MADE: TimeSpec = TimeSpec::new(2, 0);
const READ: TimeSpec = TimeSpec::new(1, 0);

/// A file's device and number.
pub type Identity = (u64, u64);

/// What is around the volume, as it must stay, and whether a guest may have it to read: what lies beside the volume, a volume
/// that is read-only, and what is laid over files of both.
const AROUND: [(&str, bool); 12] = [
    ("", false),
    ("outside", false),
    ("outside/canary", false),
    ("outside/dir", false),
    ("outside/dir/canary", false),
    ("fixed", true),
    ("fixed/a", true),
    ("fixed/d", true),
    ("fixed/d/b", true),
    ("fixed/laid", false),
    ("laid", false),
    ("laid/fixed", true),
];

/// All that would change with a file or directory, and the time of its last access, where nobody may read it.
#[derive(Debug, PartialEq, Eq)]
struct State {
    identity: Identity,
    mode: u32,
    links: u64,
    size: u64,
    changed: (i64, i64),
    accessed: Option<(i64, i64)>,
}

/// What must stay as it was.
struct Kept {
    name: &'static str,
    handle: fs::File,
    may_read: bool,
    state: State,
}

impl Kept {
    fn new(root: &Path, name: &'static str, may_read: bool) -> Kept {
        let handle = handle(&root.join(name));
        Kept { name, state: state(&handle, may_read), handle, may_read }
    }

    fn check(&self) {
        assert_eq!(state(&self.handle, self.may_read), self.state, "/{} is not as it was", self.name);
    }
}

pub struct World {
    root: TempDir,
    around: Vec<Kept>,
    /// What may be read only.
    pub fixed: BTreeSet<Identity>,
    pub volume: Dir,
    pub read_only: Dir,
    pub overlays: Overlays,
    /// The files that others are laid over.
    placeholders: Vec<Kept>,
    hashes: OnceCell<BTreeSet<u64>>,
    /// Of files and directories of the volume.
    numbers: [u64; VOLUME.len()],
}

impl World {
    pub fn new() -> World {
        let memory = Path::new("/dev/shm");
        let root = TempDir::new_in(memory).or_else(|_| TempDir::new()).expect("a directory");
        let at = |path: &str| root.path().join(path);
        for dir in ["outside/dir", "fixed/d", "laid", "volume"] {
            fs::create_dir_all(at(dir)).expect("a directory");
        }
        for file in ["outside/canary", "outside/dir/canary"] {
            fs::write(at(file), CANARY).expect("a file");
        }
        for file in ["fixed/a", "fixed/d/b", "fixed/laid", "laid/open", "laid/fixed"] {
            fs::write(at(file), ABOVE).expect("a file");
        }
        symlink("../outside/canary", at("fixed/out")).expect("a link");
        for (path, _) in AROUND {
            make_old(&at(path));
        }
        // So that the time of any change is another one.
        std::thread::sleep(Duration::from_millis(20));
        let around = AROUND.map(|(name, may_read)| Kept::new(root.path(), name, may_read)).into_iter();
        let around: Vec<Kept> = around.collect();
        let preopen =
            |path: &str, perms, mode| Dir::new(fs::File::open(at(path)).expect("a directory"), perms, mode, true);
        let mut world = World {
            fixed: around.iter().filter(|kept| kept.may_read).map(|kept| kept.state.identity).collect(),
            volume: preopen("volume", FsPerms::ReadWrite, OpenMode::READ | OpenMode::WRITE),
            read_only: preopen("fixed", FsPerms::ReadOnly, OpenMode::READ),
            overlays: Overlays::default(),
            placeholders: Vec::new(),
            hashes: OnceCell::new(),
            numbers: [0; VOLUME.len()],
            around,
            root,
        };
        world.fill();
        world
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    /// Puts into the volume what it holds at first.
    fn fill(&mut self) {
        self.numbers = VOLUME.each_ref().map(|(name, what)| self.make(name, what));
        self.write("laid/open", ABOVE);
        let pairs = [
            ("volume/laid", "laid/open", false),
            ("volume/d/fixed", "laid/fixed", true),
            ("fixed/laid", "laid/open", false),
        ];
        let kept = |(placeholder, ..): &(&'static str, _, _)| Kept::new(self.root.path(), placeholder, false);
        self.placeholders = pairs.iter().map(kept).collect();
        let overlays = pairs.iter().map(|(placeholder, file, read_only)| {
            let [placeholder, file] = [placeholder, file].map(|path| handle(&self.path(path)));
            Overlay::new(placeholder, file, *read_only).expect("an overlay")
        });
        self.overlays = overlays.collect();
        self.hashes.take();
    }

    /// Its number.
    fn make(&self, name: &str, what: &What) -> u64 {
        let path = self.path("volume").join(name);
        match what {
            What::Directory => fs::create_dir(&path).expect("a directory"),
            What::File(text) => self.write(&format!("volume/{name}"), text),
            What::Placeholder => fs::write(&path, BENEATH).expect("a file"),
            What::Link(to) => symlink(to, &path).expect("a link"),
            What::LinkOutside => symlink(self.path("outside/canary"), &path).expect("a link"),
            What::Pipe => mkfifo(&path, Mode::S_IRWXU).expect("a pipe"),
        }
        fs::symlink_metadata(&path).expect("metadata").ino()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("a file");
        make_old(&self.path(name));
    }

    /// Writes to a file what it held at first, if it may have been written to.
    fn write_again(&self, name: &str, text: &str) {
        let found = fs::symlink_metadata(self.path(name)).expect("metadata");
        if (found.size(), found.mtime()) != (text.len() as u64, MADE.tv_sec()) {
            self.write(name, text);
        }
    }

    fn kept(&self) -> impl Iterator<Item = &Kept> {
        self.around.iter().chain(&self.placeholders)
    }

    /// Whether what is open lies where a guest may have something.
    pub fn may_have(&self, file: &fs::File) -> bool {
        let path = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).expect("a path");
        let beneath = path.strip_prefix(self.root.path()).ok().and_then(|beneath| beneath.components().next());
        beneath.is_some_and(|dir| ["volume", "fixed", "laid"].map(OsStr::new).contains(&dir.as_os_str()))
    }

    /// Whether a guest may have nothing of this.
    pub fn hides(&self, identity: Identity) -> bool {
        self.kept().any(|kept| !kept.may_read && kept.state.identity == identity)
    }

    /// Of what a guest may not have, as it would be told them.
    pub fn hidden_hashes(&self) -> &BTreeSet<u64> {
        self.hashes.get_or_init(|| {
            let hidden =
                self.kept().filter(|kept| !kept.may_read).map(|kept| kept.handle.try_clone().expect("a handle"));
            hidden.map(told_hash).collect()
        })
    }

    /// # Panics
    /// When something is not as it was around the volume, or with the files that others are laid over.
    pub fn check(&self) {
        self.kept().for_each(Kept::check);
    }

    /// Makes the volume what it was, of what is left.
    pub fn renew(&mut self) {
        let mut is_left = [false; VOLUME.len()];
        self.tidy("", &mut is_left);
        let is_needed = |what: &What| matches!(what, What::Directory | What::Placeholder);
        if VOLUME.iter().zip(is_left).any(|((_, what), is_left)| !is_left && is_needed(what)) {
            self.numbers = [0; VOLUME.len()];
            self.tidy("", &mut is_left);
            return self.fill();
        }
        for (place, (name, what)) in VOLUME.iter().enumerate() {
            match what {
                _ if !is_left[place] => self.numbers[place] = self.make(name, what),
                What::File(text) => self.write_again(&format!("volume/{name}"), text),
                _ => {}
            }
        }
        self.write_again("laid/open", ABOVE);
    }

    /// Removes what was not there at first.
    fn tidy(&self, folder: &str, is_left: &mut [bool; VOLUME.len()]) {
        for entry in fs::read_dir(self.path("volume").join(folder)).expect("a directory") {
            let entry = entry.expect("an entry");
            let is_dir = entry.file_type().expect("a type").is_dir();
            let name = Path::new(folder).join(entry.file_name());
            let is_it =
                |(number, (known, _)): (&u64, &(&str, What))| name == Path::new(known) && *number == entry.ino();
            match self.numbers.iter().zip(&VOLUME).position(is_it) {
                Some(place) => {
                    is_left[place] = true;
                    if is_dir {
                        self.tidy(VOLUME[place].0, is_left);
                    }
                }
                None if is_dir => fs::remove_dir_all(entry.path()).expect("nothing is left"),
                None => fs::remove_file(entry.path()).expect("nothing is left"),
            }
        }
    }
}

/// Whoever reads for the first time after a change leaves a trace, with `relatime`.
fn make_old(path: &Path) {
    utimensat(AT_FDCWD, path, &READ, &MADE, UtimensatFlags::NoFollowSymlink).expect("times");
}

/// A handle that opens nothing.
fn handle(path: &Path) -> fs::File {
    let opened = OpenOptions::new().read(true).custom_flags((OFlag::O_PATH | OFlag::O_NOFOLLOW).bits()).open(path);
    opened.expect("a file or directory")
}

fn state(handle: &fs::File, may_read: bool) -> State {
    let found = handle.metadata().expect("metadata");
    State {
        identity: identity(&found),
        mode: found.mode(),
        links: found.nlink(),
        size: found.size(),
        changed: (found.ctime(), found.ctime_nsec()),
        accessed: (!may_read).then(|| (found.atime(), found.atime_nsec())),
    }
}

pub fn identity(found: &fs::Metadata) -> Identity {
    (found.dev(), found.ino())
}

/// The half of `metadata-hash` that the other half is made of.
fn told_hash(file: fs::File) -> u64 {
    let (mut table, mut ctx) = (ResourceTable::new(), WasiFilesystemCtx::default());
    let file = File::new(file, FsPerms::ReadOnly, OpenMode::empty(), true);
    let file = table.push(Descriptor::File(file)).expect("room in the table");
    let mut view = WasiFilesystemCtxView { ctx: &mut ctx, table: &mut table };
    super::now(view.metadata_hash(file)).expect("a hash").lower
}
