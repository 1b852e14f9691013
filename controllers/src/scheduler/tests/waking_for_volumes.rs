//! Which changes of claims, volumes, classes and drivers wake a pod that waits for its volumes.

use super::volumes::{BOUND, CLASS, STATIC, claim, user, volume, zones};
use super::waking::parked;
use super::*;

fn elsewhere(object: &str) -> String {
    object.replace("namespace: ns", "namespace: other")
}

#[test]
fn a_pod_wakes_for_its_own_claims() {
    let bound = claim(BOUND, "volumeName: pv-b, storageClassName: late", "Bound");
    let world = [zones(), user()];
    assert!(wakes(&mut parked(&world), &bound));
    assert!(!wakes(&mut parked(&world), &elsewhere(&bound)));
    assert!(!wakes(&mut parked(&world), &bound.replace("name: data", "name: other")));
    let ephemeral = pod("volumes: [{name: v, ephemeral: {}}]", "");
    assert!(wakes(&mut parked(&[zones(), ephemeral]), &bound.replace("name: data", "name: p-v")));
}

#[test]
fn a_pod_wakes_for_what_its_volumes_may_be_made_of() {
    let world = [STATIC.into(), zones(), claim("", "storageClassName: late", "Pending"), user()];
    let cases = [
        (volume("c", ""), true),
        (STATIC.replace("name: late", "name: other"), true),
        (format!("reclaimPolicy: Retain\n{STATIC}"), false),
        (format!("allowedTopologies: [{{matchLabelExpressions: [{{key: zone, values: [b]}}]}}]\n{STATIC}"), true),
        (node("a1", "zone: b", ""), true),
        (node("a1", "zone: a", "taints: [{key: k, effect: NoSchedule}]"), false),
        (node("new", "", ""), true),
    ];
    for (change, expected) in cases {
        assert_eq!(wakes(&mut parked(&world), &change), expected, "{change}");
    }
}

#[test]
fn a_pod_wakes_for_more_space() {
    let driver = |more: &str| {
        format!(
            "apiVersion: storage.k8s.io/v1\nkind: CSIDriver\nmetadata: {{name: example.com/made}}\nspec: {{{more}}}\n---\n"
        )
    };
    let capacity = |name: &str, more: &str| {
        format!(
            "apiVersion: storage.k8s.io/v1\nkind: CSIStorageCapacity\nmetadata: {{namespace: kube-system, name: {name}}}\n\
             storageClassName: late\n{more}\n---\n"
        )
    };
    let pending = claim("", "storageClassName: late", "Pending");
    let published = driver("storageCapacity: true");
    let world = [CLASS.into(), zones(), published, capacity("c", "capacity: 10Mi"), pending, user()];
    let cases = [
        (capacity("c", "capacity: 20Mi"), true),
        (capacity("c", "capacity: 10Mi"), false),
        (capacity("c", "capacity: 5Mi"), false),
        (capacity("c", "capacity: 20Mi\nmaximumVolumeSize: 5Mi"), false),
        (capacity("c", "capacity: 10Mi\nmaximumVolumeSize: 15Mi"), true),
        (capacity("d", "capacity: 5Mi"), true),
        (driver("storageCapacity: false"), true),
        (driver("storageCapacity: true, podInfoOnMount: true"), false),
    ];
    for (change, expected) in cases {
        assert_eq!(wakes(&mut parked(&world), &change), expected, "{change}");
    }
}

#[test]
fn a_pod_wakes_for_a_node_that_attaches_more() {
    let limits = |counts: &str| {
        format!(
            "apiVersion: storage.k8s.io/v1\nkind: CSINode\nmetadata: {{name: b1}}\nspec: {{drivers: [{counts}]}}\n---\n"
        )
    };
    let takes = |count: u32| limits(&format!("{{name: d, nodeID: b1, allocatable: {{count: {count}}}}}"));
    let csi = volume("b", "").replace("hostPath: {path: /x}", "csi: {driver: d, volumeHandle: h}");
    let bound = claim(BOUND, "volumeName: pv-b, storageClassName: late", "Bound");
    let mounts = user().replace("name: p,", "name: q,").replace("spec: {", "spec: {nodeName: b1, ");
    let mounts = mounts.replace("claimName: data", "claimName: other");
    let plain = running("r", "b1", "", "");
    let full = [node("b1", "zone: b", ""), takes(0), csi.clone(), bound, mounts.clone(), plain.clone(), user()];
    let world = || parked(&full);
    assert!(wakes(&mut world(), &takes(1)));
    assert!(wakes(&mut world(), &limits("{name: d, nodeID: b1}")), "it has no limit any more");
    assert!(!wakes(&mut world(), &takes(0)));
    assert!(wakes(&mut world(), &limits("").replace("b1", "c1")), "another node");
    assert!(!wakes(&mut world(), &csi), "a volume is not what is lacking");
    assert!(!wakes(&mut world(), &node("b1", "zone: b, more: label", "")));
    assert!(world().wakes(Change::WatchedGone(later(&mounts))));
    assert!(!world().wakes(Change::WatchedGone(later(&plain))));
}

#[test]
fn a_pod_wakes_when_its_volume_moves_to_another_zone() {
    let in_zone = |zone: &str, more: &str| {
        let labels = format!("metadata: {{name: pv-b, labels: {{topology.kubernetes.io/zone: {zone}, {more}}}}}");
        volume("b", "").replace("metadata: {name: pv-b}", &labels)
    };
    let bound = claim(BOUND, "volumeName: pv-b, storageClassName: late", "Bound");
    let here = node("b1", "zone: b, topology.kubernetes.io/zone: here", "");
    let world = [here, in_zone("there", ""), bound, user()];
    assert!(wakes(&mut parked(&world), &in_zone("here", "")));
    assert!(!wakes(&mut parked(&world), &in_zone("there", "more: label")));
    assert!(wakes(&mut parked(&world), &node("b1", "zone: b, topology.kubernetes.io/zone: there", "")));
}

#[test]
fn a_pod_wakes_when_the_one_that_has_its_claim_goes() {
    let bound = claim(BOUND, "volumeName: pv-b, storageClassName: late", "Bound").replace("Once]", "OncePod]");
    let volume = volume("b", "").replace("Once]", "OncePod]");
    let holder = user().replace("name: p,", "name: q,").replace("spec: {", "spec: {nodeName: b1, ");
    let namesake = elsewhere(&holder).replace("name: q,", "name: r,");
    let mut bench = parked(&[zones(), volume, bound, holder.clone(), namesake.clone(), user()]);
    assert!(!bench.wakes(Change::WatchedGone(later(&namesake))));
    assert!(!wakes(&mut bench, &node("new", "", "")), "a new node has no say in it");
    assert!(bench.wakes(Change::WatchedGone(later(&holder))));
    assert_eq!(outcome(&mut bench, "p"), "b1");
}
