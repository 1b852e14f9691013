//! Deletes what its owners left behind (API concepts: Garbage Collection).
//!
//! Keys are uids. What the graph says of an owner that it lacks is asked of the API again before anything is deleted: a
//! watch may lag, and an owner may be of a kind that is not watched.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::engine::{Controller, Turn, Wake};
use crate::plan::{
    Note, NoteType, PatchKind, Plan, Propagation, Regarding, Step, Target, owners_patch, without_finalizer,
};
use crate::pods::{has_finalizer, is_deleting};
use crate::resource::Key;
use crate::world::{Delta, Object, Owner, World};

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

pub struct GarbageCollector;

impl Controller for GarbageCollector {
    fn name(&self) -> &'static str {
        "garbage-collector-controller"
    }

    fn observe(&mut self, delta: &Delta, world: &World, wake: &mut Wake) {
        let (object, meta) = (&delta.object, delta.object.meta());
        if delta.gone {
            world.graph.dependents(object.uid()).for_each(|dependent| wake.now(key(dependent.uid())));
            // Owners that wait for their dependents to go.
            owners(meta).for_each(|owner| wake.now(key(&owner.uid)));
            return;
        }
        let facts = |meta: &ObjectMeta| {
            (meta.uid.clone(), meta.owner_references.clone(), meta.finalizers.clone(), is_deleting(meta))
        };
        let is_resync = delta.before.as_ref().is_some_and(|b| b.meta().resource_version == meta.resource_version);
        let is_unchanged = delta.before.as_ref().is_some_and(|before| facts(before.meta()) == facts(meta));
        if is_unchanged && !is_resync {
            return;
        }
        if owners(meta).next().is_some() || is_deleting(meta) {
            wake.now(key(object.uid()));
        }
        if waits_for_dependents(meta) {
            world.graph.dependents(object.uid()).for_each(|dependent| wake.now(key(dependent.uid())));
        }
        for owner in delta.before.iter().flat_map(|before| owners(before.meta())) {
            wake.now(key(&owner.uid));
        }
    }

    fn reconcile(&mut self, key: &Key, world: &World, _: &mut Turn<'_>) -> Plan {
        match world.graph.get(&key.name) {
            Some(object) => reconcile(object, world),
            None => Plan::none(),
        }
    }
}

fn key(uid: &str) -> Key {
    Key::new("", uid)
}

fn owners(meta: &ObjectMeta) -> impl Iterator<Item = &Owner> {
    meta.owner_references.iter().flatten()
}

/// In foreground deletion: it goes after its dependents.
fn waits_for_dependents(meta: &ObjectMeta) -> bool {
    is_deleting(meta) && has_finalizer(meta, FOREGROUND)
}

pub fn reconcile(object: &Object, world: &World) -> Plan {
    let meta = object.meta();
    if is_deleting(meta) && has_finalizer(meta, ORPHAN) {
        return orphan(object, world);
    }
    if waits_for_dependents(meta) {
        return let_go_when_alone(object, world);
    }
    if is_deleting(meta) || owners(meta).next().is_none() {
        return Plan::none();
    }
    collect(object, world)
}

/// Frees the dependents of their owner, then the owner.
fn orphan(object: &Object, world: &World) -> Plan {
    let mut plan = Plan::none();
    let freed = world.graph.dependents(object.uid()).map(|dependent| {
        let rest: Vec<Owner> = owners(dependent.meta()).filter(|o| o.uid != object.uid()).cloned().collect();
        set_owners(dependent, &rest)
    });
    plan.step(Step::Together(freed.collect()));
    plan.step(remove_finalizer(object, ORPHAN));
    plan
}

fn let_go_when_alone(object: &Object, world: &World) -> Plan {
    let blocks = |dependent: &Object| {
        owners(dependent.meta()).any(|o| o.uid == object.uid() && o.block_owner_deletion == Some(true))
    };
    let mut plan = Plan::none();
    if !world.graph.dependents(object.uid()).any(blocks) {
        plan.step(remove_finalizer(object, FOREGROUND));
    }
    plan
}

