//! What pods and nodes use: `kubectl top`, the node's summary and its metrics.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8w_testkit::eventually;
use serde_json::{Value, json};

use crate::{Sandbox, own_cluster, sandbox};

const MIB: u64 = 1 << 20;

/// Runs until it is ended, with 64 MiB of memory.
const SPINS: &str = r#"(module (memory (export "memory") 1024) (func (export "_start") (loop $again (br $again))))"#;
/// Runs until it is ended.
const LOOPS: &str = r#"(module (memory (export "memory") 1) (func (export "_start") (loop $again (br $again))))"#;
/// Says nothing, works for a while and is done.
const WORKS: &str = r#"(module (memory (export "memory") 1) (func (export "_start") (local $left i32)
    (local.set $left (i32.const 200000000))
    (loop $again (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))))"#;

impl Sandbox {
    /// A pod of one container of a command in WebAssembly text, with these fields more, in YAML's flow style.
    fn command_pod(&self, name: &str, text: &str, container: &str) {
        let image = self.text_image(name, text);
        self.kubectl.apply(&format!(
            "
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  runtimeClassName: wasmtime
  terminationGracePeriodSeconds: 1
  volumes: [{{name: scratch, emptyDir: {{}}}}]
  containers: [{{name: main, image: '{image}', volumeMounts: [{{name: scratch, mountPath: /scratch}}], {container}}}]
"
        ));
    }

    fn ask_proxy(&self, path: &str) -> String {
        let node = self.kubectl.ok(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"]);
        self.kubectl.ok(&["get", "--raw", &format!("/api/v1/nodes/{node}/proxy{path}")])
    }

    /// `/stats/summary`: of the node, and of the sandbox's pod of that name.
    fn summary(&self, pod: &str) -> Result<(Value, Value), String> {
        let mut summary: Value = serde_json::from_str(&self.ask_proxy("/stats/summary")).unwrap();
        let found = self.own(&summary, pod).cloned();
        found.map(|found| (summary["node"].take(), found)).ok_or_else(|| summary.to_string())
    }

    /// The sandbox's pod of that name in a summary.
    fn own<'s>(&self, summary: &'s Value, pod: &str) -> Option<&'s Value> {
        let is_own =
            |entry: &&Value| entry["podRef"]["name"] == pod && entry["podRef"]["namespace"] == self.namespace.as_str();
        summary["pods"].as_array().unwrap().iter().find(is_own)
    }

    /// What pods of these names have used of the CPU, in nanoseconds, and when that was so.
    fn used<const N: usize>(&self, pods: [&str; N]) -> Result<([u64; N], Timestamp), String> {
        let summary: Value = serde_json::from_str(&self.ask_proxy("/stats/summary?only_cpu_and_memory=true")).unwrap();
        let (mut used, mut at) = ([0; N], Timestamp::MIN);
        for (name, used) in pods.iter().zip(&mut used) {
            let pod = self.own(&summary, name).ok_or_else(|| summary.to_string())?;
            *used = number(pod, "/cpu/usageCoreNanoSeconds");
            at = pod["cpu"]["time"].as_str().unwrap().parse().unwrap();
        }
        Ok((used, at))
    }

    /// What pods of these names use from now on, and how long they have taken for it, in nanoseconds; once that `is_enough`.
    fn use_of<const N: usize>(&self, pods: [&str; N], is_enough: impl Fn([u64; N]) -> bool) -> ([u64; N], u64) {
        let (before, since) = eventually("all of them run", || match self.used(pods)? {
            (used, at) if used.iter().all(|used| *used > 0) => Ok((used, at)),
            (used, _) => Err(format!("{used:?}")),
        });
        eventually("they have used enough", || {
            let (mut used, at) = self.used(pods)?;
            used.iter_mut().zip(before).for_each(|(used, before)| *used -= before);
            let took = u64::try_from(at.duration_since(since).as_nanos()).unwrap_or_default();
            if is_enough(used) { Ok((used, took)) } else { Err(format!("{used:?} in {took} ns")) }
        })
    }

    /// The numbers of a path of metrics: the node's, and those about the sandbox's pod of that name, by the metric's name.
    fn metrics(&self, path: &str, pod: &str) -> BTreeMap<String, f64> {
        let own = [format!("namespace=\"{}\"", self.namespace), format!("pod=\"{pod}\"")];
        let text = self.ask_proxy(path);
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let numbers = lines.filter_map(|line| {
            let (name, number) = line.rsplit_once(' ')?;
            let (name, labels) = name.split_once('{').unwrap_or((name, ""));
            let is_own = labels.is_empty() || own.iter().all(|label| labels.contains(label.as_str()));
            is_own.then(|| (name.to_owned(), number.parse().unwrap()))
        });
        numbers.collect()
    }
}

