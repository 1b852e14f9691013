//! What nodes are worth to a pod, score by score: numbers.

use super::balanced_allocation::BalancedAllocation;
use super::image_locality::ImageLocality;
use super::inter_pod_affinity::InterPodAffinity;
use super::node_affinity::NodeAffinity;
use super::pod_topology_spread::PodTopologySpread;
use super::resource_packing::ResourcePacking;
use super::taint_toleration::TaintToleration;
use super::{MAX_SCORE, Score};
use crate::scheduler::cycle::{Asked, Cycle};
use crate::scheduler::profile::{Packing, Profile};
use crate::scheduler::tests::{bench, labelled, node, pending, pod, running};

/// What the nodes of these names are worth to the pod `p` when they are those in question; if it makes no difference, the
/// most.
fn scores(score: &dyn Score, world: &[String], nodes: &[&str]) -> Vec<i64> {
    scores_of(score, world, nodes, Profile::default())
}

fn scores_of(score: &dyn Score, world: &[String], nodes: &[&str], profile: Profile) -> Vec<i64> {
    let mut bench = bench(world);
    let mut pending = pending(&bench);
    pending.profile = std::sync::Arc::new(profile);
    let snapshot = &mut bench.controller.snapshot;
    let feasible: Vec<usize> = nodes.iter().map(|name| snapshot.slot(name).unwrap()).collect();
    let mut asked = Asked::by_filters(&pending, snapshot);
    asked.by_scores(&pending, snapshot);
    let cycle = Cycle { pod: &pending, snapshot, asked: &asked };
    let Some(rate) = score.begin(&cycle, &feasible) else { return vec![MAX_SCORE; nodes.len()] };
    let mut ratings: Vec<i64> = feasible.iter().map(|slot| rate(&snapshot.nodes[*slot])).collect();
    score.normalise(&mut ratings);
    ratings
}

const FOO: &str = "foo: ''";
const BAR: &str = "bar: ''";

/// A soft constraint.
fn soft(max_skew: u8, key: &str, label: &str) -> String {
    format!(
        "{{maxSkew: {max_skew}, topologyKey: {key}, whenUnsatisfiable: ScheduleAnyway, \
         labelSelector: {{matchExpressions: [{{key: {label}, operator: Exists}}]}}}}"
    )
}

/// A node with the labels that are given beside its own name, and pods with these labels.
struct Place {
    name: &'static str,
    labels: &'static str,
    pods: &'static [&'static str],
}

const fn host(name: &'static str, labels: &'static str, pods: &'static [&'static str]) -> Place {
    Place { name, labels, pods }
}

/// What the nodes are worth by these constraints, of which the first `in_question` can take the pod.
fn spread(places: &[Place], in_question: usize, constraints: &[String]) -> Vec<i64> {
    let mut world = Vec::new();
    for Place { name, labels, pods } in places {
        world.push(node(name, labels, ""));
        world.extend(pods.iter().enumerate().map(|(at, labels)| running(&format!("{name}{at}"), name, labels, "")));
    }
    let spec = format!("topologySpreadConstraints: [{}]", constraints.join(", "));
    world.push(labelled("p", "foo: '', bar: ''", &spec, ""));
    let names: Vec<&str> = places.iter().take(in_question).map(|place| place.name).collect();
    scores(&PodTopologySpread, &world, &names)
}

const A: &str = "kubernetes.io/hostname: a";
const B: &str = "kubernetes.io/hostname: b";
const C: &str = "kubernetes.io/hostname: c";
const D: &str = "kubernetes.io/hostname: d";

