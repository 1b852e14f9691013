use super::*;

/// The bench after `p` was parked.
pub(super) fn parked(world: &[String]) -> Bench<Scheduler> {
    let mut bench = bench(world);
    let message = outcome(&mut bench, "p");
    assert!(message.starts_with("0/"), "{message}");
    bench
}

#[test]
fn a_parked_pod_wakes_for_the_label_it_waits_for() {
    let mut bench = parked(&[node("n", "zone: a", ""), pod("nodeSelector: {zone: b}", "")]);
    assert!(!wakes(&mut bench, &pod("nodeSelector: {zone: b}", "")), "its own status");
    assert!(!wakes(&mut bench, &running("other", "n", "", "")), "another pod's start");
    assert!(!wakes(&mut bench, &node("m", "zone: a", "")), "a node that is no better");
    assert!(wakes(&mut bench, &node("n", "zone: b", "")));
}

#[test]
fn a_parked_pod_wakes_when_the_node_lets_it_in() {
    let mut bench = parked(&[node("n", "", "unschedulable: true"), pod("", "")]);
    assert!(!wakes(&mut bench, &node("m", "", "unschedulable: true")));
    assert!(wakes(&mut bench, &node("n", "", "")));
    let mut bench = parked(&[node("n", "", "taints: [{key: k, effect: NoSchedule}]"), pod("", "")]);
    assert!(!wakes(&mut bench, &node("n", "", "taints: [{key: l, effect: NoExecute}]")));
    assert!(wakes(&mut bench, &node("n", "", "taints: [{key: l, effect: PreferNoSchedule}]")));
}

#[test]
fn a_parked_pod_sleeps_on_when_a_node_changes_otherwise() {
    let sized = |allocatable: &str, labels: &str, spec: &str| {
        node("n", labels, spec)
            .replace("allocatable: {cpu: '1', memory: 1Gi, pods: '3'}", &format!("allocatable: {{{allocatable}}}"))
    };
    const SIZE: &str = "cpu: '1', memory: 1Gi, pods: '3'";
    const LARGER: &str = "cpu: '2', memory: 1Gi, pods: '3'";
    let large = |resource: &str| pod("", &format!("resources: {{requests: {{{resource}}}}}"));
    let mut bench = parked(&[sized(SIZE, "", ""), large("cpu: 2")]);
    assert!(!wakes(&mut bench, &sized("cpu: '1', memory: 2Gi, pods: '3'", "", "")), "memory is not what it lacks");
    assert!(!wakes(&mut bench, &sized("cpu: 1500m, memory: 2Gi, pods: '3'", "", "")), "that is not enough");
    assert!(wakes(&mut bench, &sized("cpu: '2', memory: 2Gi, pods: '3'", "", "")));
    let full =
        [sized(SIZE, "", ""), labelled("q", "", "nodeName: 'n'", "resources: {requests: {cpu: 1}}"), large("cpu: 1")];
    assert!(!wakes(&mut parked(&full), &sized(SIZE, "more: label", "")), "it has no more room than before");
    assert!(!wakes(&mut parked(&full), &sized("cpu: '1', memory: 2Gi, pods: '3'", "", "")));
    assert!(wakes(&mut parked(&full), &sized("cpu: '1', memory: 1Gi, pods: '4'", "", "")));

    let others = [node("m", "", "unschedulable: true"), sized(SIZE, "", ""), large("cpu: 2")];
    assert!(!wakes(&mut parked(&others), &sized(SIZE, "more: label", "")), "it was schedulable before");
    let others = [node("m", "", "taints: [{key: k, effect: NoExecute}]"), sized(SIZE, "", ""), large("cpu: 2")];
    assert!(!wakes(&mut parked(&others), &sized(SIZE, "more: label", "")), "it let the pod in before");
    let chosen = pod("nodeSelector: {zone: a}", "resources: {requests: {cpu: 2}}");
    let others = [node("m", "", ""), sized(SIZE, "zone: a", ""), chosen];
    assert!(!wakes(&mut parked(&others), &sized(SIZE, "zone: a, more: label", "")), "it was chosen before");
    assert!(wakes(&mut parked(&others), &sized(LARGER, "zone: a", "")));
}

