//! The procedures of NFS version 3 (RFC 1813) that a file system needs.

use bytes::Bytes;
use tokio::time::{Instant, sleep};

use super::answers::{self, Attributes, Handle, Limits, Listing, Made, Space, Stable, Time, Verifier, Written};
use super::rpc::{self, Client, Program};
use super::xdr::{Malformed, Reader, Writer};

pub const PROGRAM: Program = Program { number: 100_003, version: 3 };

/// Why a call did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{}", std::io::Error::from_raw_os_error(status_to_errno(*.0)))]
    Status(u32),
    #[error(transparent)]
    Rpc(#[from] rpc::Error),
}

impl From<Malformed> for Error {
    fn from(error: Malformed) -> Error {
        Error::Rpc(error.into())
    }
}

impl Error {
    /// What the guest gets to see.
    pub fn errno(&self) -> i32 {
        match self {
            Error::Status(status) => status_to_errno(*status),
            Error::Rpc(rpc::Error::Silent | rpc::Error::Unreachable(_)) => libc::ETIMEDOUT,
            Error::Rpc(_) => libc::EIO,
        }
    }
}

/// `nfsstat3` (RFC 1813, 2.6) in this system's numbers.
fn status_to_errno(status: u32) -> i32 {
    match status {
        1 => libc::EPERM,
        2 => libc::ENOENT,
        6 => libc::ENXIO,
        13 => libc::EACCES,
        17 => libc::EEXIST,
        18 => libc::EXDEV,
        19 => libc::ENODEV,
        20 => libc::ENOTDIR,
        21 => libc::EISDIR,
        22 | 10_007 => libc::EINVAL,
        27 => libc::EFBIG,
        28 => libc::ENOSPC,
        30 => libc::EROFS,
        31 => libc::EMLINK,
        63 => libc::ENAMETOOLONG,
        66 => libc::ENOTEMPTY,
        69 => libc::EDQUOT,
        // A handle that a server does not know any more, and a place in a directory that it does not know any more.
        70 | 10_001 | 10_003 => libc::ESTALE,
        10_004 => libc::EOPNOTSUPP,
        JUKEBOX => libc::EAGAIN,
        _ => libc::EIO,
    }
}

/// The server has to fetch what is asked for first, and wants to be asked again.
const JUKEBOX: u32 = 10_008;

#[derive(Clone, Copy, Debug)]
pub enum SetTime {
    ServerTime,
    To(Time),
}

/// `sattr3`: what is to change.
#[derive(Clone, Copy, Debug, Default)]
pub struct Changes {
    pub mode: Option<u32>,
    pub user: Option<u32>,
    pub group: Option<u32>,
    pub size: Option<u64>,
    pub accessed: Option<SetTime>,
    pub modified: Option<SetTime>,
}

/// Rights that ACCESS asks for.
pub const MAY_READ: u32 = 0x01;
pub const MAY_WRITE: u32 = 0x04 | 0x08;

pub async fn get_attributes(client: &Client, handle: &Handle) -> Result<Attributes, Error> {
    Ok(answers::attributes(&mut call(client, 1, true, on(handle)).await?)?)
}

pub async fn set_attributes(client: &Client, handle: &Handle, to: Changes) -> Result<Option<Attributes>, Error> {
    let arguments = changes(on(handle), to).u32(0);
    Ok(answers::change(&mut call(client, 2, true, arguments).await?)?)
}

pub async fn lookup(client: &Client, dir: &Handle, name: &[u8]) -> Result<(Handle, Option<Attributes>), Error> {
    Ok(answers::lookup(&mut call(client, 3, true, on(dir).opaque(name)).await?)?)
}

/// Which of `wanted` is allowed.
pub async fn access(client: &Client, handle: &Handle, wanted: u32) -> Result<u32, Error> {
    Ok(answers::access(&mut call(client, 4, true, on(handle).u32(wanted)).await?)?)
}

pub async fn read_link(client: &Client, handle: &Handle) -> Result<Bytes, Error> {
    Ok(answers::link(&mut call(client, 5, true, on(handle)).await?)?)
}

/// What was read, and whether the file ends there.
pub async fn read(client: &Client, handle: &Handle, offset: u64, count: u32) -> Result<(Bytes, bool), Error> {
    Ok(answers::read(&mut call(client, 6, true, on(handle).u64(offset).u32(count)).await?, count)?)
}

pub async fn write(
    client: &Client,
    handle: &Handle,
    offset: u64,
    data: &[u8],
    stable: Stable,
) -> Result<Written, Error> {
    let count = u32::try_from(data.len()).map_err(|_| Malformed)?;
    let how = if stable == Stable::Yes { 2 } else { 0 };
    let arguments = on(handle).u64(offset).u32(count).u32(how).opaque(data);
    Ok(answers::written(&mut call(client, 7, true, arguments).await?, data.len())?)
}

