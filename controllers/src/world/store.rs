//! One kind's objects as this process knows them: what the watch delivered, plus what our own writes returned.
//!
//! Reading its own writes is what lets a controller act on its cache without counting expectations: a created pod is in
//! the store before the reconciler runs again. It rests on resource versions being ordered (KEP-5504): an older state
//! never replaces a newer one, whichever way it comes.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, btree_map};
use std::sync::Arc;

use k8s_openapi::Metadata;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::resource::Key;

/// Anything with object metadata.
pub trait Meta {
    /// Whether anybody asks for a controller's objects, or for those without one.
    const IS_CLAIMED: bool;

    fn meta(&self) -> &ObjectMeta;
    fn meta_mut(&mut self) -> &mut ObjectMeta;
}

impl<K: Metadata<Ty = ObjectMeta>> Meta for K {
    const IS_CLAIMED: bool = true;

    fn meta(&self) -> &ObjectMeta {
        self.metadata()
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.metadata_mut()
    }
}

/// The resource version as a number; 0 when absent or not a number, which is older than everything.
pub fn revision(meta: &ObjectMeta) -> u64 {
    meta.resource_version.as_deref().and_then(|v| v.parse().ok()).unwrap_or(0)
}

/// The owner that manages the object, if any.
pub fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.as_ref()?.iter().find(|o| o.controller == Some(true))
}

struct Entry<K> {
    object: Arc<K>,
    revision: u64,
}

/// What a change did to the store: the state before, and the state after (`None`: the object is gone).
pub struct Effect<K> {
    pub before: Option<Arc<K>>,
    pub after: Option<Arc<K>>,
}

/// Objects of one kind by namespace and name, indexed by controller.
pub struct Store<K> {
    namespaces: BTreeMap<Arc<str>, BTreeMap<Arc<str>, Entry<K>>>,
    by_controller: HashMap<Arc<str>, BTreeSet<Key>>,
    /// Namespace -> names of the objects that no controller manages.
    unmanaged: HashMap<Arc<str>, BTreeSet<Arc<str>>>,
    /// Uids that we deleted and whose deletion the watch has not delivered yet.
    removed: HashSet<Arc<str>>,
    /// The newest revision the watch has delivered.
    seen: u64,
    synced: bool,
    len: usize,
}

impl<K> Default for Store<K> {
    fn default() -> Self {
        Self {
            namespaces: BTreeMap::new(),
            by_controller: HashMap::new(),
            unmanaged: HashMap::new(),
            removed: HashSet::new(),
            seen: 0,
            synced: false,
            len: 0,
        }
    }
}

impl<K: Meta> Store<K> {
    pub fn get(&self, namespace: &str, name: &str) -> Option<&Arc<K>> {
        Some(&self.namespaces.get(namespace)?.get(name)?.object)
    }

    pub fn by_key(&self, key: &Key) -> Option<&Arc<K>> {
        self.get(&key.namespace, &key.name)
    }

