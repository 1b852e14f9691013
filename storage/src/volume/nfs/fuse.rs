//! Shows a server's files as a file system of this machine, by FUSE.
//!
//! Requests come in on a thread of the mount's own and are answered by tasks. A close waits for nothing: what it means for
//! the server is done after it.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use fuser::{
    BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    InitFlags, KernelConfig, LockOwner, MountOption, OpenAccMode, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate,
    ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, Session, TimeOrNow,
    WriteFlags,
};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

use super::answers::{Attributes, Kind, Time};
use super::files::{Files, Found};
use super::options::Options;
use super::procedures::{Changes, Error, SetTime};

/// Most requests of one volume that are under way at a time; others wait in the kernel.
const MAX_IN_FLIGHT: u32 = 64;
/// Largest write of the kernel's, of which each in flight has a copy.
const MAX_WRITE_BYTES: u32 = 256 << 10;
/// Size in which `blocks` counts (stat(2)), and in which space is told.
const BLOCK_BYTES: u64 = 512;
const SPACE_BLOCK_BYTES: u64 = 4096;
const MAX_NAME_BYTES: u32 = 255;

/// What the log says when a commit failed that nobody waits for.
pub const NOT_ON_DISK: &str = "what was written to a volume of NFS may not have come to its server's disk";

/// A volume that is mounted.
pub struct Mount {
    ended: oneshot::Receiver<()>,
    room: Arc<Semaphore>,
}

impl Mount {
    /// Waits until it is no longer mounted, whoever ended that.
    pub async fn ended(&mut self) {
        let _ = (&mut self.ended).await;
    }

    /// Waits until nothing is under way any more, and lets nothing new begin.
    pub async fn settled(&self) {
        if let Ok(all) = self.room.acquire_many(MAX_IN_FLIGHT).await {
            all.forget();
        }
    }
}

/// Mounts at `dir`, until the mount is ended from outside.
///
/// # Errors
/// When the kernel does not let this process do it.
pub fn mount(
    dir: &Path,
    device: &str,
    files: Arc<Files>,
    runtime: Handle,
    options: &Options,
    read_only: bool,
) -> io::Result<Mount> {
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::FSName(device.to_owned()),
        MountOption::Subtype("nfs".to_owned()),
        MountOption::NoDev,
        MountOption::NoSuid,
        MountOption::NoExec,
        if read_only { MountOption::RO } else { MountOption::RW },
    ];
    let (tell, ended) = oneshot::channel();
    let room = Arc::new(Semaphore::new(MAX_IN_FLIGHT as usize));
    let valid = options.attributes_valid;
    // One operation may take several calls.
    let limit = options.wait().saturating_mul(2);
    let volume = Volume { files, runtime, room: room.clone(), valid, limit, ended: Some(tell) };
    let session = Session::new(volume, dir, &config)?.spawn()?;
    // When it is dropped it unmounts whatever is there by then.
    std::mem::forget(session);
    Ok(Mount { ended, room })
}

struct Volume {
    files: Arc<Files>,
    runtime: Handle,
    room: Arc<Semaphore>,
    /// How long the kernel may believe attributes and names.
    valid: Duration,
    /// Longest time until a request has its answer, whatever a server says in it.
    limit: Duration,
    ended: Option<oneshot::Sender<()>>,
}

impl Volume {
    /// Does a request's work in a task, once there is room for one.
    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let Ok(room) = self.runtime.block_on(self.room.clone().acquire_owned()) else { return };
        self.runtime.spawn(async move {
            work.await;
            drop(room);
        });
    }

    /// Answers a request in time.
    fn answer<T, F>(&self, work: impl FnOnce(Arc<Files>) -> F, reply: impl FnOnce(Result<T, Errno>) + Send + 'static)
    where
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let (work, limit) = (work(self.files.clone()), self.limit);
        self.spawn(async move { reply(in_time(limit, work).await) });
    }

    fn entry<F>(&self, reply: ReplyEntry, work: impl FnOnce(Arc<Files>) -> F)
    where
        F: Future<Output = Result<Found, Error>> + Send + 'static,
    {
        let valid = self.valid;
        self.answer(work, move |found| match found {
            Ok(found) => reply.entry(&valid, &shown(&found), Generation(0)),
            Err(error) => reply.error(error),
        });
    }

    fn attributes<F>(&self, reply: ReplyAttr, work: impl FnOnce(Arc<Files>) -> F)
    where
        F: Future<Output = Result<Found, Error>> + Send + 'static,
    {
        let valid = self.valid;
        self.answer(work, move |found| match found {
            Ok(found) => reply.attr(&valid, &shown(&found)),
            Err(error) => reply.error(error),
        });
    }

    fn data<F>(&self, reply: ReplyData, work: impl FnOnce(Arc<Files>) -> F)
    where
        F: Future<Output = Result<Bytes, Error>> + Send + 'static,
    {
        self.answer(work, move |data| match data {
            Ok(data) => reply.data(&data),
            Err(error) => reply.error(error),
        });
    }

    fn done<F>(&self, reply: ReplyEmpty, work: impl FnOnce(Arc<Files>) -> F)
    where
        F: Future<Output = Result<(), Error>> + Send + 'static,
    {
        self.answer(work, move |done| match done {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error),
        });
    }
}

