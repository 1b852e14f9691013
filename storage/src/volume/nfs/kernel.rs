//! The kernel's NFS: what mount(8) would tell it.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};

use super::Error;
use super::options::Options;
use super::rpc::{Credentials, Manner};
use super::server::{self, Ports};

/// Versions by their programs, in the order in which they are tried where a volume names none. Of version 3 alone the kernel
/// gives up a server in the volume's own time: by a later one it waits as long as the server's machine keeps the connection.
const VERSIONS: [&[&str]; 2] = [&["3"], VERSIONS_4];
const VERSIONS_4: &[&str] = &["4.2", "4.1", "4.0"];

/// Mounts; false when this process may not, or the kernel has no NFS.
///
/// # Errors
/// When the kernel or the server refuses.
pub fn try_mount(dir: &Path, server: IpAddr, device: &str, options: &Options, read_only: bool) -> Result<bool, Error> {
    if !is_there() {
        return Ok(false);
    }
    let mut flags = options.flags | MsFlags::MS_NODEV | MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    flags.set(MsFlags::MS_RDONLY, read_only);
    flags.set(MsFlags::MS_SYNCHRONOUS, options.sync);
    let own = own_address(server);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let manner =
        Manner { credentials: Credentials::of_process(), reserved_port: options.reserved_port, wait: options.wait() };
    let reach = |version: &str| {
        if !options.by_tcp {
            return Ok(Ports { nfs: options.port, mount: options.mount_port });
        }
        runtime.block_on(async {
            if is_4(version) {
                server::reach_4(server, options, &manner).await
            } else {
                server::reach_3(server, options, &manner).await
            }
        })
    };
    let try_version = |version: &str, ports: &Ports| {
        let data = data(options, version, server, ports, own);
        mount(Some(device), dir, Some("nfs"), flags, Some(data.as_str()))
    };
    match options.version.as_deref() {
        Some("4") => negotiate(&[VERSIONS_4], reach, try_version),
        Some(version) => negotiate(&[&[version]], reach, try_version),
        None => negotiate(&VERSIONS, reach, try_version),
    }
}

fn is_4(version: &str) -> bool {
    version.starts_with('4')
}

/// Whether the kernel has NFS, which it may load when it is asked, and lets this process mount.
#[expect(unsafe_code, reason = "no crate here has this call")]
fn is_there() -> bool {
    // SAFETY: the kernel reads a string that ends; what it returns is a descriptor of nobody else.
    let opened = unsafe {
        let opened = libc::syscall(libc::SYS_fsopen, c"nfs".as_ptr(), libc::FSOPEN_CLOEXEC);
        Errno::result(opened).map(|opened| OwnedFd::from_raw_fd(opened as i32))
    };
    !matches!(opened, Err(Errno::ENODEV | Errno::EPERM))
}

/// Tries versions in order until one is mounted. The kernel waits for minutes, or for ever, for a server that is silent when it
/// is first asked: so the programs that it will call are asked first (`reach`). When no version can be had, the first word of a
/// server that speaks one says why.
fn negotiate(
    families: &[&[&str]],
    mut reach: impl FnMut(&str) -> Result<Ports, server::Error>,
    mut try_version: impl FnMut(&str, &Ports) -> nix::Result<()>,
) -> Result<bool, Error> {
    let (mut refused, mut unspoken, mut unreached) = (None, None, None);
    for versions in families {
        let ports = match versions.first().map(|version| reach(version)) {
            Some(Ok(ports)) => ports,
            Some(Err(error)) => {
                unreached.get_or_insert(error);
                continue;
            }
            None => continue,
        };
        for version in *versions {
            match try_version(version, &ports) {
                Ok(()) => return Ok(true),
                Err(Errno::EPERM | Errno::ENODEV) => return Ok(false),
                Err(error @ (Errno::EPROTONOSUPPORT | Errno::EOPNOTSUPP | Errno::EINVAL)) => {
                    unspoken.get_or_insert(error);
                }
                Err(error) => {
                    refused.get_or_insert(error);
                    break;
                }
            }
        }
    }
    match (refused.or(unspoken), unreached) {
        (Some(error), _) => Err(Error::Kernel(error.into())),
        (None, Some(error)) => Err(error.into()),
        (None, None) => Err(Error::Kernel(io::ErrorKind::Unsupported.into())),
    }
}

