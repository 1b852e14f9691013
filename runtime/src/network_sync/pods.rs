//! What NetworkPolicies ask about pods: every pod of the cluster, as a few facts.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod as Object;
use k8w_networking::policy::Pod;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Client, ResourceExt};
use tokio::sync::Notify;
use tokio::task::JoinSet;

type ByUid = HashMap<String, Arc<Pod>>;

/// The pods that are known, kept by a task.
pub(super) struct Pods(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// `None` until all were listed once.
    known: Option<ByUid>,
    /// Of a list that has not come to its end.
    listing: ByUid,
}

impl Pods {
    pub fn follow(watches: &mut JoinSet<()>, client: &Client, changed: &Arc<Notify>) -> Self {
        let state = Arc::<Mutex<State>>::default();
        let pods = Self(state.clone());
        let events = watch(Api::<Object>::all(client.clone()), watcher::Config::default()).default_backoff();
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
                    Err(error) => tracing::debug!(%error, kind = "Pod", "cannot watch; trying again"),
                }
            }
        });
        pods
    }

    /// All pods; `None` until they were listed once.
    pub fn listed(&self) -> Option<Vec<Arc<Pod>>> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.known.as_ref().map(|known| known.values().cloned().collect())
    }
}

impl State {
    /// Whether the event changed any of the facts.
    fn apply(&mut self, event: Event<Object>) -> bool {
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
fn set(pods: &mut ByUid, object: &Object) -> bool {
    let uid = object.uid().unwrap_or_default();
    match Pod::of(object) {
        Some(pod) if pods.get(&uid).is_some_and(|known| **known == pod) => false,
        Some(pod) => {
            pods.insert(uid, Arc::new(pod));
            true
        }
        None => pods.remove(&uid).is_some(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(uid: &str, ip: &str, phase: &str) -> Object {
        let (metadata, status) = (json!({"namespace": "a", "uid": uid}), json!({"podIP": ip, "phase": phase}));
        serde_json::from_value(json!({"metadata": metadata, "spec": {"containers": []}, "status": status})).unwrap()
    }

    #[test]
    fn only_changes_of_facts_count() {
        let mut state = State::default();
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
