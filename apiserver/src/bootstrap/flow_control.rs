//! The flows and priority levels that every cluster has (`k8s.io/apiserver` `pkg/apis/flowcontrol/bootstrap`).

use serde_json::{Value, json};

use super::plan::Keep;

const API_VERSION: &str = "flowcontrol.apiserver.k8s.io/v1";
const AUTOUPDATE: &str = "apf.kubernetes.io/autoupdate-spec";

/// Queues, hand size and queue length limit.
type Queuing = Option<(u32, u32, u32)>;

/// Name, nominal concurrency shares, lendable percent, and how requests wait.
const LEVELS: [(&str, u32, u32, Queuing); 7] = [
    ("catch-all", 5, 0, None),
    ("global-default", 20, 50, Some((128, 6, 50))),
    ("leader-election", 10, 0, Some((16, 4, 50))),
    ("node-high", 40, 25, Some((64, 6, 50))),
    ("system", 30, 33, Some((64, 6, 50))),
    ("workload-high", 40, 50, Some((128, 6, 50))),
    ("workload-low", 100, 90, Some((128, 6, 50))),
];

/// Every priority level and flow, and how far it is looked after: what a cluster cannot do without is kept as it is.
pub fn objects() -> Vec<(Value, Keep)> {
    let levels = LEVELS.iter().map(|level| self::level(*level));
    let exempt = object(
        "PriorityLevelConfiguration",
        "exempt",
        json!({"type": "Exempt",
        "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}}),
    );
    let all = std::iter::once(exempt).chain(levels).chain(flows());
    all.map(|object| {
        let mandatory = matches!(object["metadata"]["name"].as_str(), Some("exempt" | "catch-all"));
        (object, if mandatory { Keep::Fields } else { Keep::Present })
    })
    .collect()
}

fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": API_VERSION, "kind": kind, "spec": spec,
        "metadata": {"name": name, "annotations": {AUTOUPDATE: "true"}}})
}

fn level((name, shares, lendable, queuing): (&str, u32, u32, Queuing)) -> Value {
    let response = match queuing {
        None => json!({"type": "Reject"}),
        Some((queues, hand_size, limit)) => json!({"type": "Queue",
            "queuing": {"queues": queues, "handSize": hand_size, "queueLengthLimit": limit}}),
    };
    let limited = json!({"nominalConcurrencyShares": shares, "lendablePercent": lendable, "limitResponse": response});
    object("PriorityLevelConfiguration", name, json!({"type": "Limited", "limited": limited}))
}

fn flows() -> Vec<Value> {
    let everything = || json!([everywhere(&["*"], &["*"], &["*"])]);
    let manager = || user("system:kube-controller-manager");
    let scheduler = || user("system:kube-scheduler");
    let leases = |subjects: Value| {
        let verbs = ["get", "create", "update"];
        let resources = json!([
            namespaced(&verbs, &[""], &["endpoints", "configmaps"]),
            namespaced(&verbs, &["coordination.k8s.io"], &["leases"]),
        ]);
        json!({"subjects": subjects, "resourceRules": resources})
    };
    let with_urls = |subjects: Value| json!({"subjects": subjects, "resourceRules": everything(), "nonResourceRules": [urls(&["*"], &["*"])]});
    let anybody = || json!([group("system:unauthenticated"), group("system:authenticated")]);
    let node_status = json!({"subjects": [group("system:nodes")], "resourceRules": [
        everywhere(&["*"], &[""], &["nodes", "nodes/status"]),
        namespaced(&["*"], &["coordination.k8s.io"], &["leases"]),
    ]});
    let endpoints = json!({"subjects": [manager(), account("kube-system", "endpoint-controller"),
        account("kube-system", "endpointslicemirroring-controller")],
    "resourceRules": [
        namespaced(&["get", "create", "update"], &[""], &["endpoints"]),
        namespaced(&["get", "create", "update"], &["discovery.k8s.io"], &["endpointslices"]),
    ]});
    let probes =
        json!({"subjects": anybody(), "nonResourceRules": [urls(&["get"], &["/healthz", "/readyz", "/livez"])]});
    let rows = [
        ("exempt", "exempt", 1, "", with_urls(json!([group("system:masters")]))),
        ("probes", "exempt", 2, "", probes),
        ("system-leader-election", "leader-election", 100, "ByUser", leases(json!([manager(), scheduler()]))),
        ("endpoint-controller", "workload-high", 150, "ByUser", endpoints),
        ("workload-leader-election", "leader-election", 200, "ByUser", leases(json!([account("kube-system", "*")]))),
        ("system-node-high", "node-high", 400, "ByUser", node_status),
        ("system-nodes", "system", 500, "ByUser", with_urls(json!([group("system:nodes")]))),
        ("kube-controller-manager", "workload-high", 800, "ByNamespace", with_urls(json!([manager()]))),
        ("kube-scheduler", "workload-high", 800, "ByNamespace", with_urls(json!([scheduler()]))),
        (
            "kube-system-service-accounts",
            "workload-high",
            900,
            "ByNamespace",
            with_urls(json!([account("kube-system", "*")])),
        ),
        ("service-accounts", "workload-low", 9000, "ByUser", with_urls(json!([group("system:serviceaccounts")]))),
        ("global-default", "global-default", 9900, "ByUser", with_urls(anybody())),
        ("catch-all", "catch-all", 10_000, "ByUser", with_urls(anybody())),
    ];
    rows.into_iter()
        .map(|(name, level, precedence, method, rule)| flow(name, level, precedence, method, rule))
        .collect()
}

fn flow(name: &str, level: &str, precedence: u32, method: &str, rule: Value) -> Value {
    let mut spec = json!({"priorityLevelConfiguration": {"name": level}, "matchingPrecedence": precedence,
        "rules": [rule]});
    if !method.is_empty() {
        spec["distinguisherMethod"] = json!({"type": method});
    }
    object("FlowSchema", name, spec)
}

fn everywhere(verbs: &[&str], groups: &[&str], resources: &[&str]) -> Value {
    let mut rule = namespaced(verbs, groups, resources);
    rule["clusterScope"] = true.into();
    rule
}

fn namespaced(verbs: &[&str], groups: &[&str], resources: &[&str]) -> Value {
    json!({"verbs": verbs, "apiGroups": groups, "resources": resources, "namespaces": ["*"]})
}

fn urls(verbs: &[&str], urls: &[&str]) -> Value {
    json!({"verbs": verbs, "nonResourceURLs": urls})
}

fn group(name: &str) -> Value {
    json!({"kind": "Group", "group": {"name": name}})
}

fn user(name: &str) -> Value {
    json!({"kind": "User", "user": {"name": name}})
}

fn account(namespace: &str, name: &str) -> Value {
    json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": namespace, "name": name}})
}
