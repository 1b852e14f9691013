//! The folder of static pods: read when something in it changes.

use std::fs;
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8w_kinds::schema;

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
    let mut folder = Folder::default();
    loop {
        ticks.tick().await;
        let (path, node) = (path.clone(), shared.config.name.clone());
        let looked = tokio::task::spawn_blocking(move || {
            let pods = folder.look(&path, &node);
            (folder, pods)
        });
        let pods;
        (folder, pods) = looked.await.unwrap_or_default();
        if let Some(pods) = pods {
            shared.tell(Event::Manifests(pods)).await;
        }
    }
}

/// What was last seen of the folder.
#[derive(Default)]
struct Folder {
    /// Why it could not be looked at.
    failed: Option<String>,
    /// `None` while a file could not be read, which it may be the next time without looking any different.
    stamps: Option<Vec<Stamp>>,
    files: Option<Vec<(PathBuf, Text)>>,
}

/// What a file holds.
#[derive(PartialEq)]
enum Text {
    Read(Vec<u8>),
    TooLarge,
    Unreadable(String),
}

impl Folder {
    /// Looks again: its pods, if it holds anything else than before. What is no pod is told in the log.
    fn look(&mut self, path: &Path, node: &str) -> Option<Vec<Pod>> {
        let stamps = match stamps(path) {
            Ok(stamps) => stamps,
            Err(error) => {
                let why = error.to_string();
                if self.failed.as_ref() != Some(&why) {
                    tracing::error!("could not look at the static pods in {}: {why}", path.display());
                    self.failed = Some(why);
                }
                return None;
            }
        };
        self.failed = None;
        self.read(stamps, node)
    }

    fn read(&mut self, stamps: Vec<Stamp>, node: &str) -> Option<Vec<Pod>> {
        if self.stamps.as_ref() == Some(&stamps) {
            return None;
        }
        let files: Vec<_> = stamps.iter().map(|(path, ..)| (path.clone(), Text::of(path))).collect();
        self.stamps = files.iter().all(|(_, text)| text.is_final()).then_some(stamps);
        if self.files.as_ref() == Some(&files) {
            return None;
        }
        let pods = files.iter().filter_map(|(path, text)| text.pod(path, node)).collect();
        self.files = Some(files);
        Some(pods)
    }
}

impl Text {
    fn of(path: &Path) -> Text {
        let mut text = Vec::new();
        let read = fs::File::open(path).and_then(|file| file.take(MAX_MANIFEST_BYTES + 1).read_to_end(&mut text));
        match read {
            Ok(_) if text.len() as u64 > MAX_MANIFEST_BYTES => Text::TooLarge,
            Ok(_) => Text::Read(text),
            Err(error) => Text::Unreadable(error.to_string()),
        }
    }

    /// Whether it stays what it is for as long as its file looks the same.
    fn is_final(&self) -> bool {
        !matches!(self, Text::Unreadable(_))
    }

    /// The pod, if it is one. What it is otherwise is told in the log.
    fn pod(&self, path: &Path, node: &str) -> Option<Pod> {
        let file = path.display();
        match self {
            Text::Read(text) => {
                let (text, has_more) = schema::first_document(text);
                if has_more {
                    tracing::warn!("manifest file {file} holds several documents: only the first of them is read");
                }
                static_pod::read(path, text, node, Timestamp::now())
                    .inspect_err(|error| tracing::error!("could not process manifest file {file}: {error}"))
                    .ok()
            }
            Text::TooLarge => {
                tracing::error!("could not read manifest file {file}: it is larger than {MAX_MANIFEST_BYTES} bytes");
                None
            }
            Text::Unreadable(why) => {
                tracing::error!("could not read manifest file {file}: {why}");
                None
            }
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn pod(name: &str) -> String {
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{containers: [{{name: c, image: i}}]}}}}"
        )
    }

    fn names(pods: Vec<Pod>) -> Vec<String> {
        pods.into_iter().filter_map(|pod| pod.metadata.name).collect()
    }

    #[test]
    fn what_can_be_read_is_read() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("b.yaml"), pod("b")).unwrap();
        fs::write(folder.path().join("a.json"), pod("a")).unwrap();
        fs::write(folder.path().join("broken"), "kind: [").unwrap();
        fs::write(folder.path().join("several.yaml"), format!("---\n{}\n---\n{}\n", pod("c"), pod("d"))).unwrap();
        fs::write(folder.path().join(".hidden"), pod("hidden")).unwrap();
        fs::create_dir(folder.path().join("folder")).unwrap();
        fs::write(folder.path().join("large"), vec![b' '; MAX_MANIFEST_BYTES as usize + 1]).unwrap();
        let names = |path: &Path| {
            let mut folder = Folder::default();
            let pods = folder.look(path, "n").unwrap();
            assert!(folder.stamps.is_some(), "nothing of it is read again");
            assert!(folder.look(path, "n").is_none());
            names(pods)
        };
        assert_eq!(names(folder.path()), ["a-n", "b-n", "c-n"], "of several documents the first");
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
        let mut last = Folder::default();
        assert!(last.read(before.clone(), "n").is_some_and(|pods| pods.is_empty()));
        assert!(last.stamps.is_none());
        assert!(last.read(before.clone(), "n").is_none(), "it is told only once that there is none");
        fs::write(&file, pod("a")).unwrap();
        assert_eq!(last.read(before, "n").map(names), Some(vec!["a-n".to_owned()]));
        assert!(last.stamps.is_some());
        assert!(stamps(&file.join("beneath a file")).is_ok_and(|files| files.is_empty()));
    }
}