pub async fn create(
    client: &Client,
    dir: &Handle,
    name: &[u8],
    to: Changes,
    is_exclusive: bool,
) -> Result<Made, Error> {
    let arguments = changes(on(dir).opaque(name).u32(u32::from(is_exclusive)), to);
    made(client, 8, arguments).await
}

pub async fn make_dir(client: &Client, dir: &Handle, name: &[u8], to: Changes) -> Result<Made, Error> {
    made(client, 9, changes(on(dir).opaque(name), to)).await
}

pub async fn make_link(client: &Client, dir: &Handle, name: &[u8], target: &[u8]) -> Result<Made, Error> {
    made(client, 10, changes(on(dir).opaque(name), Changes::default()).opaque(target)).await
}

pub async fn remove(client: &Client, dir: &Handle, name: &[u8]) -> Result<(), Error> {
    call(client, 12, false, on(dir).opaque(name)).await.map(drop)
}

pub async fn remove_dir(client: &Client, dir: &Handle, name: &[u8]) -> Result<(), Error> {
    call(client, 13, false, on(dir).opaque(name)).await.map(drop)
}

pub async fn rename(client: &Client, from: (&Handle, &[u8]), to: (&Handle, &[u8])) -> Result<(), Error> {
    call(client, 14, false, on(from.0).opaque(from.1).opaque(to.0).opaque(to.1)).await.map(drop)
}

pub async fn hard_link(client: &Client, handle: &Handle, dir: &Handle, name: &[u8]) -> Result<(), Error> {
    call(client, 15, false, on(handle).opaque(dir).opaque(name)).await.map(drop)
}

/// The entries behind `cookie`.
pub async fn read_dir(
    client: &Client,
    dir: &Handle,
    cookie: u64,
    verifier: &Verifier,
    bytes: u32,
) -> Result<Listing, Error> {
    // The first bound counts names alone.
    let arguments = on(dir).u64(cookie).fixed(verifier).u32(bytes / 4).u32(bytes);
    Ok(answers::listing(&mut call(client, 17, true, arguments).await?)?)
}

pub async fn space(client: &Client, root: &Handle) -> Result<Space, Error> {
    Ok(answers::space(&mut call(client, 18, true, on(root)).await?)?)
}

pub async fn limits(client: &Client, root: &Handle) -> Result<Limits, Error> {
    Ok(answers::limits(&mut call(client, 19, true, on(root)).await?)?)
}

/// Puts on disk what was written to a file without being stable.
pub async fn commit(client: &Client, handle: &Handle) -> Result<Verifier, Error> {
    Ok(answers::committed(&mut call(client, 21, true, on(handle).u64(0).u32(0)).await?)?)
}

/// Calls, and once more as long as the server wants to be asked later.
async fn call(client: &Client, procedure: u32, repeatable: bool, arguments: Writer) -> Result<Reader, Error> {
    let (begun, arguments) = (Instant::now(), arguments.finish());
    loop {
        let mut answer = client.call(procedure, repeatable, &arguments).await?;
        match (answer.u32()?, client.pause(begun)) {
            (0, _) => return Ok(answer),
            (JUKEBOX, Some(pause)) => sleep(pause).await,
            (status, _) => return Err(Error::Status(status)),
        }
    }
}

async fn made(client: &Client, procedure: u32, arguments: Writer) -> Result<Made, Error> {
    Ok(answers::made(&mut call(client, procedure, false, arguments).await?)?)
}

fn on(handle: &Handle) -> Writer {
    Writer::default().opaque(handle)
}

fn changes(writer: Writer, to: Changes) -> Writer {
    let writer = writer.option(to.mode, Writer::u32).option(to.user, Writer::u32).option(to.group, Writer::u32);
    let writer = writer.option(to.size, Writer::u64);
    [to.accessed, to.modified].into_iter().fold(writer, |writer, time| match time {
        None => writer.u32(0),
        Some(SetTime::ServerTime) => writer.u32(1),
        Some(SetTime::To(time)) => writer.u32(2).u32(time.seconds).u32(time.nanoseconds),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_this_systems() {
        let shown =
            [2, 13, 70, 10_008, 99].map(|status| (Error::Status(status).errno(), Error::Status(status).to_string()));
        assert_eq!(shown[0], (libc::ENOENT, "No such file or directory (os error 2)".to_owned()));
        assert_eq!(shown[2].0, libc::ESTALE);
        assert_eq!([shown[1].0, shown[3].0, shown[4].0], [libc::EACCES, libc::EAGAIN, libc::EIO]);
        assert_eq!(Error::from(rpc::Error::Silent).errno(), libc::ETIMEDOUT);
    }
}
