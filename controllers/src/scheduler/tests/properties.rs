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
