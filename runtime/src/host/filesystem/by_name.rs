//! What guests open by name: files and directories, and nothing else that has a name in a volume.
//!
//! A volume can hold devices (a `hostPath`), named pipes and sockets, too. A device would be used with the node's own rights,
//! and whoever opens a pipe waits for its other end, on a thread that nobody can call back. wasmtime-wasi opens whatever is
//! there, and waits, in `open-at` and in `set-times-at`: these two are done here, for every version of WASI. The others open
//! nothing but directories.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::Path;

use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt as _};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag};
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;
use wasmtime::component::Resource;
use wasmtime_wasi::OpenMode;
use wasmtime_wasi::filesystem::{self as wasi, Descriptor};
use wasmtime_wasi::runtime::spawn_blocking;

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

impl State {
    /// The directory behind a guest's handle.
    ///
    /// # Errors
    /// When the handle is none of the guest's, which traps; within, when it is a file's.
    pub fn directory(&self, handle: &Resource<Descriptor>) -> wasmtime::Result<io::Result<wasi::Dir>> {
        Ok(match self.table.get(handle)? {
            Descriptor::Dir(dir) => Ok(dir.clone()),
            Descriptor::File(_) => Err(Errno::ENOTDIR.into()),
        })
    }
}

/// `open-at`, off the thread that runs guests.
///
/// # Errors
/// As POSIX has them; EPERM for what is neither a file nor a directory, and for writing where that is not allowed.
pub async fn open_at(dir: io::Result<wasi::Dir>, path: String, request: Request) -> io::Result<Descriptor> {
    let dir = dir?;
    spawn_blocking(move || open_descriptor(&dir, Path::new(&path), request)).await
}

/// `set-times-at`, off the thread that runs guests. What is at the path is not opened, so that it may be anything.
///
/// # Errors
/// As POSIX has them.
pub async fn set_times_at(
    dir: io::Result<wasi::Dir>,
    path: String,
    follow: bool,
    times: io::Result<Times>,
) -> io::Result<()> {
    let (Times { accessed, modified }, dir) = (times?, dir?);
    if dir.perms.write_not_permitted() {
        return Err(Errno::EPERM.into());
    }
    spawn_blocking(move || {
        let flags = OFlag::O_PATH | links(follow);
        let opened = handle(&dir)?.open_with(path, OpenOptions::new().read(true).custom_flags(flags.bits()))?;
        let name = format!("/proc/self/fd/{}", opened.as_raw_fd());
        Ok(utimensat(AT_FDCWD, name.as_str(), &accessed, &modified, UtimensatFlags::FollowSymlink)?)
    })
    .await
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

fn open_descriptor(dir: &wasi::Dir, path: &Path, request: Request) -> io::Result<Descriptor> {
    let writes = request.write || request.create || request.truncate;
    let reads = request.read || !request.write;
    if request.sync {
        return Err(Errno::ENOTSUP.into());
    }
    if request.directory && (request.create || request.exclusive || request.truncate) {
        return Err(Errno::EINVAL.into());
    }
    if writes && dir.perms.write_not_permitted() {
        return Err(Errno::EPERM.into());
    }
    let mut options = OpenOptions::new();
    options.read(reads).write(writes).truncate(request.truncate);
    let makes = request.create && request.exclusive;
    let file = match makes {
        // Only what was not there before is opened.
        true => handle(dir)?.open_with(path, options.create_new(true))?.into_std(),
        false => open(&handle(dir)?, path, options.create(request.create), request.follow)?,
    };
    let mut mode = OpenMode::empty();
    mode.set(OpenMode::READ, reads);
    mode.set(OpenMode::WRITE, writes);
    match file.metadata()?.is_dir() {
        true => Ok(Descriptor::Dir(wasi::Dir::new(file, dir.perms, mode, false))),
        false if request.directory => Err(Errno::ENOTDIR.into()),
        false => Ok(Descriptor::File(wasi::File::new(file, dir.perms, mode, false))),
    }
}

fn handle(dir: &wasi::Dir) -> io::Result<Dir> {
    Ok(Dir::from_std_file(dir.dir.try_clone()?))
}

fn links(follow: bool) -> OFlag {
    if follow { OFlag::empty() } else { OFlag::O_NOFOLLOW }
}

fn check(may_be_open: bool) -> io::Result<()> {
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

    fn preopen(path: &Path, read_only: bool) -> wasi::Dir {
        descriptor(open_root(path).unwrap().into_std_file(), read_only)
    }

    fn error(dir: &wasi::Dir, path: &str, request: Request) -> Errno {
        let error = open_descriptor(dir, Path::new(path), request).err().expect(path);
        Errno::from_raw(error.raw_os_error().unwrap_or_default())
    }

    #[test]
    fn files_and_directories_are_opened_and_nothing_else() {
        let (root, _socket) = volume();
        let dir = preopen(root.path(), false);
        let read = Request { read: true, follow: true, ..Request::default() };
        let write = Request { write: true, follow: true, ..Request::default() };
        for (name, request) in [("file", read), ("file", write), ("dir", read), ("to-file", read), (".", read)] {
            open_descriptor(&dir, Path::new(name), request).unwrap();
        }
        let make = Request { create: true, ..write };
        for name in ["fifo", "socket", "to-fifo"] {
            for request in [read, write, make, Request { truncate: true, ..write }] {
                assert_eq!(error(&dir, name, request), Errno::EPERM, "{name} {request:?}");
            }
            assert_eq!(error(&dir, name, Request { exclusive: true, ..make }), Errno::EEXIST);
        }
        open_descriptor(&dir, Path::new("new"), make).unwrap();
        open_descriptor(&dir, Path::new("newer"), Request { exclusive: true, ..make }).unwrap();
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
        open_descriptor(&fixed, Path::new("file"), read).unwrap();
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
}
