//! Which volume a claim is bound to, and what becomes of one that gets none: tables of claims and volumes.

use super::{Bench, CLASS, Change, ClaimBinder, VolumeReclaimer, claim, objects, text, volume};
use crate::plan::{Plan, Step};

/// What is done for the claim `data`, in short: the volume that it is bound to and who chose it, what is told, and the phase
/// that is written.
fn bound(world: &[String]) -> String {
    let plan = Bench::new(ClaimBinder, &world.concat()).reconcile("ns", "data", "2024-01-01T00:01:00Z");
    let mut words: Vec<String> = plan.notes.iter().map(|note| note.reason.to_owned()).collect();
    for step in &plan.steps {
        match step {
            Step::Patch { target, patch, .. } if target.resource.plural == "persistentvolumes" => {
                let chosen = !patch["metadata"]["annotations"]["pv.kubernetes.io/bound-by-controller"].is_null();
                words.push(format!("{} kept{}", target.key, if chosen { " by us" } else { "" }));
            }
            Step::Patch { patch, .. } if !patch["spec"]["volumeName"].is_null() => {
                let chosen = !patch["metadata"]["annotations"]["pv.kubernetes.io/bound-by-controller"].is_null();
                let name = patch["spec"]["volumeName"].as_str().unwrap();
                words.push(format!("bound to {name}{}", if chosen { " by us" } else { "" }));
            }
            Step::Update { object, .. } => words.push(object["status"]["phase"].as_str().unwrap().to_owned()),
            _ => {}
        }
    }
    words.join(", ")
}

const NO_CLASS: &str = ", storageClassName: ''";
const COMPLETED: &str = ", annotations: {pv.kubernetes.io/bind-completed: 'yes'}";

fn free(name: &str, size: &str) -> String {
    volume(name, size, "", "", "Available")
}

/// A volume that names the claim, by its uid or not.
fn kept(name: &str, size: &str, uid: &str) -> String {
    let uid = if uid.is_empty() { String::new() } else { format!(", uid: {uid}") };
    volume(name, size, "", &format!(", claimRef: {{namespace: ns, name: data{uid}}}"), "Available")
}

fn asks(spec: &str, phase: &str) -> String {
    claim("", &format!("{NO_CLASS}{spec}"), &format!("phase: {phase}"))
}

#[test]
fn a_claim_that_names_no_volume_gets_one() {
    const BOUND: &str = "v kept by us, bound to v by us";
    const NONE: &str = "FailedBinding";
    let pending = || asks("", "Pending");
    assert_eq!(bound(&[pending(), free("v", "1Gi")]), BOUND);
    assert_eq!(bound(&[pending(), free("v", "500Mi")]), NONE);
    assert_eq!(bound(&[asks("", "Bound"), free("v", "500Mi")]), "FailedBinding, Pending");
    assert_eq!(bound(&[pending(), free("large", "10Gi"), free("v", "1Gi")]), BOUND);
    for phase in ["Pending", "Failed", "Released", ""] {
        assert_eq!(bound(&[pending(), volume("v", "1Gi", "", "", &format!("'{phase}'"))]), NONE, "{phase}");
    }
    let going = volume("v", "1Gi", ", deletionTimestamp: 2024-01-01T00:00:30Z", "", "Available");
    assert_eq!(bound(&[pending(), going]), NONE);
    let selects = || asks(", selector: {matchLabels: {foo: bar}}", "Pending");
    assert_eq!(bound(&[selects(), volume("v", "1Gi", ", labels: {foo: bar}", "", "Available")]), BOUND);
    assert_eq!(bound(&[selects(), free("v", "1Gi")]), NONE);
}

#[test]
fn a_volume_that_is_kept_for_a_claim_comes_before_a_smaller_one() {
    let world = |uid: &str| [asks("", "Pending"), kept("v", "10Gi", uid), free("small", "1Gi")];
    assert_eq!(bound(&world("")), "v kept, bound to v by us");
    assert_eq!(bound(&world("data-uid")), "bound to v by us", "as after a crash in between");
    assert_eq!(bound(&[asks("", "Pending"), kept("v", "10Gi", "another")]), "FailedBinding");
    let waits = claim("", ", storageClassName: local-path", "phase: Pending");
    let of_class = |volume: String| volume.replace("spec: {", "spec: {storageClassName: local-path, ");
    assert_eq!(bound(&[waits.clone(), CLASS.into(), of_class(free("v", "1Gi"))]), "WaitForFirstConsumer");
    assert_eq!(bound(&[waits, CLASS.into(), of_class(kept("v", "1Gi", ""))]), "v kept, bound to v by us");
}

