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

/// A constraint on these pods.
fn constraint(max_skew: u8, key: &str, selector: &str) -> String {
    format!("{{maxSkew: {max_skew}, topologyKey: {key}, whenUnsatisfiable: DoNotSchedule, labelSelector: {selector}}}")
}

fn having(label: &str) -> String {
    format!("{{matchExpressions: [{{key: {label}, operator: Exists}}]}}")
}

/// What nodes `a` and `b` of a zone and `x` and `y` of another say of a pod with these labels, constraints and other
/// fields; `there` are the labels of the pods of each.
fn four(there: [&[&str]; 4], labels: &str, constraints: &[String], more: &str) -> String {
    let mut world = Vec::new();
    for ((name, zone), pods) in [("a", "one"), ("b", "one"), ("x", "two"), ("y", "two")].into_iter().zip(there) {
        world.push(node(name, &format!("zone: {zone}, node: '{name}'"), "").replace("pods: '3'", "pods: '30'"));
        let pods = pods.iter().enumerate();
        world.extend(pods.map(|(at, labels)| running(&format!("{name}{at}"), name, labels, "")));
    }
    let spec = format!("topologySpreadConstraints: [{}], {more}", constraints.join(", "));
    world.push(labelled("p", labels, &spec, ""));
    verdicts(&world)
}

const FOO: &str = "foo: ''";
const BAR: &str = "bar: ''";
const FOOBAR: &str = "foo: '', bar: ''";

#[test]
fn a_constraint_lets_pods_in_by_how_many_there_are() {
    let by = |max_skew, key: &str, label: &str| [constraint(max_skew, key, &having(label))];
    const UNEVEN: [&[&str]; 4] = [&[FOO, FOO], &[FOO], &[], &[FOO, FOO, FOO]];
    let all = "a: yes, b: yes, x: yes, y: yes";
    assert_eq!(four([&[]; 4], FOO, &by(1, "zone", "foo"), ""), all);
    assert_eq!(four([&[]; 4], FOO, &by(1, "zone", "bar"), ""), all, "it does not count itself");
    assert_eq!(four([&[FOO, FOO], &[FOO], &[], &[FOO, FOO, FOO]], FOO, &by(1, "zone", "foo"), ""), all);
    assert_eq!(four(UNEVEN, FOO, &by(1, "node", "foo"), ""), "a: later, b: later, x: yes, y: later");
    assert_eq!(four(UNEVEN, FOO, &by(2, "node", "foo"), ""), "a: later, b: yes, x: yes, y: later");
    assert_eq!(four(UNEVEN, BAR, &by(1, "node", "foo"), ""), "a: later, b: yes, x: yes, y: later");
    assert_eq!(four(UNEVEN, FOO, &by(1, "rack", "foo"), ""), "a: never, b: never, x: never, y: never");
    let nothing = [constraint(1, "node", "null")];
    assert_eq!(four(UNEVEN, FOO, &nothing, ""), all, "a constraint without a selector is about no pods");
    let empty = [constraint(1, "node", "{}")];
    assert_eq!(four(UNEVEN, BAR, &empty, ""), "a: later, b: later, x: yes, y: later", "an empty one is about all");
    let either = "affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: \
                  [{matchExpressions: [{key: node, operator: In, values: ['a', 'y']}]}]}}}";
    assert_eq!(four(UNEVEN, FOO, &by(1, "node", "foo"), either), "a: yes, b: never, x: never, y: later");
}

#[test]
fn several_constraints_must_all_hold() {
    let both =
        |first: &str, second: &str| [constraint(1, "zone", &having(first)), constraint(1, "node", &having(second))];
    let three = [&[FOO, FOO][..], &[FOO], &[], &[FOO, FOO, FOO]];
    assert_eq!(four(three, FOO, &both("foo", "foo"), ""), "a: later, b: later, x: yes, y: later");
    let four_there = [&[FOO, FOO][..], &[FOO], &[], &[FOO, FOO, FOO, FOO]];
    assert_eq!(four(four_there, FOO, &both("foo", "foo"), ""), "a: later, b: later, x: later, y: later");
    let apart = [&[FOO][..], &[], &[], &[BAR]];
    assert_eq!(four(apart, FOOBAR, &both("foo", "bar"), ""), "a: later, b: later, x: yes, y: later");
    let against = [&[FOO][..], &[], &[BAR], &[BAR]];
    assert_eq!(four(against, FOOBAR, &both("foo", "bar"), ""), "a: later, b: later, x: later, y: later");
    let mixed = [&[FOO, FOOBAR][..], &[], &[], &[FOO, FOOBAR, FOO]];
    assert_eq!(four(mixed, FOOBAR, &both("foo", "bar"), ""), "a: later, b: yes, x: later, y: later");
    let other_zone = [&[FOO][..], &[], &[BAR], &[BAR]];
    assert_eq!(four(other_zone, BAR, &both("foo", "bar"), ""), "a: yes, b: yes, x: later, y: later");
}

#[test]
fn a_node_that_lacks_one_of_the_labels_takes_nobody_and_counts_for_nothing() {
    let nodes = [
        node("a", "zone: one, node: a", ""),
        node("b", "zone: one, node: b", ""),
        node("x", "zone: two", ""),
        node("y", "zone: two, node: 'y'", ""),
    ];
    let constraints = ["zone", "node"].map(|key| constraint(1, key, &having("foo"))).join(", ");
    let asks = labelled("p", FOO, &format!("topologySpreadConstraints: [{constraints}]"), "");
    let there = [running("q", "a", FOO, ""), running("r", "y", FOO, "")].concat();
    assert_eq!(verdicts(&[nodes.concat(), there, asks.clone()]), "a: later, b: yes, x: never, y: later");
    let beside = [running("q", "x", FOO, ""), running("r", "x", FOO, "")].concat();
    assert_eq!(verdicts(&[nodes.concat(), beside, asks]), "a: yes, b: yes, x: never, y: yes");
}

#[test]
fn pods_of_other_namespaces_and_nodes_without_the_label_do_not_count() {
    let far = |name: &str| running(name, "a1", "app: a", "").replace("namespace: ns", "namespace: other");
    let there = [far("q"), far("r"), running("s", "b1", "app: a", "")].concat();
    assert_eq!(verdicts(&[zones(), there, spreading("")]), "a1: yes, b1: later, none: never");
    let unlabelled = running("q", "none", "app: a", "");
    assert_eq!(verdicts(&[zones(), unlabelled, spreading("")]), "a1: yes, b1: yes, none: never");
}