/// How an owner bears on its dependent.
enum Standing {
    /// It keeps its dependent.
    Solid,
    /// It is being deleted in the foreground, and its dependents first.
    Waiting,
    /// As far as we know it does not exist; the target is where it would be.
    Absent(Target),
    /// The dependent names it where it can't be.
    ElsewhereAbsent(Target),
    /// The dependent is in no namespace and names an owner in one; such a reference is never acted on.
    OutOfReach,
}

fn standing(owner: &Owner, dependent: &Object, world: &World) -> Standing {
    let Some(resource) = world.resource_of(&owner.api_version, &owner.kind) else {
        // A kind that nobody serves (now) can't be shown to be gone.
        return Standing::Solid;
    };
    let namespace = dependent.meta().namespace.as_deref().unwrap_or_default();
    if resource.namespaced && namespace.is_empty() {
        return Standing::OutOfReach;
    }
    let at = Target {
        resource: resource.clone(),
        key: Key::new(if resource.namespaced { namespace } else { "" }, &owner.name),
        uid: Some(owner.uid.clone()),
        resource_version: None,
    };
    match world.graph.get(&owner.uid) {
        Some(found) if resource.namespaced && found.key().namespace != at.key.namespace => {
            Standing::ElsewhereAbsent(at)
        }
        Some(found) if waits_for_dependents(found.meta()) => Standing::Waiting,
        Some(_) => Standing::Solid,
        None if !world.knows(resource) => Standing::Solid,
        None => Standing::Absent(at),
    }
}

/// Deletes the object if nothing keeps it, or frees it of the owners that don't.
fn collect(object: &Object, world: &World) -> Plan {
    let mut plan = Plan::none();
    let (mut solid, mut waiting, mut absent) = (Vec::new(), false, Vec::new());
    for owner in owners(object.meta()) {
        match standing(owner, object, world) {
            Standing::Solid => solid.push(owner.clone()),
            Standing::Waiting => waiting = true,
            Standing::Absent(target) => absent.push(target),
            Standing::ElsewhereAbsent(target) => {
                plan.note(elsewhere(object, owner));
                absent.push(target);
            }
            Standing::OutOfReach => {
                plan.notes.extend(world.graph.get(&owner.uid).map(|_| elsewhere(object, owner)));
                solid.push(owner.clone());
            }
        }
    }
    if !solid.is_empty() && !waiting && absent.is_empty() {
        return plan;
    }
    plan.steps.extend(absent.into_iter().map(Step::CheckAbsent));
    if !solid.is_empty() {
        plan.step(set_owners(object, &solid));
        return plan;
    }
    let meta = object.meta();
    let blocking = owners(meta).any(|owner| owner.block_owner_deletion == Some(true));
    if waiting
        && blocking
        && world.graph.dependents(object.uid()).any(|dependent| waits_for_dependents(dependent.meta()))
    {
        // Owners that wait for each other in a circle would do so for ever: this one no longer makes them.
        let free = owners(meta).cloned().map(|owner| Owner { block_owner_deletion: Some(false), ..owner });
        plan.step(set_owners(object, &free.collect::<Vec<_>>()));
        return plan;
    }
    let has_dependents = world.graph.dependents(object.uid()).next().is_some();
    let propagation = if waiting && has_dependents {
        // The owner waits for all that is below it.
        Propagation::Foreground
    } else if has_finalizer(meta, ORPHAN) {
        Propagation::Orphan
    } else if has_finalizer(meta, FOREGROUND) {
        Propagation::Foreground
    } else {
        Propagation::Background
    };
    plan.step(Step::Delete {
        target: Target::exact(object.resource(), meta),
        propagation: Some(propagation),
        grace_seconds: None,
        then: None,
        or_else: None,
    });
    plan
}

fn set_owners(object: &Object, owners: &[Owner]) -> Step {
    Step::Patch {
        target: Target::exact(object.resource(), object.meta()),
        subresource: "",
        kind: PatchKind::Merge,
        patch: owners_patch(owners),
        then: None,
    }
}