#[test]
fn fewer_pods_are_better_by_how_many_domains_there_are() {
    let by_host = |max_skew, label: &str| [soft(max_skew, "kubernetes.io/hostname", label)];
    let uneven = [host("a", A, &[FOO, FOO]), host("b", B, &[FOO]), host("c", C, &[]), host("d", D, &[FOO, FOO, FOO])];
    let falling = [host("a", A, &[FOO; 4]), host("b", B, &[FOO; 3]), host("c", C, &[FOO; 2]), host("d", D, &[FOO; 1])];
    assert_eq!(spread(&[host("a", A, &[]), host("b", B, &[])], 2, &by_host(1, "foo")), [100, 100]);
    assert_eq!(spread(&[host("a", A, &[FOO, FOO]), host("b", B, &[FOO])], 1, &by_host(1, "foo")), [100]);
    assert_eq!(spread(&[host("a", A, &[FOO]), host("b", B, &[FOO])], 2, &by_host(1, "foo")), [100, 100]);
    assert_eq!(spread(&uneven, 4, &by_host(1, "foo")), [20, 60, 100, 0]);
    assert_eq!(spread(&uneven, 4, &by_host(2, "foo")), [33, 66, 100, 16]);
    assert_eq!(spread(&falling, 4, &by_host(3, "foo")), [44, 66, 77, 100]);
    let nothing = by_host(1, "foo").map(|constraint| {
        let selector = "labelSelector: {matchExpressions: [{key: foo, operator: Exists}]}";
        constraint.replace(selector, "labelSelector: null")
    });
    assert_eq!(spread(&uneven, 4, &nothing), [100, 100, 100, 100]);
    let some = [host("a", A, &[FOO; 4]), host("b", B, &[FOO; 2]), host("c", C, &[FOO]), host("d", D, &[FOO; 3])];
    assert_eq!(spread(&some, 3, &by_host(1, "foo")), [33, 83, 100], "one is not in question");
    let unnamed =
        [host("a", A, &[FOO; 4]), host("b", "n: b", &[FOO; 2]), host("c", C, &[FOO]), host("d", D, &[FOO; 3])];
    assert_eq!(spread(&unnamed, 3, &by_host(1, "foo")), [16, 0, 100], "one is in no domain");
}

#[test]
fn constraints_on_zones_and_hosts_add_up() {
    let by_host = |label: &str| soft(1, "kubernetes.io/hostname", label);
    let zoned = |pods: [&'static [&'static str]; 4]| {
        let labels = [
            "zone: one, kubernetes.io/hostname: a",
            "zone: one, kubernetes.io/hostname: b",
            "zone: two, kubernetes.io/hostname: c",
            "zone: two, kubernetes.io/hostname: d",
        ];
        let [a, b, c, d] = pods;
        [host("a", labels[0], a), host("b", labels[1], b), host("c", labels[2], c), host("d", labels[3], d)]
    };
    let crowded = zoned([&[FOO; 4], &[FOO; 2], &[FOO], &[FOO; 3]]);
    assert_eq!(spread(&crowded, 3, &[soft(1, "zone", "foo")]), [75, 75, 100]);
    let [a, b, c, d] = zoned([&[FOO; 2], &[FOO], &[FOO; 2], &[FOO; 4]]);
    assert_eq!(spread(&[a, c, b, d], 2, &[soft(1, "zone", "foo"), by_host("foo")]), [100, 63]);
    const BOTH: &str = "foo: '', bar: ''";
    let [a, b, c, d] = zoned([&[BOTH, FOO], &[BOTH], &[], &[FOO, BOTH, FOO]]);
    assert_eq!(spread(&[a, c, b, d], 2, &[soft(1, "zone", "foo"), soft(1, "zone", "bar")]), [85, 100]);
    let different = || zoned([&[FOO], &[BOTH], &[], &[FOO, BAR]]);
    let constraints = [soft(1, "zone", "foo"), by_host("bar")];
    assert_eq!(spread(&different(), 4, &constraints), [60, 20, 100, 60]);
    assert_eq!(spread(&different(), 3, &constraints), [50, 25, 100]);
    let empty_ones = zoned([&[], &[BAR], &[FOO], &[BOTH]]);
    assert_eq!(spread(&empty_ones, 4, &constraints), [100, 60, 40, 0]);
}

#[test]
fn pods_of_other_namespaces_and_those_that_leave_do_not_count() {
    let nodes = [node("a", A, ""), node("b", B, "")].concat();
    let asks =
        labelled("p", FOO, &format!("topologySpreadConstraints: [{}]", soft(1, "kubernetes.io/hostname", "foo")), "");
    let foo = |name: &str, on: &str| running(name, on, FOO, "");
    let far = foo("q", "a").replace("namespace: ns", "namespace: other");
    let there = [foo("r", "a"), foo("s", "b"), foo("t", "b")].concat();
    let spread = |pods: String| scores(&PodTopologySpread, &[nodes.clone(), pods, asks.clone()], &["a", "b"]);
    assert_eq!(spread(far + &there), [100, 33]);
    let leaving = foo("q", "a").replace("name: q,", "name: q, deletionTimestamp: '2024-01-01T00:00:00Z',");
    assert_eq!(spread(leaving + &foo("r", "b")), [100, 0]);
}