/// A number in a tree of them, whatever its unit.
fn number(tree: &Value, path: &str) -> u64 {
    let found = tree.pointer(path).and_then(Value::as_u64);
    found.unwrap_or_else(|| panic!("no number {path} in {tree}"))
}

/// The columns of CPU, in thousandths, and of memory, in mebibytes, of a line of `kubectl top`.
fn columns(line: &str, first: usize) -> Option<[u64; 2]> {
    let columns: Vec<&str> = line.split_whitespace().collect();
    let cpu = columns.get(first)?.strip_suffix('m')?.parse().ok()?;
    let memory = columns[first + 1..].iter().find_map(|column| column.strip_suffix("Mi"))?;
    Some([cpu, memory.parse().ok()?])
}

#[test]
fn top_shows_how_much_is_used() {
    let t = sandbox();
    t.command_pod("spins", SPINS, "resources: {limits: {cpu: 100m, memory: 96Mi}}");
    let [cpu, memory] = eventually("the pod uses a tenth of a CPU", || {
        let shown = t.kubectl.run(&["top", "pod", "spins", "--no-headers"]);
        match columns(&shown.stdout, 1) {
            Some(used @ [80..=120, 64..=96]) => Ok(used),
            _ => Err(format!("{shown:?}")),
        }
    });
    eventually("the node uses at least as much", || {
        let shown = t.kubectl.ok(&["top", "node", "--no-headers"]);
        match columns(&shown, 1) {
            Some([node_cpu, node_memory]) if node_cpu >= cpu && node_memory >= memory => Ok(()),
            _ => Err(shown),
        }
    });

    let (node, pod) = t.summary("spins").unwrap();
    let container = &pod["containers"][0];
    assert_eq!(container["name"], "main");
    let working_set = number(container, "/memory/workingSetBytes");
    assert!((64 * MIB..96 * MIB).contains(&working_set), "{container}");
    assert_eq!(number(container, "/memory/availableBytes"), 96 * MIB - working_set);
    assert!(number(container, "/cpu/usageCoreNanoSeconds") > 0, "{container}");
    let started =
        t.kubectl.ok(&["get", "pod", "spins", "-o", "jsonpath={.status.containerStatuses[0].state.running.startedAt}"]);
    assert_eq!(container["startTime"].as_str().unwrap()[..19], started[..19]);
    for what in ["/containers/0/logs", "/containers/0/rootfs", "/volume/0", "/ephemeral-storage"] {
        let part = pod.pointer(what).unwrap_or_else(|| panic!("no {what} in {pod}"));
        assert!(number(part, "/usedBytes") <= number(part, "/capacityBytes"), "{what}: {part}");
        assert!(number(part, "/availableBytes") > 0, "{what}: {part}");
    }
    assert_eq!(pod["volume"][0]["name"], "scratch");
    for what in ["/cpu/usageCoreNanoSeconds", "/memory/workingSetBytes"] {
        assert!(number(&node, what) >= number(&pod, what), "{what}: {node} {pod}");
    }
    assert!(number(&node, "/memory/availableBytes") > 0 && number(&node, "/fs/usedBytes") > 0, "{node}");

    let metrics = t.metrics("/metrics/resource", "spins");
    let metric = |name: &str| *metrics.get(name).unwrap_or_else(|| panic!("no {name} in {metrics:?}"));
    let (of_pod, of_container) = (metric("pod_cpu_usage_seconds_total"), metric("container_cpu_usage_seconds_total"));
    assert!(of_container > 0.0 && of_pod >= of_container, "{metrics:?}");
    assert!(metric("node_cpu_usage_seconds_total") >= of_pod, "{metrics:?}");
    assert_eq!(metric("pod_memory_working_set_bytes"), working_set as f64);
    assert_eq!(metric("container_memory_working_set_bytes"), working_set as f64);
    assert!(metric("node_memory_working_set_bytes") >= working_set as f64);
    assert!(metric("container_start_time_seconds") > 1.6e9);
    assert_eq!(metric("resource_scrape_error"), 0.0);
    let text = t.ask_proxy("/metrics/resource");
    for (name, kind) in [
        ("container_cpu_usage_seconds", "counter"),
        ("pod_cpu_usage_seconds", "counter"),
        ("node_cpu_usage_seconds", "counter"),
        ("container_start_time_seconds", "gauge"),
        ("pod_memory_working_set_bytes", "gauge"),
    ] {
        assert!(text.contains(&format!("# TYPE {name} {kind}\n")), "{name}: {text}");
    }
    let cadvisor = t.metrics("/metrics/cadvisor", "spins");
    assert_eq!(cadvisor["container_memory_working_set_bytes"], working_set as f64);
    assert!(cadvisor["container_cpu_usage_seconds_total"] >= of_container, "{cadvisor:?}");
}