    pub fn in_namespace(&self, namespace: &str) -> impl Iterator<Item = &Arc<K>> {
        self.namespaces.get(namespace).into_iter().flat_map(|m| m.values()).map(|e| &e.object)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<K>> {
        self.namespaces.values().flat_map(|m| m.values()).map(|e| &e.object)
    }

    /// Objects whose controller has this uid.
    pub fn controlled_by(&self, uid: &str) -> impl Iterator<Item = &Arc<K>> {
        self.by_controller.get(uid).into_iter().flatten().filter_map(|key| self.by_key(key))
    }

    /// Objects of the namespace that no controller manages.
    pub fn unmanaged(&self, namespace: &str) -> impl Iterator<Item = &Arc<K>> {
        let names = self.unmanaged.get(namespace).into_iter().flatten();
        names.filter_map(move |name| self.get(namespace, name))
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the first list has been taken in.
    pub fn synced(&self) -> bool {
        self.synced
    }

    /// Takes in a state that the watch delivered.
    pub fn watched(&mut self, object: Arc<K>) -> Option<Effect<K>> {
        self.seen = self.seen.max(revision(object.meta()));
        self.put(object)
    }

    /// Takes in a state that one of our own writes returned.
    pub fn written(&mut self, object: Arc<K>) -> Option<Effect<K>> {
        // What the watch has passed already may have been deleted again since.
        if revision(object.meta()) <= self.seen { None } else { self.put(object) }
    }

    /// Takes in a deletion that the watch delivered.
    pub fn watched_gone(&mut self, object: &K) -> Option<Effect<K>> {
        let meta = object.meta();
        self.seen = self.seen.max(revision(meta));
        if let Some(uid) = meta.uid.as_deref() {
            self.removed.remove(uid);
        }
        let entry = self.entry(meta)?;
        let same = entry.object.meta().uid == meta.uid || entry.revision <= revision(meta);
        if same { self.take(&Key::of(meta)) } else { None }
    }

    /// Takes in that one of our own writes removed the object with this uid.
    pub fn removed(&mut self, key: &Key, uid: &str) -> Option<Effect<K>> {
        if self.by_key(key)?.meta().uid.as_deref() != Some(uid) {
            return None;
        }
        self.removed.insert(uid.into());
        self.take(key)
    }

    /// Takes in a complete list at `at` of those that `is_listed`: what it lacks and we have from before is gone.
    pub fn relisted(&mut self, objects: Vec<Arc<K>>, at: u64, is_listed: impl Fn(&Arc<K>) -> bool) -> Vec<Effect<K>> {
        let listed: HashSet<&str> = objects.iter().filter_map(|o| o.meta().uid.as_deref()).collect();
        self.removed.retain(|uid| listed.contains(&**uid));
        let gone: Vec<Key> = self
            .namespaces
            .values()
            .flat_map(|m| m.values())
            .filter(|e| is_listed(&e.object))
            .filter(|e| e.revision <= at && !e.object.meta().uid.as_deref().is_some_and(|uid| listed.contains(uid)))
            .map(|e| Key::of(e.object.meta()))
            .collect();
        drop(listed);
        self.seen = self.seen.max(at);
        self.synced = true;
        let mut effects: Vec<Effect<K>> = gone.iter().filter_map(|key| self.take(key)).collect();
        effects.extend(objects.into_iter().filter_map(|object| self.put(object)));
        effects
    }

    fn entry(&self, meta: &ObjectMeta) -> Option<&Entry<K>> {
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        self.namespaces.get(namespace)?.get(meta.name.as_deref().unwrap_or_default())
    }

    fn put(&mut self, object: Arc<K>) -> Option<Effect<K>> {
        let revision = revision(object.meta());
        if object.meta().uid.as_deref().is_some_and(|uid| self.removed.contains(uid)) {
            return None;
        }
        let key = Key::of(object.meta());
        let entry = Entry { object: object.clone(), revision };
        let names = self.namespaces.entry(key.namespace.clone()).or_default();
        let before = match names.entry(key.name.clone()) {
            btree_map::Entry::Occupied(known) if known.get().revision >= revision => return None,
            btree_map::Entry::Occupied(mut known) => Some(known.insert(entry).object),
            btree_map::Entry::Vacant(room) => {
                room.insert(entry);
                self.len += 1;
                None
            }
        };
        let controller = controller_of(object.meta());
        match &before {
            Some(old) if controller_of(old.meta()) == controller => {}
            Some(old) => {
                self.unindex(&key, old.meta());
                self.index(key, controller);
            }
            None => self.index(key, controller),
        }
        Some(Effect { before, after: Some(object) })
    }

    fn take(&mut self, key: &Key) -> Option<Effect<K>> {
        let names = self.namespaces.get_mut(&key.namespace)?;
        let object = names.remove(&key.name)?.object;
        if names.is_empty() {
            self.namespaces.remove(&key.namespace);
        }
        self.unindex(key, object.meta());
        self.len -= 1;
        Some(Effect { before: Some(object), after: None })
    }

    fn index(&mut self, key: Key, controller: Option<&OwnerReference>) {
        match controller {
            _ if !K::IS_CLAIMED => {}
            Some(owner) => _ = self.by_controller.entry(owner.uid.as_str().into()).or_default().insert(key),
            None => _ = self.unmanaged.entry(key.namespace).or_default().insert(key.name),
        }
    }

    fn unindex(&mut self, key: &Key, meta: &ObjectMeta) {
        match controller_of(meta) {
            Some(owner) => {
                if let Some(keys) = self.by_controller.get_mut(owner.uid.as_str()) {
                    keys.remove(key);
                    if keys.is_empty() {
                        self.by_controller.remove(owner.uid.as_str());
                    }
                }
            }
            None => {
                if let Some(names) = self.unmanaged.get_mut(&key.namespace) {
                    names.remove(&key.name);
                    if names.is_empty() {
                        self.unmanaged.remove(&key.namespace);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;

    use super::*;

    fn pod(uid: &str, revision: u64) -> Arc<Pod> {
        let mut pod = Pod::default();
        pod.metadata.namespace = Some("ns".into());
        pod.metadata.name = Some("p".into());
        pod.metadata.uid = Some(uid.into());
        pod.metadata.resource_version = Some(revision.to_string());
        Arc::new(pod)
    }

    fn revision_of(store: &Store<Pod>) -> Option<u64> {
        store.get("ns", "p").map(|p| revision(&p.metadata))
    }

    #[test]
    fn an_older_state_never_replaces_a_newer_one() {
        let mut store = Store::default();
        assert!(store.written(pod("a", 5)).is_some());
        assert!(store.watched(pod("a", 4)).is_none());
        assert!(store.watched(pod("a", 5)).is_none(), "the watch repeats our own write: nothing changed");
        assert!(store.watched(pod("a", 6)).is_some());
        assert_eq!(revision_of(&store), Some(6));
    }

    #[test]
    fn an_answer_that_comes_after_the_watch_has_passed_it_does_not_revive_the_object() {
        let mut store = Store::default();
        store.watched(pod("a", 5));
        store.watched_gone(&pod("a", 7));
        assert!(store.written(pod("a", 5)).is_none());
        assert_eq!(revision_of(&store), None);
    }

    #[test]
    fn a_late_event_does_not_revive_what_we_deleted() {
        let mut store = Store::default();
        store.watched(pod("a", 5));
        assert!(store.removed(&Key::new("ns", "p"), "a").is_some());
        assert!(store.watched(pod("a", 6)).is_none());
        assert!(store.watched_gone(&pod("a", 7)).is_none());
        assert!(store.watched(pod("b", 8)).is_some(), "a new object of the same name is another object");
    }

    #[test]
    fn a_list_removes_what_it_lacks_but_keeps_what_is_newer() {
        let mut store = Store::default();
        store.watched(pod("a", 5));
        assert_eq!(store.relisted(vec![], 6, |_| true).len(), 1);
        store.written(pod("b", 9));
        assert!(store.relisted(vec![], 8, |_| true).is_empty());
        assert_eq!(revision_of(&store), Some(9));
        assert_eq!((store.len(), store.synced()), (1, true));
    }

    #[test]
    fn the_index_follows_the_controller() {
        let mut store = Store::default();
        store.watched(pod("a", 5));
        assert_eq!(store.unmanaged("ns").count(), 1);
        let mut owned = (*pod("a", 6)).clone();
        owned.metadata.owner_references =
            Some(vec![OwnerReference { uid: "rs".into(), controller: Some(true), ..Default::default() }]);
        store.watched(Arc::new(owned));
        assert_eq!((store.unmanaged("ns").count(), store.controlled_by("rs").count()), (0, 1));
        store.watched_gone(&pod("a", 7));
        assert_eq!(store.controlled_by("rs").count(), 0);
    }
}
