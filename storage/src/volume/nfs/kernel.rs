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
    let named = options.version.as_deref().map(|version| vec![version]);
    let mut flags = options.flags | MsFlags::MS_NODEV | MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    flags.set(MsFlags::MS_RDONLY, read_only);
    flags.set(MsFlags::MS_SYNCHRONOUS, options.sync);
    let mut last = Errno::EPROTONOSUPPORT;
    for version in named.unwrap_or_else(|| VERSIONS.to_vec()) {
        let data = data(options, version, server, own_address(server));
        match mount(Some(device), dir, Some("nfs"), flags, Some(data.as_str())) {
            Ok(()) => return Ok(true),
            Err(Errno::EPERM | Errno::ENODEV) => return Ok(false),
            Err(error @ (Errno::EPROTONOSUPPORT | Errno::EOPNOTSUPP)) => last = error,
            Err(error) => return Err(error.into()),
        }
    }
    Err(last.into())
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
