use k8w_kinds::core::selection::Selector;

use super::*;

#[test]
fn preferred_node_affinity_and_taints_weigh() {
    let prefers = "affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: \
                   [{weight: 10, preference: {matchExpressions: [{key: disk, operator: In, values: [ssd]}]}}]}}";
    assert_eq!(place(&[node("a", "", ""), node("b", "disk: ssd", ""), pod(prefers, "")]), "b");
    let avoided = "taints: [{key: k, effect: PreferNoSchedule}]";
    assert_eq!(place(&[node("a", "", avoided), node("b", "", ""), pod("", "")]), "b");
}

#[test]
fn packing_follows_the_profile() {
    let world = [
        node("empty", "", ""),
        node("used", "", ""),
        labelled("q", "", "nodeName: used", "resources: {requests: {cpu: 300m, memory: 300Mi}}"),
        pod("schedulerName: packer", "resources: {requests: {cpu: 300m, memory: 300Mi}}"),
        labelled("r", "", "", "resources: {requests: {cpu: 100m, memory: 100Mi}}"),
    ];
    let mut packer = Profile::new("packer");
    packer.packing = Packing::MostAllocated;
    let mut bench = Bench::new(Scheduler::new(&[Profile::default(), packer]), &world.concat());
    assert_eq!(outcome(&mut bench, "p"), "used");
    assert_eq!(outcome(&mut bench, "r"), "empty");
}

#[test]
fn large_images_attract() {
    let holding =
        |name: &str, images: &str| node(name, "", "").replace("status: {", &format!("status: {{images: [{images}], "));
    let image = "{names: ['example.com/big:1', 'example.com/big@sha256:00'], sizeBytes: 900000000}";
    let others = ["a", "b"].map(|name| holding(name, ""));
    let world = |container: &str| [others.concat(), holding("c", image), pod("", container)];
    let chosen = |container: &str| {
        let mut bench = bench(&world(container));
        let pending = Pending::new(
            bench.world.pods.get("ns", "p").unwrap().clone(),
            Arc::new(Profile::default()),
            &Selector::default(),
        );
        let scheduler = &mut bench.controller;
        let mut chosen: Vec<_> = (0..8)
            .map(|_| match decide(&pending, &mut scheduler.snapshot, &mut 0, &mut bench.rng) {
                Decision::Node(slot) => scheduler.snapshot.nodes[slot].name().to_owned(),
                Decision::Unschedulable(why) => why.to_string(),
            })
            .collect();
        chosen.dedup();
        chosen
    };
    assert_eq!(chosen("image: 'example.com/big:1'"), ["c"]);
    assert!(chosen("image: 'example.com/other:1'").len() > 1, "chance decides between equals");
}

#[test]
fn components_attract_wasm_pods_however_small_they_are() {
    let class = "apiVersion: node.k8s.io/v1\nkind: RuntimeClass\nmetadata: {name: wasmtime}\nhandler: wasmtime\n---\n";
    let holding = |name: &str, images: &str| {
        let status = format!("status: {{runtimeHandlers: [{{name: wasmtime}}], images: [{images}], ");
        node(name, "", "").replace("status: {", &status)
    };
    let image = "{names: ['localhost/mine:latest'], sizeBytes: 50000}";
    let nodes = [holding("a", ""), holding("b", image), holding("c", "")].concat();
    let wasm = pod("runtimeClassName: wasmtime", "image: 'localhost/mine'");
    assert_eq!(place(&[class.into(), nodes, wasm]), "b");
}

#[test]
fn a_resized_pod_counts_for_what_it_has() {
    let status = "status: {containerStatuses: [{name: c, ready: true, restartCount: 0, image: i, imageID: i, \
                  resources: {requests: {cpu: 800m}}, allocatedResources: {cpu: 800m}}]}\n---\n";
    let shrinking = labelled("q", "", "nodeName: 'n'", "resources: {requests: {cpu: 200m}}").replace("---\n", status);
    let message = place(&[node("n", "", ""), shrinking, pod("", "resources: {requests: {cpu: 500m}}")]);
    assert!(message.contains("Insufficient cpu"), "it has not shrunk yet: {message}");
}

#[test]
fn the_room_of_a_pod_whose_binding_got_no_answer_is_kept_until_it_is_seen() {
    let asks = "resources: {requests: {cpu: 600m}}";
    let world = || bench(&[node("n", "", ""), labelled("q", "", "", asks), pod("", asks)]);
    let lost = || Outcome::Failed(Failure { code: 0, ..Failure::default() });

    let mut bench = world();
    assert_eq!(outcome(&mut bench, "q"), "n");
    bench.finish("ns", "q", &lost());
    assert!(outcome(&mut bench, "p").contains("Insufficient cpu"), "it may be there");
    assert_eq!(outcome(&mut bench, "q"), "n", "asked for once more");
    bench.finish("ns", "q", &Outcome::Stale);
    assert!(outcome(&mut bench, "p").contains("Insufficient cpu"), "it has a node");
    let seen = labelled("q", "", "nodeName: other", asks);
    assert!(wakes(&mut bench, &seen), "somebody else gave it one");
    assert_eq!(outcome(&mut bench, "p"), "n");

    let mut bench = world();
    assert_eq!(outcome(&mut bench, "q"), "n");
    bench.finish("ns", "q", &lost());
    bench.wakes(Change::WatchedGone(later(&node("n", "", ""))));
    expect!["no nodes available to schedule pods"].assert_eq(&outcome(&mut bench, "q"));
    wakes(&mut bench, &node("n", "", ""));
    assert_eq!(outcome(&mut bench, "p"), "n");
}