#[test]
fn a_claim_that_names_its_volume_gets_that_or_none() {
    let named = |phase: &str| asks(", volumeName: v", phase);
    assert_eq!(bound(&[named("Pending"), free("v", "10Gi"), free("small", "1Gi")]), "v kept by us, bound to v");
    assert_eq!(bound(&[named("Pending"), kept("v", "1Gi", "")]), "v kept, bound to v");
    assert_eq!(bound(&[named("Pending"), kept("v", "1Gi", "data-uid")]), "bound to v");
    assert_eq!(bound(&[named("Pending")]), "");
    assert_eq!(bound(&[named("Bound")]), "Pending", "it has none yet");
    let others = volume("v", "1Gi", "", ", claimRef: {namespace: ns, name: other, uid: other-uid}", "Bound");
    assert_eq!(bound(&[named("Bound"), others]), "FailedBinding, Pending");
    let selecting = asks(", volumeName: v, selector: {matchLabels: {foo: bar}}", "Pending");
    assert_eq!(bound(&[selecting, free("v", "1Gi")]), "v kept by us, bound to v", "its name is enough");
    assert_eq!(bound(&[named("Bound"), free("v", "500Mi")]), "VolumeMismatch, Pending");
    let gold = volume("v", "1Gi", "", ", storageClassName: gold", "Available");
    assert_eq!(bound(&[named("Pending"), gold]), "VolumeMismatch");
    let fast = volume("v", "1Gi", "", ", volumeAttributesClassName: fast", "Available");
    assert_eq!(bound(&[named("Pending"), fast.clone()]), "VolumeMismatch");
    assert_eq!(
        bound(&[asks(", volumeName: v, volumeAttributesClassName: fast", "Pending"), fast]),
        "v kept by us, bound to v"
    );
    let shared = named("Pending").replace("[ReadWriteOnce]", "[ReadWriteMany]");
    assert_eq!(bound(&[shared, free("v", "1Gi")]), "VolumeMismatch");
}

#[test]
fn a_claim_is_looked_at_again_when_the_volume_that_it_names_is_free() {
    let mut bench = Bench::new(ClaimBinder, &asks(", volumeName: v", "Pending"));
    let is_free = objects(&free("v", "1Gi")).remove(0);
    assert!(bench.wakes(Change::Watched(is_free)));
}

#[test]
fn a_claim_that_was_bound_has_its_volume_or_is_lost() {
    let completed = |spec: &str| claim(COMPLETED, &format!("{NO_CLASS}{spec}"), "phase: Pending");
    assert_eq!(bound(&[completed(""), free("v", "1Gi")]), "ClaimLost, Lost", "it no longer names it");
    let named = || completed(", volumeName: v");
    assert_eq!(bound(&[named()]), "ClaimLost, Lost");
    assert_eq!(bound(&[named(), free("v", "1Gi")]), "v kept by us, bound to v", "the volume has forgotten it");
    assert_eq!(bound(&[named(), kept("v", "1Gi", "another")]), "ClaimMisbound, Lost");
    assert_eq!(bound(&[named(), kept("v", "1Gi", "data-uid")]), "Bound");
    let others = volume("v", "1Gi", "", ", claimRef: {namespace: ns, name: other, uid: other-uid}", "Bound");
    assert_eq!(bound(&[named(), others]), "ClaimMisbound, Lost");
}

