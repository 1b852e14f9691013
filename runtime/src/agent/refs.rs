//! The ConfigMaps and Secrets that this node's pods refer to, watched one by one while somebody refers to them.
//!
//! A node may read no other object of these kinds (the node authorizer's rule), so there is no list to watch.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

use crate::pod::refs::{Contents, Data, Found, RefKind, Reference};

/// How long a first look at an object may take.
const FIRST_LOOK: Duration = Duration::from_secs(10);

/// Not known yet, or what is known.
type Known = Option<Option<Contents>>;

/// Watches what is referred to. Changes are told on the channel given at construction.
pub struct Refs {
    client: Client,
    changes: mpsc::Sender<Reference>,
    entries: Mutex<HashMap<Reference, Entry>>,
}

struct Entry {
    users: HashSet<String>,
    known: watch::Receiver<Known>,
    task: AbortHandle,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The API server did not answer for a referenced object in time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to sync {kind} {namespace}/{name} cache: timed out waiting for the condition")]
pub struct Unavailable {
    kind: RefKind,
    namespace: String,
    name: String,
}

impl Refs {
    pub fn new(client: Client, changes: mpsc::Sender<Reference>) -> Refs {
        Refs { client, changes, entries: Mutex::default() }
    }

    /// What each reference holds now; from here on their changes are told, until [`Refs::release`].
    ///
    /// # Errors
    /// When the API server does not answer in time.
    pub async fn get(&self, pod_uid: &str, references: &[Reference]) -> Result<Found, Unavailable> {
        let mut found = Found::new();
        for reference in references {
            let mut known = self.watch(pod_uid, reference);
            let first = tokio::time::timeout(FIRST_LOOK, known.wait_for(Option::is_some)).await;
            let contents = match first {
                Ok(Ok(known)) => known.clone().flatten(),
                Ok(Err(_)) | Err(_) => {
                    let Reference { kind, namespace, name } = reference.clone();
                    return Err(Unavailable { kind, namespace, name });
                }
            };
            found.insert(reference.clone(), contents);
        }
        Ok(found)
    }

    /// The pods that refer to an object.
    pub fn users(&self, reference: &Reference) -> Vec<String> {
        self.lock().get(reference).map(|entry| entry.users.iter().cloned().collect()).unwrap_or_default()
    }

    /// Forgets a pod; objects that nobody refers to any more are watched no longer.
    pub fn release(&self, pod_uid: &str) {
        self.lock().retain(|_, entry| {
            entry.users.remove(pod_uid);
            !entry.users.is_empty()
        });
    }

    fn watch(&self, pod_uid: &str, reference: &Reference) -> watch::Receiver<Known> {
        let mut entries = self.lock();
        let entry = entries.entry(reference.clone()).or_insert_with(|| self.begin(reference));
        entry.users.insert(pod_uid.to_owned());
        entry.known.clone()
    }

    fn begin(&self, reference: &Reference) -> Entry {
        let (sender, known) = watch::channel(None);
        let (changes, key, client) = (self.changes.clone(), reference.clone(), self.client.clone());
        let task = tokio::spawn(async move {
            match key.kind {
                RefKind::ConfigMap => {
                    let api: Api<ConfigMap> = Api::namespaced(client, &key.namespace);
                    let objects = watcher::watch_object(api, &key.name).default_backoff();
                    follow(objects, config_map_contents, sender, changes, key).await;
                }
                RefKind::Secret => {
                    let api: Api<Secret> = Api::namespaced(client, &key.namespace);
                    let objects = watcher::watch_object(api, &key.name).default_backoff();
                    follow(objects, secret_contents, sender, changes, key).await;
                }
            }
        });
        Entry { users: HashSet::new(), known, task: task.abort_handle() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Reference, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn follow<K>(
    objects: impl Stream<Item = Result<Option<K>, watcher::Error>>,
    contents: fn(K) -> Data,
    known: watch::Sender<Known>,
    changes: mpsc::Sender<Reference>,
    key: Reference,
) {
    let mut objects = std::pin::pin!(objects);
    while let Some(object) = objects.next().await {
        let object = match object {
            Ok(object) => object.map(|object| Arc::new(contents(object))),
            Err(error) => {
                tracing::debug!(%error, kind = %key.kind, name = key.name, "watching a referenced object failed");
                continue;
            }
        };
        let is_first = known.borrow().is_none();
        let changed = known.send_if_modified(|known| {
            let changed = known.as_ref() != Some(&object);
            *known = Some(object);
            changed
        });
        if changed && !is_first && changes.send(key.clone()).await.is_err() {
            return;
        }
    }
}

fn config_map_contents(object: ConfigMap) -> Data {
    let text = object.data.into_iter().flatten().map(|(key, value)| (key, Bytes::from(value)));
    let mut data = Data::from(text.collect::<BTreeMap<_, _>>());
    for (key, value) in object.binary_data.into_iter().flatten() {
        data.binary.insert(key.clone());
        data.files.insert(key, value.0.into());
    }
    data
}

fn secret_contents(object: Secret) -> Data {
    let files = object.data.into_iter().flatten().map(|(key, value)| (key, Bytes::from(value.0)));
    files.collect::<BTreeMap<_, _>>().into()
}
