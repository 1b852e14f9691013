//! The objects of one kind: the newest state, a window of its history, and who watches it.

use super::change::{Change, EventType, Notice};
use super::record::Record;
use super::subscription::{Delivery, Subscription};
use crate::resources::Def;
use crate::selector::Filter;
use crate::status::Status;
use bytes::Bytes;
use k8w_kinds::kind::{Conversion, KindDef};
use k8w_storage::datastore::Revision;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};
use tokio::sync::mpsc;

/// How many past changes of a kind a watch can start from.
const HISTORY_EVENTS: usize = 8192;
/// How much memory those changes may keep alive.
const HISTORY_BYTES: usize = 8 << 20;
/// How many changes may wait for one watcher before it is closed as too slow.
const WATCHER_BUFFER_EVENTS: usize = 4096;

/// Where a watch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// With every object there is, then changes.
    Now,
    /// With the changes after this revision.
    After(Revision),
}

/// Which changes can concern a watcher at all. A change is offered along the few routes that it lies on, so that a pod's
/// event wakes its node's watcher and not those of all nodes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Route {
    All,
    Namespace(String),
    Object(Bytes),
    /// A selectable field and its value.
    Field(String, String),
}

struct Watcher {
    id: u64,
    def: Def,
    filter: Filter,
    sender: mpsc::Sender<Delivery>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<Bytes, Arc<Record>>,
    history: VecDeque<Arc<Change>>,
    history_bytes: usize,
    /// Watches can start after this revision or any later one.
    horizon: Revision,
    /// The newest revision that changed this kind.
    changed: Revision,
    watchers: HashMap<Route, Vec<Watcher>>,
    /// The selectable fields by which watchers are routed.
    routed_fields: BTreeMap<String, RoutedField>,
    next_watcher: u64,
    views: Vec<View>,
    /// Nothing comes any more: the kind is no longer served like this.
    ended: bool,
}

struct RoutedField {
    /// Knows how to read the field.
    def: Def,
    watchers: usize,
}

/// The same objects in another kind's spelling.
#[derive(Clone)]
struct View {
    objects: Weak<KindCache>,
    conversion: Arc<dyn Conversion>,
}

impl View {
    fn convert(&self, record: &Record) -> Option<Arc<Record>> {
        match record.converted(&*self.conversion) {
            Ok(record) => Some(Arc::new(record)),
            Err(error) => {
                tracing::error!(%error, "an object cannot be converted");
                None
            }
        }
    }
}

/// All objects of one kind.
#[derive(Default)]
pub struct KindCache {
    state: RwLock<State>,
}

impl KindCache {
    // A panic while the lock was held cannot leave half a change behind that matters more than serving: go on.
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The object, as far as the cache has got.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<Record>> {
        self.get_by_key(object_key(namespace, name).as_bytes())
    }

    pub(super) fn get_by_key(&self, key: &[u8]) -> Option<Arc<Record>> {
        self.read().objects.get(key).cloned()
    }

    /// All objects in key order, of one namespace when it is given, and the newest revision that changed the kind.
    pub fn list(&self, namespace: Option<&str>) -> (Vec<Arc<Record>>, Revision) {
        let state = self.read();
        (state.in_namespace(namespace), state.changed)
    }

    /// The newest revision that changed any object of this kind: an index built at this revision is still good while it
    /// stays the same.
    pub fn revision(&self) -> Revision {
        self.read().changed
    }

