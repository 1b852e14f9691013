//! Finds a server's programs and the root of what it exports: the port mapper (RFC 1833) and MOUNT (RFC 1813, appendix I).

use std::net::{IpAddr, SocketAddr};

use super::answers::{self, Handle};
use super::options::Options;
use super::procedures;
use super::rpc::{self, AUTH_SYS, Client, Manner, Program};
use super::xdr::{Reader, Writer};

const PORT_MAPPER: Program = Program { number: 100_000, version: 2 };
const PORT_MAPPER_PORT: u16 = 111;
/// Version 4's.
const NFS_PORT: u16 = 2049;
/// What every program answers, with nothing.
const NULL: u32 = 0;
const MOUNT: Program = Program { number: 100_005, version: 3 };
const TCP: u32 = 6;
/// Most ways to prove who one is that a server may offer.
const MAX_FLAVORS: u32 = 64;
const AUTH_NONE: u32 = 0;

/// Why nothing can be mounted of a server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{program}: {source}")]
    Rpc { program: &'static str, source: rpc::Error },
    #[error("the server has no {0} by TCP (the port mapper does not know it)")]
    NoProgram(&'static str),
    #[error("mount refused by the server: {0}")]
    Refused(&'static str),
    #[error("the server wants a security flavor other than sys")]
    Flavor,
}

/// Where a server's programs listen; the kernel's own choice where that is not known.
pub struct Ports {
    pub nfs: Option<u16>,
    pub mount: Option<u16>,
}

/// The ports of version 3: what the options say, and else what the port mapper does.
///
/// # Errors
/// When it does not say one.
pub async fn ports(server: IpAddr, options: &Options, manner: &Manner) -> Result<(u16, u16), Error> {
    let at = SocketAddr::new(server, PORT_MAPPER_PORT);
    let nfs = match options.port {
        Some(port) => port,
        None => port_of(at, procedures::PROGRAM, "NFS version 3", manner).await?,
    };
    let mount = match options.mount_port {
        Some(port) => port,
        None => port_of(at, MOUNT, "MOUNT version 3", manner).await?,
    };
    Ok((nfs, mount))
}

/// The ports of version 3, behind which somebody answers.
///
/// # Errors
/// When nobody does.
pub async fn reach_3(server: IpAddr, options: &Options, manner: &Manner) -> Result<Ports, Error> {
    let (nfs, mount) = ports(server, options, manner).await?;
    reach(SocketAddr::new(server, mount), MOUNT, "MOUNT", manner).await?;
    reach(SocketAddr::new(server, nfs), procedures::PROGRAM, "NFS version 3", manner).await?;
    Ok(Ports { nfs: Some(nfs), mount: Some(mount) })
}

/// Likewise of version 4, which has one port for all.
///
/// # Errors
/// When nobody answers.
pub async fn reach_4(server: IpAddr, options: &Options, manner: &Manner) -> Result<Ports, Error> {
    let program = Program { version: 4, ..procedures::PROGRAM };
    let at = SocketAddr::new(server, options.port.unwrap_or(NFS_PORT));
    reach(at, program, "NFS version 4", manner).await?;
    Ok(Ports { nfs: options.port, mount: None })
}

async fn reach(at: SocketAddr, program: Program, name: &'static str, manner: &Manner) -> Result<(), Error> {
    let failed = |source| Error::Rpc { program: name, source };
    rpc::call_once(at, program, manner, NULL, &[]).await.map(drop).map_err(failed)
}

async fn port_of(mapper: SocketAddr, program: Program, name: &'static str, manner: &Manner) -> Result<u16, Error> {
    let wanted = Writer::default().u32(program.number).u32(program.version).u32(TCP).u32(0).finish();
    let failed = |source| Error::Rpc { program: "port mapper", source };
    let mut answer = rpc::call_once(mapper, PORT_MAPPER, manner, 3, &wanted).await.map_err(failed)?;
    let port = answer.u32().map_err(|error| failed(error.into()))?;
    u16::try_from(port).ok().filter(|port| *port != 0).ok_or(Error::NoProgram(name))
}

/// The root of what a server exports as `path`, asked for at MOUNT's own address.
///
/// # Errors
/// When the server does not let this node have it.
pub async fn root(address: SocketAddr, path: &str, manner: Manner) -> Result<Handle, Error> {
    let failed = |source| Error::Rpc { program: "MOUNT", source };
    let wanted = Writer::default().opaque(path.as_bytes()).finish();
    let mut answer = Client::new(address, MOUNT, manner).call(1, true, &wanted).await.map_err(failed)?;
    let malformed = |error: super::xdr::Malformed| failed(error.into());
    match answer.u32().map_err(malformed)? {
        0 => {}
        1 | 13 => return Err(Error::Refused("access denied")),
        2 => return Err(Error::Refused("no such file or directory")),
        20 => return Err(Error::Refused("not a directory")),
        _ => return Err(Error::Refused("a failure of its own")),
    }
    let handle = answers::handle(&mut answer).map_err(malformed)?;
    if accepts_sys(&mut answer).map_err(malformed)? { Ok(handle) } else { Err(Error::Flavor) }
}

/// Whether one of the flavors that a server accepts is ours; one that names none takes any.
fn accepts_sys(answer: &mut Reader) -> Result<bool, super::xdr::Malformed> {
    let count = answer.u32()?;
    if count > MAX_FLAVORS {
        return Err(super::xdr::Malformed);
    }
    let flavors = (0..count).map(|_| answer.u32()).collect::<Result<Vec<_>, _>>()?;
    Ok(flavors.is_empty() || flavors.iter().any(|flavor| [AUTH_NONE, AUTH_SYS].contains(flavor)))
}
