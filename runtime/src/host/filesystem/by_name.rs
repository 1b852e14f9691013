//! What guests open by name: files and directories, and nothing else that has a name in a volume.
//!
//! A volume can hold devices (a `hostPath`), named pipes and sockets, too. A device would be used with the node's own rights,
//! and whoever opens a pipe waits for its other end, on a thread that nobody can call back. wasmtime-wasi opens whatever is
//! there, and waits, in `open-at` and in `set-times-at`: these two are done here, for every version of WASI. The others open
//! nothing but directories; those are done here that must know what is laid over files of a volume ([`Overlays`]).

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::sync::Arc;

use cap_std::fs::{Dir, Metadata, OpenOptions, OpenOptionsExt as _};
use k8w_networking::open_files::check_room;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag};
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;
use wasmtime::component::Resource;
use wasmtime_wasi::OpenMode;
use wasmtime_wasi::filesystem::{self as wasi, Descriptor};
use wasmtime_wasi::runtime::spawn_blocking;

use super::listing::Reading;
use super::open_files::OpenFiles;
use super::overlays::{Overlay, Overlays};
use crate::wasm::store::State;

/// Of a second.
const NANOSECONDS: u32 = 1_000_000_000;

/// What a guest asks of `open-at`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request {
    pub follow: bool,
    pub create: bool,
    pub exclusive: bool,
    pub truncate: bool,
    pub directory: bool,
    pub read: bool,
    pub write: bool,
    /// One of the flags that ask for synchronized writes.
    pub sync: bool,
}

impl Request {
    pub fn reads(self) -> bool {
        self.read || !self.write
    }

    pub fn writes(self) -> bool {
        self.write || self.create || self.truncate
    }

    fn mode(self) -> OpenMode {
        let mut mode = OpenMode::empty();
        mode.set(OpenMode::READ, self.reads());
        mode.set(OpenMode::WRITE, self.writes());
        mode
    }
}

/// Makes a [`Request`] of the flags of one version of WASI, whose types differ in nothing but that.
macro_rules! request {
    ($types:ident, $path:expr, $open:expr, $flags:expr) => {{
        use $types::{DescriptorFlags, OpenFlags, PathFlags};
        let (path, open, flags): (PathFlags, OpenFlags, DescriptorFlags) = ($path, $open, $flags);
        let sync = DescriptorFlags::FILE_INTEGRITY_SYNC
            | DescriptorFlags::DATA_INTEGRITY_SYNC
            | DescriptorFlags::REQUESTED_WRITE_SYNC;
        $crate::host::filesystem::by_name::Request {
            follow: path.contains(PathFlags::SYMLINK_FOLLOW),
            create: open.contains(OpenFlags::CREATE),
            exclusive: open.contains(OpenFlags::EXCLUSIVE),
            truncate: open.contains(OpenFlags::TRUNCATE),
            directory: open.contains(OpenFlags::DIRECTORY),
            read: flags.contains(DescriptorFlags::READ),
            write: flags.contains(DescriptorFlags::WRITE),
            sync: flags.intersects(sync),
        }
    }};
}
pub(crate) use request;

/// Times to set, as `utimensat` takes them.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    pub accessed: TimeSpec,
    pub modified: TimeSpec,
}

/// A time that a guest gave, whose nanoseconds may be more than a second.
///
/// # Errors
/// EOVERFLOW.
pub fn time(seconds: i64, nanoseconds: u32) -> io::Result<TimeSpec> {
    let seconds = seconds.checked_add(i64::from(nanoseconds / NANOSECONDS)).ok_or(Errno::EOVERFLOW)?;
    Ok(TimeSpec::new(seconds, i64::from(nanoseconds % NANOSECONDS)))
}

/// A directory that a guest names something in, what is laid over the files of its container's volumes, and how many files that
/// may have open.
///
/// What can be done in it blocks.
pub struct Directory {
    dir: wasi::Dir,
    overlays: Overlays,
    files: Arc<OpenFiles>,
}

impl State {
    /// The directory behind a guest's handle.
    ///
    /// # Errors
    /// When the handle is none of the guest's, which traps; within, when it is a file's.
    pub fn directory(&self, handle: &Resource<Descriptor>) -> wasmtime::Result<io::Result<Directory>> {
        Ok(Directory::of(self.table.get(handle)?, &self.container.preopens.overlays, &self.container.files))
    }
}