#[test]
fn classes_and_volume_modes_must_be_alike() {
    let gold = || volume("gold", "10Gi", "", ", storageClassName: gold", "Available");
    let silver = || volume("silver", "1Gi", "", ", storageClassName: silver", "Available");
    let fast = || volume("fast", "1Gi", "", ", volumeAttributesClassName: fast", "Available");
    assert_eq!(bound(&[asks("", "Pending"), fast(), free("v", "2Gi")]), "v kept by us, bound to v by us");
    let of_fast = asks(", volumeAttributesClassName: fast", "Pending");
    assert_eq!(bound(&[of_fast.clone(), fast(), free("v", "2Gi")]), "fast kept by us, bound to fast by us");
    assert_eq!(bound(&[of_fast, free("v", "2Gi")]), "FailedBinding");
    let of_gold = claim("", ", storageClassName: gold", "phase: Pending");
    assert_eq!(
        bound(&[of_gold.clone(), gold(), silver(), free("plain", "1Gi")]),
        "gold kept by us, bound to gold by us"
    );
    let without = claim("", "", "phase: Pending");
    for asks in [without, asks("", "Pending")] {
        assert_eq!(bound(&[asks, gold(), free("plain", "10Gi")]), "plain kept by us, bound to plain by us");
    }
    assert_eq!(bound(&[of_gold, silver()]), "ProvisioningFailed", "there is no such class");
    let modes = |asked: &str, has: &str, volume: fn(&str, &str) -> String| {
        let of = |mode: &str| if mode.is_empty() { String::new() } else { format!(", volumeMode: {mode}") };
        let volume = volume("v", "1Gi").replace(
            "spec: {",
            &format!("spec: {{{}", of(has).replacen(", ", "", 1) + if has.is_empty() { "" } else { ", " }),
        );
        bound(&[asks(&of(asked), "Pending"), volume])
    };
    let set_aside = |name: &str, size: &str| kept(name, size, "");
    for (asked, has) in
        [("Block", "Block"), ("Filesystem", "Filesystem"), ("", "Filesystem"), ("Filesystem", ""), ("", "")]
    {
        assert_eq!(modes(asked, has, free), "v kept by us, bound to v by us", "{asked} of {has}");
        assert_eq!(modes(asked, has, set_aside), "v kept, bound to v by us", "{asked} of {has}");
    }
    for (asked, has) in [("Block", "Filesystem"), ("Filesystem", "Block"), ("", "Block"), ("Block", "")] {
        assert_eq!(modes(asked, has, free), "FailedBinding", "{asked} of {has}");
        assert_eq!(modes(asked, has, set_aside), "FailedBinding", "{asked} of {has}");
    }
    let named = asks(", volumeName: v, volumeMode: Filesystem", "Pending");
    let block = free("v", "1Gi").replace("spec: {", "spec: {volumeMode: Block, ");
    assert_eq!(bound(&[named, block]), "VolumeMismatch");
}

#[test]
fn the_phase_of_a_volume_follows_its_claim() {
    let phase = |volume: String, claim: String| {
        let plan: Plan = Bench::new(VolumeReclaimer, &(volume + &claim)).reconcile("", "v", "2024-01-01T00:01:00Z");
        let words =
            plan.notes.iter().map(|note| note.reason.to_owned()).chain(plan.steps.iter().map(|step| match step {
                Step::Update { object, .. } => object["status"]["phase"].as_str().unwrap().to_owned(),
                _ => text(&Plan { steps: vec![step.clone()], ..Plan::none() }),
            }));
        words.collect::<Vec<_>>().join(", ")
    };
    let of = |uid: &str, phase: &str| {
        volume("v", "1Gi", "", &format!(", claimRef: {{namespace: ns, name: data, uid: {uid}}}"), phase)
    };
    let named = |name: &str| asks(&format!(", volumeName: {name}"), "Bound");
    assert_eq!(phase(volume("v", "1Gi", "", "", "Pending"), String::new()), "Available");
    assert_eq!(phase(kept("v", "1Gi", "").replace("Available", "Pending"), String::new()), "Available");
    assert_eq!(phase(of("data-uid", "Bound"), String::new()), "Released");
    assert_eq!(phase(of("another", "Bound"), named("v")), "Released");
    assert_eq!(phase(of("data-uid", "Available"), named("v")), "Bound");
    assert_eq!(phase(of("data-uid", "Bound"), named("v")), "");
    // Until the claim names it, it is as it was.
    for before in ["Available", "Pending", "Bound"] {
        assert_eq!(phase(of("data-uid", before), asks("", "Pending")), "", "{before}");
    }
    let block = of("data-uid", "Available").replace("spec: {", "spec: {volumeMode: Block, ");
    assert_eq!(phase(block, asks("", "Pending")), "VolumeMismatch");
}
