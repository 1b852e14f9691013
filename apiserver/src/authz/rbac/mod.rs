//! The RBAC authorizer: an index of roles and bindings that follows the watch cache.
//!
//! A request costs a look-up per user and group and a walk over the rules found; nothing is parsed or allocated. The
//! index is brought up to date by the first request after a role or binding changed, from what changed alone.

pub mod index;
pub mod rule;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use k8w_storage::datastore::Revision;

use self::index::{Index, Key};
use self::rule::Rule;
use crate::identity::{Attributes, UserInfo};
use crate::plugins::{Authorizer, Decision};
use crate::watch_cache::{KindCache, Record, WatchCache};

pub const GROUP: &str = "rbac.authorization.k8s.io";

/// Roles and bindings of the cluster. Shared by the authorizer, the rules review and the escalation check.
pub struct Rbac(RwLock<State>);

struct State {
    index: Index,
    roles: [Source; 2],
    bindings: [Source; 2],
}

/// What of one kind the index has seen.
struct Source {
    objects: Arc<KindCache>,
    at: Option<Revision>,
    seen: HashMap<Bytes, Revision>,
}

impl Rbac {
    pub fn new(cache: &WatchCache) -> Rbac {
        let source = |plural: &str| Source { objects: cache.kind(GROUP, plural), at: None, seen: HashMap::new() };
        Rbac(RwLock::new(State {
            index: Index::default(),
            roles: [source("roles"), source("clusterroles")],
            bindings: [source("rolebindings"), source("clusterrolebindings")],
        }))
    }

    /// All rules bound to the user for `namespace` (empty: cluster-wide ones only).
    pub fn rules(&self, user: &UserInfo, namespace: &str) -> Vec<Rule> {
        self.with_index(|index| index.rules(user, namespace))
    }

    /// The rules of a role (or, with an empty namespace, a cluster role), if it exists.
    pub fn role(&self, key: &Key) -> Option<Arc<[Rule]>> {
        self.with_index(|index| index.role(key).cloned())
    }

    fn with_index<R>(&self, read: impl FnOnce(&Index) -> R) -> R {
        let state = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if state.is_current() {
            return read(&state.index);
        }
        drop(state);
        let mut state = self.0.write().unwrap_or_else(PoisonError::into_inner);
        state.update();
        read(&state.index)
    }
}

impl Authorizer for Rbac {
    fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        if self.with_index(|index| index.allows(attributes)) {
            Decision::Allow
        } else {
            Decision::NoOpinion(String::new())
        }
    }
}

impl State {
    fn is_current(&self) -> bool {
        self.roles.iter().chain(&self.bindings).all(Source::is_current)
    }

    fn update(&mut self) {
        let index = &mut self.index;
        for source in &mut self.roles {
            source.update(|change| match change {
                Change::Put(record) => index.put_role(&record.value()),
                Change::Remove(key) => index.remove_role(&key),
            });
        }
        for source in &mut self.bindings {
            source.update(|change| match change {
                Change::Put(record) => index.put_binding(&record.value()),
                Change::Remove(key) => index.remove_binding(&key),
            });
        }
    }
}

enum Change<'a> {
    Put(&'a Record),
    Remove(Key),
}

impl Source {
    fn is_current(&self) -> bool {
        self.at == Some(self.objects.revision())
    }

    fn update(&mut self, mut apply: impl FnMut(Change<'_>)) {
        if self.is_current() {
            return;
        }
        let (records, at) = self.objects.list(None);
        let present: HashSet<&Bytes> = records.iter().map(|record| record.key()).collect();
        self.seen.retain(|key, _| {
            let keep = present.contains(key);
            if !keep {
                apply(Change::Remove(key_of(key)));
            }
            keep
        });
        for record in &records {
            if self.seen.insert(record.key().clone(), record.revision()) != Some(record.revision()) {
                apply(Change::Put(record));
            }
        }
        self.at = Some(at);
    }
}

/// `namespace/name` or `name`.
fn key_of(key: &[u8]) -> Key {
    let text = String::from_utf8_lossy(key);
    let (namespace, name) = text.split_once('/').unwrap_or(("", &text));
    Key { namespace: namespace.to_owned(), name: name.to_owned() }
}
