use super::*;

/// The bench after `p` was parked.
fn parked(world: &[String]) -> Bench<Scheduler> {
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
fn a_parked_pod_wakes_when_enough_room_is_freed() {
    let asks = |cpu: &str| format!("resources: {{requests: {{cpu: {cpu}}}}}");
    let on_n = |name: &str, cpu: &str| labelled(name, "", "nodeName: 'n'", &asks(cpu));
    let world = [node("n", "", ""), on_n("small", "300m"), on_n("large", "600m"), pod("", &asks("600m"))];
    let mut bench = parked(&world);
    assert!(!bench.wakes(Change::WatchedGone(later(&on_n("small", "300m")))), "that is not enough");
    assert!(bench.wakes(Change::WatchedGone(later(&on_n("large", "600m")))));
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