async fn in_time<T>(limit: Duration, work: impl Future<Output = Result<T, Error>>) -> Result<T, Errno> {
    match timeout(limit, work).await {
        Ok(done) => done.map_err(|error| Errno::from_i32(error.errno())),
        Err(_) => Err(Errno::ETIMEDOUT),
    }
}

impl Filesystem for Volume {
    fn destroy(&mut self) {
        if let Some(ended) = self.ended.take() {
            let _ = ended.send(());
        }
    }

    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let limits = self.files.limits();
        // What the kernel cannot do stays as it is.
        let _ = config.set_max_write(MAX_WRITE_BYTES.min(limits.write_bytes.max(4096)));
        let _ = config.set_max_readahead(limits.read_bytes.max(4096));
        let _ = config.add_capabilities(InitFlags::FUSE_AUTO_INVAL_DATA);
        let _ = config.add_capabilities(InitFlags::FUSE_PARALLEL_DIROPS);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let name = bytes(name);
        self.entry(reply, |files| async move { files.lookup(parent.0, &name).await });
    }

    fn forget(&self, _: &Request, number: INodeNo, times: u64) {
        self.files.forget(number.0, times);
    }

    fn getattr(&self, _: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        self.attributes(reply, |files| async move { files.attributes(number.0).await });
    }

    fn setattr(
        &self,
        _: &Request,
        number: INodeNo,
        mode: Option<u32>,
        user: Option<u32>,
        group: Option<u32>,
        size: Option<u64>,
        accessed: Option<TimeOrNow>,
        modified: Option<TimeOrNow>,
        _changed: Option<SystemTime>,
        _handle: Option<FileHandle>,
        _created: Option<SystemTime>,
        _flags_changed: Option<SystemTime>,
        _backed_up: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mode = mode.map(permissions);
        let (accessed, modified) = (accessed.map(set_time), modified.map(set_time));
        let to = Changes { mode, user, group, size, accessed, modified };
        self.attributes(reply, |files| async move { files.set_attributes(number.0, to).await });
    }

    fn readlink(&self, _: &Request, number: INodeNo, reply: ReplyData) {
        self.data(reply, |files| async move { files.read_link(number.0).await });
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        let (name, mode) = (bytes(name), permissions(mode & !umask));
        self.entry(reply, |files| async move { files.make_dir(parent.0, &name, mode).await });
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let name = bytes(name);
        self.done(reply, |files| async move { files.remove(parent.0, &name).await });
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let name = bytes(name);
        self.done(reply, |files| async move { files.remove_dir(parent.0, &name).await });
    }

    fn symlink(&self, _: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let (name, target) = (bytes(name), bytes(target.as_os_str()));
        self.entry(reply, |files| async move { files.make_link(parent.0, &name, &target).await });
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if !flags.is_empty() {
            return reply.error(Errno::EINVAL);
        }
        let (name, new_name) = (bytes(name), bytes(new_name));
        self.done(reply, |files| async move { files.rename((parent.0, &name), (new_parent.0, &new_name)).await });
    }

    fn link(&self, _: &Request, number: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let name = bytes(name);
        self.entry(reply, |files| async move { files.hard_link(number.0, parent.0, &name).await });
    }

    fn open(&self, _: &Request, number: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let mode = flags.acc_mode();
        let (reads, writes) = (mode != OpenAccMode::O_WRONLY, mode != OpenAccMode::O_RDONLY);
        let work = |files: Arc<Files>| async move { files.open_file(number.0, reads, writes).await };
        self.answer(work, |opened| match opened {
            Ok(()) => reply.opened(FileHandle(0), FopenFlags::FOPEN_NOFLUSH),
            Err(error) => reply.error(error),
        });
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let (name, valid) = (bytes(name), self.valid);
        let size = (flags & libc::O_TRUNC != 0).then_some(0);
        let to = Changes { mode: Some(permissions(mode & !umask)), size, ..Changes::default() };
        let is_exclusive = flags & libc::O_EXCL != 0;
        let work = |files: Arc<Files>| async move { files.create(parent.0, &name, to, is_exclusive).await };
        self.answer(work, move |made| match made {
            Ok(made) => {
                let handle = FileHandle(0);
                reply.created(&valid, &shown(&made), Generation(0), handle, FopenFlags::FOPEN_NOFLUSH);
            }
            Err(error) => reply.error(error),
        });
    }

    fn read(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.data(reply, |files| async move { files.read(number.0, offset, size).await });
    }

    fn write(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let (data, count) = (Bytes::copy_from_slice(data), u32::try_from(data.len()).unwrap_or(u32::MAX));
        let work = |files: Arc<Files>| async move { files.write(number.0, offset, data).await };
        self.answer(work, move |written| match written {
            Ok(()) => reply.written(count),
            Err(error) => reply.error(error),
        });
    }

    /// A close waits for nothing: `release` tells the server.
    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn release(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        let (files, closing) = (self.files.clone(), self.files.close(number.0));
        self.spawn(async move {
            if let Err(error) = files.finish(closing).await {
                tracing::warn!(%error, "{NOT_ON_DISK}");
            }
            reply.ok();
        });
    }

    fn fsync(&self, _: &Request, number: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.done(reply, |files| async move { files.sync(number.0).await });
    }

    fn opendir(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(self.files.open_dir()), FopenFlags::empty());
    }

    fn readdir(&self, _: &Request, number: INodeNo, handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let (files, limit) = (self.files.clone(), self.limit);
        self.spawn(async move {
            let add = |number: u64, next: u64, kind: Kind, name: &[u8]| {
                reply.add(INodeNo(number), next, file_type(kind), OsStr::from_bytes(name))
            };
            match in_time(limit, files.read_dir(number.0, handle.0, offset, add)).await {
                Ok(()) => reply.ok(),
                Err(error) => reply.error(error),
            }
        });
    }

    fn releasedir(&self, _: &Request, _: INodeNo, handle: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.files.close_dir(handle.0);
        reply.ok();
    }

    /// A server has changed a directory on disk before it says so.
    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let work = |files: Arc<Files>| async move { files.space().await };
        self.answer(work, |space| match space {
            Ok(space) => {
                let [total, free, available] =
                    [space.total_bytes, space.free_bytes, space.available_bytes].map(|bytes| bytes / SPACE_BLOCK_BYTES);
                let block = SPACE_BLOCK_BYTES as u32;
                let (files, unused) = (space.total_files, space.available_files.min(space.free_files));
                reply.statfs(total, free, available, files, unused, block, MAX_NAME_BYTES, block);
            }
            Err(error) => reply.error(error),
        });
    }
}