    /// Starts a watch. `now` is the revision that the whole cache has reached.
    ///
    /// # Errors
    /// 410 `Expired` when `from` is older than the history that is kept.
    pub fn watch(
        self: &Arc<Self>,
        def: Def,
        filter: Filter,
        from: From,
        now: Revision,
    ) -> Result<Subscription, Status> {
        let kind = &def;
        let route = route_of(kind, &filter);
        let (sender, receiver) = mpsc::channel(WATCHER_BUFFER_EVENTS);
        let mut state = self.write();
        let mut backlog = VecDeque::new();
        let mut initial = Vec::new();
        match from {
            From::Now => {
                initial = state.in_namespace(filter.namespace.as_deref());
                initial.retain(|record| filter.matches(kind, record));
            }
            From::After(revision) if revision < state.horizon => {
                return Err(Status::expired(format!("too old resource version: {revision} ({})", state.horizon)));
            }
            From::After(revision) => {
                let start = state.history.partition_point(|change| change.revision <= revision);
                let missed = state.history.range(start..).cloned();
                backlog.extend(
                    missed.filter_map(|change| {
                        concerns(kind, &filter, &change).map(|event| (Notice::new(change), event))
                    }),
                );
            }
        }
        let id = state.next_watcher;
        state.next_watcher += 1;
        if let Route::Field(path, _) = &route {
            let fresh = || RoutedField { def: def.clone(), watchers: 0 };
            state.routed_fields.entry(path.clone()).or_insert_with(fresh).watchers += 1;
        }
        if !state.ended {
            state.watchers.entry(route.clone()).or_default().push(Watcher { id, def, filter, sender });
        }
        let revision = now.max(state.changed);
        drop(state);
        let place = Place { kind: self.clone(), route, id };
        Ok(Subscription { initial, backlog, receiver, revision, place })
    }

    /// The same objects in another kind's spelling, kept up to date for as long as the view is in use.
    pub fn view(&self, conversion: Arc<dyn Conversion>) -> Arc<KindCache> {
        let objects = Arc::new(KindCache::default());
        let view = View { objects: Arc::downgrade(&objects), conversion };
        let mut state = self.write();
        let converted = state.objects.values().filter_map(|record| view.convert(record));
        objects.reset(converted.map(|record| (record.key().clone(), record)).collect(), state.changed);
        state.views.retain(|view| view.objects.strong_count() > 0);
        state.views.push(view);
        objects
    }

    /// Puts a change of the datastore into effect.
    pub(super) fn apply(&self, revision: Revision, key: &[u8], current: Option<Arc<Record>>) {
        let mut state = self.write();
        for view in &state.views {
            if let Some(objects) = view.objects.upgrade() {
                objects.apply(revision, key, current.as_ref().and_then(|record| view.convert(record)));
            }
        }
        let previous = match &current {
            Some(record) => state.objects.insert(record.key().clone(), record.clone()),
            None => state.objects.remove(key),
        };
        state.changed = revision;
        if previous.is_none() && current.is_none() {
            return;
        }
        let change = Arc::new(Change::new(revision, previous, current));
        state.offer(&change);
        state.remember(change);
    }

    /// Starts over with other objects: nothing is known about what happened between, so all watchers are closed.
    pub(super) fn reset(&self, objects: BTreeMap<Bytes, Arc<Record>>, revision: Revision) {
        let mut state = self.write();
        for view in &state.views {
            if let Some(cache) = view.objects.upgrade() {
                let converted = objects.values().filter_map(|record| view.convert(record));
                cache.reset(converted.map(|record| (record.key().clone(), record)).collect(), revision);
            }
        }
        let (next_watcher, views, ended) = (state.next_watcher, std::mem::take(&mut state.views), state.ended);
        *state =
            State { objects, horizon: revision, changed: revision, next_watcher, views, ended, ..State::default() };
    }

    /// Ends all watches, and those that begin later: the kind is no longer served like this.
    pub fn end(&self) {
        let mut state = self.write();
        state.ended = true;
        state.watchers.clear();
        state.routed_fields.clear();
    }

    pub(super) fn is_ended(&self) -> bool {
        self.read().ended
    }

    fn unwatch(&self, route: &Route, id: u64) {
        let mut state = self.write();
        state.remove_watcher(route, id);
    }
}

impl State {
    fn in_namespace(&self, namespace: Option<&str>) -> Vec<Arc<Record>> {
        let Some(namespace) = namespace else { return self.objects.values().cloned().collect() };
        // '0' is the character after '/'.
        let (start, end) = ([namespace, "/"].concat(), [namespace, "0"].concat());
        let range = (Bound::Included(start.as_bytes()), Bound::Excluded(end.as_bytes()));
        self.objects.range::<[u8], _>(range).map(|(_, record)| record.clone()).collect()
    }