impl Directory {
    /// # Errors
    /// ENOTDIR.
    pub fn of(descriptor: &Descriptor, overlays: &Overlays, files: &Arc<OpenFiles>) -> io::Result<Directory> {
        match descriptor {
            Descriptor::Dir(dir) => {
                Ok(Directory { dir: dir.clone(), overlays: overlays.clone(), files: files.clone() })
            }
            Descriptor::File(_) => Err(Errno::ENOTDIR.into()),
        }
    }

    fn handle(&self) -> io::Result<Dir> {
        Ok(Dir::from_std_file(self.dir.dir.try_clone()?))
    }

    fn check_writable(&self) -> io::Result<()> {
        check(!self.dir.perms.write_not_permitted())
    }

    fn overlay_at(&self, path: &str, follow: bool) -> Option<&Overlay> {
        if self.overlays.is_empty() {
            return None;
        }
        self.overlays.at(&self.handle().ok()?, Path::new(path), follow)
    }

    /// Fails where something is laid over what is at a path itself.
    fn check_bare(&self, path: &str, otherwise: Errno) -> io::Result<()> {
        self.overlay_at(path, false).map_or(Ok(()), |_| Err(otherwise.into()))
    }

    /// # Errors
    /// As POSIX has them; EPERM for what is neither a file nor a directory, and for writing where that is not allowed.
    pub fn open(&self, path: &str, request: Request) -> io::Result<Descriptor> {
        let place = self.files.place()?;
        let opened = self.open_uncounted(path, request)?;
        match &opened {
            Descriptor::File(file) => place.keep(Arc::<File>::downgrade(&file.file)),
            Descriptor::Dir(dir) => place.keep(Arc::<File>::downgrade(&dir.dir)),
        }
        Ok(opened)
    }

    fn open_uncounted(&self, path: &str, request: Request) -> io::Result<Descriptor> {
        if request.sync {
            return Err(Errno::ENOTSUP.into());
        }
        if request.directory && (request.create || request.exclusive || request.truncate) {
            return Err(Errno::EINVAL.into());
        }
        let handle = self.handle()?;
        check_room(&handle)?;
        let makes = request.create && request.exclusive;
        let instead = |overlay: &Overlay| Ok(overlay.descriptor(overlay.open(request)?, request.mode()));
        if !makes && let Some(overlay) = self.overlay_at(path, request.follow) {
            return instead(overlay);
        }
        if request.writes() {
            self.check_writable()?;
        }
        // By the time that it is open the name may be that of a file which something is laid over.
        let truncates_later = request.truncate && !self.overlays.is_empty();
        let mut options = OpenOptions::new();
        options.read(request.reads()).write(request.writes()).truncate(request.truncate && !truncates_later);
        let file = match makes {
            // Only what was not there before is opened.
            true => handle.open_with(path, options.create_new(true))?.into_std(),
            false => open(&handle, Path::new(path), options.create(request.create), request.follow)?,
        };
        let (found, perms) = (Metadata::from_file(&file)?, self.dir.perms);
        if let Some(overlay) = self.overlays.over(&found) {
            return instead(overlay);
        }
        if truncates_later {
            file.set_len(0)?;
        }
        match found.is_dir() {
            true => Ok(Descriptor::Dir(wasi::Dir::new(file, perms, request.mode(), false))),
            false if request.directory => Err(Errno::ENOTDIR.into()),
            false => Ok(Descriptor::File(wasi::File::new(file, perms, request.mode(), false))),
        }
    }

    /// # Errors
    /// As opening a directory.
    pub(super) fn read(&self) -> io::Result<Reading> {
        let (place, open) = (self.files.place()?, Arc::new(()));
        check_room(&self.handle()?)?;
        let entries = std::fs::read_dir(link_to(&self.dir.dir))?;
        place.keep(Arc::<()>::downgrade(&open));
        Ok(Reading { entries, _open: open })
    }

    /// What is at the path is not opened, so that it may be anything.
    ///
    /// # Errors
    /// As POSIX has them; EPERM where that is not allowed.
    pub fn set_times(&self, path: &str, follow: bool, times: Times) -> io::Result<()> {
        if let Some(overlay) = self.overlay_at(path, follow) {
            return overlay.set_times(times);
        }
        self.check_writable()?;
        set_times(&find(&self.handle()?, Path::new(path), follow)?, times)
    }