/// Both limits are so small that a busy machine does not change what is seen of them.
#[test]
fn a_cpu_limit_that_changes_is_kept_from_then_on() {
    /// So much that what a container has saved up does not matter.
    const ENOUGH: u64 = 40_000_000;
    let t = sandbox();
    t.command_pod("spins", LOOPS, "resources: {requests: {cpu: 20m}, limits: {cpu: 20m}}");
    let rate = || {
        let ([used], took) = t.use_of(["spins"], |[used]| used >= ENOUGH);
        used * 1_000 / took.max(1)
    };
    let is_limited = || {
        eventually("it uses what it may", || match rate() {
            rate if rate <= 30 => Ok(()),
            rate => Err(format!("{rate}m")),
        });
    };
    let limit = |cpu: &str| {
        let both = json!({"requests": {"cpu": cpu}, "limits": {"cpu": cpu}});
        let patch = json!({"spec": {"containers": [{"name": "main", "resources": both}]}}).to_string();
        t.kubectl.ok(&["patch", "pod", "spins", "--subresource=resize", "--patch", &patch]);
    };
    is_limited();
    limit("400m");
    eventually("it uses several times as much", || match rate() {
        rate if rate >= 60 => Ok(()),
        rate => Err(format!("{rate}m")),
    });
    limit("20m");
    is_limited();
    let restarts = "jsonpath={.status.containerStatuses[0].restartCount}";
    assert_eq!(t.kubectl.ok(&["get", "pod", "spins", "-o", restarts]), "0");
}

