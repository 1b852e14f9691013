//! Files that Kubernetes itself gives to a container: its names, and where it says why it ended.
//!
//! A process has them always. A server, of which a node holds thousands that do nothing, has only what its manifest speaks
//! of. Where a volume is mounted further up they are laid over files of the volume, as the manifest's own mounts of single
//! files are, unless it is mounted read-only: nothing can be made there to lay them over.

use std::io::{self, Write};
use std::net::IpAddr;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::{Container, Pod};
use kube::ResourceExt;

use super::shared::Shared;
use super::termination;
use crate::engine::Preopen;
use crate::guest_path;
use crate::pod::hostname::{self, TooLong};

/// `terminationMessagePath` when the container gives none.
const DEFAULT_MESSAGE_PATH: &str = "/dev/termination-log";

/// One file, and what it begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OwnFile {
    dir: PathBuf,
    name: String,
    guest_path: String,
    read_only: bool,
    text: String,
}

/// The files of one attempt of a container.
///
/// # Errors
/// When the pod's name does not fit.
pub(super) fn of(
    shared: &Shared,
    pod: &Pod,
    container: &Container,
    attempt: u32,
    ip: IpAddr,
    is_process: bool,
) -> Result<Vec<OwnFile>, TooLong> {
    let uid = pod.uid().unwrap_or_default();
    let mut files = Vec::new();
    if is_process || pod.spec.as_ref().is_some_and(hostname::is_said) {
        let domain = &shared.config.cluster_domain;
        let called = format!("{}\n", hostname::hostname(pod, domain)?);
        for (name, text) in [("hosts", hostname::hosts_file(pod, domain, ip)), ("hostname", called)] {
            let (dir, guest_path) = (shared.pod_dir(&uid).join("etc"), format!("/etc/{name}"));
            files.push(OwnFile { dir, name: name.to_owned(), guest_path, read_only: true, text });
        }
    }
    let path = container.termination_message_path.as_deref().filter(|path| !path.is_empty());
    let path = path.unwrap_or(DEFAULT_MESSAGE_PATH);
    if is_process || path != DEFAULT_MESSAGE_PATH {
        files.push(OwnFile {
            dir: termination::dir(shared, &uid, &container.name),
            name: attempt.to_string(),
            guest_path: guest_path::plain(path),
            read_only: false,
            text: String::new(),
        });
    }
    Ok(files)
}

impl OwnFile {
    /// Whether the manifest mounts something else there, which goes first, or a volume around it in which the file that it would
    /// be laid over cannot be made.
    pub fn is_covered(&self, mounts: &[Preopen]) -> bool {
        let around = mounts.iter().filter_map(|mount| Some((mount, mount.beneath(&self.guest_path)?)));
        let innermost = around.max_by_key(|(mount, _)| mount.depth());
        innermost.is_some_and(|(mount, beneath)| mount.read_only || beneath.as_os_str().is_empty())
    }

    pub fn preopen(&self) -> Preopen {
        Preopen {
            host_dir: self.dir.clone(),
            guest_path: self.guest_path.clone(),
            read_only: self.read_only,
            sub_path: Some(self.name.clone()),
        }
    }

    /// Makes the file, unless it is there. Blocks.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn make(&self) -> io::Result<()> {
        std::fs::create_dir_all(&self.dir)?;
        match std::fs::File::create_new(self.dir.join(&self.name)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => made?.write_all(self.text.as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_covered_by_a_mount_in_its_place_and_by_one_around_it_that_is_read_only() {
        let mount = |guest_path: &str, read_only| Preopen {
            host_dir: PathBuf::from("/volume"),
            guest_path: guest_path.to_owned(),
            read_only,
            sub_path: None,
        };
        let file = OwnFile {
            dir: PathBuf::from("/node"),
            name: "0".to_owned(),
            guest_path: "/var/log/why".to_owned(),
            read_only: false,
            text: String::new(),
        };
        for (mounts, is_covered) in [
            (vec![], false),
            (vec![mount("/var/log/why", false)], true),
            (vec![mount("/var/log/", false)], false),
            (vec![mount("/var/log/", true)], true),
            (vec![mount("/var", true), mount("/var/log", false)], false),
            (vec![mount("/var", false), mount("/var/log", true)], true),
            (vec![mount("/va", true), mount("/var/log/why/not", true)], false),
            (vec![mount("/", true)], true),
        ] {
            let shown: Vec<_> = mounts.iter().map(|mount| (&mount.guest_path, mount.read_only)).collect();
            assert_eq!(file.is_covered(&mounts), is_covered, "{shown:?}");
        }
    }
}
