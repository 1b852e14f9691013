use expect_test::{Expect, expect};

use super::StatefulSets;
use crate::plan::Step;
use crate::testing::{Bench, text};

/// A StatefulSet `web` with this spec and status, beside what every one here has.
fn set(spec: &str, status: &str) -> String {
    format!(
        "
apiVersion: apps/v1
kind: StatefulSet
metadata: {{namespace: ns, name: web, generation: 1}}
spec: {{serviceName: svc, selector: {{matchLabels: {{app: web}}}}, template: {{metadata: {{labels: {{app: web}}}}, spec: {{containers: [{{name: c, image: two}}]}}}}, {spec}}}
status: {{{status}}}
"
    )
}

/// The revision of a template with this image.
fn revision(name: &str, number: u32, image: &str) -> String {
    format!(
        "---
apiVersion: apps/v1
kind: ControllerRevision
metadata: {{namespace: ns, name: {name}, labels: {{app: web}}, ownerReferences: [{{apiVersion: apps/v1, kind: StatefulSet, name: web, uid: web-uid, controller: true}}]}}
revision: {number}
data: {{spec: {{template: {{$patch: replace, metadata: {{labels: {{app: web}}}}, spec: {{containers: [{{name: c, image: {image}}}]}}}}}}}}
"
    )
}

fn revisions() -> String {
    revision("web-one", 1, "one") + &revision("web-two", 2, "two")
}

/// A pod of this ordinal and revision; `more` goes to its metadata.
fn pod(ordinal: u32, revision: &str, status: &str, more: &str) -> String {
    format!(
        "---
apiVersion: v1
kind: Pod
metadata: {{namespace: ns, name: web-{ordinal}, labels: {{app: web, controller-revision-hash: {revision}, statefulset.kubernetes.io/pod-name: web-{ordinal}, apps.kubernetes.io/pod-index: '{ordinal}'}}{more}, ownerReferences: [{{apiVersion: apps/v1, kind: StatefulSet, name: web, uid: web-uid, controller: true}}]}}
spec: {{containers: []}}
status: {{{status}}}
"
    )
}

const READY: &str =
    "phase: Running, conditions: [{type: Ready, status: 'True', lastTransitionTime: 2024-01-01T00:00:00Z}]";
const LEAVING: &str = ", deletionTimestamp: 2024-01-01T00:00:30Z";

/// The plan without the status, which has a test of its own.
fn check(world: &[String], expect: Expect) {
    let mut bench = Bench::new(StatefulSets, &world.concat());
    let plan = text(&bench.reconcile("ns", "web", "2024-01-01T00:01:00Z"));
    let lines: Vec<&str> = plan.lines().filter(|line| !line.contains(" status: ")).collect();
    expect.assert_eq(&lines.join("\n"));
}

