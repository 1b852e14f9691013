use super::*;

pub(super) const CLASS: &str = "apiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata: {name: late}\n\
                     provisioner: example.com/made\nvolumeBindingMode: WaitForFirstConsumer\n---\n";
pub(super) const STATIC: &str = "apiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata: {name: late}\n\
                      provisioner: kubernetes.io/no-provisioner\nvolumeBindingMode: WaitForFirstConsumer\n---\n";

pub(super) fn claim(annotations: &str, spec: &str, phase: &str) -> String {
    format!(
        "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{namespace: ns, name: data, annotations: \
         {{{annotations}}}}}\nspec: {{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 1Gi}}}}, {spec}}}\n\
         status: {{phase: {phase}}}\n---\n"
    )
}

/// A volume of 2Gi on the nodes of a zone.
pub(super) fn volume(zone: &str, spec: &str) -> String {
    let affinity = format!(
        "nodeAffinity: {{required: {{nodeSelectorTerms: [{{matchExpressions: [{{key: zone, operator: In, values: [{zone}]}}]}}]}}}}"
    );
    format!(
        "apiVersion: v1\nkind: PersistentVolume\nmetadata: {{name: pv-{zone}}}\nspec: {{accessModes: [ReadWriteOnce], \
         capacity: {{storage: 2Gi}}, storageClassName: late, hostPath: {{path: /x}}, {affinity}, {spec}}}\n\
         status: {{phase: Available}}\n---\n"
    )
}

pub(super) fn user() -> String {
    pod("volumes: [{name: v, persistentVolumeClaim: {claimName: data}}]", "")
}

pub(super) fn zones() -> String {
    [node("a1", "zone: a", ""), node("b1", "zone: b", "")].concat()
}

pub(super) const BOUND: &str = "pv.kubernetes.io/bind-completed: 'yes'";

