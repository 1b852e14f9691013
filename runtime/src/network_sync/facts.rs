//! Every pod and every node of the cluster, as the few facts that the tables are about.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt;
use k8s_openapi::api::core::v1;
use k8w_networking::peers::Node;
use k8w_networking::policy::Pod;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Client, Resource as _, ResourceExt};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// What is known of one object.
pub(super) trait Fact: PartialEq + Sized + Send + Sync + 'static {
    type Object: kube::Resource<DynamicType = ()> + Clone + Debug + serde::de::DeserializeOwned + Send + Sync + 'static;

    /// `None` for an object that is nobody's business.
    fn of(object: &Self::Object) -> Option<Self>;
}

impl Fact for Pod {
    type Object = v1::Pod;

    fn of(object: &v1::Pod) -> Option<Pod> {
        Pod::of(object)
    }
}

impl Fact for Node {
    type Object = v1::Node;

    fn of(object: &v1::Node) -> Option<Node> {
        Node::of(object)
    }
}

type ByUid<F> = HashMap<String, Arc<F>>;

/// The objects that are known, kept by a task.
pub(super) struct Facts<F>(Arc<Mutex<State<F>>>);

struct State<F> {
    /// `None` until all were listed once.
    known: Option<ByUid<F>>,
    /// Of a list that has not come to its end.
    listing: ByUid<F>,
}

impl<F> Default for State<F> {
    fn default() -> Self {
        State { known: None, listing: HashMap::new() }
    }
}

impl<F: Fact> Facts<F> {
    pub fn follow(watches: &mut JoinSet<()>, client: &Client, changed: &Arc<Notify>) -> Self {
        let state = Arc::<Mutex<State<F>>>::default();
        let facts = Self(state.clone());
        let events = watch(Api::<F::Object>::all(client.clone()), watcher::Config::default()).default_backoff();
        let changed = changed.clone();
        watches.spawn(async move {
            let mut events = std::pin::pin!(events);
            while let Some(event) = events.next().await {
                match event {
                    Ok(event) => {
                        if state.lock().unwrap_or_else(PoisonError::into_inner).apply(event) {
                            changed.notify_one();
                        }
                    }
                    Err(error) => tracing::debug!(%error, kind = %F::Object::kind(&()), "cannot watch; trying again"),
                }
            }
        });
        facts
    }

    /// All of them; `None` until they were listed once.
    pub fn listed(&self) -> Option<Vec<Arc<F>>> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.known.as_ref().map(|known| known.values().cloned().collect())
    }
}

impl<F: Fact> State<F> {
    /// Whether the event changed any of the facts.
    fn apply(&mut self, event: Event<F::Object>) -> bool {
        match event {
            Event::Init => self.listing.clear(),
            Event::InitApply(object) => drop(set(&mut self.listing, &object)),
            Event::InitDone => {
                self.known = Some(std::mem::take(&mut self.listing));
                return true;
            }
            Event::Apply(object) => return self.known.as_mut().is_some_and(|known| set(known, &object)),
            Event::Delete(object) => {
                let uid = object.uid().unwrap_or_default();
                return self.known.as_mut().is_some_and(|known| known.remove(&uid).is_some());
            }
        }
        false
    }
}

/// Whether this changed anything.
fn set<F: Fact>(facts: &mut ByUid<F>, object: &F::Object) -> bool {
    let uid = object.uid().unwrap_or_default();
    match F::of(object) {
        Some(fact) if facts.get(&uid).is_some_and(|known| **known == fact) => false,
        Some(fact) => {
            facts.insert(uid, Arc::new(fact));
            true
        }
        None => facts.remove(&uid).is_some(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(uid: &str, ip: &str, phase: &str) -> v1::Pod {
        let (metadata, status) = (json!({"namespace": "a", "uid": uid}), json!({"podIP": ip, "phase": phase}));
        serde_json::from_value(json!({"metadata": metadata, "spec": {"containers": []}, "status": status})).unwrap()
    }

    #[test]
    fn only_changes_of_facts_count() {
        let mut state = State::<Pod>::default();
        assert!(!state.apply(Event::Apply(pod("early", "10.64.0.9", "Running"))), "nothing is known before a list");
        assert!(!state.apply(Event::Init) && !state.apply(Event::InitApply(pod("a", "10.64.0.2", "Pending"))));
        assert!(state.known.is_none());
        assert!(state.apply(Event::InitDone));
        assert!(!state.apply(Event::Apply(pod("a", "10.64.0.2", "Running"))), "policies do not ask for the phase");
        assert!(state.apply(Event::Apply(pod("b", "10.64.0.3", "Running"))));
        assert!(state.apply(Event::Apply(pod("a", "10.64.0.2", "Succeeded"))), "one that has ended is no pod any more");
        assert!(state.apply(Event::Delete(pod("b", "10.64.0.3", "Running"))));
        assert!(state.known.unwrap().is_empty());
    }
}
