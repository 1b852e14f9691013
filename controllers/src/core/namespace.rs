//! Empties a namespace that is being deleted, and lets it go when nothing is left in it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition};

use crate::engine::{Controller, Turn, Wake};
use crate::plan::{self, Plan, Step};
use crate::pods::is_deleting;
use crate::resource::{Key, NAMESPACES, PODS, Resource};
use crate::time::stamp;
use crate::world::{Delta, Object, World};

const FINALIZER: &str = "kubernetes";
/// Content that waits for others (finalizers, grace periods) is asked about again after this.
const RETRY: Duration = Duration::from_secs(15);

pub struct Namespaces;

impl Controller for Namespaces {
    fn name(&self) -> &'static str {
        "namespace"
    }

    fn observe(&mut self, delta: &Delta, world: &World, wake: &mut Wake) {
        match &delta.object {
            Object::Namespace(namespace) => wake.now(Key::of(&namespace.metadata)),
            object => {
                let name = object.meta().namespace.as_deref().unwrap_or_default();
                if world.namespaces.get("", name).is_some_and(|n| is_deleting(&n.metadata)) {
                    wake.now(Key::new("", name));
                }
            }
        }
    }

    fn reconcile(&mut self, key: &Key, world: &World, turn: &mut Turn<'_>) -> Plan {
        match world.namespaces.by_key(key) {
            Some(namespace) => reconcile(namespace, world, turn.now),
            None => Plan::none(),
        }
    }
}

pub fn reconcile(namespace: &Arc<Namespace>, world: &World, now: Timestamp) -> Plan {
    let mut plan = Plan::none();
    let finalizers = namespace.spec.as_ref().and_then(|s| s.finalizers.clone()).unwrap_or_default();
    if !is_deleting(&namespace.metadata) || !finalizers.iter().any(|f| f == FINALIZER) || world.resources.is_empty() {
        return plan;
    }
    let name = namespace.metadata.name.as_deref().unwrap_or_default();
    let objects = world.in_namespace(name);
    let content = Content::of(&objects);
    // Pods first: what they use must not vanish under them (KEP-5080).
    let pods_only = content.left.get(&PODS).copied().unwrap_or(0) > 0;
    let resources = world.resources.iter().filter(|r| r.namespaced && (!pods_only || **r == PODS));
    let delete_all = |resource: &Resource| Step::DeleteAll { resource: resource.clone(), namespace: name.into() };
    if !content.left.is_empty() {
        let untouched = resources.filter(|r| content.untouched.contains(r));
        let deletions: Vec<Step> = untouched.map(delete_all).collect();
        if !deletions.is_empty() {
            plan.step(Step::Together(deletions));
        }
        set_status(&mut plan, namespace, &content, now);
        plan.requeue(RETRY);
        return plan;
    }
    // The watches show nothing. Some may lag, and some kinds are not watched: ask the API itself.
    let deletable: Vec<&Resource> = resources.collect();
    plan.step(Step::Together(deletable.iter().map(|r| delete_all(r)).collect()));
    let check = |r: &&Resource| Step::CheckNoneLeft { resource: (*r).clone(), namespace: name.into() };
    plan.step(Step::Together(deletable.iter().map(check).collect()));
    let mut finalized = (**namespace).clone();
    finalized.spec.get_or_insert_default().finalizers =
        Some(finalizers.into_iter().filter(|f| f != FINALIZER).collect());
    let object = plan::to_value(&finalized);
    let key = Key::of(&namespace.metadata);
    plan.step(Step::Update { resource: NAMESPACES.clone(), key, subresource: "finalize", object, then: None });
    plan
}

/// What the watches show in a namespace.
struct Content<'a> {
    left: BTreeMap<&'a Resource, usize>,
    /// Resources with objects that nobody has asked to delete yet.
    untouched: Vec<&'a Resource>,
    finalizers: BTreeMap<&'a str, usize>,
}

impl<'a> Content<'a> {
    fn of(objects: &'a [Object]) -> Self {
        let mut content = Self { left: BTreeMap::new(), untouched: Vec::new(), finalizers: BTreeMap::new() };
        for object in objects {
            let resource = object.resource();
            *content.left.entry(resource).or_default() += 1;
            if !is_deleting(object.meta()) && !content.untouched.contains(&resource) {
                content.untouched.push(resource);
            }
            for finalizer in object.meta().finalizers.iter().flatten() {
                *content.finalizers.entry(finalizer).or_default() += 1;
            }
        }
        content
    }
}

fn set_status(plan: &mut Plan, namespace: &Namespace, content: &Content<'_>, now: Timestamp) {
    let mut updated = namespace.clone();
    let status = updated.status.get_or_insert_default();
    status.phase = Some("Terminating".into());
    let conditions = status.conditions.get_or_insert_default();
    let left = content.left.iter().map(|(resource, count)| {
        let group = &resource.group;
        format!("{}.{group} has {count} resource instances", resource.plural)
    });
    let left = sorted(left);
    let waiting = content.finalizers.iter().map(|(name, count)| format!("{name} in {count} resource instances"));
    let waiting = sorted(waiting);
    let facts = [
        (
            "NamespaceDeletionDiscoveryFailure",
            false,
            "ResourcesDiscovered",
            "All resources successfully discovered".into(),
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            false,
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed".into(),
        ),
        (
            "NamespaceDeletionContentFailure",
            false,
            "ContentDeleted",
            "All content successfully deleted, may be waiting on finalization".into(),
        ),
        ("NamespaceContentRemaining", true, "SomeResourcesRemain", format!("Some resources are remaining: {left}")),
        if waiting.is_empty() {
            let message = "All content-preserving finalizers finished".to_owned();
            ("NamespaceFinalizersRemaining", false, "ContentHasNoFinalizers", message)
        } else {
            let message = format!("Some content in the namespace has finalizers remaining: {waiting}");
            ("NamespaceFinalizersRemaining", true, "SomeFinalizersRemain", message)
        },
    ];
    for (type_, holds, reason, message) in facts {
        set_condition(conditions, type_, holds, reason, message, now);
    }
    if namespace.status != updated.status {
        plan.update_status(&NAMESPACES, &updated);
    }
}

fn sorted(facts: impl Iterator<Item = String>) -> String {
    facts.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(", ")
}

fn set_condition(
    conditions: &mut Vec<NamespaceCondition>,
    type_: &str,
    holds: bool,
    reason: &str,
    message: String,
    now: Timestamp,
) {
    let status = if holds { "True" } else { "False" };
    let old = conditions.iter().find(|c| c.type_ == type_ && c.status == status);
    let since = old.and_then(|c| c.last_transition_time.clone()).unwrap_or_else(|| stamp(now));
    let condition = NamespaceCondition {
        type_: type_.into(),
        status: status.into(),
        reason: Some(reason.into()),
        message: Some(message),
        last_transition_time: Some(since),
    };
    match conditions.iter_mut().find(|c| c.type_ == type_) {
        Some(slot) => *slot = condition,
        None => conditions.push(condition),
    }
}