/// On a cluster of its own, whose processors nobody else wants anything of meanwhile.
#[test]
fn pods_that_want_more_than_there_is_share_it_by_their_requests() {
    let (cluster, kubectl, _) = own_cluster(&[]);
    let t = Sandbox { cluster: Arc::new(cluster), kubectl, namespace: "t".to_owned() };
    // As many more as there are processors, so that neither of the two has one to itself.
    let image = t.text_image("loops", LOOPS);
    let processors = std::thread::available_parallelism().unwrap().get();
    let containers = |count: usize, cpu: &str| -> Value {
        let one =
            |number| json!({"name": format!("c{number}"), "image": image, "resources": {"requests": {"cpu": cpu}}});
        (0..count).map(one).collect()
    };
    let pods = [("many", processors, "300m"), ("more", 1, "300m"), ("less", 1, "100m")];
    for (name, count, cpu) in pods {
        let spec = json!({"runtimeClassName": "wasmtime", "terminationGracePeriodSeconds": 1,
            "containers": containers(count, cpu)});
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec});
        t.kubectl.apply(&pod.to_string());
    }
    t.kubectl.ok(&["wait", "--for=condition=Ready", "pod/many", "pod/more", "pod/less", "--timeout=60s"]);
    // Three times as much; without requests it would be the same, however long one looks.
    t.use_of(["more", "less"], |[more, less]| less >= 200_000_000 && more * 2 > less * 3);
}

#[test]
fn what_a_pod_has_used_is_not_forgotten_when_a_container_ends() {
    let t = sandbox();
    t.command_pod("works", WORKS, "");
    let (mut first, mut last) = (0, 0);
    eventually("it has run twice", || {
        let (_, pod) = t.summary("works")?;
        let used = number(&pod, "/cpu/usageCoreNanoSeconds");
        assert!(used >= last, "{used} after {last}");
        last = used;
        let restarts = t.kubectl.ok(&[
            "get",
            "pod",
            "works",
            "-o",
            "jsonpath={.status.containerStatuses[0].restartCount}/{.status.containerStatuses[0].state.waiting.reason}",
        ]);
        if restarts.starts_with("0/") {
            first = used;
        }
        let again = restarts.starts_with("2/") || restarts.starts_with("1/Crash");
        if again && used > first { Ok(()) } else { Err(format!("{restarts}: {used}, at first {first}")) }
    });
    let metrics = t.metrics("/metrics/resource", "works");
    assert!(metrics["pod_cpu_usage_seconds_total"] * 1e9 >= last as f64, "{metrics:?}");
}

#[test]
fn what_probes_found_is_counted_while_their_pod_is_there() {
    let t = sandbox();
    let probes = "readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}, \
                  livenessProbe: {tcpSocket: {port: 81}, periodSeconds: 1, failureThreshold: 1000}";
    t.hello_pod("probed", "terminationGracePeriodSeconds: 1", probes);
    let own = format!("container=\"hello\",pod=\"probed\",namespace=\"{}\"", t.namespace);
    let shown = || {
        let text = t.ask_proxy("/metrics/probes");
        text.lines().filter(|line| line.contains(&own)).map(str::to_owned).collect::<Vec<_>>()
    };
    let number = |shown: &[String], name: &str| {
        let line = shown.iter().find(|line| line.starts_with(name))?;
        line.rsplit_once(' ').and_then(|(_, number)| number.parse::<f64>().ok())
    };
    eventually("both have been tried twice", || {
        let shown = shown();
        let numbers = [
            "prober_probe_total{probe_type=\"Readiness\",result=\"successful\"",
            "prober_probe_total{probe_type=\"Liveness\",result=\"failed\"",
            "prober_probe_duration_seconds_count{probe_type=\"Readiness\"",
            "prober_probe_duration_seconds_count{probe_type=\"Liveness\"",
        ];
        let are_counted = numbers.iter().all(|name| number(&shown, name).is_some_and(|number| number >= 2.0));
        if are_counted { Ok(()) } else { Err(shown.join("\n")) }
    });
    assert_eq!(number(&shown(), "prober_probe_total{probe_type=\"Liveness\",result=\"successful\""), None);
    t.kubectl.ok(&["delete", "pod", "probed", "--timeout=60s"]);
    eventually("nothing is said of it any more", || match shown() {
        left if left.is_empty() => Ok(()),
        left => Err(left.join("\n")),
    });
}
