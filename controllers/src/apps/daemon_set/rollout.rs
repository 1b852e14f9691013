//! Which daemons to make and to delete next: arithmetic on what each node has.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetSpec};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::nodes::Fit;
use crate::pods;
use crate::share::{Round, share};

/// A node and the set's pods there, oldest first.
pub struct Place<'a> {
    /// `None`: the node is gone.
    pub fit: Option<Fit>,
    pub pods: Vec<&'a Arc<Pod>>,
}

impl Place<'_> {
    /// Whether the node should have a daemon.
    fn runs(&self) -> bool {
        self.fit.is_some_and(|fit| fit.runs)
    }
}

/// Nodes by name.
pub type Places<'a> = BTreeMap<&'a str, Place<'a>>;

#[derive(Default)]
pub struct Moves<'a> {
    /// Names of nodes.
    pub create: Vec<&'a str>,
    pub delete: Vec<&'a Arc<Pod>>,
    /// Pods that have ended, with their nodes: they are deleted too, but not too often.
    pub replace: Vec<(&'a str, &'a Arc<Pod>)>,
}

impl Moves<'_> {
    pub fn is_empty(&self) -> bool {
        self.create.is_empty() && self.delete.is_empty() && self.replace.is_empty()
    }
}

/// A node's updated and its outdated pod.
type Pair<'a> = (Option<&'a Arc<Pod>>, Option<&'a Arc<Pod>>);

/// Judges pods by revision and availability.
pub struct Judge<'a> {
    pub set: &'a DaemonSet,
    pub spec: &'a DaemonSetSpec,
    pub hash: &'a str,
    /// Hashes of every revision that holds the same template: somebody may have copied one.
    pub alike: Vec<&'a str>,
    pub now: Timestamp,
}

impl<'a> Judge<'a> {
    pub fn is_updated(&self, pod: &Pod) -> bool {
        super::label(pod).is_some_and(|hash| self.alike.contains(&hash))
    }

    pub fn is_available(&self, pod: &Pod) -> bool {
        let min_ready = self.spec.min_ready_seconds.unwrap_or(0);
        pods::available_in(pod, min_ready, self.now).is_some_and(|wait| wait.is_zero())
    }