    /// Hands the change to every watcher that it concerns; those that cannot take it are closed.
    fn offer(&mut self, change: &Arc<Change>) {
        let mut notice: Option<Arc<Notice>> = None;
        let mut closed: Vec<(Route, u64)> = Vec::new();
        for route in self.routes(change) {
            for watcher in self.watchers.get(&route).into_iter().flatten() {
                let Some(event) = concerns(&watcher.def, &watcher.filter, change) else { continue };
                let notice = notice.get_or_insert_with(|| Notice::new(change.clone()));
                if watcher.sender.try_send((notice.clone(), event)).is_err() {
                    closed.push((route.clone(), watcher.id));
                }
            }
        }
        for (route, id) in closed {
            self.remove_watcher(&route, id);
        }
    }

    /// The routes along which somebody may wait for the change.
    fn routes(&self, change: &Change) -> Vec<Route> {
        let Some(record) = change.current.as_ref().or(change.previous.as_ref()) else { return Vec::new() };
        if self.watchers.is_empty() {
            return Vec::new();
        }
        let mut routes =
            vec![Route::All, Route::Namespace(record.namespace().to_string()), Route::Object(record.key().clone())];
        for (path, routed) in &self.routed_fields {
            for record in [&change.previous, &change.current].into_iter().flatten() {
                let value = record.field(&routed.def, path).unwrap_or_default().to_string();
                let route = Route::Field(path.clone(), value);
                if !routes.contains(&route) {
                    routes.push(route);
                }
            }
        }
        routes
    }

    fn remember(&mut self, change: Arc<Change>) {
        self.history_bytes += change.size_bytes();
        self.history.push_back(change);
        while self.history.len() > HISTORY_EVENTS || (self.history_bytes > HISTORY_BYTES && self.history.len() > 1) {
            let Some(oldest) = self.history.pop_front() else { break };
            self.history_bytes -= oldest.size_bytes();
            self.horizon = oldest.revision;
        }
    }

    fn remove_watcher(&mut self, route: &Route, id: u64) {
        let Some(watchers) = self.watchers.get_mut(route) else { return };
        let before = watchers.len();
        watchers.retain(|watcher| watcher.id != id);
        let removed = before - watchers.len();
        if watchers.is_empty() {
            self.watchers.remove(route);
        }
        if let Route::Field(path, _) = route
            && let Some(routed) = self.routed_fields.get_mut(path)
        {
            routed.watchers -= removed.min(routed.watchers);
            if routed.watchers == 0 {
                self.routed_fields.remove(path);
            }
        }
    }
}

/// A watcher's place among the others; it is given up when dropped.
pub(super) struct Place {
    pub kind: Arc<KindCache>,
    route: Route,
    id: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.kind.unwatch(&self.route, self.id);
    }
}

/// The key of an object below its kind.
pub(super) fn object_key(namespace: &str, name: &str) -> String {
    if namespace.is_empty() { name.to_string() } else { [namespace, "/", name].concat() }
}

fn route_of(def: &KindDef, filter: &Filter) -> Route {
    match (&filter.namespace, filter.single_name(), filter.single_field(def)) {
        (Some(namespace), Some(name), _) => Route::Object(object_key(namespace, name).into()),
        (None, Some(name), _) if !def.namespaced => Route::Object(name.to_string().into()),
        (_, _, Some((path, value))) => Route::Field(path, value),
        (Some(namespace), ..) => Route::Namespace(namespace.clone()),
        (None, ..) => Route::All,
    }
}

fn concerns(def: &KindDef, filter: &Filter, change: &Change) -> Option<EventType> {
    let matches = |record: &Option<Arc<Record>>| record.as_ref().is_some_and(|record| filter.matches(def, record));
    EventType::of(matches(&change.previous), matches(&change.current))
}
