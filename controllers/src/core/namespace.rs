//! Empties a namespace that is being deleted, and lets it go when nothing is left in it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition};

use crate::engine::{Controller, Turn, Wake};
use crate::execute::Failure;
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
            Some(namespace) => reconcile(namespace, world, turn.now, turn.last_failure.as_ref()),
            None => Plan::none(),
        }
    }
}

pub fn reconcile(namespace: &Arc<Namespace>, world: &World, now: Timestamp, failure: Option<&Failure>) -> Plan {
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
    let status = status(namespace, &content, failure, now);
    if failure.is_some() {
        // It may fail again: what was wrong is told first.
        plan.steps.extend(status.clone());
    }
    if !content.left.is_empty() {
        plan.together(resources.filter(|r| content.untouched.contains(r)).map(delete_all));
        if failure.is_none() {
            plan.steps.extend(status);
        }
        plan.requeue(RETRY);
        return plan;
    }
    let others: Vec<String> = finalizers.into_iter().filter(|f| f != FINALIZER).collect();
    // Whoever else keeps it is not to be told that something is left.
    if let (Some(status), None, false) = (status, failure, others.is_empty()) {
        plan.step(status);
        return plan;
    }
    // The watches show nothing. Some may lag, and some kinds are not watched: ask the API itself.
    let deletable: Vec<&Resource> = resources.collect();
    plan.together(deletable.iter().map(|r| delete_all(r)));
    let check = |r: &&Resource| Step::CheckNoneLeft { resource: (*r).clone(), namespace: name.into() };
    plan.together(deletable.iter().map(check));
    let mut finalized = (**namespace).clone();
    finalized.spec.get_or_insert_default().finalizers = Some(others);
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

/// The write that says what is left, and why; `None` if the namespace says so already.
fn status(namespace: &Namespace, content: &Content<'_>, failure: Option<&Failure>, now: Timestamp) -> Option<Step> {
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
        match failure {
            None => {
                let message = "All content successfully deleted, may be waiting on finalization".to_owned();
                ("NamespaceDeletionContentFailure", false, "ContentDeleted", message)
            }
            Some(failure) => {
                let message = format!("Failed to delete all resource types, 1 remaining: {failure}");
                ("NamespaceDeletionContentFailure", true, "ContentDeletionFailed", message)
            }
        },
        if left.is_empty() {
            let message = "All content successfully removed".to_owned();
            ("NamespaceContentRemaining", false, "ContentRemoved", message)
        } else {
            let message = format!("Some resources are remaining: {left}");
            ("NamespaceContentRemaining", true, "SomeResourcesRemain", message)
        },
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
    (namespace.status != updated.status).then(|| plan::update(&NAMESPACES, &updated, "status", None))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{text, world};

    const NOW: &str = "2024-01-01T00:01:00Z";
    const GOING: &str = ", deletionTimestamp: 2024-01-01T00:00:00Z";

    fn namespace(meta: &str, finalizers: &str, conditions: &str) -> String {
        format!(
            "
apiVersion: v1
kind: Namespace
metadata: {{name: ns{meta}}}
spec: {{finalizers: [{finalizers}]}}
status: {{phase: Terminating, conditions: [{conditions}]}}
"
        )
    }

    fn object(kind: &str, name: &str, meta: &str) -> String {
        format!("---\napiVersion: v1\nkind: {kind}\nmetadata: {{namespace: ns, name: {name}{meta}}}\n")
    }

    fn plan(world_yaml: &[String], failure: Option<&Failure>) -> Plan {
        let (world, _) = world(&world_yaml.concat());
        reconcile(world.namespaces.get("", "ns").unwrap(), &world, NOW.parse().unwrap(), failure)
    }

    /// What a step writes as conditions, a line each.
    fn conditions(step: &Step) -> String {
        let Step::Update { object, subresource: "status", .. } = step else { panic!("{step:?}") };
        let all = object["status"]["conditions"].as_array().unwrap().iter().map(|condition| {
            let of = |field: &str| condition[field].as_str().unwrap_or_default();
            format!("{} {} {} {}\n", of("type"), of("status"), of("reason"), of("message"))
        });
        all.collect()
    }

    #[test]
    fn a_namespace_that_stays_or_is_not_ours_to_finalize_is_left_alone() {
        let content = object("Service", "s", "");
        for (meta, finalizers) in [("", "kubernetes"), (GOING, ""), (GOING, "example.com/other")] {
            let plan = plan(&[namespace(meta, finalizers, ""), content.clone()], None);
            assert!(plan.is_empty(), "{meta} {finalizers}: {}", text(&plan));
        }
    }

    #[test]
    fn what_leaves_already_is_waited_for_and_what_is_left_when_the_pods_are_gone_goes_at_once() {
        let deleted = |objects: &[String]| {
            let plan = text(&plan(&[namespace(GOING, "kubernetes", ""), objects.concat()], None));
            assert!(plan.ends_with("look again in 15s\n"), "{plan}");
            let all = plan.lines().filter_map(|line| line.trim().strip_prefix("delete all ")?.strip_suffix(" in ns"));
            let mut all: Vec<_> = all.collect();
            all.sort_unstable();
            all.join(" ")
        };
        assert_eq!(deleted(&[object("Pod", "p", ""), object("Service", "s", "")]), "pods");
        assert_eq!(deleted(&[object("Pod", "p", GOING), object("Service", "s", "")]), "");
        assert_eq!(
            deleted(&[object("ServiceAccount", "a", ""), object("Service", "s", "")]),
            "serviceaccounts services"
        );
        assert_eq!(deleted(&[object("ServiceAccount", "a", GOING), object("Service", "s", "")]), "services");
        assert_eq!(deleted(&[object("Service", "a", GOING), object("Service", "b", "")]), "services");
    }

    #[test]
    fn when_nothing_is_seen_any_more_the_api_is_asked_and_the_finalizer_goes() {
        let steps = |finalizers: &str, conditions: &str| plan(&[namespace(GOING, finalizers, conditions)], None).steps;
        let asked = steps("kubernetes", "");
        let [Step::Together(deletions), Step::Together(checks), Step::Update { subresource, object, .. }] = &asked[..]
        else {
            panic!("{asked:?}")
        };
        assert!(deletions.iter().all(|step| matches!(step, Step::DeleteAll { namespace, .. } if namespace == "ns")));
        assert!(checks.iter().all(|step| matches!(step, Step::CheckNoneLeft { .. })));
        assert_eq!((deletions.len(), *subresource), (checks.len(), "finalize"));
        assert!(object["spec"]["finalizers"].as_array().is_none_or(Vec::is_empty));
        // Where somebody else keeps it, it says first that nothing is left.
        let told = steps("kubernetes, example.com/other", "{type: NamespaceContentRemaining, status: 'True'}");
        expect_test::expect![[r#"
            NamespaceContentRemaining False ContentRemoved All content successfully removed
            NamespaceDeletionDiscoveryFailure False ResourcesDiscovered All resources successfully discovered
            NamespaceDeletionGroupVersionParsingFailure False ParsedGroupVersions All legacy kube types successfully parsed
            NamespaceDeletionContentFailure False ContentDeleted All content successfully deleted, may be waiting on finalization
            NamespaceFinalizersRemaining False ContentHasNoFinalizers All content-preserving finalizers finished
        "#]]
        .assert_eq(&conditions(&told[0]));
        assert_eq!(told.len(), 1);
        let Step::Update { object, .. } = &told[0] else { panic!("{told:?}") };
        let stored = object["status"]["conditions"].to_string();
        let last = steps("kubernetes, example.com/other", stored.trim_matches(['[', ']'])).pop();
        let Some(Step::Update { object, .. }) = last else { panic!("{last:?}") };
        assert_eq!(object["spec"]["finalizers"], serde_json::json!(["example.com/other"]));
    }

    #[test]
    fn what_cannot_be_deleted_is_told_before_it_is_tried_again() {
        let failure = Failure { code: 500, reason: "InternalError".into(), message: "no luck".into() };
        let unrelated = "{type: example.com/mine, status: 'True', reason: Mine, message: stays}";
        let seen = plan(
            &[namespace(GOING, "kubernetes", unrelated), object("Service", "s", ", finalizers: [example.com/f]")],
            Some(&failure),
        );
        expect_test::expect![[r#"
            example.com/mine True Mine stays
            NamespaceDeletionDiscoveryFailure False ResourcesDiscovered All resources successfully discovered
            NamespaceDeletionGroupVersionParsingFailure False ParsedGroupVersions All legacy kube types successfully parsed
            NamespaceDeletionContentFailure True ContentDeletionFailed Failed to delete all resource types, 1 remaining: no luck
            NamespaceContentRemaining True SomeResourcesRemain Some resources are remaining: services. has 1 resource instances
            NamespaceFinalizersRemaining True SomeFinalizersRemain Some content in the namespace has finalizers remaining: example.com/f in 1 resource instances
        "#]]
        .assert_eq(&conditions(&seen.steps[0]));
        assert!(matches!(&seen.steps[1], Step::Together(all) if matches!(all[..], [Step::DeleteAll { .. }])));
        // Of a kind that is not watched.
        let unseen = plan(&[namespace(GOING, "kubernetes", "")], Some(&failure));
        assert!(conditions(&unseen.steps[0]).contains("NamespaceDeletionContentFailure True ContentDeletionFailed"));
        assert_eq!(unseen.steps.len(), 4);
    }
}
