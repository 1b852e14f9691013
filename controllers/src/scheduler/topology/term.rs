//! Pods that other pods are drawn to or kept from: a pod affinity term, compiled.

use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use k8s_openapi::api::core::v1::{Affinity, Pod, PodAffinityTerm};
use k8w_kinds::core::selection::{NO_LABELS, Selector};

use crate::pods::is_deleting;
use crate::selector::Labels;

/// Labels of every namespace, by name.
pub type Namespaces = HashMap<String, Labels>;

/// A selection of pods.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Who {
    pub namespaces: BTreeSet<String>,
    /// Further namespaces, by their labels.
    pub namespace_selector: Option<Selector>,
    pub pods: Selector,
    /// Not those that are being deleted.
    pub only_staying: bool,
}

impl Who {
    /// Pods of one namespace that stay there.
    pub fn staying_within(namespace: &str, pods: Selector) -> Self {
        let namespaces = BTreeSet::from([namespace.to_owned()]);
        Self { namespaces, namespace_selector: None, pods, only_staying: true }
    }

    pub fn selects(&self, pod: &Pod, namespaces: &Namespaces) -> bool {
        let labels = pod.metadata.labels.as_ref().unwrap_or(&NO_LABELS);
        self.pods.selects(labels)
            && self.covers(pod.metadata.namespace.as_deref().unwrap_or_default(), namespaces)
            && !(self.only_staying && is_deleting(&pod.metadata))
    }

    fn covers(&self, namespace: &str, namespaces: &Namespaces) -> bool {
        self.namespaces.contains(namespace)
            || self.namespace_selector.as_ref().is_some_and(|selector| {
                selector.is_empty() || selector.selects(namespaces.get(namespace).unwrap_or(&NO_LABELS))
            })
    }

    /// What all selected pods have among their anchors, if they are in one namespace and have a label in common.
    pub fn anchor(&self) -> Option<u64> {
        let (None, 1) = (&self.namespace_selector, self.namespaces.len()) else { return None };
        let (label, value) = self.pods.anchor()?;
        Some(anchor(self.namespaces.first()?, label, value))
    }
}

/// Stands for a label of the pods of a namespace: where a pod's labels are looked up.
pub fn anchor(namespace: &str, label: &str, value: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (namespace, label, value).hash(&mut hasher);
    hasher.finish()
}

/// Pods, and the label whose values say what is near them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Term {
    pub who: Who,
    pub key: String,
}

impl Term {
    fn of(term: &PodAffinityTerm, pod: &Pod) -> Self {
        let labels = pod.metadata.labels.as_ref().unwrap_or(&NO_LABELS);
        let mut namespaces: BTreeSet<String> = term.namespaces.iter().flatten().cloned().collect();
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.insert(pod.metadata.namespace.clone().unwrap_or_default());
        }
        let mut pods = Selector::of(term.label_selector.as_ref());
        // The API server merges these keys when it creates a pod; saying it twice changes nothing.
        if term.label_selector.is_some() {
            pods = pods.like(labels, term.match_label_keys.as_ref(), false);
            pods = pods.like(labels, term.mismatch_label_keys.as_ref(), true);
        }
        let namespace_selector = term.namespace_selector.as_ref().map(|selector| Selector::of(Some(selector)));
        Self { who: Who { namespaces, namespace_selector, pods, only_staying: false }, key: term.topology_key.clone() }
    }
}

/// What a pod wants of the pods around it.
#[derive(Debug, Default)]
pub struct PodTerms {
    pub required: Vec<Term>,
    pub refused: Vec<Term>,
    /// By weight; negative for what is avoided.
    pub preferred: Vec<(i64, Term)>,
}

impl PodTerms {
    /// `None` for a pod that doesn't care.
    pub fn of(pod: &Pod) -> Option<Box<Self>> {
        let affinity: &Affinity = pod.spec.as_ref()?.affinity.as_ref()?;
        let mut terms = Self::default();
        if let Some(near) = &affinity.pod_affinity {
            let required = near.required_during_scheduling_ignored_during_execution.iter().flatten();
            terms.required.extend(required.map(|term| Term::of(term, pod)));
            let preferred = near.preferred_during_scheduling_ignored_during_execution.iter().flatten();
            terms.preferred.extend(preferred.map(|w| (i64::from(w.weight), Term::of(&w.pod_affinity_term, pod))));
        }
        if let Some(far) = &affinity.pod_anti_affinity {
            let required = far.required_during_scheduling_ignored_during_execution.iter().flatten();
            terms.refused.extend(required.map(|term| Term::of(term, pod)));
            let preferred = far.preferred_during_scheduling_ignored_during_execution.iter().flatten();
            terms.preferred.extend(preferred.map(|w| (-i64::from(w.weight), Term::of(&w.pod_affinity_term, pod))));
        }
        let any = !(terms.required.is_empty() && terms.refused.is_empty() && terms.preferred.is_empty());
        any.then(|| Box::new(terms))
    }
}