#[test]
fn by_default_pods_of_a_service_are_spread_although_nodes_have_no_zones() {
    let service =
        "apiVersion: v1\nkind: Service\nmetadata: {namespace: ns, name: s}\nspec: {selector: {foo: ''}}\n---\n";
    let mut world = vec![service.to_owned(), labelled("p", FOO, "", "")];
    for (name, labels, count) in [("a", A, 4), ("b", B, 3), ("c", C, 2), ("d", D, 1)] {
        world.push(node(name, labels, ""));
        world.extend((0..count).map(|at| running(&format!("{name}{at}"), name, FOO, "")));
    }
    assert_eq!(scores(&PodTopologySpread, &world, &["a", "b", "c", "d"]), [44, 66, 77, 100]);
}

/// Nodes of so many thousandths of a cpu and bytes, pods with such requests that run on them, and one that asks for such.
fn sized(nodes: &[(&str, u32, u32)], there: &[(&str, u32, u32)], asks: &[(u32, u32)]) -> Vec<String> {
    let amounts = |cpu: u32, memory: u32| format!("cpu: {cpu}m, memory: '{memory}'");
    let container = |at: usize, cpu: u32, memory: u32| {
        format!("{{name: c{at}, resources: {{requests: {{{}}}}}}}", amounts(cpu, memory))
    };
    let mut world = Vec::new();
    for (name, cpu, memory) in nodes {
        world.push(node(name, "", "").replace("cpu: '1', memory: 1Gi", &amounts(*cpu, *memory)));
    }
    for (at, (on, cpu, memory)) in there.iter().enumerate() {
        world.push(format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{namespace: ns, name: q{at}}}\n\
             spec: {{nodeName: '{on}', containers: [{}]}}\n---\n",
            container(0, *cpu, *memory)
        ));
    }
    let containers: Vec<_> = asks.iter().enumerate().map(|(at, (cpu, memory))| container(at, *cpu, *memory)).collect();
    world.push(format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{namespace: ns, name: p}}\nspec: {{containers: [{}]}}\n---\n",
        containers.join(", ")
    ));
    world
}

const BOTH: [(u32, u32); 2] = [(1000, 2000), (2000, 3000)];

#[test]
fn room_is_rated_by_share() {
    let least = |world: &[String]| scores(&ResourcePacking, world, &["a", "b"]);
    let most = |world: &[String]| {
        let mut profile = Profile::default();
        profile.packing = Packing::MostAllocated;
        scores_of(&ResourcePacking, world, &["a", "b"], profile)
    };
    let unlike = sized(&[("a", 4000, 10000), ("b", 6000, 10000)], &[], &BOTH);
    assert_eq!((least(&unlike), most(&unlike)), (vec![37, 50], vec![62, 50]));
    let there = [("a", 3000, 0), ("b", 3000, 5000)];
    let used = sized(&[("a", 10000, 20000), ("b", 10000, 20000)], &there, &BOTH);
    assert_eq!((least(&used), most(&used)), (vec![57, 45], vec![42, 55]));
    let larger = sized(&[("a", 10000, 20000), ("b", 10000, 50000)], &there, &BOTH);
    assert_eq!((least(&larger), most(&larger)), (vec![57, 60], vec![42, 40]));
    let overdrawn = sized(&[("a", 4000, 10000), ("b", 4000, 10000)], &there, &[(1000, 0), (2000, 0)]);
    assert_eq!(least(&overdrawn), [50, 25]);
    let nothing = sized(&[("a", 0, 0), ("b", 0, 0)], &there, &[]);
    assert_eq!((least(&nothing), most(&nothing)), (vec![0, 0], vec![0, 0]));
}

#[test]
fn balance_is_the_distance_between_the_shares() {
    let balance = |world: &[String]| scores(&BalancedAllocation, world, &["a", "b"]);
    assert_eq!(balance(&sized(&[("a", 4000, 10000), ("b", 6000, 10000)], &[], &BOTH)), [87, 100]);
    let there = [("a", 3000, 0), ("b", 3000, 5000)];
    assert_eq!(balance(&sized(&[("a", 10000, 20000), ("b", 10000, 20000)], &there, &BOTH)), [82, 95]);
    assert_eq!(balance(&sized(&[("a", 10000, 20000), ("b", 10000, 50000)], &there, &BOTH)), [82, 80]);
    let overdrawn = sized(&[("a", 4000, 10000), ("b", 4000, 10000)], &there, &[(1000, 0), (2000, 0)]);
    assert_eq!(balance(&overdrawn), [50, 75], "more than all counts as all");
    assert_eq!(
        balance(&sized(&[("a", 0, 0), ("b", 0, 10000)], &[], &BOTH)),
        [100, 100],
        "what there is none of is in balance"
    );
}

