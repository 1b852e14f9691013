//! The folder of static pods: read when something in it changes.

use std::fs;
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::Event;
use super::shared::Shared;
use crate::pod::static_pod;

/// How often the folder is looked at.
pub const MANIFESTS_EVERY: Duration = Duration::from_secs(1);
/// A larger file is no manifest.
const MAX_MANIFEST_BYTES: u64 = 3 << 20;

/// A file, and what tells its states apart: its inode, when that last changed (seconds, nanoseconds), and its size.
type Stamp = (PathBuf, u64, (i64, i64), u64);

/// Tells the loop what the folder holds, and tells it again whenever that changes.
pub(super) async fn watch(shared: Arc<Shared>, path: PathBuf) {
    let mut ticks = tokio::time::interval(MANIFESTS_EVERY);
    let mut before: Option<Vec<Stamp>> = None;
    loop {
        ticks.tick().await;
        let (path, node, known) = (path.clone(), shared.config.name.clone(), before.clone());
        let looked = tokio::task::spawn_blocking(move || match stamps(&path) {
            Ok(stamps) => (known.as_ref() != Some(&stamps)).then(|| (read_all(&stamps, &node), stamps)),
            Err(error) => {
                tracing::error!("could not look at the static pods in {}: {error}", path.display());
                None
            }
        });
        if let Ok(Some((read, stamps))) = looked.await {
            // What could not be read may be readable the next time, without looking any different.
            before = read.is_complete.then_some(stamps);
            shared.tell(Event::Manifests(read.pods)).await;
        }
    }
}

/// The files at `path`, a folder or one of them, in order. As in the kubelet, folders in it are not looked into, and files
/// whose names begin with a dot are nobody's business.
fn stamps(path: &Path) -> io::Result<Vec<Stamp>> {
    let is_shown = |path: &Path| path.file_name().is_some_and(|name| !name.as_encoded_bytes().starts_with(b"."));
    let mut files: Vec<PathBuf> = match fs::read_dir(path) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).filter(|path| is_shown(path)).collect(),
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(error) if error.kind() == ErrorKind::NotADirectory => vec![path.to_owned()],
        Err(error) => return Err(error),
    };
    files.sort();
    let stamp = |path: PathBuf| {
        let metadata = fs::metadata(&path).ok().filter(fs::Metadata::is_file)?;
        Some((path, metadata.ino(), (metadata.ctime(), metadata.ctime_nsec()), metadata.len()))
    };
    Ok(files.into_iter().filter_map(stamp).collect())
}

/// What the files hold.
struct Read {
    pods: Vec<Pod>,
    /// Whether every file could be read, be it a manifest or not.
    is_complete: bool,
}

/// Every pod that can be read. What cannot is told in the log.
fn read_all(files: &[Stamp], node: &str) -> Read {
    let mut is_complete = true;
    let read = |(path, ..): &Stamp| match read(path).map(|text| static_pod::read(path, &text, node, Timestamp::now())) {
        Ok(Ok(pod)) => Some(pod),
        Ok(Err(error)) => {
            tracing::error!("could not process manifest file {}: {error}", path.display());
            None
        }
        Err(error) => {
            tracing::error!("could not read manifest file {}: {error}", path.display());
            is_complete = false;
            None
        }
    };
    let pods = files.iter().filter_map(read).collect();
    Read { pods, is_complete }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    fs::File::open(path)?.take(MAX_MANIFEST_BYTES + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MAX_MANIFEST_BYTES {
        return Err(io::Error::other(format!("it is larger than {MAX_MANIFEST_BYTES} bytes")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_can_be_read_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let pod = |name: &str| {
            format!(
                "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{containers: [{{name: c, image: i}}]}}}}"
            )
        };
        fs::write(folder.path().join("b.yaml"), pod("b")).unwrap();
        fs::write(folder.path().join("a.json"), pod("a")).unwrap();
        fs::write(folder.path().join("broken"), "kind: [").unwrap();
        fs::write(folder.path().join(".hidden"), pod("hidden")).unwrap();
        fs::create_dir(folder.path().join("folder")).unwrap();
        let names = |path: &Path| -> Vec<String> {
            let read = read_all(&stamps(path).unwrap(), "n");
            assert!(read.is_complete);
            read.pods.into_iter().filter_map(|pod| pod.metadata.name).collect()
        };
        assert_eq!(names(folder.path()), ["a-n", "b-n"]);
        assert_eq!(names(&folder.path().join("b.yaml")), ["b-n"]);
        assert!(names(&folder.path().join("nothing")).is_empty());
    }

    #[test]
    fn what_could_not_be_read_is_read_again_and_a_file_whose_rights_change_is_another() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.yaml");
        fs::write(&file, "kind: [").unwrap();
        let before = stamps(folder.path()).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        assert_ne!(stamps(folder.path()).unwrap(), before);
        fs::remove_file(&file).unwrap();
        assert!(!read_all(&before, "n").is_complete);
        assert!(stamps(&file.join("beneath a file")).is_ok_and(|files| files.is_empty()));
    }
}
