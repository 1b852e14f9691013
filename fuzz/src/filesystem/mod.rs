//! `wasi:filesystem`: whatever guests ask for by name, in whatever order, they get nothing that is not beneath their volumes and
//! change nothing but what is in those that they may write to; what something is laid over is out of reach; what is opened is
//! a file or a directory, with no more rights than were asked for and given.

mod world;

use std::cell::RefCell;
use std::io;
use std::sync::Arc;

use futures::FutureExt as _;
use k8w_runtime::host::filesystem::by_name::{Directory, Request};
use k8w_runtime::host::filesystem::open_files::OpenFiles;
use k8w_runtime::host::filesystem::types::{
    Datetime, DescriptorStat, DescriptorType, ErrorCode, HostDescriptor as _, HostDirectoryEntryStream,
    MetadataHashValue, NewTimestamp, PathFlags,
};
use k8w_runtime::host::filesystem::{
    self, Descriptor, Dir, File, FsError, OpenMode, WasiFilesystemCtx, WasiFilesystemCtxView,
};
use k8w_runtime::host::p3::filesystem as p3;
use k8w_runtime::host::sockets::{Resource, ResourceTable};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use world::{BENEATH, CANARY, World, identity};

const MAX_CALLS: usize = 32;
/// Handles that a guest has at most.
const MAX_HANDLES: usize = 8;
/// Nothing that a guest writes is longer.
const MAX_FILE_BYTES: u8 = 32;

thread_local! {
    static WORLD: RefCell<World> = RefCell::new(World::new());
}

/// An input is a list of calls, a line each: a letter for what is called, the handle that it is called with, a character for
/// flags, and one path or two.
pub fn check(input: &[u8]) {
    WORLD.with_borrow_mut(|world| {
        let mut guest = Guest::new(world);
        for line in input.split(|byte| *byte == b'\n').take(MAX_CALLS) {
            guest.call(line);
        }
        let has_changed = guest.has_changed;
        world.check();
        if has_changed {
            world.renew();
        }
    });
}

struct Guest<'w> {
    world: &'w World,
    table: ResourceTable,
    context: WasiFilesystemCtx,
    /// The volume, the one that is read-only, and what was opened.
    handles: Vec<Resource<Descriptor>>,
    /// Whether anything may have.
    has_changed: bool,
}