    /// A handle that tells of what is laid over the file at a path.
    pub fn told_of(&self, path: &str, follow: bool) -> Option<Descriptor> {
        self.overlay_at(path, follow)?.told_of().ok()
    }

    /// # Errors
    /// As POSIX has them; EBUSY for what something is laid over.
    pub fn unlink_file(&self, path: &str) -> io::Result<()> {
        self.check_writable()?;
        self.check_bare(path, Errno::EBUSY)?;
        self.handle()?.remove_file(path)
    }

    /// # Errors
    /// As POSIX has them; EBUSY where something is laid over what has either name.
    pub fn rename(&self, old: &str, to: &Directory, new: &str) -> io::Result<()> {
        self.check_writable()?;
        to.check_writable()?;
        self.check_bare(old, Errno::EBUSY)?;
        to.check_bare(new, Errno::EBUSY)?;
        self.handle()?.rename(old, &to.handle()?, new)
    }

    /// WASI lets no link be followed here.
    ///
    /// # Errors
    /// As POSIX has them; EXDEV for what something is laid over.
    pub fn link(&self, follow: bool, old: &str, to: &Directory, new: &str) -> io::Result<()> {
        self.check_writable()?;
        to.check_writable()?;
        if follow {
            return Err(Errno::EINVAL.into());
        }
        self.check_bare(old, Errno::EXDEV)?;
        self.handle()?.hard_link(old, &to.handle()?, new)
    }
}

/// `open-at`, off the thread that runs guests.
///
/// # Errors
/// As [`Directory::open`].
pub async fn open_at(dir: io::Result<Directory>, path: String, request: Request) -> io::Result<Descriptor> {
    let dir = dir?;
    spawn_blocking(move || dir.open(&path, request)).await
}

/// `set-times-at`, off the thread that runs guests.
///
/// # Errors
/// As [`Directory::set_times`].
pub async fn set_times_at(
    dir: io::Result<Directory>,
    path: String,
    follow: bool,
    times: io::Result<Times>,
) -> io::Result<()> {
    let (times, dir) = (times?, dir?);
    spawn_blocking(move || dir.set_times(&path, follow, times)).await
}

/// A handle that tells of what is laid over the file at a path, for `stat-at` and `metadata-hash-at`.
pub async fn overlay_at(dir: io::Result<Directory>, path: &str, follow: bool) -> Option<Descriptor> {
    let dir = dir.ok().filter(|dir| !dir.overlays.is_empty())?;
    let path = path.to_owned();
    spawn_blocking(move || dir.told_of(&path, follow)).await
}

/// `unlink-file-at`, off the thread that runs guests.
///
/// # Errors
/// As [`Directory::unlink_file`].
pub async fn unlink_file_at(dir: io::Result<Directory>, path: String) -> io::Result<()> {
    let dir = dir?;
    spawn_blocking(move || dir.unlink_file(&path)).await
}

/// `rename-at`, off the thread that runs guests.
///
/// # Errors
/// As [`Directory::rename`].
pub async fn rename_at(
    from: io::Result<Directory>,
    old: String,
    to: io::Result<Directory>,
    new: String,
) -> io::Result<()> {
    let (from, to) = (from?, to?);
    spawn_blocking(move || from.rename(&old, &to, &new)).await
}

/// `link-at`, off the thread that runs guests.
///
/// # Errors
/// As [`Directory::link`].
pub async fn link_at(
    from: io::Result<Directory>,
    follow: bool,
    old: String,
    to: io::Result<Directory>,
    new: String,
) -> io::Result<()> {
    let (from, to) = (from?, to?);
    spawn_blocking(move || from.link(follow, &old, &to, &new)).await
}

/// A handle to whatever is at a path beneath `dir`, which opens nothing.
///
/// # Errors
/// As opening a file.
pub fn find(dir: &Dir, path: &Path, follow: bool) -> io::Result<File> {
    let flags = OFlag::O_PATH | links(follow);
    Ok(dir.open_with(path, OpenOptions::new().read(true).custom_flags(flags.bits()))?.into_std())
}

/// A link of /proc, which leads to what is open itself, not to a name that it had.
pub fn link_to(handle: &File) -> String {
    format!("/proc/self/fd/{}", handle.as_raw_fd())
}

