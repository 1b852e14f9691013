//! Who owns whom, over every kind.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::{Delta, Object};

/// Objects by uid, and the dependents that name them as owners, whether the owner exists or not.
#[derive(Default)]
pub struct Graph {
    objects: HashMap<Arc<str>, Object>,
    dependents: HashMap<Arc<str>, BTreeSet<Arc<str>>>,
}

impl Graph {
    pub fn get(&self, uid: &str) -> Option<&Object> {
        self.objects.get(uid)
    }

    /// Objects that name `uid` among their owners.
    pub fn dependents(&self, uid: &str) -> impl Iterator<Item = &Object> {
        self.dependents.get(uid).into_iter().flatten().filter_map(|uid| self.objects.get(uid))
    }

    pub fn len(&self) -> usize {
        self.objects.len()
    }

    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    pub(super) fn observe(&mut self, deltas: &[Delta]) {
        for delta in deltas {
            if let Some(before) = delta.before.as_ref().filter(|before| before.uid() != delta.object.uid()) {
                self.remove(before.uid());
            }
            if delta.gone {
                self.remove(delta.object.uid());
            } else if !self.replace(&delta.object) {
                self.remove(delta.object.uid());
                self.insert(&delta.object);
            }
        }
    }

    /// Puts a newer state of an object in place of the one that is known, if its owners are the same; most changes leave
    /// them alone.
    fn replace(&mut self, object: &Object) -> bool {
        let Some(known) = self.objects.get_mut(object.uid()) else { return false };
        let same = known.meta().owner_references == object.meta().owner_references;
        if same {
            *known = object.clone();
        }
        same
    }

    fn insert(&mut self, object: &Object) {
        let uid: Arc<str> = object.uid().into();
        for owner in object.meta().owner_references.iter().flatten() {
            self.dependents.entry(owner.uid.as_str().into()).or_default().insert(uid.clone());
        }
        self.objects.insert(uid, object.clone());
    }

    fn remove(&mut self, uid: &str) {
        let Some(object) = self.objects.remove(uid) else { return };
        for owner in object.meta().owner_references.iter().flatten() {
            remove_from(&mut self.dependents, &owner.uid, uid);
        }
    }
}

fn remove_from(index: &mut HashMap<Arc<str>, BTreeSet<Arc<str>>>, key: &str, uid: &str) {
    if let Some(uids) = index.get_mut(key) {
        uids.remove(uid);
        if uids.is_empty() {
            index.remove(key);
        }
    }
}