#[test]
fn taints_that_are_not_tolerated_are_counted() {
    let taint = |key: &str, value: &str, effect: &str| format!("{{key: {key}, value: {value}, effect: {effect}}}");
    let tainted = |name: &str, taints: &[String]| node(name, "", &format!("taints: [{}]", taints.join(", ")));
    let soft = |key: &str, value: &str| taint(key, value, "PreferNoSchedule");
    let tolerates = |key: &str, value: &str, effect: &str| {
        format!("{{key: {key}, operator: Equal, value: {value}, effect: {effect}}}")
    };
    let check = |nodes: [String; 3], tolerations: &[String]| {
        let asks = pod(&format!("tolerations: [{}]", tolerations.join(", ")), "");
        scores(&TaintToleration, &[nodes.concat(), asks], &["a", "b", "c"])
    };
    let none = || tainted("a", &[]);
    let foo_bar = [tolerates("foo", "bar", "PreferNoSchedule")];
    let nodes = [none(), tainted("b", &[soft("foo", "bar")]), tainted("c", &[soft("foo", "blah")])];
    assert_eq!(check(nodes, &foo_bar), [100, 100, 0]);
    let two = [tolerates("cpu", "x", "PreferNoSchedule"), tolerates("disk", "ssd", "PreferNoSchedule")];
    let nodes = [none(), tainted("b", &[soft("cpu", "x")]), tainted("c", &[soft("cpu", "x"), soft("disk", "ssd")])];
    assert_eq!(check(nodes, &two), [100, 100, 100], "how many are tolerated makes no difference");
    let nodes = [none(), tainted("b", &[soft("cpu", "x")]), tainted("c", &[soft("cpu", "x"), soft("disk", "ssd")])];
    assert_eq!(check(nodes, &foo_bar), [100, 50, 0]);
    let hard = [tolerates("cpu", "x", "NoSchedule"), tolerates("disk", "ssd", "NoSchedule")];
    let nodes = [
        none(),
        tainted("b", &[taint("cpu", "x", "NoSchedule")]),
        tainted("c", &[soft("cpu", "x"), soft("disk", "ssd")]),
    ];
    assert_eq!(check(nodes, &hard), [100, 100, 0], "hard ones are not a matter of taste");
}

#[test]
fn preferred_nodes_are_worth_their_weight() {
    let is = |key: &str, value: &str| format!("{{key: {key}, operator: In, values: [{value}]}}");
    let prefers = |weight: u8, all: &[String]| {
        format!("{{weight: {weight}, preference: {{matchExpressions: [{}]}}}}", all.join(", "))
    };
    let nodes = [
        node("a", "foo: bar", ""),
        node("b", "foo: bar, key: value, az: az1", ""),
        node("c", "key: value", ""),
        node("d", "", ""),
    ]
    .concat();
    let check = |terms: &[String]| {
        let affinity = format!(
            "affinity: {{nodeAffinity: {{preferredDuringSchedulingIgnoredDuringExecution: [{}]}}}}",
            terms.join(", ")
        );
        scores(&NodeAffinity, &[nodes.clone(), pod(&affinity, "")], &["a", "b", "c", "d"])
    };
    let all = [is("foo", "bar"), is("key", "value"), is("az", "az1")];
    let several = [prefers(2, &all[..1]), prefers(4, &all[1..2]), prefers(5, &all)];
    assert_eq!(check(&several), [18, 100, 36, 0]);
    assert_eq!(check(&several[..1]), [100, 100, 0, 0]);
    assert_eq!(check(&[prefers(3, &[is("foo", "other")])]), [0, 0, 0, 0]);
}