    fn limit(
        &self,
        of: impl Fn(&k8s_openapi::api::apps::v1::RollingUpdateDaemonSet) -> Option<IntOrString>,
        total: i32,
    ) -> i32 {
        let rolling = self.spec.update_strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref());
        rolling.and_then(of).map_or(0, |limit| share(&limit, total, Round::Up))
    }

    pub fn is_rolling(&self) -> bool {
        self.spec.update_strategy.as_ref().and_then(|s| s.type_.as_deref()) != Some("OnDelete")
    }

    fn surges(&self) -> bool {
        self.is_rolling() && self.limit(|rolling| rolling.max_surge.clone(), 100) > 0
    }

    /// Brings every node to the pods it should have, whatever their revision: one, or in a surge an old and a new one.
    pub fn manage<'p>(&self, places: &Places<'p>) -> Moves<'p> {
        let mut moves = Moves::default();
        for (&node, place) in places {
            let staying = place.pods.iter().copied().filter(|pod| !pods::is_deleting(&pod.metadata));
            match place.fit {
                // Pod garbage collection ends those that ran there.
                None => moves.delete.extend(staying.filter(|pod| pods::node_name(pod).is_none())),
                Some(fit) if fit.runs && place.pods.is_empty() => moves.create.push(node),
                Some(fit) if fit.stays => {
                    let (ended, running): (Vec<_>, Vec<_>) = staying.partition(|pod| pods::is_terminal(pod));
                    moves.replace.extend(ended.into_iter().map(|pod| (node, pod)));
                    moves.delete.extend(self.excess(&running));
                }
                Some(_) => moves.delete.extend(staying),
            }
        }
        moves
    }

    /// Pods that a node has too many of.
    fn excess<'p>(&self, running: &[&'p Arc<Pod>]) -> Vec<&'p Arc<Pod>> {
        if !self.surges() {
            return running.iter().skip(1).copied().collect();
        }
        let (new, old): (Vec<_>, Vec<_>) = running.iter().copied().partition(|pod| self.is_updated(pod));
        let mut excess: Vec<_> = new.iter().skip(1).chain(old.iter().skip(1)).copied().collect();
        if let (Some(new), Some(old)) = (new.first(), old.first())
            && (!pods::is_ready(old) || self.is_available(new))
        {
            excess.push(old);
        }
        excess
    }

    /// One step of a rolling update.
    pub fn roll<'p>(&self, places: &Places<'p>) -> Moves<'p> {
        if !self.is_rolling() {
            return Moves::default();
        }
        let desired = pods::count(places.values().filter(|place| place.runs()).count());
        let max_surge = self.limit(|rolling| rolling.max_surge.clone(), desired);
        let max_unavailable = self.limit(|rolling| rolling.max_unavailable.clone(), desired);
        if max_surge > 0 {
            self.surge(places, max_surge, desired)
        } else {
            // Validation refuses two zeros, but the update must be able to move.
            self.replace(places, max_unavailable.max(1))
        }
    }

    fn replace<'p>(&self, places: &Places<'p>, max_unavailable: i32) -> Moves<'p> {
        let (mut unavailable, mut free, mut candidates) = (0, Vec::new(), Vec::new());
        for place in places.values().filter(|place| place.runs() || !place.pods.is_empty()) {
            match self.pair(place) {
                Some((Some(new), None)) => unavailable += i32::from(!self.is_available(new)),
                Some((None, Some(old))) if self.is_available(old) => candidates.push(old),
                Some((None, Some(old))) => {
                    unavailable += 1;
                    free.push(old);
                }
                // What is missing or too many here is not this step's to mend.
                _ => unavailable += 1,
            }
        }
        let room = usize::try_from(max_unavailable - unavailable).unwrap_or(0);
        free.extend(candidates.into_iter().take(room));
        Moves { delete: free, ..Moves::default() }
    }

    fn surge<'p>(&self, places: &Places<'p>, max_surge: i32, desired: i32) -> Moves<'p> {
        let (mut surging, mut available) = (0, 0);
        let (mut free, mut candidates, mut done, mut strays) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (&node, place) in places {
            let pair = self.pair(place);
            let mut both = pair.into_iter().flat_map(|(new, old)| [new, old]).flatten();
            available += i32::from(both.any(|pod| self.is_available(pod)));
            match pair {
                Some((_, None)) => {}
                Some((None, Some(old))) if !place.runs() && self.is_available(old) => strays.push(old),
                Some((None, Some(old))) if !place.runs() => done.push(old),
                Some((None, Some(old))) if self.is_available(old) => candidates.push(node),
                Some((None, Some(_))) => free.push(node),
                Some((Some(new), Some(old))) if self.is_available(new) => done.push(old),
                Some((Some(_), Some(_))) | None => surging += 1,
            }
        }
        let room = usize::try_from(max_surge - surging).unwrap_or(0);
        free.extend(candidates.into_iter().take(room));
        // Where no daemon belongs any more, the old one stays until enough are available elsewhere.
        done.extend(strays.into_iter().take(usize::try_from(available - desired).unwrap_or(0)));
        Moves { create: free, delete: done, ..Moves::default() }
    }

    /// What the node has; `None` when it has two of a kind.
    fn pair<'p>(&self, place: &Place<'p>) -> Option<Pair<'p>> {
        let staying = place.pods.iter().copied().filter(|pod| !pods::is_deleting(&pod.metadata));
        let (new, old): (Vec<_>, Vec<_>) = staying.partition(|pod| self.is_updated(pod));
        (new.len() <= 1 && old.len() <= 1).then(|| (new.first().copied(), old.first().copied()))
    }
}