/// Sets times of what a handle leads to.
///
/// # Errors
/// As POSIX has them.
pub fn set_times(handle: &File, Times { accessed, modified }: Times) -> io::Result<()> {
    Ok(utimensat(AT_FDCWD, link_to(handle).as_str(), &accessed, &modified, UtimensatFlags::FollowSymlink)?)
}

/// Opens a file or directory beneath `dir`. Blocks, but waits for nobody at the other end of anything.
///
/// # Errors
/// As opening a file; EPERM for what is neither a file nor a directory.
pub fn open(dir: &Dir, path: &Path, options: &mut OpenOptions, follow: bool) -> io::Result<File> {
    match if follow { dir.metadata(path) } else { dir.symlink_metadata(path) } {
        Ok(found) if found.is_symlink() => return Err(Errno::ELOOP.into()),
        Ok(found) => check(found.is_file() || found.is_dir())?,
        // It may be about to be made.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let file = dir.open_with(path, options.custom_flags((OFlag::O_NONBLOCK | links(follow)).bits()))?.into_std();
    // By now the name may be something else's.
    let found = file.metadata()?;
    check(found.is_file() || found.is_dir())?;
    Ok(file)
}

fn links(follow: bool) -> OFlag {
    if follow { OFlag::empty() } else { OFlag::O_NOFOLLOW }
}

/// EPERM for what no guest opens.
pub(super) fn check(may_be_open: bool) -> io::Result<()> {
    if may_be_open { Ok(()) } else { Err(Errno::EPERM.into()) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::super::{descriptor, open_root};
    use super::*;

    /// A directory with something of each kind in it.
    fn volume() -> (tempfile::TempDir, UnixListener) {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        std::fs::write(at("file"), "text").unwrap();
        std::fs::create_dir(at("dir")).unwrap();
        mkfifo(&at("fifo"), Mode::from_bits_truncate(0o666)).unwrap();
        symlink("fifo", at("to-fifo")).unwrap();
        symlink("file", at("to-file")).unwrap();
        let socket = UnixListener::bind(at("socket")).unwrap();
        (root, socket)
    }

    fn preopen(path: &Path, read_only: bool) -> Directory {
        let dir = descriptor(open_root(path).unwrap().into_std_file(), read_only);
        Directory { dir, overlays: Overlays::default(), files: Arc::new(OpenFiles::new(usize::MAX, 0)) }
    }

    fn error(dir: &Directory, path: &str, request: Request) -> Errno {
        errno(dir.open(path, request))
    }

    fn errno<T>(result: io::Result<T>) -> Errno {
        Errno::from_raw(result.err().and_then(|error| error.raw_os_error()).unwrap_or_default())
    }

    #[test]
    fn files_and_directories_are_opened_and_nothing_else() {
        let (root, _socket) = volume();
        let dir = preopen(root.path(), false);
        let read = Request { read: true, follow: true, ..Request::default() };
        let write = Request { write: true, follow: true, ..Request::default() };
        for (name, request) in [("file", read), ("file", write), ("dir", read), ("to-file", read), (".", read)] {
            dir.open(name, request).unwrap();
        }
        let make = Request { create: true, ..write };
        for name in ["fifo", "socket", "to-fifo"] {
            for request in [read, write, make, Request { truncate: true, ..write }] {
                assert_eq!(error(&dir, name, request), Errno::EPERM, "{name} {request:?}");
            }
            assert_eq!(error(&dir, name, Request { exclusive: true, ..make }), Errno::EEXIST);
        }
        dir.open("new", make).unwrap();
        dir.open("newer", Request { exclusive: true, ..make }).unwrap();
        for (name, request, expected) in [
            ("to-file", Request { follow: false, ..read }, Errno::ELOOP),
            ("to-fifo", Request { follow: false, ..read }, Errno::ELOOP),
            ("none", read, Errno::ENOENT),
            ("dir", write, Errno::EISDIR),
            ("file", Request { directory: true, ..read }, Errno::ENOTDIR),
            ("dir", Request { directory: true, ..make }, Errno::EINVAL),
            ("file", Request { sync: true, ..write }, Errno::ENOTSUP),
        ] {
            assert_eq!(error(&dir, name, request), expected, "{name} {request:?}");
        }
        let fixed = preopen(root.path(), true);
        fixed.open("file", read).unwrap();
        assert_eq!(error(&fixed, "file", write), Errno::EPERM);
    }

    #[tokio::test]
    async fn times_are_set_of_whatever_is_there() {
        let (root, _socket) = volume();
        let times = Times { accessed: TimeSpec::UTIME_OMIT, modified: TimeSpec::new(1_000, 0) };
        for name in ["file", "dir", "fifo", "socket"] {
            set_times_at(Ok(preopen(root.path(), false)), name.to_owned(), true, Ok(times)).await.unwrap();
        }
        set_times_at(Ok(preopen(root.path(), false)), "to-file".to_owned(), false, Ok(times)).await.unwrap();
        for name in ["file", "dir", "fifo", "socket", "to-file"] {
            let modified = std::fs::symlink_metadata(root.path().join(name)).unwrap().modified().unwrap();
            assert_eq!(modified.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs(), 1_000, "{name}");
        }
        let fixed = set_times_at(Ok(preopen(root.path(), true)), "file".to_owned(), true, Ok(times)).await;
        assert_eq!(fixed.unwrap_err().raw_os_error(), Some(Errno::EPERM as i32));
    }

    /// A volume whose file `file` another is laid over, which lies beside it.
    struct Laid(tempfile::TempDir);

    impl Laid {
        fn new() -> Laid {
            let laid = Laid(tempfile::tempdir().unwrap());
            std::fs::create_dir_all(laid.path("volume/dir")).unwrap();
            for (path, text) in [("volume/file", "beneath"), ("volume/other", "other"), ("over", "above all")] {
                std::fs::write(laid.path(path), text).unwrap();
            }
            symlink("../file", laid.path("volume/dir/link")).unwrap();
            laid
        }

        fn path(&self, path: &str) -> std::path::PathBuf {
            self.0.path().join(path)
        }

        fn text(&self, path: &str) -> String {
            std::fs::read_to_string(self.path(path)).unwrap()
        }

        fn directory(&self, read_only: bool, overlay_is_read_only: bool) -> Directory {
            let at = |dir: &str, name: &str| find(&open_root(&self.path(dir)).unwrap(), Path::new(name), true).unwrap();
            let overlay = Overlay::new(at("volume", "file"), at("", "over"), overlay_is_read_only).unwrap();
            Directory { overlays: [overlay].into_iter().collect(), ..preopen(&self.path("volume"), read_only) }
        }
    }

    fn read(dir: &Directory, path: &str) -> String {
        let opened = dir.open(path, Request { read: true, follow: true, ..Request::default() });
        let Ok(Descriptor::File(file)) = opened else { panic!("{path} is no file") };
        io::read_to_string(&*file.file).unwrap()
    }

    #[test]
    fn what_is_laid_over_a_file_is_opened_in_its_place() {
        let laid = Laid::new();
        let dir = laid.directory(false, false);
        for path in ["file", "./file", "dir/../file", "dir/link"] {
            assert_eq!(read(&dir, path), "above all", "{path}");
        }
        assert_eq!(read(&dir, "other"), "other");
        let write = Request { write: true, follow: true, ..Request::default() };
        let truncate = Request { truncate: true, create: true, ..write };
        let Descriptor::File(file) = dir.open("file", write).unwrap() else { panic!("no file") };
        io::Write::write_all(&mut &*file.file, b"below").unwrap();
        assert_eq!((laid.text("over"), laid.text("volume/file")), ("below all".to_owned(), "beneath".to_owned()));
        dir.open("dir/link", truncate).unwrap();
        assert_eq!((laid.text("over"), laid.text("volume/file")), (String::new(), "beneath".to_owned()));
        for (request, expected) in [
            (Request { exclusive: true, create: true, ..write }, Errno::EEXIST),
            (Request { directory: true, ..Request::default() }, Errno::ENOTDIR),
        ] {
            assert_eq!(error(&dir, "file", request), expected, "{request:?}");
        }
        assert_eq!(error(&dir, "dir/link", Request::default()), Errno::ELOOP);
    }

    #[tokio::test]
    async fn whether_it_may_be_written_to_does_not_depend_on_the_volume() {
        let laid = Laid::new();
        let write = Request { write: true, truncate: true, ..Request::default() };
        let times = || Ok(Times { accessed: TimeSpec::UTIME_OMIT, modified: TimeSpec::new(1_000, 0) });
        let fixed = laid.directory(false, true);
        assert_eq!(error(&fixed, "file", write), Errno::EPERM);
        fixed.open("other", write).unwrap();
        assert_eq!(errno(set_times_at(Ok(fixed), "file".to_owned(), true, times()).await), Errno::EPERM);
        assert_eq!(laid.text("over"), "above all");
        let open = laid.directory(true, false);
        open.open("file", write).unwrap();
        assert_eq!(error(&open, "other", write), Errno::EPERM);
        set_times_at(Ok(open), "file".to_owned(), true, times()).await.unwrap();
        let modified = |path: &str| {
            let modified = std::fs::metadata(laid.path(path)).unwrap().modified().unwrap();
            modified.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
        };
        assert_eq!(modified("over"), 1_000);
        assert_ne!(modified("volume/file"), 1_000);
    }

    #[tokio::test]
    async fn what_something_is_laid_over_keeps_its_name() {
        let laid = Laid::new();
        let dir = || Ok(laid.directory(false, false));
        let name = |name: &str| name.to_owned();
        assert_eq!(errno(unlink_file_at(dir(), name("file")).await), Errno::EBUSY);
        for (old, new) in [("file", "new"), ("other", "file")] {
            assert_eq!(errno(rename_at(dir(), name(old), dir(), name(new)).await), Errno::EBUSY, "{old} {new}");
        }
        assert_eq!(errno(link_at(dir(), false, name("file"), dir(), name("new")).await), Errno::EXDEV);
        assert_eq!(errno(link_at(dir(), false, name("other"), dir(), name("file")).await), Errno::EEXIST);
        assert_eq!(errno(link_at(dir(), true, name("other"), dir(), name("new")).await), Errno::EINVAL);
        // A link to it is a file of its own, and so is everything else.
        unlink_file_at(dir(), name("dir/link")).await.unwrap();
        rename_at(dir(), name("other"), dir(), name("new")).await.unwrap();
        link_at(dir(), false, name("new"), dir(), name("dir/newer")).await.unwrap();
        assert_eq!((laid.text("volume/dir/newer"), laid.text("volume/file")), (name("other"), name("beneath")));
        for (from, to) in [(true, false), (false, true)] {
            let (from, to) = (|| Ok(laid.directory(from, false)), || Ok(laid.directory(to, false)));
            assert_eq!(errno(rename_at(from(), name("new"), to(), name("moved")).await), Errno::EPERM);
            assert_eq!(errno(link_at(from(), false, name("new"), to(), name("linked")).await), Errno::EPERM);
        }
        assert_eq!(errno(unlink_file_at(Ok(laid.directory(true, false)), name("new")).await), Errno::EPERM);
    }

    /// As container runtimes have it of what they mount.
    #[test]
    fn it_stays_what_it_was_and_its_place_may_be_taken() {
        let laid = Laid::new();
        let dir = laid.directory(false, false);
        std::fs::rename(laid.path("volume/file"), laid.path("volume/moved")).unwrap();
        std::fs::write(laid.path("volume/file"), "another").unwrap();
        std::fs::remove_file(laid.path("over")).unwrap();
        std::fs::write(laid.path("over"), "another").unwrap();
        assert_eq!((read(&dir, "file"), read(&dir, "moved")), ("another".to_owned(), "above all".to_owned()));
        // Its number is not given to a new file as long as somebody looks for it.
        std::fs::remove_file(laid.path("volume/moved")).unwrap();
        for number in 0..100 {
            let name = format!("new-{number}");
            std::fs::write(laid.path("volume").join(&name), "new").unwrap();
            assert_eq!(read(&dir, &name), "new");
        }
    }

    #[tokio::test]
    async fn what_is_told_is_of_the_file_on_top() {
        let laid = Laid::new();
        let dir = |overlay| Ok(laid.directory(true, overlay));
        let Some(Descriptor::File(file)) = overlay_at(dir(true), "dir/link", true).await else { panic!("nothing") };
        assert_eq!(file.file.metadata().unwrap().len(), 9);
        assert!(file.perms.write_not_permitted() && file.open_mode.is_empty());
        for (path, follow) in [("dir/link", false), ("other", true), ("none", true), ("../over", true)] {
            assert!(overlay_at(dir(true), path, follow).await.is_none(), "{path}");
        }
        assert!(overlay_at(Err(Errno::ENOTDIR.into()), "file", true).await.is_none());
    }
}