fn remove_finalizer(object: &Object, name: &str) -> Step {
    without_finalizer(object.resource(), object.meta(), name)
}

fn elsewhere(object: &Object, owner: &Owner) -> Note {
    let Owner { api_version, kind, name, uid, .. } = owner;
    let namespace = object.meta().namespace.as_deref().unwrap_or_default();
    Note {
        component: "garbage-collector-controller",
        regarding: Regarding::new(object.resource(), object.meta()),
        note_type: NoteType::Warning,
        reason: "OwnerRefInvalidNamespace",
        action: "",
        message: format!(
            "ownerRef [{api_version}/{kind}, namespace: {namespace}, name: {name}, uid: {uid}] does not exist in namespace \
             \"{namespace}\""
        ),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::testing::{Bench, text};

    /// A pod whose owners are these, and whose metadata has `more`.
    fn pod(owners: &str, more: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{namespace: ns, name: p, ownerReferences: [{owners}]{more}}}\n\
             spec: {{containers: []}}\n---\n"
        )
    }

    fn owner(name: &str) -> String {
        format!("{{apiVersion: apps/v1, kind: ReplicaSet, name: {name}, uid: {name}-uid, blockOwnerDeletion: true}}")
    }

    fn set(name: &str, more: &str) -> String {
        format!("apiVersion: apps/v1\nkind: ReplicaSet\nmetadata: {{namespace: ns, name: {name}{more}}}\n---\n")
    }

    fn check(key: &str, world: &[String], expect: Expect) {
        let mut bench = Bench::new(GarbageCollector, &world.concat());
        expect.assert_eq(&text(&bench.reconcile("", key, "2024-01-01T00:00:00Z")));
    }

    const GOING: &str = ", deletionTimestamp: 2024-01-01T00:00:00Z, finalizers: [foregroundDeletion]";

    /// Conformance: "Garbage Collector, multiple owners".
    #[test]
    fn what_has_lost_every_owner_goes_and_what_has_one_left_stays() {
        check(
            "p-uid",
            &[pod(&owner("gone"), "")],
            expect![[r#"
            check absent replicasets ns/gone
            delete pods ns/p at 1 Background
        "#]],
        );
        check("p-uid", &[pod(&owner("here"), ""), set("here", "")], expect![]);
        check(
            "p-uid",
            &[pod(&format!("{}, {}", owner("gone"), owner("here")), ""), set("here", "")],
            expect![[r#"
            check absent replicasets ns/gone
            patch pods ns/p at 1 : {"metadata":{"ownerReferences":[{"apiVersion":"apps/v1","blockOwnerDeletion":true,"kind":"ReplicaSet","name":"here","uid":"here-uid"}]}}
        "#]],
        );
    }

    #[test]
    fn in_the_foreground_dependents_go_before_their_owner() {
        check(
            "p-uid",
            &[pod(&owner("going"), ""), set("going", GOING)],
            expect![[r#"
            delete pods ns/p at 1 Background
        "#]],
        );
        check("going-uid", &[pod(&owner("going"), ""), set("going", GOING)], expect![]);
        check(
            "going-uid",
            &[set("going", GOING)],
            expect![[r#"
            patch replicasets ns/going at 1 : {"metadata":{"finalizers":[]}}
        "#]],
        );
    }

    /// Conformance: "Garbage Collector, dependency cycle".
    #[test]
    fn owners_in_a_circle_do_not_wait_for_each_other() {
        let named = |name: &str, owner: &str, more: &str| {
            let owner =
                format!("{{apiVersion: v1, kind: Pod, name: {owner}, uid: {owner}-uid, blockOwnerDeletion: true}}");
            pod(&owner, more).replace("name: p,", &format!("name: {name},"))
        };
        let (first, second) = (named("first", "third", GOING), named("second", "first", GOING));
        check(
            "third-uid",
            &[first.clone(), second.clone(), named("third", "second", "")],
            expect![[r#"
                patch pods ns/third at 3 : {"metadata":{"ownerReferences":[{"apiVersion":"v1","blockOwnerDeletion":false,"kind":"Pod","name":"second","uid":"second-uid"}]}}
            "#]],
        );
        let unblocked = named("third", "second", "").replace("blockOwnerDeletion: true", "blockOwnerDeletion: false");
        check(
            "third-uid",
            &[first.clone(), second.clone(), unblocked.clone()],
            expect![[r#"
                delete pods ns/third at 3 Foreground
            "#]],
        );
        check(
            "second-uid",
            &[first, second, unblocked],
            expect![[r#"
                patch pods ns/second at 2 : {"metadata":{"finalizers":[]}}
            "#]],
        );
    }

    #[test]
    fn orphans_are_freed_before_their_owner_goes() {
        let orphaning = GOING.replace("foregroundDeletion", "orphan");
        check(
            "going-uid",
            &[pod(&owner("going"), ""), set("going", &orphaning)],
            expect![[r#"
            together:
              patch pods ns/p at 1 : {"metadata":{"ownerReferences":[]}}
            patch replicasets ns/going at 2 : {"metadata":{"finalizers":[]}}
        "#]],
        );
    }

    #[test]
    fn an_owner_in_another_namespace_is_no_owner_and_an_unknown_kind_is_let_be() {
        let elsewhere = set("far", "").replace("namespace: ns", "namespace: other");
        check(
            "p-uid",
            &[pod(&owner("far"), ""), elsewhere],
            expect![[r#"
            note Warning OwnerRefInvalidNamespace on p: ownerRef [apps/v1/ReplicaSet, namespace: ns, name: far, uid: far-uid] does not exist in namespace "ns"
            check absent replicasets ns/far
            delete pods ns/p at 1 Background
        "#]],
        );
        check("p-uid", &[pod("{apiVersion: example.com/v1, kind: Widget, name: w, uid: w}", "")], expect![]);
    }

    #[test]
    fn a_cluster_scoped_owner_is_one_for_all_and_a_namespaced_one_never_for_what_is_in_no_namespace() {
        let node = |more: &str| format!("apiVersion: v1\nkind: Node\nmetadata: {{name: one{more}}}\n---\n");
        let on_node = pod("{apiVersion: v1, kind: Node, name: one, uid: one-uid}", "");
        check("p-uid", &[node(""), on_node.clone()], expect![]);
        check(
            "p-uid",
            &[on_node],
            expect![[r#"
            check absent nodes one
            delete pods ns/p at 1 Background
        "#]],
        );
        let owned = node(&format!(", ownerReferences: [{}]", owner("far")));
        check("one-uid", std::slice::from_ref(&owned), expect![]);
        check(
            "one-uid",
            &[set("far", ""), owned],
            expect![[r#"
            note Warning OwnerRefInvalidNamespace on one: ownerRef [apps/v1/ReplicaSet, namespace: , name: far, uid: far-uid] does not exist in namespace ""
        "#]],
        );
    }

    #[test]
    fn an_owner_is_told_by_its_uid_not_by_its_name() {
        let again = set("here", "").replace("name: here", "name: here, uid: another");
        check(
            "p-uid",
            &[pod(&owner("here"), ""), again],
            expect![[r#"
            check absent replicasets ns/here
            delete pods ns/p at 1 Background
        "#]],
        );
    }

    #[test]
    fn how_a_dependent_goes_is_as_its_own_finalizers_say() {
        let held = |finalizer: &str| pod(&owner("gone"), &format!(", finalizers: [{finalizer}]"));
        let how = |finalizer: &str| {
            let plan =
                text(&Bench::new(GarbageCollector, &held(finalizer)).reconcile("", "p-uid", "2024-01-01T00:00:00Z"));
            plan.trim_end().rsplit(' ').next().map(str::to_owned)
        };
        assert_eq!(how("example.com/other").as_deref(), Some("Background"));
        assert_eq!(how(ORPHAN).as_deref(), Some("Orphan"));
        assert_eq!(how(FOREGROUND).as_deref(), Some("Foreground"));
    }
}
