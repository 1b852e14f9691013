mod binding;
mod in_use;

use expect_test::{Expect, expect};

use super::binder::ClaimBinder;
use super::ephemeral::EphemeralVolumes;
use super::expansion::VolumeExpansion;
use super::local_path::LocalPath;
use super::local_path::removal::LocalPathRemoval;
use super::protection::{ClaimProtection, VolumeProtection};
use super::reclaim::VolumeReclaimer;
use crate::engine::Controller;
use crate::testing::{Bench, objects, text};
use crate::world::Change;

fn check(controller: impl Controller, (namespace, name): (&str, &str), world: &[String], expect: Expect) {
    let mut bench = Bench::new(controller, &world.concat());
    expect.assert_eq(&text(&bench.reconcile(namespace, name, "2024-01-01T00:01:00Z")));
}

fn claim(meta: &str, spec: &str, status: &str) -> String {
    format!(
        "---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{namespace: ns, name: data{meta}}}
spec: {{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 1Gi}}}}{spec}}}
status: {{{status}}}
"
    )
}

fn volume(name: &str, size: &str, meta: &str, spec: &str, phase: &str) -> String {
    format!(
        "---
apiVersion: v1
kind: PersistentVolume
metadata: {{name: {name}{meta}}}
spec: {{accessModes: [ReadWriteOnce, ReadOnlyMany], capacity: {{storage: {size}}}{spec}}}
status: {{phase: {phase}}}
"
    )
}

const CLASS: &str = "---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: local-path, annotations: {storageclass.kubernetes.io/is-default-class: 'true'}}
provisioner: k8w.io/local-path
reclaimPolicy: Delete
volumeBindingMode: WaitForFirstConsumer
";
const POD: &str = "---
apiVersion: v1
kind: Pod
metadata: {namespace: ns, name: p}
spec: {nodeName: n1, containers: [], volumes: [{name: v, persistentVolumeClaim: {claimName: data}}]}
";
const NODE: &str = "---
apiVersion: v1
kind: Node
metadata: {name: n1, labels: {kubernetes.io/hostname: n1}, annotations: {k8w.io/local-path-directory: /var/lib/k8w/volumes}}
";
const OURS: &str = ", claimRef: {namespace: ns, name: data, uid: data-uid}";