#[test]
fn a_new_template_gets_a_revision_first_and_an_old_one_becomes_the_newest_again() {
    check(
        &[set("replicas: 1", "")],
        expect![[
            r#"create controllerrevisions in ns: {"apiVersion":"apps/v1","data":{"spec":{"template":{"$patch":"replace","metadata":{"labels":{"app":"web"}},"spec":{"containers":[{"image":"two","name":"c"}]}}}},"kind":"ControllerRevision","metadata":{"labels":{"app":"web","controller.kubernetes.io/hash":"5b85f5968d"},"name":"web-5b85f5968d","namespace":"ns","ownerReferences":[{"apiVersion":"apps/v1","blockOwnerDeletion":true,"controller":true,"kind":"StatefulSet","name":"web","uid":"web-uid"}]},"revision":1}"#
        ]],
    );
    check(
        &[set("replicas: 1", ""), revision("web-two", 1, "two"), revision("web-one", 2, "one")],
        expect![[r#"patch controllerrevisions ns/web-two at 2 : {"revision":3}"#]],
    );
}

#[test]
fn pods_are_made_one_by_one_each_when_those_before_are_available() {
    let all = "replicas: 3, ordinals: {start: 5}";
    check(
        &[set(all, ""), revisions()],
        expect![[
            r#"create pods in ns: {"apiVersion":"v1","kind":"Pod","metadata":{"labels":{"app":"web","apps.kubernetes.io/pod-index":"5","controller-revision-hash":"web-two","statefulset.kubernetes.io/pod-name":"web-5"},"name":"web-5","namespace":"ns","ownerReferences":[{"apiVersion":"apps/v1","blockOwnerDeletion":true,"controller":true,"kind":"StatefulSet","name":"web","uid":"web-uid"}]},"spec":{"containers":[{"image":"two","name":"c"}],"hostname":"web-5","subdomain":"svc"}}"#
        ]],
    );
    check(&[set(all, ""), revisions(), pod(5, "web-two", "phase: Pending", "")], expect![[r#""#]]);
    check(
        &[set("replicas: 2, minReadySeconds: 90", ""), revisions(), pod(0, "web-two", READY, "")],
        expect!["look again in 30s"],
    );
}

/// Conformance: "StatefulSet, Burst Scaling".
#[test]
fn parallel_sets_do_not_wait() {
    check(
        &[
            set("replicas: 2, podManagementPolicy: Parallel", ""),
            revisions(),
            pod(0, "web-two", "phase: Failed", ""),
            pod(2, "web-two", READY, ""),
            pod(3, "web-two", READY, ""),
        ],
        expect![[r#"
            together:
              create pods in ns: {"apiVersion":"v1","kind":"Pod","metadata":{"labels":{"app":"web","apps.kubernetes.io/pod-index":"1","controller-revision-hash":"web-two","statefulset.kubernetes.io/pod-name":"web-1"},"name":"web-1","namespace":"ns","ownerReferences":[{"apiVersion":"apps/v1","blockOwnerDeletion":true,"controller":true,"kind":"StatefulSet","name":"web","uid":"web-uid"}]},"spec":{"containers":[{"image":"two","name":"c"}],"hostname":"web-1","subdomain":"svc"}}
            together:
              delete pods ns/web-0
              delete pods ns/web-3
              delete pods ns/web-2"#]],
    );
}

#[test]
fn the_highest_go_first_and_only_while_the_others_are_well() {
    let three = |middle: &str| {
        vec![
            set("replicas: 1", ""),
            revisions(),
            pod(0, "web-two", READY, ""),
            pod(1, "web-two", middle, ""),
            pod(2, "web-two", READY, ""),
        ]
    };
    check(&three(READY), expect!["delete pods ns/web-2"]);
    check(&three("phase: Pending"), expect!["delete pods ns/web-2"]);
    let mut leaving = three(READY);
    leaving[4] = pod(2, "web-two", READY, LEAVING);
    check(&leaving, expect![[r#""#]]);
}

#[test]
fn an_update_replaces_from_the_top_down_to_the_partition() {
    let old = |spec: &str, top: &str| {
        [
            set(&format!("replicas: 3, {spec}"), "currentRevision: web-one"),
            revisions(),
            pod(0, "web-one", READY, ""),
            pod(1, "web-one", READY, ""),
            pod(2, top, READY, ""),
        ]
    };
    check(&old("", "web-one"), expect!["delete pods ns/web-2"]);
    check(&old("", "web-two"), expect!["delete pods ns/web-1"]);
    check(&old("updateStrategy: {type: RollingUpdate, rollingUpdate: {partition: 2}}", "web-two"), expect![[r#""#]]);
    check(
        &old("updateStrategy: {type: RollingUpdate, rollingUpdate: {maxUnavailable: 2}}", "web-one"),
        expect![[r#"
        delete pods ns/web-2
        delete pods ns/web-1"#]],
    );
    check(&old("updateStrategy: {type: OnDelete}", "web-one"), expect![[r#""#]]);
}

#[test]
fn below_the_partition_a_lost_pod_comes_back_as_it_was() {
    check(
        &[
            set(
                "replicas: 2, updateStrategy: {type: RollingUpdate, rollingUpdate: {partition: 1}}",
                "currentRevision: web-one",
            ),
            revisions(),
            pod(1, "web-two", READY, ""),
        ],
        expect![[
            r#"create pods in ns: {"apiVersion":"v1","kind":"Pod","metadata":{"labels":{"app":"web","apps.kubernetes.io/pod-index":"0","controller-revision-hash":"web-one","statefulset.kubernetes.io/pod-name":"web-0"},"name":"web-0","namespace":"ns","ownerReferences":[{"apiVersion":"apps/v1","blockOwnerDeletion":true,"controller":true,"kind":"StatefulSet","name":"web","uid":"web-uid"}]},"spec":{"containers":[{"image":"one","name":"c"}],"hostname":"web-0","subdomain":"svc"}}"#
        ]],
    );
}

const STORAGE: &str = "volumeClaimTemplates: [{metadata: {name: data}, spec: {accessModes: [ReadWriteOnce]}}]";

fn claim(ordinal: u32, more: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{namespace: ns, name: data-web-{ordinal}{more}}}\n"
    )
}

#[test]
fn claims_are_made_before_their_pod_and_kept_after_it() {
    check(
        &[set(&format!("replicas: 1, {STORAGE}"), ""), revisions()],
        expect![[r#"
        create persistentvolumeclaims in ns: {"apiVersion":"v1","kind":"PersistentVolumeClaim","metadata":{"labels":{"app":"web"},"name":"data-web-0","namespace":"ns"},"spec":{"accessModes":["ReadWriteOnce"]}}
        create pods in ns: {"apiVersion":"v1","kind":"Pod","metadata":{"labels":{"app":"web","apps.kubernetes.io/pod-index":"0","controller-revision-hash":"web-two","statefulset.kubernetes.io/pod-name":"web-0"},"name":"web-0","namespace":"ns","ownerReferences":[{"apiVersion":"apps/v1","blockOwnerDeletion":true,"controller":true,"kind":"StatefulSet","name":"web","uid":"web-uid"}]},"spec":{"containers":[{"image":"two","name":"c"}],"hostname":"web-0","subdomain":"svc","volumes":[{"name":"data","persistentVolumeClaim":{"claimName":"data-web-0"}}]}}"#]],
    );
    check(
        &[
            set(&format!("replicas: 1, {STORAGE}"), ""),
            revisions(),
            claim(0, ", deletionTimestamp: 2024-01-01T00:00:30Z"),
        ],
        expect![[
            "note Warning FailedCreate on web: create Pod web-0 in StatefulSet web failed error: pvc data-web-0 is being deleted"
        ]],
    );
    check(
        &[set(&format!("replicas: 0, {STORAGE}"), ""), revisions(), claim(0, ""), pod(0, "web-two", READY, "")],
        expect!["delete pods ns/web-0"],
    );
}

#[test]
fn claims_that_are_to_go_belong_to_what_they_go_with() {
    let policy = "persistentVolumeClaimRetentionPolicy: {whenScaled: Delete, whenDeleted: Delete}";
    check(
        &[
            set(&format!("replicas: 1, {STORAGE}, {policy}"), ""),
            revisions(),
            claim(0, ""),
            claim(1, ""),
            pod(0, "web-two", READY, ""),
            pod(1, "web-two", READY, ""),
        ],
        expect![[r#"
            patch persistentvolumeclaims ns/data-web-0 at 4 : {"metadata":{"ownerReferences":[{"apiVersion":"apps/v1","blockOwnerDeletion":true,"controller":true,"kind":"StatefulSet","name":"web","uid":"web-uid"}]}}
            patch persistentvolumeclaims ns/data-web-1 at 5 : {"metadata":{"ownerReferences":[{"apiVersion":"v1","blockOwnerDeletion":true,"controller":true,"kind":"Pod","name":"web-1","uid":"web-1-uid"}]}}
            delete pods ns/web-1"#]],
    );
}

#[test]
fn old_revisions_go_unless_a_pod_is_of_them() {
    check(
        &[
            set("replicas: 1, revisionHistoryLimit: 1, updateStrategy: {type: OnDelete}", "currentRevision: web-two"),
            revision("web-a", 1, "a"),
            revision("web-b", 2, "b"),
            revision("web-c", 3, "c"),
            revision("web-d", 4, "d"),
            revision("web-two", 5, "two"),
            pod(0, "web-a", READY, ""),
        ],
        expect![[r#"
            delete controllerrevisions ns/web-b
            delete controllerrevisions ns/web-c"#]],
    );
}

#[test]
fn the_status_counts_by_revision_and_ends_an_update_that_is_complete() {
    let check = |world: &[String], expect: Expect| {
        let mut bench = Bench::new(StatefulSets, &world.concat());
        let plan = text(&bench.reconcile("ns", "web", "2024-01-01T00:01:00Z"));
        expect.assert_eq(plan.lines().find(|line| line.contains(" status: ")).unwrap_or_default());
    };
    let world = |second: &str| {
        [
            set("replicas: 2", "replicas: 0, currentRevision: web-one"),
            revisions(),
            pod(0, "web-two", READY, ""),
            pod(1, second, READY, ""),
        ]
    };
    check(
        &world("web-one"),
        expect![[
            r#"update statefulsets ns/web status: {"availableReplicas":2,"collisionCount":0,"currentReplicas":1,"currentRevision":"web-one","observedGeneration":1,"readyReplicas":2,"replicas":2,"updateRevision":"web-two","updatedReplicas":1}"#
        ]],
    );
    check(
        &world("web-two"),
        expect![[
            r#"update statefulsets ns/web status: {"availableReplicas":2,"collisionCount":0,"currentReplicas":2,"currentRevision":"web-two","observedGeneration":1,"readyReplicas":2,"replicas":2,"updateRevision":"web-two","updatedReplicas":2}"#
        ]],
    );
}

#[test]
fn a_parallel_update_goes_from_the_top_whatever_is_wrong_below() {
    let spec = |rolling: &str| format!("replicas: 3, podManagementPolicy: Parallel{rolling}");
    let world = |rolling: &str, middle: &str, top: &str| {
        [
            set(&spec(rolling), "currentRevision: web-one"),
            revisions(),
            pod(0, "web-one", "phase: Running", ""),
            pod(1, "web-one", middle, ""),
            pod(2, top, READY, ""),
        ]
    };
    check(
        &world("", READY, "web-one"),
        expect![[r#"
        together:
          delete pods ns/web-2"#]],
    );
    check(
        &world("", READY, "web-two"),
        expect![[r#"
        together:
          delete pods ns/web-1"#]],
    );
    let most = ", updateStrategy: {type: RollingUpdate, rollingUpdate: {maxUnavailable: 2}}";
    check(
        &world(most, "phase: Pending", "web-one"),
        expect![[r#"
            together:
              delete pods ns/web-1
              delete pods ns/web-0"#]],
    );
    let mut waiting = world("", READY, "web-two");
    waiting[4] = pod(2, "web-two", "phase: Pending", "");
    check(&waiting, expect![[r#""#]]);
}

#[test]
fn an_update_that_says_nothing_of_a_partition_makes_pods_it_has_not_reached_as_they_were() {
    let world = |current: u32| {
        [
            set(
                "replicas: 3, updateStrategy: {type: RollingUpdate}",
                &format!("currentRevision: web-one, currentReplicas: {current}"),
            ),
            revisions(),
            pod(2, "web-two", READY, ""),
        ]
    };
    let made = |current: u32| {
        let mut bench = Bench::new(StatefulSets, &world(current).concat());
        let plan = text(&bench.reconcile("ns", "web", "2024-01-01T00:01:00Z"));
        plan.lines().find(|line| line.contains("create pods")).map(|line| line.contains("image\":\"one"))
    };
    assert_eq!((made(1), made(0)), (Some(true), Some(false)));
}

#[test]
fn a_claim_that_stays_may_still_belong_to_an_earlier_pod() {
    let earlier = ", ownerReferences: [{apiVersion: v1, kind: Pod, name: web-0, uid: earlier, controller: true}]";
    let made = |policy: &str| {
        let world = [set(&format!("replicas: 1, {STORAGE}{policy}"), ""), revisions(), claim(0, earlier)];
        let mut bench = Bench::new(StatefulSets, &world.concat());
        text(&bench.reconcile("ns", "web", "2024-01-01T00:01:00Z")).contains("create pods")
    };
    assert!(made(""));
    assert!(!made(", persistentVolumeClaimRetentionPolicy: {whenScaled: Delete, whenDeleted: Retain}"));
}

/// The ordinals whose pods an update deletes. Of each pod from the bottom up: `o` is old and available, `n` is new and so,
/// `b` is old and not ready, `y` old and not ready for long enough, `l` old and leaving, `f` old and has failed, `w` is new
/// and not ready, `-` is missing.
fn updated(spec: &str, pods: &str) -> String {
    let young = "phase: Running, conditions: [{type: Ready, status: 'True', lastTransitionTime: 2024-01-01T00:00:50Z}]";
    let (replicas, status) = (pods.len(), "currentRevision: web-one");
    let mut world = set(&format!("replicas: {replicas}, minReadySeconds: 30, {spec}"), status) + &revisions();
    for (ordinal, kind) in (0..).zip(pods.chars()) {
        world += &match kind {
            'o' => pod(ordinal, "web-one", READY, ""),
            'n' => pod(ordinal, "web-two", READY, ""),
            'b' => pod(ordinal, "web-one", "phase: Running", ""),
            'y' => pod(ordinal, "web-one", young, ""),
            'l' => pod(ordinal, "web-one", READY, LEAVING),
            'f' => pod(ordinal, "web-one", "phase: Failed", ""),
            'w' => pod(ordinal, "web-two", "phase: Running", ""),
            _ => String::new(),
        };
    }
    let plan = text(&Bench::new(StatefulSets, &world).reconcile("ns", "web", "2024-01-01T00:01:00Z"));
    let deleted = plan.lines().filter_map(|line| line.trim().strip_prefix("delete pods ns/web-"));
    deleted.collect::<Vec<_>>().join(" ")
}

#[test]
fn an_update_takes_as_many_as_may_be_unavailable() {
    let parallel = |rolling: &str, pods: &str| {
        let strategy = format!("updateStrategy: {{type: RollingUpdate, rollingUpdate: {{{rolling}}}}}");
        updated(&format!("podManagementPolicy: Parallel, {strategy}"), pods)
    };
    let in_order = |rolling: &str, pods: &str| {
        updated(&format!("updateStrategy: {{type: RollingUpdate, rollingUpdate: {{{rolling}}}}}"), pods)
    };
    for (rolling, pods, gone) in [
        ("maxUnavailable: 1", "b", "0"),
        ("maxUnavailable: 1", "oob", "2"),
        ("maxUnavailable: 1", "ooy", "2"),
        ("maxUnavailable: 1", "ool", ""),
        ("maxUnavailable: 1", "onw", ""),
        ("maxUnavailable: 1", "oof", "2"),
        ("maxUnavailable: 1", "oo-", ""),
        ("maxUnavailable: 2", "ooobb", "4 3"),
        ("maxUnavailable: 2", "bboo", "1 0"),
        ("maxUnavailable: 2", "oooonn", "3 2"),
        ("maxUnavailable: 3", "ooobl", "3 2"),
        ("maxUnavailable: 3", "ooolb", "4 2"),
        ("maxUnavailable: 3", "bbooo", "4 1 0"),
        ("maxUnavailable: 1, partition: 2", "oooob", "4"),
        ("maxUnavailable: 1, partition: 2", "ooboo", "2"),
        ("maxUnavailable: 1, partition: 2", "obooo", ""),
        ("maxUnavailable: 2, partition: 3", "ooobb", "4 3"),
        ("maxUnavailable: 2, partition: 3", "oboob", "4"),
        ("maxUnavailable: 2, partition: 3", "oooooo", "5 4"),
    ] {
        assert_eq!(parallel(rolling, pods), gone, "{rolling} of {pods}");
    }
    for (rolling, pods, gone) in [
        ("maxUnavailable: 1", "b", ""),
        ("maxUnavailable: 2", "oooob", ""),
        ("maxUnavailable: 3", "ooobl", ""),
        ("maxUnavailable: 2", "ooooo", "4 3"),
        ("maxUnavailable: 3, partition: 3", "ooooo", "4 3"),
        ("maxUnavailable: 50%", "ooooo", "4 3"),
        ("maxUnavailable: 10%", "ooooo", "4"),
        ("maxUnavailable: 100%", "ooo", "2 1 0"),
        ("partition: 0", "ooo", "2"),
    ] {
        assert_eq!(in_order(rolling, pods), gone, "{rolling} of {pods}");
    }
}

#[test]
fn a_pod_that_has_ended_goes_however_it_ended_and_comes_back_when_it_is_gone() {
    for phase in ["Failed", "Succeeded"] {
        let ended = format!("phase: {phase}");
        check(&[set("replicas: 2", ""), revisions(), pod(0, "web-two", &ended, "")], expect!["delete pods ns/web-0"]);
        check(&[set("replicas: 2", ""), revisions(), pod(0, "web-two", &ended, LEAVING)], expect![[""]]);
    }
}

#[test]
fn pods_outside_of_the_ordinals_go_from_the_top_when_those_inside_are_well() {
    let world = |inside: &str| {
        [
            set("replicas: 2, ordinals: {start: 2}", ""),
            revisions(),
            pod(0, "web-two", READY, ""),
            pod(1, "web-two", READY, ""),
            pod(2, "web-two", READY, ""),
            pod(3, "web-two", inside, ""),
            pod(4, "web-two", READY, ""),
        ]
    };
    check(&world(READY), expect!["delete pods ns/web-4"]);
    check(&world("phase: Pending"), expect![[""]]);
}

#[test]
fn what_is_being_deleted_only_gets_a_status() {
    let deleted =
        set("replicas: 3", "").replace("generation: 1", "generation: 1, deletionTimestamp: 2024-01-01T00:00:30Z");
    check(&[deleted.clone(), revisions()], expect![[""]]);
    check(&[deleted], expect![[""]]);
}

#[test]
fn a_deleted_pod_of_a_set_that_updates_on_delete_comes_back_new() {
    let world = [set("replicas: 1, updateStrategy: {type: OnDelete}", "currentRevision: web-one"), revisions()];
    let plan = text(&Bench::new(StatefulSets, &world.concat()).reconcile("ns", "web", "2024-01-01T00:01:00Z"));
    assert!(plan.contains(r#""controller-revision-hash":"web-two""#), "{plan}");
}

#[test]
fn orphans_with_a_members_name_are_adopted_and_who_loses_the_labels_is_released() {
    let orphan = |name: &str| {
        format!(
            "---\n{{apiVersion: v1, kind: Pod, metadata: {{namespace: ns, name: {name}, labels: {{app: web}}}}, spec: {{containers: []}}}}\n"
        )
    };
    check(
        &[set("replicas: 3", ""), revisions(), orphan("web-0"), orphan("other-0"), orphan("web-x")],
        expect![[r#"
            check alive statefulsets ns/web
            patch pods ns/web-0 at 4 : {"metadata":{"ownerReferences":[{"apiVersion":"apps/v1","blockOwnerDeletion":true,"controller":true,"kind":"StatefulSet","name":"web","uid":"web-uid"}]}}"#]],
    );
    let stranger = pod(0, "web-two", READY, "").replace("labels: {app: web", "labels: {app: db");
    check(
        &[set("replicas: 1", ""), revisions(), stranger],
        expect![[r#"patch pods ns/web-0 at 4 : {"metadata":{"ownerReferences":[]}}"#]],
    );
}

#[test]
fn a_pod_gets_the_labels_of_its_identity_back() {
    let nameless = pod(0, "web-two", READY, "").replace(", statefulset.kubernetes.io/pod-name: web-0", "");
    check(
        &[set("replicas: 1", ""), revisions(), nameless],
        expect![[
            r#"patch pods ns/web-0 at 4 : {"metadata":{"labels":{"statefulset.kubernetes.io/pod-name":"web-0"}}}"#
        ]],
    );
}

#[test]
fn a_claim_that_a_pending_pod_lost_is_made_again() {
    let waiting = |phase: &str| {
        [set(&format!("replicas: 1, {STORAGE}"), ""), revisions(), pod(0, "web-two", &format!("phase: {phase}"), "")]
    };
    check(
        &waiting("Pending"),
        expect![[
            r#"create persistentvolumeclaims in ns: {"apiVersion":"v1","kind":"PersistentVolumeClaim","metadata":{"labels":{"app":"web"},"name":"data-web-0","namespace":"ns"},"spec":{"accessModes":["ReadWriteOnce"]}}"#
        ]],
    );
    check(&waiting("Running"), expect![[""]]);
}

#[test]
fn a_pod_waits_for_claims_that_are_leaving_and_says_so() {
    let templates = "volumeClaimTemplates: [{metadata: {name: data, labels: {app: other, tier: a}}, spec: {}}, {metadata: {name: logs}, spec: {}}]";
    check(
        &[
            set(&format!("replicas: 1, {templates}"), ""),
            revisions(),
            claim(0, ", deletionTimestamp: 2024-01-01T00:00:30Z").replace("data-", "logs-"),
        ],
        expect![[r#"
            note Warning FailedCreate on web: create Pod web-0 in StatefulSet web failed error: pvc logs-web-0 is being deleted
            create persistentvolumeclaims in ns: {"apiVersion":"v1","kind":"PersistentVolumeClaim","metadata":{"labels":{"app":"web","tier":"a"},"name":"data-web-0","namespace":"ns"},"spec":{}}"#]],
    );
}

#[test]
fn a_claim_that_somebody_else_manages_is_let_go_and_that_is_told() {
    let owners = "[{apiVersion: v1, kind: ConfigMap, name: c, uid: c-uid, controller: true}, {apiVersion: apps/v1, kind: StatefulSet, name: web, uid: web-uid}]";
    let policy = "persistentVolumeClaimRetentionPolicy: {whenScaled: Retain, whenDeleted: Delete}";
    let world = [
        set(&format!("replicas: 1, {STORAGE}, {policy}"), ""),
        revisions(),
        claim(0, &format!(", ownerReferences: {owners}")),
        pod(0, "web-two", READY, ""),
    ];
    let plan = Bench::new(StatefulSets, &world.concat()).reconcile("ns", "web", "2024-01-01T00:01:00Z");
    let told = plan.steps.iter().find_map(|step| match step {
        Step::Patch { patch, then: Some(note), .. } => Some(format!("{patch}\n{} {}", note.reason, note.message)),
        _ => None,
    });
    expect![[r#"
        {"metadata":{"ownerReferences":[{"apiVersion":"v1","controller":true,"kind":"ConfigMap","name":"c","uid":"c-uid"}]}}
        ConflictingController PersistentVolumeClaim data-web-0 has a conflicting OwnerReference that acts as a managing controller, the retention policy is ignored for this claim"#]]
    .assert_eq(&told.unwrap());
}

#[test]
fn a_revision_that_an_earlier_set_left_is_used_and_one_of_something_else_makes_another_name() {
    let left = |image: &str| revision("web-5b85f5968d", 1, image).replace("uid: web-uid", "uid: earlier");
    let plan = |left: String| {
        let world = [set("replicas: 1", ""), left];
        text(&Bench::new(StatefulSets, &world.concat()).reconcile("ns", "web", "2024-01-01T00:01:00Z"))
    };
    assert!(plan(left("two")).contains(r#""controller-revision-hash":"web-5b85f5968d""#));
    expect![[r#"
        update statefulsets ns/web status: {"collisionCount":1,"replicas":0}
    "#]]
    .assert_eq(&plan(left("one")));
}
