use super::*;

/// A node of 10m cpu, 20 bytes of memory and of ephemeral storage, and five of two other resources, where a pod already
/// has so much.
fn taken(requests: &str) -> String {
    let node = "apiVersion: v1\nkind: Node\nmetadata: {name: 'n'}\nspec: {}\nstatus: {allocatable: {cpu: 10m, memory: '20', \
                ephemeral-storage: '20', pods: '32', example.com/aaa: '5', hugepages-2Mi: '5'}}\n---\n";
    node.to_owned() + &labelled("q", "", "nodeName: 'n'", &asking(requests))
}

fn asking(requests: &str) -> String {
    format!("resources: {{requests: {{{requests}}}}}")
}

/// What the pod lacks there.
fn lacks(there: &str, container: &str, spec: &str) -> String {
    let said = place(&[taken(there), pod(spec, &asking(container))]);
    let said = said.strip_prefix("0/1 nodes are available: ").unwrap_or(&said);
    said.split('.').next().unwrap_or_default().to_owned()
}

/// Init containers with these requests.
fn first(containers: &[&str]) -> String {
    let all = containers.iter().enumerate().map(|(at, requests)| format!("{{name: i{at}, {}}}", asking(requests)));
    format!("initContainers: [{}]", all.collect::<Vec<_>>().join(", "))
}

#[test]
fn requests_are_weighed_against_what_is_left() {
    const CPU: &str = "1 Insufficient cpu";
    const MEMORY: &str = "1 Insufficient memory";
    const OTHER: &str = "1 Insufficient example";
    const FITS: &str = "n";
    let cases = [
        ("cpu: 10m, memory: 20", "", "", FITS),
        ("cpu: 10m, memory: 20", "cpu: 1m, memory: 1", "", "1 Insufficient cpu, 1 Insufficient memory"),
        ("cpu: 5m, memory: 5", "cpu: 1m, memory: 1", "", FITS),
        ("cpu: 9m, memory: 5", "cpu: 2m, memory: 1", "", CPU),
        ("cpu: 5m, memory: 19", "cpu: 1m, memory: 2", "", MEMORY),
        ("cpu: 5m, memory: 19", "cpu: 5m, memory: 1", "", FITS),
        // What starts first needs its most, not its sum.
        ("cpu: 8m, memory: 19", "cpu: 1m, memory: 1", &first(&["cpu: 3m, memory: 1"]), CPU),
        ("cpu: 8m, memory: 19", "cpu: 1m, memory: 1", &first(&["cpu: 3m, memory: 1", "cpu: 2m, memory: 1"]), CPU),
        ("cpu: 9m, memory: 19", "cpu: 1m, memory: 1", &first(&["cpu: 1m, memory: 3", "cpu: 1m, memory: 2"]), MEMORY),
        ("cpu: 9m, memory: 19", "cpu: 1m, memory: 1", &first(&["cpu: 1m, memory: 1"; 2]), FITS),
        ("cpu: 5m, memory: 19", "cpu: 4m, memory: 1", &first(&["cpu: 5m, memory: 1"]), FITS),
        ("", "example.com/aaa: 1", "", FITS),
        ("", "", &first(&["example.com/aaa: 1"]), FITS),
        ("", "example.com/aaa: 10", "", OTHER),
        ("example.com/aaa: 5", "example.com/aaa: 1", "", OTHER),
        ("example.com/aaa: 2", "", &first(&["example.com/aaa: 3"; 2]), FITS),
        ("example.com/aaa: 2", "", &first(&["example.com/aaa: 6", "example.com/aaa: 3"]), OTHER),
        ("", "", &first(&["example.com/bbb: 1"]), OTHER),
        ("", "example.com/bbb: 1", "", OTHER),
        ("", "hugepages-2Mi: 10", "", "1 Insufficient hugepages-2Mi"),
        ("hugepages-2Mi: 2", "hugepages-2Mi: 3", "", FITS),
        ("ephemeral-storage: 19", "ephemeral-storage: 2", "", "1 Insufficient ephemeral-storage"),
        ("cpu: 5m, memory: 5", "cpu: 1m, memory: 1", "overhead: {cpu: 3m, memory: 13}", FITS),
        ("cpu: 5m, memory: 5", "cpu: 1m, memory: 1", "overhead: {cpu: 1m, memory: 15}", MEMORY),
        // What is asked for the pod as a whole stands for its containers.
        ("cpu: 5m", "cpu: 1m", "resources: {requests: {cpu: 6m}}", CPU),
        ("cpu: 5m", "cpu: 1m", "resources: {requests: {cpu: 5m}}", FITS),
        ("cpu: 5m", "memory: 1", "resources: {requests: {cpu: 5m}}, overhead: {cpu: 1m}", CPU),
    ];
    for (there, container, spec, expected) in cases {
        assert_eq!(lacks(there, container, spec), expected, "{container}; {spec} beside {there}");
    }
}

#[test]
fn a_node_that_is_overdrawn_still_takes_who_asks_for_nothing_of_that() {
    assert_eq!(lacks("cpu: 30m, memory: 5", "memory: 1", ""), "n");
    assert_eq!(lacks("cpu: 30m, memory: 5", "cpu: 0, memory: 1", ""), "n");
    assert_eq!(lacks("cpu: 30m, memory: 5", "cpu: 1m", ""), "1 Insufficient cpu");
}

#[test]
fn sidecars_count_beside_what_starts_after_them() {
    let sidecar = |requests: &str| format!("{{name: s, restartPolicy: Always, {}}}", asking(requests));
    let with = |sidecar: String, later: &str| format!("initContainers: [{sidecar}, {{name: i, {}}}]", asking(later));
    assert_eq!(lacks("cpu: 4m", "cpu: 1m", &with(sidecar("cpu: 2m"), "cpu: 4m")), "n");
    assert_eq!(lacks("cpu: 4m", "cpu: 1m", &with(sidecar("cpu: 2m"), "cpu: 5m")), "1 Insufficient cpu");
    assert_eq!(lacks("cpu: 4m", "cpu: 4m", &with(sidecar("cpu: 2m"), "cpu: 1m")), "n");
    assert_eq!(lacks("cpu: 5m", "cpu: 4m", &with(sidecar("cpu: 2m"), "cpu: 1m")), "1 Insufficient cpu");
}