impl Guest<'_> {
    fn new(world: &World) -> Guest<'_> {
        let (mut table, context) = (ResourceTable::new(), WasiFilesystemCtx::default());
        let preopens = [&world.volume, &world.read_only].map(|dir| Descriptor::Dir(dir.clone()));
        let handles = preopens.map(|dir| table.push(dir).expect("room in the table")).into_iter().collect();
        Guest { world, table, context, handles, has_changed: false }
    }

    fn view(&mut self) -> WasiFilesystemCtxView<'_> {
        WasiFilesystemCtxView { ctx: &mut self.context, table: &mut self.table }
    }

    fn handle(&self, number: u8) -> Resource<Descriptor> {
        Resource::new_borrow(self.handles[usize::from(number) % self.handles.len()].rep())
    }

    fn directory(&self, number: u8) -> io::Result<Directory> {
        let files = Arc::new(OpenFiles::new(usize::MAX, 0));
        Directory::of(self.table.get(&self.handle(number)).expect("a handle"), &self.world.overlays, &files)
    }

    fn call(&mut self, line: &[u8]) {
        let Some((&[what, from, flags], paths)) = line.split_first_chunk() else { return };
        let Ok(paths) = std::str::from_utf8(paths) else { return };
        let (path, other) = paths.split_once(' ').unwrap_or((paths, ""));
        let (from, flags) = (from.wrapping_sub(b'0'), flags.wrapping_sub(b'0'));
        let (handle, directory, follow) = (self.handle(from), self.directory(from), flags & 1 != 0);
        let path_of = || path.to_owned();
        match what {
            b'o' => self.open(directory, path, flags),
            b's' => self.stat(directory, handle, path, follow),
            b't' => self.set_times(directory, path, follow, other),
            b'u' => self.changes(directory.and_then(|dir| dir.unlink_file(path))),
            b'r' => {
                let to = self.directory(flags);
                self.changes(directory.and_then(|from| from.rename(path, &to?, other)));
            }
            b'l' => {
                let to = self.directory(flags / 2);
                self.changes(directory.and_then(|from| from.link(follow, path, &to?, other)));
            }
            b'm' => {
                let made = now(self.view().create_directory_at(handle, path_of()));
                self.has_changed |= made.is_some();
            }
            b'x' => {
                let removed = now(self.view().remove_directory_at(handle, path_of()));
                self.has_changed |= removed.is_some();
            }
            b'y' => {
                let made = now(self.view().symlink_at(handle, path_of(), other.to_owned()));
                self.has_changed |= made.is_some();
            }
            b'k' => {
                let Some(leads_to) = now(self.view().readlink_at(handle, path_of())) else { return };
                assert!(leads_to != CANARY && !leads_to.starts_with('/'), "{leads_to} was read");
            }
            b'i' => self.list(handle),
            b'w' => {
                let written = now(self.view().write(handle, b"w".to_vec(), u64::from(flags % MAX_FILE_BYTES)));
                self.has_changed |= written.is_some();
            }
            b'z' => {
                let set = now(self.view().set_size(handle, u64::from(flags % MAX_FILE_BYTES)));
                self.has_changed |= set.is_some();
            }
            b'c' => {
                let Some((bytes, _)) = now(self.view().read(handle, CANARY.len() as u64, 0)) else { return };
                for secret in [CANARY, BENEATH] {
                    assert!(!bytes.starts_with(&secret.as_bytes()[..4]), "{secret} was read");
                }
            }
            _ => {}
        }
    }

    /// Whatever is refused is refused by a word of each version of WASI.
    fn done<T>(&mut self, result: io::Result<T>) -> Option<T> {
        let Err(error) = result else { return result.ok() };
        let again = error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error);
        let (earlier, later) = (filesystem::refused(error), p3::refused(again));
        assert_eq!(earlier == ErrorCode::CrossDevice, matches!(later, p3::types::ErrorCode::CrossDevice));
        None
    }

    fn changes(&mut self, result: io::Result<()>) {
        let done = self.done(result);
        self.has_changed |= done.is_some();
    }

    fn open(&mut self, directory: io::Result<Directory>, path: &str, flags: u8) {
        let is = |bit: u8| flags & 1 << bit != 0;
        let request = Request {
            follow: is(0),
            create: is(1),
            exclusive: is(2),
            truncate: is(3),
            directory: is(4),
            write: is(5),
            read: is(6),
            sync: is(7),
        };
        let Some(opened) = self.done(directory.and_then(|dir| dir.open(path, request))) else { return };
        self.has_changed |= request.writes();
        let (file, perms, mode) = match &opened {
            Descriptor::Dir(dir) => (&dir.dir, dir.perms, dir.open_mode),
            Descriptor::File(file) => (&file.file, file.perms, file.open_mode),
        };
        let (found, is_dir) = (file.metadata().expect("metadata"), matches!(opened, Descriptor::Dir(_)));
        assert!(found.is_dir() || found.is_file(), "{path} is neither a file nor a directory");
        assert!(found.is_dir() == is_dir && (is_dir || !request.directory) && !request.sync);
        assert!(
            !(request.truncate || request.create && request.exclusive) || found.len() == 0,
            "{path} holds something"
        );
        assert!(self.world.may_have(file) && !self.world.hides(identity(&found)), "{path} leads outside");
        let access = fcntl(file, FcntlArg::F_GETFL).expect("flags") & OFlag::O_ACCMODE.bits();
        let (reads, writes) = (access != OFlag::O_WRONLY.bits(), access != OFlag::O_RDONLY.bits());
        assert_eq!((reads, writes), (request.reads(), request.writes()), "{path}");
        assert_eq!((reads, writes), (mode.contains(OpenMode::READ), mode.contains(OpenMode::WRITE)));
        if self.world.fixed.contains(&identity(&found)) {
            assert!(!writes && perms.write_not_permitted(), "{path} may not be written to");
        }
        if self.handles.len() < MAX_HANDLES {
            let opened = self.table.push(at_once(opened)).expect("room in the table");
            self.handles.push(opened);
        }
    }

    fn stat(&mut self, directory: io::Result<Directory>, handle: Resource<Descriptor>, path: &str, follow: bool) {
        let overlay = directory.ok().and_then(|dir| dir.told_of(path, follow));
        let again = Resource::new_borrow(handle.rep());
        let (told, hash) = match overlay {
            Some(overlay) => {
                let overlay = self.table.push(at_once(overlay)).expect("room in the table");
                let of_it = || Resource::new_borrow(overlay.rep());
                let told = (now(self.view().stat(of_it())), now(self.view().metadata_hash(of_it())));
                self.table.delete(overlay).expect("a handle");
                told
            }
            None => {
                let flags = if follow { PathFlags::SYMLINK_FOLLOW } else { PathFlags::empty() };
                let told = now(self.view().stat_at(handle, flags, path.to_owned()));
                (told, now(self.view().metadata_hash_at(again, flags, path.to_owned())))
            }
        };
        if let Some(DescriptorStat { type_: DescriptorType::RegularFile, size, .. }) = told {
            assert_ne!(size, CANARY.len() as u64, "{path} leads outside");
        }
        if let Some(MetadataHashValue { lower, .. }) = hash {
            assert!(!self.world.hidden_hashes().contains(&lower), "{path} leads outside");
        }
    }

    /// The other path is a number of seconds.
    fn set_times(&mut self, directory: io::Result<Directory>, path: &str, follow: bool, other: &str) {
        let (modified, later) = match other.parse::<u64>() {
            Ok(seconds) => {
                let nanoseconds = (seconds << 8) as u32;
                let later = i64::try_from(seconds).map(|seconds| p3::types::Instant { seconds, nanoseconds });
                let later = later.map(p3::types::NewTimestamp::Timestamp).ok();
                (NewTimestamp::Timestamp(Datetime { seconds, nanoseconds }), later)
            }
            Err(_) if other.is_empty() => (NewTimestamp::Now, Some(p3::types::NewTimestamp::Now)),
            Err(_) => (NewTimestamp::NoChange, Some(p3::types::NewTimestamp::NoChange)),
        };
        let times = filesystem::times(NewTimestamp::NoChange, modified);
        let later = later.map(|modified| p3::times(p3::types::NewTimestamp::NoChange, modified));
        let spec =
            |times: io::Result<filesystem::by_name::Times>| times.ok().map(|times| (times.accessed, times.modified));
        let Some(times) = self.done(times) else {
            return assert_eq!(later.and_then(spec), None);
        };
        assert_eq!(later.and_then(spec), Some((times.accessed, times.modified)), "versions disagree of {other}");
        self.changes(directory.and_then(|dir| dir.set_times(path, follow, times)));
    }

    fn list(&mut self, handle: Resource<Descriptor>) {
        let Some(entries) = now(self.view().read_directory(handle)) else { return };
        let again = || Resource::new_borrow(entries.rep());
        while let Some(Some(_)) = now(self.view().read_directory_entry(again())) {}
        HostDirectoryEntryStream::drop(&mut self.view(), entries).expect("a stream");
    }
}

/// What wasmtime-wasi answers, which needs no other thread for a descriptor made by [`at_once`].
fn now<T>(answer: impl Future<Output = Result<T, FsError>>) -> Option<T> {
    let answer = answer.now_or_never().expect("it waits for nothing");
    answer.map_err(|error| error.downcast().expect("an error of the guest's")).ok()
}

/// The same, with operations on the thread that calls for them.
fn at_once(descriptor: Descriptor) -> Descriptor {
    let own = |file| Arc::into_inner(file).expect("nobody else has it");
    match descriptor {
        Descriptor::Dir(Dir { dir, perms, open_mode, .. }) => {
            Descriptor::Dir(Dir::new(own(dir), perms, open_mode, true))
        }
        Descriptor::File(File { file, perms, open_mode, .. }) => {
            Descriptor::File(File::new(own(file), perms, open_mode, true))
        }
    }
}
