use super::*;

fn spread(more: &str) -> String {
    format!(
        "topologySpreadConstraints: [{{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule, \
         labelSelector: {{matchLabels: {{app: a}}}}, {more}}}]"
    )
}

fn spreading(more: &str) -> String {
    labelled("p", "app: a, version: v1", &spread(more), "")
}

fn zones() -> String {
    [node("a1", "zone: a", ""), node("b1", "zone: b", ""), node("none", "", "")].concat()
}

#[test]
fn no_zone_gets_far_ahead_of_another() {
    let one = running("q", "a1", "app: a", "");
    assert_eq!(place(&[zones(), one.clone(), spreading("")]), "b1");
    let cordoned = zones().replace("zone: b}}\nspec: {", "zone: b}}\nspec: {unschedulable: true");
    expect!["0/3 nodes are available: 1 node(s) didn't match pod topology spread constraints, 1 node(s) didn't match pod topology spread constraints (missing required label), 1 node(s) were unschedulable. no new claims to deallocate, preemption: 0/3 nodes are available: 1 No preemption victims found for incoming pod, 2 Preemption is not helpful for scheduling."]
        .assert_eq(&place(&[cordoned, one, spreading("")]));
}

#[test]
fn too_few_domains_count_as_one_that_is_empty() {
    let both = [running("q", "a1", "app: a", ""), running("r", "b1", "app: a", "")].concat();
    assert!(["a1", "b1"].contains(&place(&[zones(), both.clone(), spreading("minDomains: 2")]).as_str()));
    assert!(place(&[zones(), both, spreading("minDomains: 3")]).starts_with("0/3"));
}

#[test]
fn nodes_that_the_pod_cannot_use_count_as_the_policies_say() {
    let one = running("q", "a1", "app: a", "");
    let to_a = |more: &str| {
        let spec = format!("nodeSelector: {{zone: a}}, {}", spread(more));
        labelled("p", "app: a", &spec, "")
    };
    assert_eq!(place(&[zones(), one.clone(), to_a("")]), "a1", "zone b is out of the question");
    assert!(place(&[zones(), one.clone(), to_a("nodeAffinityPolicy: Ignore")]).starts_with("0/3"));
    let tainted = zones().replace("zone: b}}\nspec: {", "zone: b}}\nspec: {taints: [{key: k, effect: NoSchedule}]");
    assert!(place(&[tainted.clone(), one.clone(), spreading("")]).starts_with("0/3"), "taints are ignored by default");
    assert_eq!(place(&[tainted, one, spreading("nodeTaintsPolicy: Honor")]), "a1");
}

#[test]
fn match_label_keys_spread_each_version_for_itself() {
    let old = running("q", "b1", "app: a, version: v0", "");
    let new = running("r", "a1", "app: a, version: v1", "");
    assert_eq!(place(&[zones(), old, new, spreading("matchLabelKeys: [version]")]), "b1");
}

#[test]
fn soft_constraints_prefer() {
    let soft = || spreading("").replace("DoNotSchedule", "ScheduleAnyway");
    assert_eq!(place(&[zones(), running("q", "a1", "app: a", ""), soft()]), "b1");
    let both = [running("q", "a1", "app: a", ""), running("r", "b1", "app: a", "")].concat();
    let more = running("s", "b1", "app: a", "");
    assert_eq!(place(&[zones(), both, more, soft()]), "a1");
}

#[test]
fn pods_of_a_service_or_a_replica_set_are_spread_by_default() {
    let service =
        "apiVersion: v1\nkind: Service\nmetadata: {namespace: ns, name: s}\nspec: {selector: {app: a}}\n---\n";
    let hosts = |name: &str| node(name, &format!("kubernetes.io/hostname: {name}"), "").replace("'3'", "'30'");
    let crowd: String = (0..6).map(|i| running(&format!("q{i}"), "h1", "app: a", "")).collect();
    let idle: String = (0..6).map(|i| running(&format!("r{i}"), "h2", "", "")).collect();
    let world = |service: &str| {
        [service.to_owned(), hosts("h1"), hosts("h2"), crowd.clone(), idle.clone(), labelled("p", "app: a", "", "")]
    };
    assert_eq!(place(&world(service)), "h2");
    let set = "apiVersion: apps/v1\nkind: ReplicaSet\nmetadata: {namespace: ns, name: rs}\n\
               spec: {selector: {matchLabels: {app: a}}}\n---\n";
    let owned = labelled("p", "app: a", "", "").replace(
        "name: p,",
        "name: p, ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: rs, uid: rs-uid, controller: true}],",
    );
    assert_eq!(place(&[set.into(), hosts("h1"), hosts("h2"), crowd, idle, owned]), "h2");
}

#[test]
fn pods_that_are_being_deleted_do_not_count() {
    let leaving =
        running("q", "a1", "app: a", "").replace("name: q,", "name: q, deletionTimestamp: '2024-01-01T00:00:00Z',");
    let staying = running("r", "b1", "app: a", "");
    assert_eq!(place(&[zones(), leaving.clone(), staying.clone(), spreading("")]), "a1");
    let full = zones().replace("zone: b}}\nspec: {", "zone: b}}\nspec: {unschedulable: true");
    let mut bench = bench(&[full, running("q", "a1", "app: a", ""), spreading("")]);
    assert!(outcome(&mut bench, "p").starts_with("0/3"));
    assert!(wakes(&mut bench, &leaving), "it makes room before it is gone");
    assert_eq!(outcome(&mut bench, "p"), "a1");
}
