use std::sync::atomic::{AtomicU64, Ordering};

use expect_test::{Expect, expect};

use super::*;
use crate::execute::Failure;
use crate::testing::{Bench, objects, text};
use crate::world::Change;

mod affinity;
mod placing;
mod preemption;
mod properties;
mod reasons;
mod resources;
mod spread;
mod volumes;
mod waking;
mod waking_for_volumes;

const NOW: &str = "2024-01-01T00:00:00Z";

/// A node of 1 cpu, 1Gi, 3 pods; `more` goes into its spec.
pub(super) fn node(name: &str, labels: &str, more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Node\nmetadata: {{name: '{name}', labels: {{{labels}}}}}\nspec: {{{more}}}\n\
         status: {{allocatable: {{cpu: '1', memory: 1Gi, pods: '3'}}}}\n---\n"
    )
}

/// A pod `p` with this spec besides its one container, which has this.
pub(super) fn pod(spec: &str, container: &str) -> String {
    labelled("p", "", spec, container)
}

pub(super) fn labelled(name: &str, labels: &str, spec: &str, container: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{namespace: ns, name: {name}, labels: {{{labels}}}}}\n\
         spec: {{containers: [{{name: c, {container}}}], {spec}}}\n---\n"
    )
}

/// A pod that runs on the node.
pub(super) fn running(name: &str, on: &str, labels: &str, spec: &str) -> String {
    labelled(name, labels, &format!("nodeName: '{on}', {spec}"), "")
}

pub(super) fn bench(world: &[String]) -> Bench<Scheduler> {
    Bench::new(Scheduler::new(&[Profile::default()]), &world.concat())
}

fn check(world: &[String], expect: Expect) {
    expect.assert_eq(&text(&bench(world).reconcile("ns", "p", NOW)));
}

/// Where the pod `p` goes, or the message that says why nowhere.
fn place(world: &[String]) -> String {
    outcome(&mut bench(world), "p")
}

fn outcome(bench: &mut Bench<Scheduler>, pod: &str) -> String {
    let plan = bench.reconcile("ns", pod, NOW);
    let text = text(&plan);
    match text.strip_prefix(&format!("bind pods ns/{pod} to ")) {
        Some(node) => node.trim_end().to_owned(),
        None => plan.notes.first().map_or(text, |note| note.message.clone()),
    }
}

/// The pod `p` as it waits for its node.
pub(super) fn pending(bench: &Bench<Scheduler>) -> Pending {
    let pod = bench.world.pods.get("ns", "p").unwrap();
    Pending::new(pod.clone(), Arc::default(), &kin::kin(pod, &bench.world))
}

/// What each node has to say of the pod `p`, by name: `yes`, `later` where fewer pods would help, or `never`.
fn verdicts(world: &[String]) -> String {
    let mut bench = bench(world);
    let pending = pending(&bench);
    let snapshot = &mut bench.controller.snapshot;
    let asked = cycle::Asked::by_filters(&pending, snapshot);
    let mut verdicts: Vec<String> = (0..snapshot.nodes.len())
        .map(|slot| {
            let verdict = match decide::refusal(&pending, snapshot, &asked, slot) {
                None => "yes",
                Some(refused) if refused.refusal.is_resolvable => "later",
                Some(_) => "never",
            };
            format!("{}: {verdict}", snapshot.nodes[slot].name())
        })
        .collect();
    verdicts.sort();
    verdicts.join(", ")
}

/// Takes in a later state of an object, and says whether it wakes any pod.
fn wakes(bench: &mut Bench<Scheduler>, yaml: &str) -> bool {
    bench.wakes(Change::Watched(later(yaml)))
}

fn later(yaml: &str) -> crate::world::Object {
    static NEXT: AtomicU64 = AtomicU64::new(2000);
    let version = NEXT.fetch_add(1, Ordering::Relaxed);
    objects(&yaml.replace("metadata: {", &format!("metadata: {{resourceVersion: '{version}', "))).remove(0)
}
