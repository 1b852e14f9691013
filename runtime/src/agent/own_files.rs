//! Files that Kubernetes itself gives to a container: its names, and where it says why it ended.
//!
//! A process has them always. A server, of which a node holds thousands that do nothing, has only what its manifest speaks
//! of. Where a volume is mounted further up they are laid over files of the volume, as the manifest's own mounts of single
//! files are. Where no such file can be made, as where it is mounted read-only, the container goes without them: nobody has
//! asked for them by a mount.

use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Pod};
use k8w_storage::volume::sub_path;
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
        self.innermost(mounts).is_some_and(|(mount, beneath)| mount.read_only || beneath.as_os_str().is_empty())
    }

    /// The mount that it lies in, and where there.
    fn innermost<'m>(&self, mounts: &'m [Preopen]) -> Option<(&'m Preopen, &Path)> {
        let around = mounts.iter().filter_map(|mount| Some((mount, mount.beneath(&self.guest_path)?)));
        around.max_by_key(|(mount, _)| mount.depth())
    }

    /// Makes the file of a volume that it is to be laid over, if it lies in one. Blocks.
    ///
    /// # Errors
    /// Why it is not to be seen.
    pub fn find_place(&self, mounts: &[Preopen]) -> Result<(), String> {
        let Some((mount, beneath)) = self.innermost(mounts) else { return Ok(()) };
        let path = Path::new(mount.sub_path.as_deref().unwrap_or_default()).join(beneath);
        sub_path::ensure_file(&mount.host_dir, &path).map_err(|error| {
            let (file, dir) = (&self.guest_path, &mount.guest_path);
            format!(
                "The container goes without {file}, which cannot be laid over a file of the volume at {dir}: {error}"
            )
        })
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
    #[test]
    fn a_file_finds_its_place_in_the_innermost_volume_or_says_why_not() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("inner/sub/taken")).unwrap();
        std::fs::create_dir_all(root.path().join("outer")).unwrap();
        std::fs::write(root.path().join("inner/sub/file"), "").unwrap();
        let mount = |guest_path: &str, volume: &str, sub_path: Option<&str>| Preopen {
            host_dir: root.path().join(volume),
            guest_path: guest_path.to_owned(),
            read_only: false,
            sub_path: sub_path.map(str::to_owned),
        };
        let mounts = [mount("/v", "outer", None), mount("/v/in/", "inner", Some("sub"))];
        let placed = |guest_path: &str| {
            let file = OwnFile {
                dir: PathBuf::from("/node"),
                name: "0".to_owned(),
                guest_path: guest_path.to_owned(),
                read_only: false,
                text: String::new(),
            };
            file.find_place(&mounts)
        };
        for path in ["/elsewhere/why", "/v/log/why", "/v/in/log/why", "/v/in/file"] {
            assert_eq!(placed(path), Ok(()), "{path}");
        }
        for made in ["outer/log/why", "inner/sub/log/why"] {
            assert!(root.path().join(made).is_file(), "{made}");
        }
        for (path, why) in
            [("/v/in/taken", "Is a directory (os error 21)"), ("/v/in/file/why", "Not a directory (os error 20)")]
        {
            let expected = format!(
                "The container goes without {path}, which cannot be laid over a file of the volume at /v/in/: {why}"
            );
            assert_eq!(placed(path), Err(expected));
        }
    }
}