#[test]
fn large_images_are_worth_more_the_more_nodes_have_them() {
    let holding = |name: &str, images: &[(&str, i64)]| {
        let images: Vec<_> = images
            .iter()
            .map(|(image, mebibytes)| format!("{{names: ['{image}'], sizeBytes: {}}}", mebibytes * 1024 * 1024))
            .collect();
        node(name, "", "").replace("status: {", &format!("status: {{images: [{}], ", images.join(", ")))
    };
    let nodes = [
        holding("a", &[("r/40:latest", 40), ("r/300:latest", 300), ("r/2000:latest", 2000)]),
        holding("b", &[("r/250:latest", 250), ("r/10:latest", 10)]),
    ]
    .concat();
    let check = |nodes: &str, images: &[&str], names: &[&str]| {
        let containers: Vec<_> =
            images.iter().enumerate().map(|(at, image)| format!("{{name: c{at}, image: '{image}'}}")).collect();
        let pod = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{namespace: ns, name: p}}\nspec: {{containers: [{}]}}\n---\n",
            containers.join(", ")
        );
        scores(&ImageLocality, &[nodes.to_owned(), pod], names)
    };
    assert_eq!(check(&nodes, &["r/40", "r/250"], &["a", "b"]), [0, 5]);
    assert_eq!(check(&nodes, &["r/40", "r/300"], &["a", "b"]), [7, 0]);
    assert_eq!(check(&nodes, &["r/2000", "r/10"], &["a", "b"]), [49, 0]);
    let three = nodes.clone() + &holding("c", &[]);
    assert_eq!(check(&three, &["r/10", "r/300"], &["a", "b", "c"]), [3, 0, 0], "few have it");
    let started = "apiVersion: v1\nkind: Pod\nmetadata: {namespace: ns, name: p}\nspec: {initContainers: [{name: i, image: \
                   'r/300'}], containers: [{name: c, image: 'r/40'}]}\n---\n";
    let init = scores(&ImageLocality, &[nodes.clone(), started.to_owned()], &["a", "b"]);
    assert_eq!(init, [7, 0], "what starts first counts like the others");
    let mounted = started
        .replace("initContainers: [{name: i, image: 'r/300'}]", "volumes: [{name: v, image: {reference: 'r/300'}}]");
    let volume = scores(&ImageLocality, &[nodes.clone(), mounted], &["a", "b"]);
    assert_eq!(volume, [15, 0], "a volume's image counts, and leaves what is enough as it is");
    let two_have_it = nodes.replace("r/250:latest", "r/300:latest");
    assert!(check(&two_have_it, &["r/40", "r/300"], &["a", "b"])[0] > 7);
}

#[test]
fn company_is_worth_its_weight_in_its_domain() {
    let nodes =
        [node("a", "region: china", ""), node("b", "region: india", ""), node("c", "az: az1, region: china", "")]
            .concat();
    let prefers = |kind: &str, weight: u8, key: &str, app: &str| {
        format!(
            "{kind}: {{preferredDuringSchedulingIgnoredDuringExecution: [{{weight: {weight}, podAffinityTerm: \
             {{topologyKey: {key}, labelSelector: {{matchLabels: {{app: {app}}}}}}}}}]}}"
        )
    };
    let check = |pods: &[String], affinity: &str| {
        let asks = labelled("p", "app: s1", &format!("affinity: {{{affinity}}}"), "");
        scores(&InterPodAffinity, &[nodes.clone(), pods.concat(), asks], &["a", "b", "c"])
    };
    let s1 = |name: &str, on: &str, spec: &str| running(name, on, "app: s1", spec);
    let s2 = |name: &str, on: &str, spec: &str| running(name, on, "app: s2", spec);
    let near = prefers("podAffinity", 5, "region", "s1");
    let far = prefers("podAntiAffinity", 5, "region", "s1");
    assert_eq!(check(&[s1("q", "a", ""), s2("r", "b", "")], &near), [100, 0, 100], "the whole region");
    assert_eq!(check(&[s1("q", "a", ""), s1("r", "b", ""), s1("s", "b", "")], &near), [0, 100, 0], "more is better");
    assert_eq!(check(&[s1("q", "a", ""), s2("r", "b", "")], &far), [0, 100, 0]);
    assert_eq!(check(&[s1("q", "c", "")], &prefers("podAffinity", 5, "az", "s1")), [0, 0, 100]);
    // Who is there has a say, too.
    let draws = format!("affinity: {{{}}}", prefers("podAffinity", 8, "region", "s1"));
    let pushes = format!("affinity: {{{}}}", prefers("podAntiAffinity", 5, "region", "s1"));
    assert_eq!(check(&[s2("q", "a", &draws), s2("r", "b", &pushes)], ""), [100, 0, 100]);
    let requires = "affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: \
                    [{topologyKey: region, labelSelector: {matchLabels: {app: s1}}}]}}";
    assert_eq!(check(&[s2("q", "b", requires)], ""), [0, 100, 0]);
    assert_eq!(check(&[s2("q", "b", "")], ""), [MAX_SCORE; 3], "nobody cares");
    let both = format!("{near}, {}", prefers("podAntiAffinity", 5, "region", "s2"));
    assert_eq!(check(&[s1("q", "a", ""), s2("r", "a", ""), s1("s", "b", "")], &both), [0, 100, 0]);
}