#[test]
fn a_claim_gets_the_smallest_free_volume_that_serves() {
    let no_class = ", storageClassName: ''";
    let world = [
        claim("", no_class, ""),
        volume("tiny", "500Mi", "", "", "Available"),
        volume("huge", "5Gi", "", "", "Available"),
        volume("right", "2Gi", "", "", "Available"),
        volume("other-class", "1Gi", "", ", storageClassName: slow", "Available"),
        volume("taken", "1Gi", "", ", claimRef: {namespace: ns, name: other}", "Available"),
    ];
    check(
        ClaimBinder,
        ("ns", "data"),
        &world,
        expect![[r#"
        patch persistentvolumes right at 4 : {"metadata":{"annotations":{"pv.kubernetes.io/bound-by-controller":"yes"}},"spec":{"claimRef":{"apiVersion":"v1","kind":"PersistentVolumeClaim","name":"data","namespace":"ns","uid":"data-uid"}}}
        patch persistentvolumeclaims ns/data at 1 : {"metadata":{"annotations":{"pv.kubernetes.io/bind-completed":"yes","pv.kubernetes.io/bound-by-controller":"yes"}},"spec":{"volumeName":"right"}}
    "#]],
    );
    check(
        ClaimBinder,
        ("ns", "data"),
        &world[..2],
        expect![[r#"
        note Normal FailedBinding on data: no persistent volumes available for this claim and no storage class is set
    "#]],
    );
    let kept = volume("kept", "1Gi", "", ", claimRef: {namespace: ns, name: data}", "Available");
    check(
        ClaimBinder,
        ("ns", "data"),
        &[world[0].clone(), kept],
        expect![[r#"
        patch persistentvolumes kept at 2 : {"metadata":{"annotations":{}},"spec":{"claimRef":{"apiVersion":"v1","kind":"PersistentVolumeClaim","name":"data","namespace":"ns","uid":"data-uid"}}}
        patch persistentvolumeclaims ns/data at 1 : {"metadata":{"annotations":{"pv.kubernetes.io/bind-completed":"yes","pv.kubernetes.io/bound-by-controller":"yes"}},"spec":{"volumeName":"kept"}}
    "#]],
    );
}

#[test]
fn a_bound_claim_has_what_its_volume_has_or_has_lost_it() {
    let completed = ", annotations: {pv.kubernetes.io/bind-completed: 'yes'}";
    let bound = claim(completed, ", volumeName: v", "phase: Pending");
    check(
        ClaimBinder,
        ("ns", "data"),
        &[bound.clone(), volume("v", "2Gi", "", OURS, "Bound")],
        expect![[r#"
        update persistentvolumeclaims ns/data status: {"accessModes":["ReadWriteOnce","ReadOnlyMany"],"capacity":{"storage":"2Gi"},"phase":"Bound"}
    "#]],
    );
    check(
        ClaimBinder,
        ("ns", "data"),
        &[bound],
        expect![[r#"
        note Warning ClaimLost on data: Bound claim has lost its PersistentVolume. Data on the volume is lost!
        update persistentvolumeclaims ns/data status: {"phase":"Lost"}
    "#]],
    );
}

#[test]
fn a_claim_of_a_class_waits_for_its_consumer_and_then_for_its_provisioner() {
    check(
        ClaimBinder,
        ("ns", "data"),
        &[claim("", "", ""), CLASS.into()],
        expect![[r#"
        patch persistentvolumeclaims ns/data at 1 : {"spec":{"storageClassName":"local-path"}}
    "#]],
    );
    let ours = || claim("", ", storageClassName: local-path", "");
    check(
        ClaimBinder,
        ("ns", "data"),
        &[ours(), CLASS.into()],
        expect![[r#"
        note Normal WaitForFirstConsumer on data: waiting for first consumer to be created before binding
    "#]],
    );
    check(
        ClaimBinder,
        ("ns", "data"),
        &[ours(), CLASS.into(), POD.into(), NODE.into()],
        expect![[r#"
        note Normal ExternalProvisioning on data: Waiting for a volume to be created either by the external provisioner 'k8w.io/local-path' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered.
        patch persistentvolumeclaims ns/data at 1 : {"metadata":{"annotations":{"volume.beta.kubernetes.io/storage-provisioner":"k8w.io/local-path","volume.kubernetes.io/storage-provisioner":"k8w.io/local-path"}}}
    "#]],
    );
    check(
        ClaimBinder,
        ("ns", "data"),
        &[claim("", ", storageClassName: absent", "")],
        expect![[r#"
        note Warning ProvisioningFailed on data: storageclass.storage.k8s.io "absent" not found
    "#]],
    );
    // The older way to name a class comes first.
    let annotated = ", annotations: {volume.beta.kubernetes.io/storage-class: local-path}";
    for spec in ["", ", storageClassName: absent"] {
        check(
            ClaimBinder,
            ("ns", "data"),
            &[claim(annotated, spec, ""), CLASS.into()],
            expect![[r#"
            note Normal WaitForFirstConsumer on data: waiting for first consumer to be created before binding
        "#]],
        );
    }
}

#[test]
fn a_directory_of_the_consumers_node_becomes_a_volume() {
    let asked = ", annotations: {volume.kubernetes.io/storage-provisioner: k8w.io/local-path}";
    let ours = |spec: &str| claim(asked, &format!(", storageClassName: local-path{spec}"), "");
    let world = |claim: String| [claim, CLASS.into(), POD.into(), NODE.into()];
    check(
        LocalPath,
        ("ns", "data"),
        &world(ours("")),
        expect![[r#"
        create persistentvolumes in : {"apiVersion":"v1","kind":"PersistentVolume","metadata":{"annotations":{"pv.kubernetes.io/provisioned-by":"k8w.io/local-path"},"finalizers":["k8w.io/local-path"],"name":"pvc-data-uid"},"spec":{"accessModes":["ReadWriteOnce"],"capacity":{"storage":"1Gi"},"claimRef":{"apiVersion":"v1","kind":"PersistentVolumeClaim","name":"data","namespace":"ns","uid":"data-uid"},"hostPath":{"path":"/var/lib/k8w/volumes/pvc-data-uid","type":"DirectoryOrCreate"},"nodeAffinity":{"required":{"nodeSelectorTerms":[{"matchExpressions":[{"key":"kubernetes.io/hostname","operator":"In","values":["n1"]}]}]}},"persistentVolumeReclaimPolicy":"Delete","storageClassName":"local-path"}}
    "#]],
    );
    check(LocalPath, ("ns", "data"), &world(ours("")).map(|part| part.replace("nodeName: n1, ", "")), expect![[r#""#]]);
    check(
        LocalPath,
        ("ns", "data"),
        &world(ours(", volumeMode: Block")),
        expect![[r#"
        note Warning ProvisioningFailed on data: failed to provision volume with StorageClass "local-path": volume mode Block is not supported by k8w.io/local-path
    "#]],
    );
}

#[test]
fn a_volume_outlives_its_claim_unless_it_is_ours_to_delete() {
    let provisioned = ", annotations: {pv.kubernetes.io/provisioned-by: k8w.io/local-path}";
    let delete = format!("{OURS}, persistentVolumeReclaimPolicy: Delete");
    check(
        VolumeReclaimer,
        ("", "v"),
        &[volume("v", "1Gi", "", "", "Pending")],
        expect![[r#"
        update persistentvolumes v status: {"lastPhaseTransitionTime":"2024-01-01T00:01:00Z","phase":"Available"}
    "#]],
    );
    check(
        VolumeReclaimer,
        ("", "v"),
        &[volume("v", "1Gi", "", OURS, "Available"), claim("", ", volumeName: v", "")],
        expect![[r#"
            update persistentvolumes v status: {"lastPhaseTransitionTime":"2024-01-01T00:01:00Z","phase":"Bound"}
        "#]],
    );
    check(
        VolumeReclaimer,
        ("", "v"),
        &[volume("v", "1Gi", provisioned, &delete, "Bound")],
        expect![[r#"
        update persistentvolumes v status: {"lastPhaseTransitionTime":"2024-01-01T00:01:00Z","phase":"Released"}
    "#]],
    );
    check(
        VolumeReclaimer,
        ("", "v"),
        &[volume("v", "1Gi", provisioned, &delete, "Released")],
        expect![[r#"
        check absent persistentvolumeclaims ns/data
        delete persistentvolumes v
    "#]],
    );
    check(VolumeReclaimer, ("", "v"), &[volume("v", "1Gi", provisioned, OURS, "Released")], expect![[r#""#]]);
    let others = ", annotations: {pv.kubernetes.io/provisioned-by: example.com/disks}";
    check(VolumeReclaimer, ("", "v"), &[volume("v", "1Gi", others, &delete, "Released")], expect![[r#""#]]);
}

#[test]
fn a_policy_that_nobody_can_carry_out_fails_the_volume() {
    let world = |policy: &str, phase: &str| {
        [volume("v", "1Gi", "", &format!("{OURS}, persistentVolumeReclaimPolicy: {policy}"), phase)]
    };
    check(
        VolumeReclaimer,
        ("", "v"),
        &world("Delete", "Bound"),
        expect![[r#"
        note Warning VolumeFailedDelete on v: Error getting deleter volume plugin for volume "v": no deletable volume plugin matched
        update persistentvolumes v status: {"lastPhaseTransitionTime":"2024-01-01T00:01:00Z","message":"Error getting deleter volume plugin for volume \"v\": no deletable volume plugin matched","phase":"Failed"}
    "#]],
    );
    check(
        VolumeReclaimer,
        ("", "v"),
        &world("Recycle", "Released"),
        expect![[r#"
        note Warning VolumeFailedRecycle on v: No recycler plugin found for the volume!
        update persistentvolumes v status: {"lastPhaseTransitionTime":"2024-01-01T00:01:00Z","message":"No recycler plugin found for the volume!","phase":"Failed"}
    "#]],
    );
    check(VolumeReclaimer, ("", "v"), &world("Recycle", "Failed"), expect![[r#""#]]);
}

#[test]
fn a_directory_goes_with_its_volume() {
    let at = |node: &str| {
        format!(
            "{OURS}, persistentVolumeReclaimPolicy: Delete, nodeAffinity: {{required: {{nodeSelectorTerms: \
             [{{matchExpressions: [{{key: kubernetes.io/hostname, operator: In, values: [{node}]}}]}}]}}}}"
        )
    };
    let meta = |more: &str| format!(", annotations: {{pv.kubernetes.io/provisioned-by: k8w.io/local-path}}{more}");
    let kept = meta(", finalizers: [k8w.io/local-path]");
    let going = meta(", finalizers: [k8w.io/local-path], deletionTimestamp: 2024-01-01T00:00:30Z");
    let check = |meta: &str, spec: &str, phase: &str, expect: Expect| {
        check(LocalPathRemoval, ("", "v"), &[volume("v", "1Gi", meta, spec, phase), NODE.into()], expect);
    };
    check(
        &meta(""),
        &at("n1"),
        "Bound",
        expect![[r#"
        patch persistentvolumes v at 1 : {"metadata":{"finalizers":["k8w.io/local-path"]}}
    "#]],
    );
    check(&kept, &at("n1"), "Released", expect![""]);
    check(&going, &at("n1"), "Bound", expect![""]);
    check(
        &going,
        &at("n1"),
        "Released",
        expect![[r#"
        remove directory v of n1
        patch persistentvolumes v at 1 : {"metadata":{"finalizers":[]}}
    "#]],
    );
    check(
        &going,
        &at("gone"),
        "Released",
        expect![[r#"
        check absent nodes gone
        patch persistentvolumes v at 1 : {"metadata":{"finalizers":[]}}
    "#]],
    );
    let retained = at("n1").replace("Delete", "Retain");
    check(
        &going,
        &retained,
        "Released",
        expect![[r#"
        patch persistentvolumes v at 1 : {"metadata":{"finalizers":[]}}
    "#]],
    );
}

#[test]
fn a_directory_has_its_new_size_at_once() {
    let bound = ", storageClassName: local-path, volumeName: v";
    let grown = |status: &str| claim("", bound, status).replacen("1Gi", "3Gi", 1);
    let provisioned = ", annotations: {pv.kubernetes.io/provisioned-by: k8w.io/local-path}";
    let ours = |size: &str| volume("v", size, provisioned, OURS, "Bound");
    let check = |claim: String, volume: String, expect: Expect| {
        check(VolumeExpansion, ("ns", "data"), &[claim, volume], expect);
    };
    check(
        grown("phase: Bound, capacity: {storage: 1Gi}"),
        ours("1Gi"),
        expect![[r#"
        note Normal Resizing on data: External resizer is resizing volume v
        update persistentvolumeclaims ns/data status: {"allocatedResourceStatuses":{"storage":"ControllerResizeInProgress"},"allocatedResources":{"storage":"3Gi"},"capacity":{"storage":"1Gi"},"conditions":[{"lastTransitionTime":"2024-01-01T00:01:00Z","status":"True","type":"Resizing"}],"phase":"Bound"}
    "#]],
    );
    let resizing = "phase: Bound, capacity: {storage: 1Gi}, allocatedResources: {storage: 3Gi}, \
                    allocatedResourceStatuses: {storage: ControllerResizeInProgress}, \
                    conditions: [{type: Resizing, status: 'True'}]";
    check(
        grown(resizing),
        ours("1Gi"),
        expect![[r#"
        patch persistentvolumes v at 2 : {"spec":{"capacity":{"storage":"3Gi"}}}
        update persistentvolumeclaims ns/data status: {"allocatedResources":{"storage":"3Gi"},"capacity":{"storage":"3Gi"},"phase":"Bound"}
    "#]],
    );
    check(
        grown(resizing),
        ours("3Gi"),
        expect![[r#"
        update persistentvolumeclaims ns/data status: {"allocatedResources":{"storage":"3Gi"},"capacity":{"storage":"3Gi"},"phase":"Bound"}
    "#]],
    );
    check(grown("phase: Bound, capacity: {storage: 3Gi}"), ours("3Gi"), expect![""]);
    check(grown("phase: Pending"), ours("1Gi"), expect![""]);
    let others = volume("v", "1Gi", "", OURS, "Bound");
    check(
        grown("phase: Bound, capacity: {storage: 1Gi}"),
        others,
        expect![[r#"
        note Normal ExternalExpanding on data: waiting for an external controller to expand this PVC
    "#]],
    );
}

#[test]
fn what_is_in_use_stays() {
    let going = ", deletionTimestamp: 2024-01-01T00:00:30Z, finalizers: [kubernetes.io/pvc-protection]";
    check(
        ClaimProtection,
        ("ns", "data"),
        &[claim("", "", "")],
        expect![[r#"
        patch persistentvolumeclaims ns/data at 1 : {"metadata":{"finalizers":["kubernetes.io/pvc-protection"]}}
    "#]],
    );
    check(ClaimProtection, ("ns", "data"), &[claim(going, "", ""), POD.into()], expect![[r#""#]]);
    check(
        ClaimProtection,
        ("ns", "data"),
        &[claim(going, "", "")],
        expect![[r#"
        patch persistentvolumeclaims ns/data at 1 : {"metadata":{"finalizers":[]}}
    "#]],
    );
    let going = ", deletionTimestamp: 2024-01-01T00:00:30Z, finalizers: [kubernetes.io/pv-protection]";
    check(VolumeProtection, ("", "v"), &[volume("v", "1Gi", going, "", "Bound")], expect![[r#""#]]);
    check(
        VolumeProtection,
        ("", "v"),
        &[volume("v", "1Gi", going, "", "Released")],
        expect![[r#"
        patch persistentvolumes v at 1 : {"metadata":{"finalizers":[]}}
    "#]],
    );
}

#[test]
fn an_ephemeral_volume_is_a_claim_of_its_pod() {
    let pod = POD.replace(
        "persistentVolumeClaim: {claimName: data}",
        "ephemeral: {volumeClaimTemplate: {metadata: {labels: {a: b}}, spec: {accessModes: [ReadWriteOnce]}}}",
    );
    check(
        EphemeralVolumes,
        ("ns", "p"),
        std::slice::from_ref(&pod),
        expect![[r#"
        create persistentvolumeclaims in ns: {"apiVersion":"v1","kind":"PersistentVolumeClaim","metadata":{"labels":{"a":"b"},"name":"p-v","namespace":"ns","ownerReferences":[{"apiVersion":"v1","blockOwnerDeletion":true,"controller":true,"kind":"Pod","name":"p","uid":"p-uid"}]},"spec":{"accessModes":["ReadWriteOnce"]}}
    "#]],
    );
    check(
        EphemeralVolumes,
        ("ns", "p"),
        &[pod, claim("", "", "").replace("name: data", "name: p-v")],
        expect![[r#"
            note Warning FailedBinding on p: ephemeral volume v: PVC ns/p-v was not created for pod ns/p (pod is not owner)
        "#]],
    );
}

#[test]
fn a_volume_is_looked_at_when_a_claim_goes_that_was_not_seen_to_name_it() {
    let kept = ", claimRef: {namespace: ns, name: data, uid: data-uid}";
    let claim = claim("", "", "phase: Pending");
    let world = [claim.clone(), volume("pv", "1Gi", "", kept, "Bound")];
    let mut bench = Bench::new(VolumeReclaimer, &world.concat());
    let gone = objects(&claim.replace("name: data", "name: data, resourceVersion: '9'")).remove(0);
    assert!(bench.wakes(Change::WatchedGone(gone)));
}

#[test]
fn a_volume_that_is_asked_for_or_set_aside_must_be_what_the_claim_asks_for() {
    let no_class = ", storageClassName: ''";
    let kept = ", claimRef: {namespace: ns, name: data}";
    let unfit = [
        ("500Mi", "", "requested PV is too small"),
        ("1Gi", ", storageClassName: slow", "storageClassName does not match"),
        ("1Gi", ", volumeMode: Block", "incompatible volumeMode"),
        ("1Gi", ", accessModes: [ReadOnlyMany]", "incompatible accessMode"),
    ];
    let bench = |claim: &String, volume: &str| Bench::new(ClaimBinder, &(claim.clone() + volume));
    let now = "2024-01-01T00:01:00Z";
    let (named, open) = (claim("", &format!("{no_class}, volumeName: v"), ""), claim("", no_class, ""));
    for (size, spec, why) in unfit {
        let spec_only = |more: &str| {
            let volume = volume("v", size, "", &format!("{spec}{more}"), "Available");
            match spec.contains("accessModes") {
                true => volume.replacen("accessModes: [ReadWriteOnce, ReadOnlyMany], ", "", 1),
                false => volume,
            }
        };
        let plan = bench(&named, &spec_only("")).reconcile("ns", "data", now);
        let message = format!("note Warning VolumeMismatch on data: Cannot bind to requested volume \"v\": {why}\n");
        assert_eq!(text(&plan), message);
        let plan = bench(&open, &spec_only(kept)).reconcile("ns", "data", now);
        // Who sets a volume aside need not say of which class.
        assert_eq!(plan.steps.is_empty(), !spec.contains("slow"), "{why}: {}", text(&plan));
    }
    let plan = bench(&named, &volume("v", "1Gi", "", "", "Available")).reconcile("ns", "data", now);
    assert_eq!(plan.steps.len(), 2, "both are written: {}", text(&plan));
}

#[test]
fn a_volume_whose_claim_has_another_is_let_go() {
    let elsewhere = claim("", ", volumeName: other", "phase: Bound");
    let ours = |meta: &str| volume("v", "1Gi", meta, OURS, "Bound");
    check(
        VolumeReclaimer,
        ("", "v"),
        &[elsewhere.clone(), ours(", annotations: {pv.kubernetes.io/bound-by-controller: 'yes'}")],
        expect![[r#"
            patch persistentvolumes v at 2 : {"metadata":{"annotations":{"pv.kubernetes.io/bound-by-controller":null}},"spec":{"claimRef":null}}
        "#]],
    );
    check(
        VolumeReclaimer,
        ("", "v"),
        &[elsewhere.clone(), ours("")],
        expect![[r#"
        patch persistentvolumes v at 2 : {"spec":{"claimRef":{"uid":null}}}
    "#]],
    );
    let provisioned = ", annotations: {pv.kubernetes.io/provisioned-by: k8w.io/local-path}";
    let delete = format!("{OURS}, persistentVolumeReclaimPolicy: Delete");
    let made = |phase: &str| volume("v", "1Gi", provisioned, &delete, phase);
    check(
        VolumeReclaimer,
        ("", "v"),
        &[elsewhere.clone(), made("Bound")],
        expect![[r#"
        update persistentvolumes v status: {"lastPhaseTransitionTime":"2024-01-01T00:01:00Z","phase":"Released"}
    "#]],
    );
    check(
        VolumeReclaimer,
        ("", "v"),
        &[elsewhere, made("Released")],
        expect![[r#"
        delete persistentvolumes v
    "#]],
    );
    let mut bench = Bench::new(VolumeReclaimer, &(claim("", "", "") + &ours("")));
    let named = claim(", resourceVersion: '2001'", ", volumeName: other", "");
    assert!(bench.wakes(Change::Watched(objects(&named).remove(0))));
}
