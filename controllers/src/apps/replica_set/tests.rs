use expect_test::{Expect, expect};

use super::{Kept, ReplicaSets, reconcile, write_status};
use crate::execute::Failure;
use crate::plan::Step;
use crate::resource::REPLICA_SETS;
use crate::testing::{Bench, text};

const SET: &str = "
apiVersion: apps/v1
kind: ReplicaSet
metadata: {namespace: ns, name: web, generation: 2}
spec:
  replicas: 2
  minReadySeconds: 10
  selector: {matchLabels: {app: web}}
  template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: one}]}}
";

/// A pod with these labels; `owner` is the uid of its controller, `more` goes to the top level.
fn pod(name: &str, labels: &str, owner: &str, more: &str) -> String {
    let owners = match owner {
        "" => String::new(),
        uid => format!(
            ", ownerReferences: [{{apiVersion: apps/v1, kind: ReplicaSet, name: web, uid: {uid}, controller: true}}]"
        ),
    };
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{namespace: ns, name: {name}, labels: {{{labels}}}{owners}}}\n\
         spec: {{containers: []}}\n{more}\n"
    )
}

fn check(world: &[String], expect: Expect) {
    let mut bench = Bench::new(ReplicaSets, &(SET.to_owned() + &world.concat()));
    expect.assert_eq(&text(&bench.reconcile("ns", "web", "2024-01-01T00:01:00Z")));
}