fn bytes(name: &OsStr) -> Vec<u8> {
    name.as_bytes().to_vec()
}

fn permissions(mode: u32) -> u32 {
    mode & 0o7777
}

fn shown((number, attributes): &Found) -> FileAttr {
    let Attributes { kind, mode, links, user, group, size, used, device, .. } = *attributes;
    FileAttr {
        ino: INodeNo(*number),
        size,
        blocks: used.div_ceil(BLOCK_BYTES),
        atime: system_time(attributes.accessed),
        mtime: system_time(attributes.modified),
        ctime: system_time(attributes.changed),
        crtime: UNIX_EPOCH,
        kind: file_type(kind),
        perm: permissions(mode) as u16,
        nlink: links,
        uid: user,
        gid: group,
        rdev: libc::makedev(device.0, device.1) as u32,
        blksize: MAX_WRITE_BYTES,
        flags: 0,
    }
}

fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::File => FileType::RegularFile,
        Kind::Directory => FileType::Directory,
        Kind::Block => FileType::BlockDevice,
        Kind::Character => FileType::CharDevice,
        Kind::Link => FileType::Symlink,
        Kind::Socket => FileType::Socket,
        Kind::Pipe => FileType::NamedPipe,
    }
}

fn system_time(time: Time) -> SystemTime {
    UNIX_EPOCH + Duration::new(time.seconds.into(), time.nanoseconds.min(999_999_999))
}

/// Version 3 knows times from 1970 to 2106.
fn set_time(time: TimeOrNow) -> SetTime {
    match time {
        TimeOrNow::Now => SetTime::ServerTime,
        TimeOrNow::SpecificTime(time) => {
            let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
            let seconds = u32::try_from(since.as_secs()).unwrap_or(u32::MAX);
            SetTime::To(Time { seconds, nanoseconds: since.subsec_nanos() })
        }
    }
}
