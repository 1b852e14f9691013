//! The kernel's NFS: what mount(8) would tell it.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};

use super::options::Options;

/// Versions that are tried where a volume names none, best first.
const VERSIONS: [&str; 4] = ["4.2", "4.1", "4.0", "3"];

/// Mounts; false when this process may not, or the kernel has no NFS.
///
/// # Errors
/// When the kernel or the server refuses.
pub fn try_mount(dir: &Path, server: IpAddr, device: &str, options: &Options, read_only: bool) -> io::Result<bool> {
    let mut flags = options.flags | MsFlags::MS_NODEV | MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    flags.set(MsFlags::MS_RDONLY, read_only);
    flags.set(MsFlags::MS_SYNCHRONOUS, options.sync);
    let own = own_address(server);
    let try_version = |version: &str| {
        let data = data(options, version, server, own);
        mount(Some(device), dir, Some("nfs"), flags, Some(data.as_str()))
    };
    match options.version.as_deref() {
        Some(version) => negotiate(&[version], try_version),
        None => negotiate(&VERSIONS, try_version),
    }
}

/// Tries versions in order, until one is mounted or refused for another reason than its version. A server that has no root for
/// version 4 knows no path of it: it may still know that of version 3.
fn negotiate(versions: &[&str], mut try_version: impl FnMut(&str) -> nix::Result<()>) -> io::Result<bool> {
    let mut why = Errno::EPROTONOSUPPORT;
    for version in versions {
        match try_version(version) {
            Ok(()) => return Ok(true),
            Err(Errno::EPERM | Errno::ENODEV) => return Ok(false),
            // That a path is not known says more than that nobody speaks a version.
            Err(Errno::EPROTONOSUPPORT | Errno::EOPNOTSUPP | Errno::EINVAL | Errno::ECONNREFUSED)
                if why == Errno::ENOENT => {}
            Err(error @ (Errno::EPROTONOSUPPORT | Errno::EOPNOTSUPP | Errno::EINVAL | Errno::ENOENT)) => why = error,
            Err(error) => return Err(error.into()),
        }
    }
    Err(why.into())
}

/// The kernel's option string: what the volume says, and what mount(8) finds out by itself.
fn data(options: &Options, version: &str, server: IpAddr, own: Option<IpAddr>) -> String {
    let mut all = options.passed.clone();
    let (timeo, retrans) = options.patience();
    let soft = if options.softerr { "softerr" } else { "soft" };
    all.extend([format!("vers={version}"), format!("addr={server}"), soft.to_owned()]);
    all.extend([format!("timeo={timeo}"), format!("retrans={retrans}")]);
    all.extend(options.port.map(|port| format!("port={port}")));
    if !options.reserved_port {
        all.push("noresvport".to_owned());
    }
    if version.starts_with('3') {
        all.extend(options.mount_port.map(|port| format!("mountport={port}")));
        // Guests have no locks, and the daemon that they take may not run.
        all.extend((!options.lock).then(|| "nolock".to_owned()));
    } else {
        all.extend(own.map(|own| format!("clientaddr={own}")));
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
        let show =
            |given: &str, version: &str| data(&Options::parse(&[given.to_owned()]).unwrap(), version, server, own);
        assert_eq!(
            show("ro,noatime,nconnect=4,port=2050,mountport=2051", "4.2"),
            "nconnect=4,vers=4.2,addr=192.0.2.7,soft,timeo=50,retrans=2,port=2050,clientaddr=192.0.2.1"
        );
        assert_eq!(
            show("softerr,timeo=10,retrans=1,mountport=2051,noresvport,rsize=8192", "3"),
            "rsize=8192,vers=3,addr=192.0.2.7,softerr,timeo=10,retrans=1,noresvport,mountport=2051,nolock"
        );
        assert!(own_address("127.0.0.1".parse().unwrap()).is_some_and(|own| own.is_loopback()));
    }

    #[test]
    fn versions_are_tried_until_one_is_more_than_unknown() {
        use Errno::{EACCES, ECONNREFUSED, EINVAL, ENODEV, ENOENT, EPERM, EPROTONOSUPPORT};
        // What the kernel says of each version; and what comes of it, after how many.
        for (answers, result, tried) in [
            ([Ok(()); 4], Ok(true), 1),
            ([Err(EINVAL), Err(EPROTONOSUPPORT), Ok(()), Err(EACCES)], Ok(true), 3),
            ([Err(ENOENT), Err(ENOENT), Err(ENOENT), Ok(())], Ok(true), 4),
            ([Err(ENOENT), Err(ENOENT), Err(ENOENT), Err(ECONNREFUSED)], Err(ENOENT), 4),
            ([Err(EPROTONOSUPPORT), Err(EPROTONOSUPPORT), Err(EPROTONOSUPPORT), Err(ENOENT)], Err(ENOENT), 4),
            ([Err(EPROTONOSUPPORT); 4], Err(EPROTONOSUPPORT), 4),
            ([Err(EINVAL); 4], Err(EINVAL), 4),
            ([Err(EACCES); 4], Err(EACCES), 1),
            ([Err(ECONNREFUSED); 4], Err(ECONNREFUSED), 1),
            ([Err(EPERM); 4], Ok(false), 1),
            ([Err(ENODEV); 4], Ok(false), 1),
        ] {
            let mut given = answers.into_iter();
            let negotiated = negotiate(&VERSIONS, |_| given.next().unwrap());
            assert_eq!(
                negotiated.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap())),
                result,
                "{answers:?}"
            );
            assert_eq!(4 - given.len(), tried, "{answers:?}");
        }
        let named = negotiate(&["4.1"], |version| Err(if version == "4.1" { EINVAL } else { EACCES }));
        assert_eq!(named.unwrap_err().raw_os_error(), Some(libc::EINVAL), "what was asked for is not replaced");
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
