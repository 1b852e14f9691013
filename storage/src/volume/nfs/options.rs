//! What a volume's `mountOptions` say, in the words of nfs(5).
//!
//! The kernel is told all of them, but for those that are mount(8)'s own. Without the kernel's NFS those that mean
//! something here are honoured, and every other is refused by name.

use std::time::Duration;

use nix::mount::MsFlags;

use super::answers::MAX_TRANSFER_BYTES;

/// `timeo` in tenths of a second and `retrans` where a volume says nothing: a server may be silent for 15 seconds.
pub const TIMEO: u32 = 50;
pub const RETRANS: u32 = 2;
/// Longest silence that a volume may wait out.
const MAX_WAIT: Duration = Duration::from_secs(600);
/// How old attributes and names may be where a volume says nothing (`actimeo`).
const ATTRIBUTES_VALID: Duration = Duration::from_secs(1);

/// An option that cannot be had.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("mount option \"hard\" is not supported: who waits for a server for ever keeps a thread of the node")]
    Hard,
    #[error("mount option \"{0}\" is not supported")]
    Option(String),
    #[error("mount option \"{0}\" is not supported without the kernel's NFS")]
    KernelOnly(String),
}

#[derive(Debug, PartialEq, Eq)]
pub struct Options {
    pub read_only: bool,
    /// Every write is on the server's disk before it is answered.
    pub sync: bool,
    /// `3`, `4.1`…, when one is named.
    pub version: Option<String>,
    pub port: Option<u16>,
    pub mount_port: Option<u16>,
    pub reserved_port: bool,
    pub read_bytes: u32,
    pub write_bytes: u32,
    pub attributes_valid: Duration,
    /// Whether a silent server is ETIMEDOUT by the kernel's own word (`softerr`), which it is without it, too.
    pub softerr: bool,
    pub lock: bool,
    /// Whether all of the server is reached by TCP, at its own address.
    pub by_tcp: bool,
    timeo: u32,
    retrans: u32,
    /// What mount(2) has flags for.
    pub flags: MsFlags,
    /// What the kernel is told as it stands.
    pub passed: Vec<String>,
    /// What only the kernel knows.
    kernel_only: Vec<String>,
}

impl Options {
    /// Reads options, each of which may be a list with commas.
    ///
    /// # Errors
    /// When one of them can be had in no way.
    pub fn parse(given: &[String]) -> Result<Options, Refused> {
        let mut options = Options {
            read_only: false,
            sync: false,
            version: None,
            port: None,
            mount_port: None,
            reserved_port: true,
            read_bytes: MAX_TRANSFER_BYTES,
            write_bytes: MAX_TRANSFER_BYTES,
            attributes_valid: ATTRIBUTES_VALID,
            softerr: false,
            lock: false,
            by_tcp: true,
            timeo: TIMEO,
            retrans: RETRANS,
            flags: MsFlags::empty(),
            passed: Vec::new(),
            kernel_only: Vec::new(),
        };
        for option in given.iter().flat_map(|given| given.split(',')).map(str::trim).filter(|option| !option.is_empty())
        {
            options.add(option)?;
        }
        Ok(options)
    }

    /// The longest time until an operation has an answer, or an error.
    pub fn wait(&self) -> Duration {
        let tenths = u64::from(self.timeo.max(1)).saturating_mul(u64::from(self.retrans) + 1);
        Duration::from_millis(tenths.saturating_mul(100)).min(MAX_WAIT)
    }

    /// `timeo` and `retrans`, which the kernel is always told.
    pub fn patience(&self) -> (u32, u32) {
        (self.timeo, self.retrans)
    }

    /// Refuses what only the kernel could do.
    ///
    /// # Errors
    /// With the first such option.
    pub fn check_without_kernel(&self) -> Result<(), Refused> {
        let version =
            self.version.as_ref().filter(|version| *version != "3").map(|version| format!("nfsvers={version}"));
        let lock = self.lock.then(|| "lock".to_owned());
        match self.kernel_only.first().cloned().or(version).or(lock) {
            Some(option) => Err(Refused::KernelOnly(option)),
            None => Ok(()),
        }
    }