#[test]
fn a_parked_pod_wakes_for_a_node_near_or_far_enough() {
    let term = |kind: &str| {
        format!(
            "affinity: {{{kind}: {{requiredDuringSchedulingIgnoredDuringExecution: \
             [{{topologyKey: host, labelSelector: {{matchLabels: {{app: a}}}}}}]}}}}"
        )
    };
    let near =
        [node("n", "host: 'n'", ""), node("m", "", ""), running("a", "m", "app: a", ""), pod(&term("podAffinity"), "")];
    assert!(!wakes(&mut parked(&near), &node("new", "", "")), "it is in no domain");
    assert!(wakes(&mut parked(&near), &node("new", "host: new", "")));
    assert!(wakes(&mut parked(&near), &node("m", "host: 'm'", "")));
    assert!(!wakes(&mut parked(&near), &node("m", "more: label", "")));
    let far = [node("n", "host: 'n'", ""), running("a", "n", "app: a", ""), pod(&term("podAntiAffinity"), "")];
    assert!(wakes(&mut parked(&far), &node("new", "", "")));
    assert!(wakes(&mut parked(&far), &node("n", "", "")));
    assert!(!wakes(&mut parked(&far), &node("n", "host: 'n', more: label", "")));
    let unwelcome =
        [node("n", "host: 'n'", ""), running("a", "n", "", &term("podAntiAffinity")), labelled("p", "app: a", "", "")];
    assert!(wakes(&mut parked(&unwelcome), &node("n", "", "")));
    assert!(!wakes(&mut parked(&unwelcome), &node("n", "host: 'n'", "taints: [{key: k, effect: NoSchedule}]")));
    assert!(parked(&unwelcome).wakes(Change::WatchedGone(later(&unwelcome[1]))));
}

#[test]
fn a_parked_pod_wakes_when_domains_come_and_go() {
    let spread = |more: &str| {
        format!(
            "topologySpreadConstraints: [{{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule, \
             labelSelector: {{matchLabels: {{app: a}}}}, {more}}}]"
        )
    };
    let cordoned = "unschedulable: true";
    let world = |more: &str| {
        [
            node("n", "zone: a", ""),
            node("m", "zone: b", cordoned),
            node("none", "", cordoned),
            running("a", "n", "app: a", ""),
            labelled("p", "app: a", &spread(more), ""),
        ]
    };
    let gone = |name: &str, labels: &str| Change::WatchedGone(later(&node(name, labels, cordoned)));
    let mut bench = parked(&world(""));
    assert!(!bench.wakes(gone("none", "")), "it was in no domain");
    assert!(bench.wakes(gone("m", "zone: b")), "zone b had the fewest pods");
    assert_eq!(outcome(&mut bench, "p"), "n");
    assert!(wakes(&mut parked(&world("")), &node("m", "zone: a", cordoned)));
    assert!(wakes(&mut parked(&world("")), &node("new", "zone: c", cordoned)));
    assert!(!wakes(&mut parked(&world("")), &node("new", "", cordoned)));
    let tainted = || node("m", "zone: b", "unschedulable: true, taints: [{key: k, effect: NoSchedule}]");
    assert!(!wakes(&mut parked(&world("")), &tainted()));
    assert!(wakes(&mut parked(&world("nodeTaintsPolicy: Honor")), &tainted()), "its zone no longer counts");
}

#[test]
fn a_parked_pod_wakes_when_enough_room_is_freed() {
    let asks = |cpu: &str| format!("resources: {{requests: {{cpu: {cpu}}}}}");
    let on_n = |name: &str, cpu: &str| labelled(name, "", "nodeName: 'n'", &asks(cpu));
    let world = [node("n", "", ""), on_n("small", "300m"), on_n("large", "600m"), pod("", &asks("600m"))];
    let mut bench = parked(&world);
    assert!(!bench.wakes(Change::WatchedGone(later(&on_n("small", "300m")))), "that is not enough");
    assert!(bench.wakes(Change::WatchedGone(later(&on_n("large", "600m")))));
}