/// The kernel's option string: what the volume says, and what mount(8) finds out by itself.
fn data(options: &Options, version: &str, server: IpAddr, ports: &Ports, own: Option<IpAddr>) -> String {
    let mut all = options.passed.clone();
    let (timeo, retrans) = options.patience();
    let soft = if options.softerr { "softerr" } else { "soft" };
    all.extend([format!("vers={version}"), format!("addr={server}"), soft.to_owned()]);
    all.extend([format!("timeo={timeo}"), format!("retrans={retrans}")]);
    all.extend(ports.nfs.map(|port| format!("port={port}")));
    if !options.reserved_port {
        all.push("noresvport".to_owned());
    }
    if is_4(version) {
        all.extend(own.map(|own| format!("clientaddr={own}")));
    } else {
        all.extend(ports.mount.map(|port| format!("mountport={port}")));
        // Guests have no locks, and the daemon that they take may not run.
        all.extend((!options.lock).then(|| "nolock".to_owned()));
    }
    all.join(",")
}

/// The address by which a server can call back.
fn own_address(server: IpAddr) -> Option<IpAddr> {
    let any = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(SocketAddr::new(server, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_told_what_it_needs() {
        let server: IpAddr = "192.0.2.7".parse().unwrap();
        let own = "192.0.2.1".parse().ok();
        let ports = Ports { nfs: Some(2050), mount: Some(2051) };
        let show = |given: &str, version: &str, ports: &Ports| {
            data(&Options::parse(&[given.to_owned()]).unwrap(), version, server, ports, own)
        };
        assert_eq!(
            show("ro,noatime,nconnect=4", "4.2", &Ports { nfs: None, mount: None }),
            "nconnect=4,vers=4.2,addr=192.0.2.7,soft,timeo=50,retrans=2,clientaddr=192.0.2.1"
        );
        assert_eq!(
            show("softerr,timeo=10,retrans=1,noresvport,rsize=8192", "3", &ports),
            "rsize=8192,vers=3,addr=192.0.2.7,softerr,timeo=10,retrans=1,port=2050,noresvport,mountport=2051,nolock"
        );
        assert!(own_address("127.0.0.1".parse().unwrap()).is_some_and(|own| own.is_loopback()));
    }

    #[test]
    fn versions_are_tried_until_one_can_be_had() {
        use Errno::{EACCES, EINVAL, EIO, ENODEV, ENOENT, EPERM, EPROTONOSUPPORT};
        // What the kernel says of 3, 4.2, 4.1 and 4.0, where it is asked; what comes of it, and after how many.
        for (reached, answers, result, tried) in [
            ([true; 2], [Ok(()); 4], Ok(true), 1),
            ([true; 2], [Err(EPERM); 4], Ok(false), 1),
            ([true; 2], [Err(ENODEV); 4], Ok(false), 1),
            // A path of version 4 is another's.
            ([true; 2], [Err(EACCES), Ok(()), Ok(()), Ok(())], Ok(true), 2),
            ([true; 2], [Err(EACCES), Err(EPROTONOSUPPORT), Err(EINVAL), Ok(())], Ok(true), 4),
            ([true; 2], [Err(EACCES), Err(ENOENT), Ok(()), Ok(())], Err(EACCES), 2),
            ([true; 2], [Err(EINVAL), Err(EPROTONOSUPPORT), Err(EIO), Ok(())], Err(EIO), 3),
            ([true; 2], [Err(EINVAL); 4], Err(EINVAL), 4),
            ([false, true], [Ok(()); 4], Ok(true), 1),
            ([false, true], [Err(ENOENT), Ok(()), Ok(()), Ok(())], Err(ENOENT), 1),
            ([true, false], [Err(EACCES), Ok(()), Ok(()), Ok(())], Err(EACCES), 1),
        ] {
            let (mut reached_yet, mut given) = (reached.into_iter(), answers.into_iter());
            let reach = |_: &str| match reached_yet.next() {
                Some(true) => Ok(Ports { nfs: None, mount: None }),
                _ => Err(server::Error::Flavor),
            };
            let negotiated = negotiate(&VERSIONS, reach, |_, _| given.next().unwrap());
            let number = |error| match error {
                Error::Kernel(error) => Errno::from_raw(error.raw_os_error().unwrap()),
                other => panic!("{other}"),
            };
            assert_eq!(negotiated.map_err(number), result, "{reached:?} {answers:?}");
            assert_eq!(4 - given.len(), tried, "{reached:?} {answers:?}");
        }
        let unreached = negotiate(&VERSIONS, |_| Err(server::Error::Flavor), |_, _| panic!("nobody is there"));
        assert!(matches!(unreached, Err(Error::Server(_))));
    }

    #[test]
    fn a_kernel_without_nfs_or_a_user_without_privilege_is_no_error() {
        if k8w_testkit::kernel_has_nfs() {
            return println!("skipped: this kernel has NFS");
        }
        let dir = tempfile::tempdir().unwrap();
        let options = Options::parse(&[]).unwrap();
        let server = "127.0.0.1".parse().unwrap();
        assert!(!try_mount(dir.path(), server, "127.0.0.1:/", &options, false).unwrap());
    }
}