    fn add(&mut self, option: &str) -> Result<(), Refused> {
        let refused = || Refused::Option(option.to_owned());
        let (name, value) = match option.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (option, None),
        };
        let number = || value.and_then(|value| value.parse::<u32>().ok()).ok_or_else(refused);
        let port = || value.and_then(|value| value.parse::<u16>().ok()).ok_or_else(refused);
        match (name, value) {
            ("hard", None) => return Err(Refused::Hard),
            // Locks are the kernel's alone, devices and programs never wanted, and pods wait for their volumes anyway.
            ("defaults" | "_netdev" | "fg" | "soft" | "intr" | "nointr" | "nolock", None) => {}
            ("nodev" | "nosuid" | "noexec", None) => {}
            ("dev" | "suid" | "exec" | "bg", None) => return Err(refused()),
            ("ro", None) => self.read_only = true,
            ("rw", None) => self.read_only = false,
            ("sync", None) => self.sync = true,
            ("async", None) => self.sync = false,
            // The server keeps times of access.
            ("noatime", None) => self.flags |= MsFlags::MS_NOATIME,
            ("nodiratime", None) => self.flags |= MsFlags::MS_NODIRATIME,
            ("relatime", None) => self.flags |= MsFlags::MS_RELATIME,
            ("softerr", None) => self.softerr = true,
            ("lock", None) => self.lock = true,
            ("resvport", None) => self.reserved_port = true,
            ("noresvport", None) => self.reserved_port = false,
            ("nfsvers" | "vers", Some(version)) => self.version = Some(version.to_owned()),
            ("v3" | "v4" | "v4.0" | "v4.1" | "v4.2", None) => self.version = Some(name[1..].to_owned()),
            ("timeo", _) => self.timeo = number()?,
            ("retrans", _) => self.retrans = number()?,
            ("port", _) => self.port = Some(port()?).filter(|port| *port != 0),
            ("mountport", _) => self.mount_port = Some(port()?).filter(|port| *port != 0),
            _ => {
                self.passed.push(option.to_owned());
                match (name, value) {
                    ("rsize", _) => self.read_bytes = number()?.clamp(1024, MAX_TRANSFER_BYTES),
                    ("wsize", _) => self.write_bytes = number()?.clamp(1024, MAX_TRANSFER_BYTES),
                    ("actimeo", _) => self.attributes_valid = Duration::from_secs(number()?.into()),
                    ("noac", None) => (self.attributes_valid, self.sync) = (Duration::ZERO, true),
                    ("tcp", None) | ("proto" | "mountproto", Some("tcp")) => {}
                    ("sec", Some("sys")) | ("local_lock", Some("all")) | ("mountvers", Some("3")) => {}
                    _ => {
                        self.by_tcp &=
                            !["proto", "mountproto", "mountaddr", "mountvers", "udp", "rdma"].contains(&name);
                        self.kernel_only.push(option.to_owned());
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[&str]) -> Result<Options, Refused> {
        Options::parse(&options.iter().map(|option| (*option).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn options_are_read_one_by_one_or_in_lists() {
        let options =
            parse(&["ro,port=2050", "mountport=2051", "timeo=600,retrans=1", "nfsvers=3", "rsize=8192"]).unwrap();
        assert!(options.read_only && options.check_without_kernel().is_ok());
        assert_eq!((options.port, options.mount_port, options.read_bytes), (Some(2050), Some(2051), 8192));
        assert_eq!(options.wait(), Duration::from_secs(120));
        assert_eq!(parse(&[]).unwrap().wait(), Duration::from_secs(15));
        assert_eq!(parse(&["timeo=4294967295"]).unwrap().wait(), MAX_WAIT);
        assert_eq!(parse(&["noac"]).unwrap().attributes_valid, Duration::ZERO);
    }

    #[test]
    fn what_cannot_be_had_is_refused_by_name() {
        for option in ["hard", "bg", "suid", "port=x", "port=70000", "timeo", "rsize=big"] {
            let refused = parse(&[option]).unwrap_err().to_string();
            assert!(refused.starts_with(&format!("mount option \"{option}\" is not supported")), "{refused}");
        }
        for option in ["nfsvers=4.1", "lock", "nconnect=4", "sec=krb5p", "proto=udp", "fsc"] {
            let refused = parse(&[option]).unwrap().check_without_kernel().unwrap_err();
            assert_eq!(
                refused.to_string(),
                format!("mount option \"{option}\" is not supported without the kernel's NFS")
            );
        }
        let refused = parse(&["v4.2"]).unwrap().check_without_kernel().unwrap_err();
        assert_eq!(refused, Refused::KernelOnly("nfsvers=4.2".to_owned()));
    }
}
