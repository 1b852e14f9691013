use k8w_kinds::core::selection::Selector;
use proptest::prelude::*;

use super::*;
use crate::plan::Step;

proptest! {
    /// Whatever is decided fits, in every order, and what is refused fits nowhere.
    #[test]
    fn decisions_are_feasible(sizes in prop::collection::vec((1u32..8, 1u32..8), 1..20), nodes in 1usize..5) {
        let world: String = (0..nodes).map(|i| node(&format!("n{i}"), "", "")).collect();
        let pods: String = sizes.iter().enumerate().map(|(i, (cpu, memory))| {
            let requests = format!("resources: {{requests: {{cpu: {cpu}00m, memory: {memory}00Mi}}}}");
            pod("", &requests).replace("name: p", &format!("name: p{i}"))
        }).collect();
        let mut bench = Bench::new(Scheduler::new(&[Profile::default()]), &(world + &pods));
        for i in 0..sizes.len() {
            let plan = bench.reconcile("ns", &format!("p{i}"), NOW);
            let asks = PodInfo::new(bench.world.pods.get("ns", &format!("p{i}")).unwrap().clone()).requests;
            let bound = plan.steps.iter().any(|step| matches!(step, Step::Bind { .. }));
            let nodes = &bench.controller.snapshot.nodes;
            for node in nodes {
                prop_assert!(node.requested.cpu_millis <= 1000 && node.requested.memory_bytes <= 1 << 30);
                prop_assert!(node.pods.len() <= 3);
                let fits = node.requested.cpu_millis + asks.cpu_millis <= 1000
                    && node.requested.memory_bytes + asks.memory_bytes <= 1 << 30
                    && node.pods.len() < 3;
                prop_assert!(bound || !fits, "refused although a node has room");
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Move {
    /// A pod with one of these labels goes to a node, from wherever it was.
    Place {
        pod: usize,
        label: usize,
        node: usize,
    },
    Displace {
        pod: usize,
    },
    /// A node gets to another zone, or to none.
    Rezone {
        node: usize,
        zone: usize,
    },
    Remove {
        node: usize,
    },
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        4 => (0..12usize, 0..2usize, 0..5usize).prop_map(|(pod, label, node)| Move::Place { pod, label, node }),
        1 => (0..12usize).prop_map(|pod| Move::Displace { pod }),
        2 => (0..5usize, 0..3usize).prop_map(|(node, zone)| Move::Rezone { node, zone }),
        1 => (0..5usize).prop_map(|node| Move::Remove { node }),
    ];
    prop::collection::vec(one, 1..60)
}

proptest! {
    /// Counts that were kept along through every move are those that one gets by looking at everything.
    #[test]
    fn counts_are_kept_along(moves in moves()) {
        let zone = |zone: usize| ["zone: a", "zone: b", ""][zone].to_owned();
        let parse = |yaml: &str| objects(yaml).remove(0);
        let far = "affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: \
                   [{topologyKey: zone, labelSelector: {matchLabels: {app: a0}}}]}}";
        let Object::Pod(asking) = parse(&labelled("p", "app: a0", far, "")) else { unreachable!() };
        let asking = Pending::new(asking, Arc::default(), &Selector::default());
        let mut snapshot = Snapshot::default();
        // Asked for at once, so that it must be kept along.
        let asked = |snapshot: &mut Snapshot| {
            let asked = cycle::Asked::by_filters(&asking, snapshot);
            let refused = snapshot.holdings.about(topology::Hold::Refuses, &asking.info, snapshot.namespaces()).collect::<Vec<_>>();
            let mut seen: Vec<_> = snapshot.nodes.iter().map(|node| {
                let near = snapshot.tallies.get(asked.refused[0]).near(node.slot);
                (node.name().to_owned(), near, refused.iter().map(|weight| weight(node.slot)).sum::<i64>())
            }).collect();
            seen.sort();
            seen
        };
        asked(&mut snapshot);
        for step in &moves {
            match step {
                Move::Place { pod, label, node } => {
                    let Object::Pod(pod) = parse(&running(&format!("p{pod}"), &format!("n{node}"), &format!("app: a{label}"), far)) else { unreachable!() };
                    snapshot.follow(&pod, false);
                }
                Move::Displace { pod } => _ = snapshot.displace(&format!("p{pod}-uid")),
                Move::Rezone { node: name, zone: to } => {
                    let Object::Node(node) = parse(&node(&format!("n{name}"), &zone(*to), "")) else { unreachable!() };
                    snapshot.set_node(node);
                }
                Move::Remove { node } => snapshot.remove_node(&format!("n{node}")),
            }
            let kept = asked(&mut snapshot);
            let mut anew = Snapshot::default();
            for node in &snapshot.nodes {
                anew.set_node(node.node.clone());
                for pod in node.pods.values() {
                    anew.place(pod.clone(), node.name());
                }
            }
            prop_assert_eq!(kept, asked(&mut anew));
        }
    }
}