#[test]
fn a_parked_pod_wakes_for_its_ports() {
    let port = |number: u16| format!("ports: [{{containerPort: 80, hostPort: {number}}}]");
    let on_n = |name: &str, number: u16| labelled(name, "", "nodeName: 'n'", &port(number));
    let world = [node("n", "", ""), on_n("same", 80), on_n("other", 81), pod("", &port(80))];
    let mut bench = parked(&world);
    assert!(!bench.wakes(Change::WatchedGone(later(&on_n("other", 81)))));
    assert!(!wakes(&mut bench, &node("n", "more: label", "")));
    assert!(bench.wakes(Change::WatchedGone(later(&on_n("same", 80)))));
    assert!(wakes(&mut parked(&world), &node("new", "", "")));
}

#[test]
fn a_parked_pod_wakes_for_company_and_for_solitude() {
    let near = "affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: \
                [{topologyKey: host, labelSelector: {matchLabels: {app: a}}}]}}";
    let mut bench = parked(&[node("n", "host: 'n'", ""), pod(near, "")]);
    assert!(!wakes(&mut bench, &running("b", "n", "app: b", "")));
    assert!(wakes(&mut bench, &running("a", "n", "app: a", "")));
    let far = near.replace("podAffinity", "podAntiAffinity");
    let mut bench = parked(&[node("n", "host: 'n'", ""), running("a", "n", "app: a", ""), pod(&far, "")]);
    assert!(wakes(&mut bench, &running("a", "n", "app: b", "")), "it has another label now");
}

#[test]
fn a_pod_wakes_when_its_company_was_decided_and_is_seen() {
    let near = "affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: \
                [{topologyKey: host, labelSelector: {matchLabels: {app: a}}}]}}";
    let mut bench = parked(&[node("n", "host: 'n'", ""), pod(near, ""), labelled("a", "app: a", "", "")]);
    assert_eq!(outcome(&mut bench, "a"), "n");
    assert!(wakes(&mut bench, &running("a", "n", "app: a", "")));
    assert_eq!(outcome(&mut bench, "p"), "n");
}

#[test]
fn a_pod_wakes_when_another_did_not_get_its_node() {
    let asks = "resources: {requests: {cpu: 600m}}";
    let mut bench = bench(&[node("n", "", ""), labelled("q", "", "", asks), pod("", asks)]);
    assert_eq!(outcome(&mut bench, "q"), "n");
    assert!(outcome(&mut bench, "p").contains("Insufficient cpu"));
    bench.finish("ns", "q", &Outcome::Stale);
    assert!(
        wakes(&mut bench, "apiVersion: v1\nkind: Namespace\nmetadata: {name: other}\n"),
        "with whatever comes next"
    );
}

#[test]
fn a_pod_wakes_for_its_spread() {
    let spread = "topologySpreadConstraints: [{maxSkew: 1, topologyKey: host, whenUnsatisfiable: DoNotSchedule, \
                  labelSelector: {matchLabels: {app: a}}}]";
    let full = "status: {allocatable: {cpu: '1', memory: 1Gi, pods: '1'}}";
    let small = |name: &str| {
        node(name, &format!("host: {name}"), "")
            .replace("status: {allocatable: {cpu: '1', memory: 1Gi, pods: '3'}}", full)
    };
    let world = [
        node("n", "host: 'n'", ""),
        small("m"),
        running("a", "n", "app: a", ""),
        running("b", "m", "app: b", ""),
        labelled("p", "app: a", spread, ""),
    ];
    let mut bench = parked(&world);
    assert!(!wakes(&mut bench, &running("c", "n", "app: b", "")), "not one of those that are spread");
    assert!(bench.wakes(Change::WatchedGone(later(&running("a", "n", "app: a", "")))));
}