#[test]
fn missing_pods_are_created() {
    check(
        &[pod("a", "app: web", "web-uid", "")],
        expect![[r#"
        together:
          create pods in ns: {"apiVersion":"v1","kind":"Pod","metadata":{"generateName":"web-","labels":{"app":"web"},"namespace":"ns","ownerReferences":[{"apiVersion":"apps/v1","blockOwnerDeletion":true,"controller":true,"kind":"ReplicaSet","name":"web","uid":"web-uid"}]},"spec":{"containers":[{"image":"one","name":"c"}]}}
    "#]],
    );
}

/// Conformance: "Replica Set, adopt matching pods and release non matching pods"; "Replication Controller, adopt
/// matching pods"; "Replication Controller, release pods".
#[test]
fn orphans_are_adopted_and_strangers_released_before_anything_else() {
    check(
        &[pod("a", "app: web", "", ""), pod("b", "app: other", "web-uid", "")],
        expect![[r#"
        patch pods ns/b at 3 : {"metadata":{"ownerReferences":[]}}
        check alive replicasets ns/web
        patch pods ns/a at 2 : {"metadata":{"ownerReferences":[{"apiVersion":"apps/v1","blockOwnerDeletion":true,"controller":true,"kind":"ReplicaSet","name":"web","uid":"web-uid"}]}}
    "#]],
    );
}

#[test]
fn whose_a_pod_is_stays_so_when_it_has_ended_or_somebody_else_or_nobody_is_to_have_it() {
    let plan = |world: &[String]| {
        text(&Bench::new(ReplicaSets, &world.concat()).reconcile("ns", "web", "2024-01-01T00:01:00Z"))
    };
    let full = [pod("a", "app: web", "web-uid", ""), pod("b", "app: web", "web-uid", "")].concat();
    let ended = "status: {phase: Failed}";
    for other in [
        pod("c", "app: web", "another", ""),
        pod("c", "app: other", "", ""),
        pod("c", "app: web", "", ended),
        pod("c", "app: other", "web-uid", ended),
        pod("c", "app: web", "", "").replace("namespace: ns", "namespace: elsewhere"),
        pod("c", "app: web", "", "").replace("name: c,", "name: c, deletionTimestamp: 2024-01-01T00:00:30Z,"),
    ] {
        let plan = plan(&[SET.into(), full.clone(), other.clone()]);
        assert!(!plan.contains("patch") && !plan.contains("delete"), "{other}: {plan}");
        assert!(plan.contains(r#""replicas":2"#), "{other}: {plan}");
    }
    let going = SET.replace("name: web,", "name: web, deletionTimestamp: 2024-01-01T00:00:30Z,");
    let left = plan(&[going, pod("a", "app: web", "", ""), pod("b", "app: other", "web-uid", "")]);
    assert!(left.starts_with("update replicasets ns/web status") && left.lines().count() == 1, "{left}");
}

#[test]
fn a_plan_has_its_limit() {
    let made = |replicas: usize| {
        let set = SET.replace("replicas: 2", &format!("replicas: {replicas}"));
        text(&Bench::new(ReplicaSets, &set).reconcile("ns", "web", "2024-01-01T00:01:00Z"))
            .matches("create pods")
            .count()
    };
    assert_eq!([0, 1, 499, 500, 501, 2_000].map(made), [0, 1, 499, 500, 500, 500]);
}

#[test]
fn of_pods_alike_those_go_first_that_have_kin_on_their_node() {
    let owned = |name: &str, owner: &str, controls: &str| {
        format!(
            "---\napiVersion: apps/v1\nkind: ReplicaSet\nmetadata: {{namespace: ns, name: {name}, ownerReferences: [{{apiVersion: \
             apps/v1, kind: Deployment, name: d, uid: {owner}, controller: {controls}}}]}}\n\
             spec: {{replicas: 0, selector: {{matchLabels: {{app: {name}}}}}}}\n"
        )
    };
    let ready = "status: {phase: Running, conditions: [{type: Ready, status: 'True', lastTransitionTime: 2024-01-01T00:00:00Z}]}";
    let on = |name: &str, owner: &str, node: &str, status: &str| {
        let labels = if owner == "web-uid" { "app: web" } else { "app: kin" };
        pod(name, labels, owner, status).replace("spec: {", &format!("spec: {{nodeName: {node}, "))
    };
    let mine = [on("a", "web-uid", "n1", ready), on("b", "web-uid", "n2", ready)].concat();
    let web = SET.replace("replicas: 2", "replicas: 1").replace(
        "name: web,",
        "name: web, ownerReferences: [{apiVersion: apps/v1, kind: Deployment, name: d, uid: d-uid, controller: true}],",
    );
    let goes = |kin: &str, others: &[String]| {
        let world = web.clone() + kin + &mine + &others.concat();
        let plan = text(&Bench::new(ReplicaSets, &world).reconcile("ns", "web", "2024-01-01T00:01:00Z"));
        plan.trim().rsplit('/').next().unwrap_or_default().to_owned()
    };
    let kin = owned("kin", "d-uid", "true");
    for (node, first) in [("n1", "a"), ("n2", "b")] {
        assert_eq!(goes(&kin, &[on("k", "kin-uid", node, ready)]), first);
    }
    // Neither those of other owners count nor those that have ended.
    let ended = "status: {phase: Succeeded}";
    let both = [on("k", "kin-uid", "n2", ready), on("l", "kin-uid", "n1", ended), on("m", "kin-uid", "n1", ended)];
    assert_eq!(goes(&kin, &both), "b");
    let strangers = owned("kin", "another", "true") + &owned("more", "d-uid", "true");
    let theirs = on("k", "kin-uid", "n1", ready) + &on("l", "kin-uid", "n1", ready);
    assert_eq!(goes(&strangers, &[theirs, on("m", "more-uid", "n2", ready)]), "b");
}

#[test]
fn excess_pods_are_deleted_the_least_useful_first() {
    let ready = "status: {phase: Running, conditions: [{type: Ready, status: 'True', lastTransitionTime: 2024-01-01T00:00:00Z}]}";
    let mine = |name: &str, more: &str| pod(name, "app: web", "web-uid", more);
    check(
        &[mine("a", ready), mine("b", ""), mine("c", ready), mine("d", "status: {phase: Failed}")],
        expect![[r#"
        together:
          delete pods ns/b
    "#]],
    );
}

#[test]
fn the_status_counts_and_comes_back_for_those_not_yet_available() {
    let ready = |second: u32| {
        format!(
            "status: {{phase: Running, conditions: [{{type: Ready, status: 'True', lastTransitionTime: 2024-01-01T00:00:{second}Z}}]}}"
        )
    };
    check(
        &[pod("a", "app: web", "web-uid", &ready(30)), pod("b", "app: web", "web-uid", &ready(55))],
        expect![[r#"
        update replicasets ns/web status: {"availableReplicas":1,"fullyLabeledReplicas":2,"observedGeneration":2,"readyReplicas":2,"replicas":2,"terminatingReplicas":0}
        look again in 5s
    "#]],
    );
}

/// The status that is written for these pods when the set says so of itself and its last plan failed so.
fn status(pods: &[String], stored: &str, failure: Option<&Failure>) -> serde_json::Value {
    let yaml = format!("{SET}status: {{{stored}}}\n{}", pods.concat());
    let (world, _) = crate::testing::world(&yaml);
    let set = world.replica_sets.get("ns", "web").unwrap();
    let kept = Kept { resource: &REPLICA_SETS, component: "replicaset-controller", set };
    let now = "2024-01-01T00:01:00Z".parse().unwrap();
    let plan = reconcile(kept, &world, now, failure, |status| write_status(set, status));
    let written = plan.steps.into_iter().find_map(|step| match step {
        Step::Update { object, .. } => Some(object["status"].clone()),
        _ => None,
    });
    written.expect("a status is written")
}

#[test]
fn what_fails_is_a_condition_until_it_is_over() {
    let pods =
        |count: usize| (0..count).map(|at| pod(&format!("p{at}"), "app: web", "web-uid", "")).collect::<Vec<_>>();
    let failure = Failure { code: 403, reason: "Forbidden".into(), message: "exceeded quota: q".into() };
    const FAILED: &str =
        "conditions: [{type: ReplicaFailure, status: 'True', reason: FailedCreate, message: earlier}], ";
    let said = |count: usize, stored: &str, failure: Option<&Failure>| {
        let conditions = &status(&pods(count), stored, failure)["conditions"];
        let text = |name: &str| conditions[0][name].as_str().unwrap_or("none").to_owned();
        format!("{}: {}", text("reason"), text("message"))
    };
    assert_eq!(said(1, "", Some(&failure)), "FailedCreate: exceeded quota: q");
    assert_eq!(said(3, "", Some(&failure)), "FailedDelete: exceeded quota: q");
    assert_eq!(said(1, FAILED, Some(&failure)), "FailedCreate: earlier", "it is as it was");
    assert_eq!(said(2, FAILED, None), "none: none");
    assert_eq!(said(2, "", None), "none: none");
}

#[test]
fn pods_count_by_how_far_they_are() {
    let ready = |since: &str| {
        format!(
            "status: {{phase: Running, conditions: [{{type: Ready, status: 'True', lastTransitionTime: {since}}}]}}"
        )
    };
    let (long, short) = (ready("2024-01-01T00:00:00Z"), ready("2024-01-01T00:00:55Z"));
    let mine = |name: &str, labels: &str, more: &str| pod(name, labels, "web-uid", more);
    let typed =
        SET.replace("template: {metadata: {labels: {app: web}}", "template: {metadata: {labels: {app: web, type: x}}");
    assert_ne!(typed, SET);
    let counts = |pods: [String; 2]| {
        let mut bench = Bench::new(ReplicaSets, &(typed.clone() + &pods.concat()));
        let plan = bench.reconcile("ns", "web", "2024-01-01T00:01:00Z");
        let Some(Step::Update { object, .. }) = plan.steps.first() else { panic!("{}", text(&plan)) };
        ["replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas"]
            .map(|field| object["status"][field].as_i64().unwrap_or(0))
    };
    const ALL: &str = "app: web, type: x";
    assert_eq!(counts([mine("a", ALL, &long), mine("b", ALL, &long)]), [2, 2, 2, 2]);
    assert_eq!(counts([mine("a", "app: web", &long), mine("b", "app: web", &long)]), [2, 0, 2, 2]);
    assert_eq!(counts([mine("a", "app: web", &long), mine("b", ALL, &long)]), [2, 1, 2, 2]);
    assert_eq!(counts([mine("a", ALL, ""), mine("b", ALL, "status: {phase: Pending}")]), [2, 2, 0, 0]);
    assert_eq!(counts([mine("a", ALL, &short), mine("b", ALL, &long)]), [2, 2, 2, 1]);
}
