use super::*;

fn ranked(name: &str, priority: i32, on: &str, cpu: &str, labels: &str) -> String {
    let place = if on.is_empty() { String::new() } else { format!("nodeName: '{on}', ") };
    labelled(name, labels, &format!("{place}priority: {priority}"), &format!("resources: {{requests: {{cpu: {cpu}}}}}"))
}

/// The bench, and the plan for `p`, a line a step.
fn plan(world: &[String]) -> (Bench<Scheduler>, String) {
    let mut bench = bench(world);
    let plan = text(&bench.reconcile("ns", "p", NOW));
    (bench, plan)
}

/// The names of the pods that the plan deletes.
fn victims(world: &[String]) -> Vec<String> {
    let (_, plan) = plan(world);
    let deleted = plan.lines().filter_map(|line| line.trim().strip_prefix("delete pods ns/"));
    deleted.map(str::to_owned).collect()
}

/// Conformance: "Scheduler, Basic Preemption"; "Verify the DisruptionTarget condition is added to the preempted pod".
#[test]
fn a_pod_of_lower_priority_leaves_and_the_node_is_kept_free() {
    let world = [node("n", "", ""), ranked("low", 1, "n", "900m", ""), ranked("p", 10, "", "500m", "")];
    let (mut bench, plan) = plan(&world);
    expect![[r#"
        note Warning FailedScheduling on p: 0/1 nodes are available: 1 Insufficient cpu.
        patch pods ns/p status: {"status":{"conditions":[{"lastTransitionTime":"2024-01-01T00:00:00Z","message":"0/1 nodes are available: 1 Insufficient cpu.","reason":"Unschedulable","status":"False","type":"PodScheduled"}],"nominatedNodeName":"n"}}
        together:
          patch pods ns/low status: {"status":{"conditions":[{"lastTransitionTime":"2024-01-01T00:00:00Z","message":"default-scheduler: preempting to accommodate a higher priority pod","reason":"PreemptionByScheduler","status":"True","type":"DisruptionTarget"}]}}
        together:
          delete pods ns/low
        look again in 300s
    "#]]
    .assert_eq(&plan);
    wakes(&mut bench, &ranked("other", 1, "", "800m", ""));
    assert!(bench.wakes(Change::WatchedGone(later(&world[1]))), "the room is there");
    let refused = outcome(&mut bench, "other");
    assert!(refused.contains("1 Insufficient cpu"), "the room is promised: {refused}");
    assert_eq!(outcome(&mut bench, "p"), "n");
}

#[test]
fn a_promise_holds_though_the_pod_changes_before_it_is_seen() {
    let p = |labels: &str, status: &str| {
        ranked("p", 10, "", "500m", labels).replace("---\n", &format!("status: {{{status}}}\n---\n"))
    };
    let world = [node("n", "", ""), ranked("low", 1, "n", "900m", ""), p("", "")];
    let (mut bench, plan) = plan(&world);
    assert!(plan.contains(r#""nominatedNodeName":"n""#), "{plan}");
    wakes(&mut bench, &ranked("other", 1, "", "800m", ""));
    wakes(&mut bench, &p("new: label", ""));
    bench.wakes(Change::WatchedGone(later(&world[1])));
    let refused = outcome(&mut bench, "other");
    assert!(refused.contains("1 Insufficient cpu"), "the room is promised: {refused}");
    // Once it was seen, it can be taken back.
    wakes(&mut bench, &p("new: label", "nominatedNodeName: 'n'"));
    wakes(&mut bench, &p("new: label", ""));
    assert_eq!(outcome(&mut bench, "other"), "n");
}

#[test]
fn who_waits_for_room_that_is_promised_wakes_when_the_promise_is_void() {
    let world = [node("n", "", ""), ranked("low", 1, "n", "900m", ""), ranked("p", 10, "", "500m", "")];
    let (mut bench, _) = plan(&world);
    wakes(&mut bench, &ranked("other", 1, "", "800m", ""));
    bench.wakes(Change::WatchedGone(later(&world[1])));
    assert!(outcome(&mut bench, "other").contains("1 Insufficient cpu"));
    assert!(bench.wakes(Change::WatchedGone(later(&world[2]))), "it was promised the room, and is gone");
    assert_eq!(outcome(&mut bench, "other"), "n");
}

#[test]
fn a_pod_waits_for_its_victims_to_leave() {
    let leaving = ranked("low", 1, "n", "900m", "")
        .replace("name: low,", "name: low, deletionTimestamp: 2024-01-01T00:00:00Z, finalizers: [example.com/wait],");
    let evicted =
        "status: {conditions: [{type: DisruptionTarget, status: 'True', reason: PreemptionByScheduler}]}\n---\n";
    let promised = ranked("p", 10, "", "500m", "").replace("---\n", "status: {nominatedNodeName: 'n'}\n---\n");
    expect!["0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: not eligible due to a terminating pod on the nominated node."]
        .assert_eq(&place(&[node("n", "", ""), leaving.replace("---\n", evicted), promised]));
}

#[test]
fn some_pods_never_preempt() {
    let polite = ranked("p", 10, "", "500m", "").replace("priority: 10", "priority: 10, preemptionPolicy: Never");
    expect!["0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: not eligible due to preemptionPolicy=Never."]
        .assert_eq(&place(&[node("n", "", ""), ranked("low", 1, "n", "900m", ""), polite]));
}

/// Conformance: "Pod preemption verification".
#[test]
fn as_few_and_as_unimportant_pods_as_possible_leave() {
    let two = [ranked("a", 1, "n", "400m", ""), ranked("b", 2, "n", "500m", "")].concat();
    assert_eq!(victims(&[node("n", "", ""), two, ranked("p", 10, "", "500m", "")]), ["a"]);
    let nodes = [node("n", "", ""), node("m", "", "")].concat();
    let higher = ranked("b", 5, "m", "900m", "");
    let lower = [ranked("a", 1, "n", "400m", ""), ranked("c", 1, "n", "500m", "")].concat();
    assert_eq!(victims(&[nodes.clone(), higher, lower, ranked("p", 10, "", "900m", "")]), ["a", "c"]);
    let equal = [ranked("a", 1, "n", "900m", ""), ranked("b", 10, "m", "900m", "")].concat();
    assert_eq!(victims(&[nodes, equal, ranked("p", 10, "", "900m", "")]), ["a"]);
}

#[test]
fn the_pod_that_runs_the_shortest_leaves_among_equals() {
    let since = |name: &str, on: &str, minute: u32| {
        let status = format!("status: {{startTime: '2023-12-31T23:{minute}:00Z'}}\n---\n");
        ranked(name, 1, on, "900m", "").replace("---\n", &status)
    };
    let nodes = [node("n", "", ""), node("m", "", "")].concat();
    let world = [nodes, since("old", "n", 10), since("young", "m", 20), ranked("p", 10, "", "500m", "")];
    assert_eq!(victims(&world), ["young"]);
}

#[test]
fn disruption_budgets_are_respected_where_possible() {
    let budget = "apiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {namespace: ns, name: b}\n\
                  spec: {selector: {matchLabels: {app: a}}}\nstatus: {disruptionsAllowed: 0, currentHealthy: 1, \
                  desiredHealthy: 1, expectedPods: 1}\n---\n";
    let nodes = [node("n", "", ""), node("m", "", "")].concat();
    let guarded = ranked("guarded", 1, "n", "900m", "app: a");
    let free = ranked("free", 2, "m", "900m", "");
    let p = ranked("p", 10, "", "500m", "");
    assert_eq!(victims(&[budget.into(), nodes.clone(), guarded.clone(), free, p.clone()]), ["free"]);
    assert_eq!(victims(&[budget.into(), node("n", "", ""), guarded, p]), ["guarded"], "there is no other way");
}

#[test]
fn a_pod_of_lower_priority_loses_the_node_that_was_promised() {
    let promised = ranked("q", 5, "", "500m", "").replace("---\n", "status: {nominatedNodeName: 'n'}\n---\n");
    let world = [node("n", "", ""), ranked("low", 1, "n", "900m", ""), promised, ranked("p", 10, "", "900m", "")];
    let (mut bench, plan) = plan(&world);
    assert!(plan.contains(r#"patch pods ns/q status: {"status":{"nominatedNodeName":null}}"#), "{plan}");
    let cleared = world[2].replace("{nominatedNodeName: 'n'}", "{}");
    assert!(wakes(&mut bench, &cleared), "it looks for another place");
}

#[test]
fn preemption_helps_against_anti_affinity_and_ports() {
    let far = "affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: \
               [{topologyKey: host, labelSelector: {matchLabels: {app: a}}}]}}, priority: 10";
    let host = node("n", "host: 'n'", "");
    assert_eq!(victims(&[host.clone(), ranked("low", 1, "n", "1m", "app: a"), pod(far, "")]), ["low"]);
    let port = "ports: [{containerPort: 80, hostPort: 80}]";
    let taken = labelled("low", "", "nodeName: 'n', priority: 1", port);
    assert_eq!(victims(&[host, taken, pod("priority: 10", port)]), ["low"]);
}

#[test]
fn what_eviction_cannot_help_is_said() {
    let world =
        [node("n", "zone: a", ""), ranked("low", 1, "n", "900m", ""), pod("priority: 10, nodeSelector: {zone: b}", "")];
    expect!["0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. no new claims to deallocate, preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."]
        .assert_eq(&place(&world));
}

#[test]
fn of_several_nodes_the_one_that_loses_least_is_chosen() {
    // Of each node, the priorities of its pods and the minutes since which they run, all of which have to leave.
    type Pods = &'static [(i32, u32)];
    let cases: [(&[Pods], usize, &str); 9] = [
        (&[&[(100, 0), (100, 0)], &[(1000, 0)], &[(0, 0), (0, 0), (0, 0)]], 2, "the lowest of the highest priorities"),
        (&[&[(100, 0), (0, 0)], &[(100, 0), (-5, 0)], &[(100, 0), (100, 0)]], 1, "the smallest sum"),
        (&[&[(100, 0), (0, 0), (0, 0)], &[(100, 0), (0, 0)]], 1, "the fewest pods"),
        (&[&[(100, 0), (-50, 0)], &[(100, 0)]], 1, "few pods, though of a higher sum"),
        (&[&[(0, 0), (0, 0)], &[(1000, 0)], &[(100, 0), (0, 0), (0, 0)]], 0, "the priority before the number"),
        (&[&[(100, 9)], &[(100, 7)], &[(100, 8)]], 0, "what runs the shortest"),
        (
            &[&[(100, 20), (100, 19)], &[(100, 21), (100, 17)], &[(100, 23), (100, 18)]],
            0,
            "the earliest of each counts",
        ),
        (&[&[(100, 20), (0, 3)], &[(100, 19), (0, 30)]], 0, "only those of the highest priority count"),
        (&[&[(100, 5), (0, 0)], &[(100, 5), (0, 1), (0, 2)]], 0, "the number before the time"),
    ];
    for (nodes, expected, why) in cases {
        let mut world = Vec::new();
        for (at, pods) in nodes.iter().enumerate() {
            world.push(node(&format!("n{at}"), "", ""));
            for (nth, (priority, minute)) in pods.iter().enumerate() {
                let status = format!("status: {{startTime: '2023-12-31T23:{minute:02}:00Z'}}\n---\n");
                let name = format!("n{at}-{nth}");
                world.push(ranked(&name, *priority, &format!("n{at}"), "300m", "").replace("---\n", &status));
            }
        }
        world.push(ranked("p", 10_000, "", "1", ""));
        let mut found = victims(&world);
        found.sort();
        let all: Vec<String> = (0..nodes[expected].len()).map(|nth| format!("n{expected}-{nth}")).collect();
        assert_eq!(found, all, "{why}");
    }
}