#[test]
fn a_pod_goes_where_its_volume_is() {
    let bound = claim(BOUND, "volumeName: pv-b, storageClassName: late", "Bound");
    assert_eq!(place(&[zones(), volume("b", ""), bound.clone(), user()]), "b1");
    expect!["0/2 nodes are available: 2 node(s) didn't match PersistentVolume's node affinity. no new claims to deallocate, preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."]
        .assert_eq(&place(&[zones(), volume("c", "").replace("pv-c", "pv-b"), bound.clone(), user()]));
    expect![[r#"0/2 nodes are available: persistentvolume "pv-b" not found. no new claims to deallocate, preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."#]]
        .assert_eq(&place(&[zones(), bound, user()]));
}

/// What is said of the pod, without what preemption has to say.
fn said(world: &[String]) -> String {
    let message = place(world);
    let end = message.find(". no new claims").unwrap_or(message.len());
    message[..end].trim_start_matches("0/2 nodes are available: ").to_owned()
}

#[test]
fn the_first_claim_that_will_not_do_is_named() {
    let bound = |phase: &str| claim(BOUND, "volumeName: pv-b, storageClassName: late", phase);
    let both = pod(
        "volumes: [{name: v, persistentVolumeClaim: {claimName: data}}, {name: w, persistentVolumeClaim: {claimName: more}}]",
        "",
    );
    let more = |claim: String| claim.replace("name: data", "name: more");
    assert_eq!(
        said(&[zones(), bound("Bound"), volume("b", ""), both.clone()]),
        r#"persistentvolumeclaim "more" not found"#
    );
    assert_eq!(
        said(&[zones(), bound("Lost"), user()]),
        r#"persistentvolumeclaim "data" bound to non-existent persistentvolume "pv-b""#
    );
    let going = bound("Bound").replace("metadata: {", "metadata: {deletionTimestamp: 2024-01-01T00:00:00Z, ");
    assert_eq!(said(&[zones(), going, user()]), r#"persistentvolumeclaim "data" is being deleted"#);
    let unseen = claim("", "volumeName: pv-b, storageClassName: late", "Bound");
    assert_eq!(
        said(&[CLASS.into(), zones(), volume("b", ""), unseen, user()]),
        "pod has unbound immediate PersistentVolumeClaims",
        "it is bound when its controller says that it is done"
    );
    let waits = more(claim("", "storageClassName: late", "Pending"));
    assert_eq!(
        said(&[STATIC.into(), zones(), bound("Bound"), volume("c", "").replace("pv-c", "pv-b"), waits, both]),
        "2 node(s) didn't find available persistent volumes to bind, \
         2 node(s) didn't match PersistentVolume's node affinity"
    );
}

#[test]
fn a_claim_of_the_name_of_an_ephemeral_volumes_must_be_of_the_pod() {
    let ephemeral = pod("volumes: [{name: v, ephemeral: {}}]", "");
    let of = |owner: &str| {
        let owners =
            format!("ownerReferences: [{{apiVersion: v1, kind: Pod, name: p, uid: {owner}, controller: true}}], ");
        claim(BOUND, "volumeName: pv-b, storageClassName: late", "Bound")
            .replace("name: data", "name: p-v")
            .replace("metadata: {", &format!("metadata: {{{owners}"))
    };
    assert_eq!(place(&[zones(), volume("b", ""), of("p-uid"), ephemeral.clone()]), "b1");
    assert_eq!(
        said(&[zones(), volume("b", ""), of("another"), ephemeral.clone()]),
        "PVC ns/p-v was not created for pod ns/p (pod is not owner)"
    );
    assert_eq!(
        said(&[zones(), of("p-uid"), ephemeral]),
        "2 node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"
    );
}

#[test]
fn a_volume_that_is_made_or_found_has_what_the_class_and_the_claim_ask_for() {
    const NONE: &str = "2 node(s) didn't find available persistent volumes to bind";
    let pending = |more: &str| claim("", &format!("storageClassName: late, {more}"), "Pending");
    let nowhere = CLASS.replace("provisioner:", "allowedTopologies: [{}]\nprovisioner:");
    assert_eq!(said(&[nowhere, zones(), pending(""), user()]), NONE, "a term that says nothing allows nothing");
    let elsewhere = claim("volume.kubernetes.io/selected-node: gone", "storageClassName: late", "Pending");
    assert_eq!(said(&[CLASS.into(), zones(), elsewhere, user()]), NONE);
    let fast = "volumeAttributesClassName: fast";
    for (asks, has, fits) in [("", "", true), (fast, fast, true), (fast, "", false), ("", fast, false)] {
        let said = said(&[STATIC.into(), zones(), volume("b", has), pending(asks), user()]);
        assert_eq!(said != NONE, fits, "{asks} of {has}: {said}");
    }
}

#[test]
fn a_zone_of_a_volume_is_looked_for_under_both_names() {
    let place = |node_labels: &str, labels: &str| {
        let volume = volume("b", "")
            .replace("metadata: {name: pv-b}", &format!("metadata: {{name: pv-b, labels: {{{labels}}}}}"));
        let bound = claim(BOUND, "volumeName: pv-b, storageClassName: late", "Bound");
        place(&[node("n", &format!("zone: b, {node_labels}"), ""), volume, bound, user()])
    };
    const ZONE: &str = "topology.kubernetes.io/zone";
    const OLD_ZONE: &str = "failure-domain.beta.kubernetes.io/zone";
    const REGION: &str = "topology.kubernetes.io/region";
    let cases = [
        (String::new(), format!("{ZONE}: a"), true),
        (format!("{ZONE}: a"), String::new(), true),
        (format!("{ZONE}: a"), format!("{ZONE}: a"), true),
        (format!("{ZONE}: b"), format!("{ZONE}: a"), false),
        (format!("{ZONE}: b"), format!("{ZONE}: a__b"), true),
        (format!("{ZONE}: a"), format!("{OLD_ZONE}: a"), true),
        (format!("{OLD_ZONE}: a"), format!("{ZONE}: a"), false),
        (format!("{ZONE}: b"), format!("{OLD_ZONE}: a"), false),
        (format!("{ZONE}: a"), format!("{REGION}: r"), false),
        (format!("{ZONE}: a, {REGION}: r"), format!("{ZONE}: a, {REGION}: r"), true),
        (format!("{ZONE}: a, {REGION}: s"), format!("{ZONE}: a, {REGION}: r"), false),
        (format!("{ZONE}: a"), format!("{ZONE}: ''"), true),
        (format!("{ZONE}: a"), format!("{ZONE}: b__"), true),
    ];
    for (node, volume, fits) in cases {
        assert_eq!(place(&node, &volume) == "n", fits, "{volume:?} for {node:?}");
    }
}

#[test]
fn each_volume_of_a_driver_counts_once_on_a_node() {
    let limit = |driver: &str, count: u32| {
        format!(
            "apiVersion: storage.k8s.io/v1\nkind: CSINode\nmetadata: {{name: 'n'}}\n\
             spec: {{drivers: [{{name: {driver}, nodeID: 'n', allocatable: {{count: {count}}}}}]}}\n---\n"
        )
    };
    let csi = |name: &str, handle: &str| {
        volume("b", "")
            .replace("hostPath: {path: /x}", &format!("csi: {{driver: d, volumeHandle: {handle}}}"))
            .replace("pv-b", &format!("pv-{name}"))
    };
    let bound = |name: &str| {
        claim(BOUND, &format!("volumeName: pv-{name}, storageClassName: late"), "Bound")
            .replace("name: data", &format!("name: {name}"))
    };
    let waits =
        |name: &str| claim("", "storageClassName: late", "Pending").replace("name: data", &format!("name: {name}"));
    let mounting = |names: &[&str]| {
        let volumes = names.iter().map(|n| format!("{{name: {n}, persistentVolumeClaim: {{claimName: {n}}}}}"));
        format!("volumes: [{}]", volumes.collect::<Vec<_>>().join(", "))
    };
    let class = CLASS.replace("example.com/made", "d");
    let all = [class, csi("x", "hx"), csi("k", "hk"), csi("z", "hx"), bound("x"), bound("k"), bound("z"), waits("w")]
        .concat();
    let fits = |theirs: &[&str], ours: &[&str], limit: String| {
        let other = running("q", "n", "", &mounting(theirs));
        let message = place(&[node("n", "zone: b", ""), all.clone(), limit, other, pod(&mounting(ours), "")]);
        let full = message.contains("node(s) exceed max volume count");
        assert!(full || !message.starts_with("0/"), "{message}");
        !full
    };
    let cases: [(&[&str], &[&str], u32, bool); 9] = [
        (&[], &["x"], 0, false),
        (&[], &["x"], 1, true),
        (&["k"], &["x"], 1, false),
        (&["k"], &["x"], 2, true),
        (&["x"], &["x"], 1, true),
        (&["x"], &["z"], 1, true),
        (&["x", "k"], &["x"], 1, true),
        (&["x"], &["w"], 1, false),
        (&["x"], &["k", "w"], 3, true),
    ];
    for (theirs, ours, count, expected) in cases {
        assert_eq!(fits(theirs, ours, limit("d", count)), expected, "{ours:?} beside {theirs:?} of {count}");
    }
    assert!(fits(&["k"], &["x"], limit("other", 0)), "another driver's limit");
    assert!(fits(&["k"], &["x"], String::new()), "no limit is known");
}

#[test]
fn claims_that_cannot_be_used_are_named() {
    expect![[r#"0/2 nodes are available: persistentvolumeclaim "data" not found. no new claims to deallocate, preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."#]]
        .assert_eq(&place(&[zones(), user()]));
    expect!["0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims. no new claims to deallocate, preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."]
        .assert_eq(&place(&[zones(), claim("", "storageClassName: other", "Pending"), user()]));
    expect!["0/2 nodes are available: 2 node(s) didn't find available persistent volumes to bind. no new claims to deallocate, preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."]
        .assert_eq(&place(&[STATIC.into(), zones(), claim("", "storageClassName: late", "Pending"), user()]));
    let ephemeral = pod("volumes: [{name: v, ephemeral: {}}]", "");
    expect![[r#"0/2 nodes are available: waiting for ephemeral volume controller to create the persistentvolumeclaim "p-v". no new claims to deallocate, preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."#]]
        .assert_eq(&place(&[zones(), ephemeral]));
}

#[test]
fn an_existing_volume_is_bound_before_the_pod() {
    let pending = claim("", "storageClassName: late", "Pending");
    let mut bench = bench(&[STATIC.into(), zones(), volume("b", ""), pending, user()]);
    expect![[r#"
        patch pods ns/p status: {"status":{"nominatedNodeName":"b1"}}
        patch persistentvolumes pv-b at 4 : {"metadata":{"annotations":{"pv.kubernetes.io/bound-by-controller":"yes"}},"spec":{"claimRef":{"apiVersion":"v1","kind":"PersistentVolumeClaim","name":"data","namespace":"ns","resourceVersion":"5","uid":"data-uid"}}}
    "#]]
    .assert_eq(&text(&bench.reconcile("ns", "p", NOW)));
    bench.finish("ns", "p", &Outcome::Done);
    wakes(&mut bench, &volume("b", "claimRef: {namespace: ns, name: data, uid: data-uid}"));
    expect![[r#"
        look again in 600s
    "#]]
    .assert_eq(&text(&bench.reconcile("ns", "p", NOW)));
    assert!(wakes(&mut bench, &claim(BOUND, "volumeName: pv-b, storageClassName: late", "Bound")));
    assert_eq!(outcome(&mut bench, "p"), "b1");
}

#[test]
fn a_volume_is_made_where_the_pod_goes() {
    let pending = claim("", "storageClassName: late", "Pending");
    let only_b = CLASS.replace(
        "provisioner:",
        "allowedTopologies: [{matchLabelExpressions: [{key: zone, values: [b]}]}]\nprovisioner:",
    );
    let mut bench = bench(&[only_b, zones(), pending, user()]);
    expect![[r#"
        patch pods ns/p status: {"status":{"nominatedNodeName":"b1"}}
        patch persistentvolumeclaims ns/data at 4 : {"metadata":{"annotations":{"volume.kubernetes.io/selected-node":"b1"}}}
    "#]]
    .assert_eq(&text(&bench.reconcile("ns", "p", NOW)));
    bench.finish("ns", "p", &Outcome::Done);
    wakes(&mut bench, &user().replace("---\n", "status: {nominatedNodeName: b1}\n---\n"));
    wakes(&mut bench, &claim("volume.kubernetes.io/selected-node: b1", "storageClassName: late", "Pending"));
    expect![[r#"
        look again in 600s
    "#]]
    .assert_eq(&text(&bench.reconcile("ns", "p", NOW)));
    let refused = claim("", "storageClassName: late", "Pending");
    assert!(wakes(&mut bench, &refused), "the provisioner gave the node up");
    expect![[r#"
        patch pods ns/p status: {"status":{"nominatedNodeName":null}}
    "#]]
    .assert_eq(&text(&bench.reconcile("ns", "p", NOW)));
    assert!(wakes(&mut bench, &user()), "it is promised no node any more");
    assert!(text(&bench.reconcile("ns", "p", NOW)).contains("selected-node"), "so the search begins anew");
}

#[test]
fn a_claim_for_one_pod_alone_keeps_others_waiting() {
    let bound = claim(BOUND, "volumeName: pv-b, storageClassName: late", "Bound").replace("Once]", "OncePod]");
    let volume = volume("b", "").replace("Once]", "OncePod]");
    let other = user().replace("name: p,", "name: q,").replace("spec: {", "spec: {nodeName: b1, ");
    expect!["0/2 nodes are available: 2 node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod. no new claims to deallocate, preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod."]
        .assert_eq(&place(&[zones(), volume, bound, other, user()]));
}

#[test]
fn zones_and_limits_of_volumes_are_respected() {
    let labelled_zone = volume("b", "")
        .replace("metadata: {name: pv-b}", "metadata: {name: pv-b, labels: {topology.kubernetes.io/zone: x__y}}");
    let bound = claim(BOUND, "volumeName: pv-b, storageClassName: late", "Bound");
    let in_zone = |zone: &str| node("n", &format!("zone: b, topology.kubernetes.io/zone: {zone}"), "");
    assert_eq!(place(&[in_zone("'y'"), labelled_zone.clone(), bound.clone(), user()]), "n");
    expect!["0/1 nodes are available: 1 node(s) had no available volume zone. no new claims to deallocate, preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."]
        .assert_eq(&place(&[in_zone("z"), labelled_zone, bound.clone(), user()]));
    let csi = volume("b", "").replace("hostPath: {path: /x}", "csi: {driver: d, volumeHandle: h}");
    let limit = |count: u32| {
        format!(
            "apiVersion: storage.k8s.io/v1\nkind: CSINode\nmetadata: {{name: 'n'}}\n\
             spec: {{drivers: [{{name: d, nodeID: 'n', allocatable: {{count: {count}}}}}]}}\n---\n"
        )
    };
    assert_eq!(place(&[in_zone("'y'"), limit(1), csi.clone(), bound.clone(), user()]), "n");
    expect!["0/1 nodes are available: 1 node(s) exceed max volume count. no new claims to deallocate, preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."]
        .assert_eq(&place(&[in_zone("'y'"), limit(0), csi, bound, user()]));
}

#[test]
fn a_node_mounts_a_disk_once_or_only_for_reading() {
    let taken = "node(s) had no available disk. no new claims to deallocate, preemption: 0/1 nodes are available: 1 No \
                 preemption victims found for incoming pod.";
    let rbd = "rbd: {monitors: [m1, m2], pool: p, image: i, readOnly: true}";
    let cases = [
        ("gcePersistentDisk: {pdName: d, readOnly: true}", "gcePersistentDisk: {pdName: d, readOnly: true}", true),
        ("gcePersistentDisk: {pdName: d, readOnly: true}", "gcePersistentDisk: {pdName: d}", false),
        ("gcePersistentDisk: {pdName: d}", "gcePersistentDisk: {pdName: e}", true),
        (
            "awsElasticBlockStore: {volumeID: d, readOnly: true}",
            "awsElasticBlockStore: {volumeID: d, readOnly: true}",
            false,
        ),
        ("awsElasticBlockStore: {volumeID: d}", "gcePersistentDisk: {pdName: d}", true),
        ("iscsi: {targetPortal: a, iqn: q, lun: 0}", "iscsi: {targetPortal: b, iqn: q, lun: 1}", false),
        (
            "iscsi: {targetPortal: a, iqn: q, lun: 0, readOnly: true}",
            "iscsi: {targetPortal: a, iqn: q, lun: 0, readOnly: true}",
            true,
        ),
        (rbd, rbd, true),
        (rbd, "rbd: {monitors: [m2], pool: p, image: i}", false),
        (rbd, "rbd: {monitors: [m3], pool: p, image: i}", true),
        (rbd, "rbd: {monitors: [m2], pool: other, image: i}", true),
        ("rbd: {monitors: [m1], image: i}", "rbd: {monitors: [m1], pool: rbd, image: i}", false),
    ];
    for (ours, theirs, fits) in cases {
        let volume = |source: &str| format!("volumes: [{{name: v, {source}}}]");
        let world = [node("n", "", ""), running("q", "n", "", &volume(theirs)), pod(&volume(ours), "")];
        let expected = if fits { "n".to_owned() } else { format!("0/1 nodes are available: 1 {taken}") };
        assert_eq!(place(&world), expected, "{ours} beside {theirs}");
    }
    let disk = "volumes: [{name: v, gcePersistentDisk: {pdName: d}}]";
    let mut bench = bench(&[node("n", "", ""), running("q", "n", "", disk), pod(disk, "")]);
    assert!(outcome(&mut bench, "p").contains("had no available disk"));
    let gone = later(&running("q", "n", "", disk));
    assert!(bench.wakes(Change::WatchedGone(gone)));
    assert_eq!(outcome(&mut bench, "p"), "n");
}

#[test]
fn drivers_that_publish_their_capacity_are_asked_for_it() {
    let driver = |publishes: bool| {
        format!(
            "apiVersion: storage.k8s.io/v1\nkind: CSIDriver\nmetadata: {{name: example.com/made}}\n\
             spec: {{storageCapacity: {publishes}}}\n---\n"
        )
    };
    let capacity = |more: &str| {
        format!(
            "apiVersion: storage.k8s.io/v1\nkind: CSIStorageCapacity\nmetadata: {{namespace: kube-system, name: c}}\n\
             {more}\n---\n"
        )
    };
    let in_b = "nodeTopology: {matchLabels: {zone: b}}\nstorageClassName: late";
    let pending = claim("", "storageClassName: late", "Pending");
    let place = |driver: String, capacity: String| {
        let plan = bench(&[CLASS.into(), zones(), driver, capacity, pending.clone(), user()]).reconcile("ns", "p", NOW);
        match plan.notes.first() {
            Some(note) => note.message.clone(),
            None => text(&plan).split('"').rev().nth(1).unwrap_or_default().to_owned(),
        }
    };
    let full = "0/2 nodes are available: 2 node(s) did not have enough free storage. no new claims to deallocate, \
                preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.";
    let enough = [
        (format!("{in_b}\ncapacity: 2Gi"), "b1"),
        (format!("{in_b}\ncapacity: 2Gi\nmaximumVolumeSize: 1Gi"), "b1"),
        (format!("{in_b}\ncapacity: 2Gi\nmaximumVolumeSize: 1Mi"), full),
        (format!("{in_b}\ncapacity: 1Mi"), full),
        (in_b.to_owned(), full),
        (format!("{}\ncapacity: 2Gi", in_b.replace("late", "other")), full),
        ("storageClassName: late\ncapacity: 2Gi".to_owned(), full),
    ];
    for (more, expected) in enough {
        assert_eq!(place(driver(true), capacity(&more)), expected, "{more}");
    }
    assert!(place(driver(false), capacity(in_b)).ends_with('1'), "it does not say how much there is");
    assert!(place(String::new(), capacity(in_b)).ends_with('1'), "there is no such driver");
    let mut bench = bench(&[CLASS.into(), zones(), driver(true), capacity(in_b), pending.clone(), user()]);
    assert!(outcome(&mut bench, "p").contains("enough free storage"));
    assert!(wakes(&mut bench, &capacity(&format!("{in_b}\ncapacity: 2Gi"))));
}
