//! Node: a machine (or a process) that runs pods.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::pod::resources;
use crate::field::{Field, FieldError, FieldPath};
use crate::kind::{self, Column, KindDef, SelectableField, Shape, Strategy, Subresource};
use crate::object::{self, get, list, map, text};
use crate::{names, rules};

/// The label of nodes that run wasm pods, as `true`.
pub const RUNS_WASM: &str = "k8w.dev/runtime-wasmtime";
/// The annotation of a node that says which addresses its wasm pods have.
pub const WASM_CIDR: &str = "k8w.dev/wasm-cidr";

const NONE: &str = "<none>";
const UNKNOWN: &str = "<unknown>";

pub fn definition() -> KindDef {
    let verbs = &["create", "delete", "get", "patch", "update"];
    let proxy = Subresource::other("proxy", ("", "v1", "NodeProxyOptions"), verbs);
    KindDef::builtin("", "v1", "Node", "nodes", "io.k8s.api.core.v1.Node")
        .cluster_scoped()
        .short_names(&["no"])
        .subresources(vec![proxy, Subresource::status()])
        .columns(columns())
        .selectable(vec![SelectableField::computed("spec.unschedulable", |node| is_unschedulable(node).to_string())])
        .strategy(Node)
}

fn is_unschedulable(node: &Value) -> bool {
    get(node, &["spec", "unschedulable"]).and_then(Value::as_bool).unwrap_or_default()
}

struct Node;

impl Strategy for Node {
    fn shape(&self) -> Shape {
        Shape::STATUS
    }

    fn default(&self, node: &mut Value) {
        pod_ranges(node);
        let Some(status) = object::get_mut(node, &["status"]).and_then(Value::as_object_mut) else { return };
        if let Some(capacity) = status.get("capacity").cloned() {
            object::set_default(status, "allocatable", capacity);
        }
        for name in ["capacity", "allocatable"] {
            if let Some(Value::Object(amounts)) = status.get_mut(name) {
                resources::canonicalize_list(amounts);
            }
        }
    }

    /// Whoever registers a node knows it.
    fn comes_with_status(&self) -> bool {
        true
    }

    fn prepare_for_create(&self, node: &mut Value) {
        kind::prepare_for_create(Shape::DATA, node);
        drop_configuration(node, None);
    }

    fn prepare_for_update(&self, new: &mut Value, old: &Value) {
        kind::prepare_for_update(self.shape(), new, old);
        drop_configuration(new, Some(old));
    }

    fn prepare_for_status_update(&self, new: &mut Value, old: &Value, _now: Timestamp) {
        kind::prepare_for_status_update(new, old);
        drop_configuration(new, Some(old));
    }

    fn validate(&self, node: &Value) -> Vec<FieldError> {
        let root = Field::root(node);
        let spec = root.get("spec");
        let mut errors = Vec::new();
        taints(&spec, &mut errors);
        amounts(&root.get("status"), &mut errors);
        let ranges = spec.get("podCIDRs");
        for range in ranges.items() {
            rules::cidr(&range, &mut errors);
        }
        if !is_pair(&ranges) {
            errors.push(ranges.invalid("may specify no more than one CIDR for each IP family"));
        }
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let (root, old) = (Field::root(new), Field::root(old));
        let (spec, was, status) = (root.get("spec"), old.get("spec"), root.get("status"));
        amounts(&status, &mut errors);
        addresses(&status.get("addresses"), &mut errors);
        let ranges = spec.get("podCIDRs");
        if !was.get("podCIDRs").is_empty() && !object::same(ranges.value(), was.get("podCIDRs").value()) {
            errors.push(ranges.forbidden("node updates may not change podCIDR except from \"\" to valid"));
        }
        let provider = spec.get("providerID");
        if !was.get("providerID").is_empty() && provider.text() != was.get("providerID").text() {
            errors.push(provider.forbidden("node updates may not change providerID except from \"\" to valid"));
        }
        taints(&spec, &mut errors);
        let external = spec.get("externalID");
        if external.text() != was.get("externalID").text() {
            errors.push(external.forbidden("may not be updated"));
        }
        errors
    }

    /// A status is written with what is written of the rest.
    fn validate_status_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        self.validate_update(new, old)
    }

    fn warnings(&self, node: &Value) -> Vec<String> {
        let root = Field::root(node);
        let spec = root.get("spec");
        let mut warnings = Vec::new();
        if spec.get("configSource").is_set() {
            warnings.push("spec.configSource: the feature is removed".to_owned());
        }
        if !spec.get("externalID").is_empty() {
            warnings.push("spec.externalID: this field is deprecated, and is unused by Kubernetes".to_owned());
        }
        warnings.extend(spec.get("podCIDRs").items().filter_map(|range| rules::cidr_warning(&range)));
        warnings
    }
}

/// Configuration of nodes from ConfigMaps is no more: none is added to those that are stored.
fn drop_configuration(new: &mut Value, old: Option<&Value>) {
    for path in [["spec", "configSource"], ["status", "config"]] {
        let had = old.is_some_and(|old| get(old, &path).is_some());
        if let (false, Some(fields)) = (had, object::get_mut(new, &path[..1])) {
            object::remove(fields, path[1]);
        }
    }
}

fn amounts(status: &Field, errors: &mut Vec<FieldError>) {
    for list in ["capacity", "allocatable"] {
        let list = status.get(list);
        for (resource, amount) in list.entries() {
            let amount = Field::new(amount.value(), list.path.child(resource));
            resources::quantity(resource, &amount, errors);
        }
    }
}

fn addresses(addresses: &Field, errors: &mut Vec<FieldError>) {
    let mut seen = BTreeSet::new();
    for address in addresses.items() {
        let pair = (address.get("type").text(), address.get("address").text());
        if !seen.insert(pair) {
            let shown = json!({"Type": pair.0, "Address": pair.1});
            errors.push(FieldError::duplicate(&address.path, shown));
        }
    }
}

/// Labels of nodes that nobody should ask for any more, and what to ask for.
const OLD_LABELS: [(&str, &str); 8] = [
    ("beta.kubernetes.io/arch", "deprecated since v1.14; use \"kubernetes.io/arch\" instead"),
    ("beta.kubernetes.io/os", "deprecated since v1.14; use \"kubernetes.io/os\" instead"),
    (
        "failure-domain.beta.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    ("failure-domain.beta.kubernetes.io/zone", "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead"),
    ("beta.kubernetes.io/instance-type", "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead"),
    ("app.kubernetes.io/created-by", "deprecated since v1.9"),
    ("scheduler.alpha.kubernetes.io/preferAvoidPods", "deprecated since v1.22; use Taints and Tolerations instead"),
    ("node-role.kubernetes.io/master", "use \"node-role.kubernetes.io/control-plane\" instead"),
];

/// What is said of a label that has another name now.
pub fn old_label(label: &str) -> Option<&'static str> {
    OLD_LABELS.iter().find(|(old, _)| *old == label).map(|(_, instead)| *instead)
}

/// The same, where a label is asked for by its key.
pub fn key_warning(key: &Field) -> Option<String> {
    old_label(key.text()).map(|instead| format!("{}: {} is {instead}", key.path, key.text()))
}

/// What is said of labels that a node selector asks for.
pub fn selector_warnings(selector: &Field) -> Vec<String> {
    let mut warnings = Vec::new();
    for term in selector.get("nodeSelectorTerms").items() {
        for expression in term.get("matchExpressions").items() {
            warnings.extend(key_warning(&expression.get("key")));
        }
    }
    warnings
}

/// Whether two node selectors, or what is around them, ask for the same; a label of before may have been replaced.
pub fn same_but_for_newer_labels(new: Option<&Value>, old: Option<&Value>) -> bool {
    let newer = |label: &str| match label {
        "failure-domain.beta.kubernetes.io/zone" => Some("topology.kubernetes.io/zone"),
        "failure-domain.beta.kubernetes.io/region" => Some("topology.kubernetes.io/region"),
        "beta.kubernetes.io/os" => Some("kubernetes.io/os"),
        "beta.kubernetes.io/arch" => Some("kubernetes.io/arch"),
        "beta.kubernetes.io/instance-type" => Some("node.kubernetes.io/instance-type"),
        _ => None,
    };
    let mut before = old.cloned().unwrap_or_default();
    let replaced = |new: &Value, old: &mut Value| {
        for (is, was) in list(new, &["matchExpressions"]).iter().zip(object::list_mut(old, &["matchExpressions"])) {
            if newer(text(was, &["key"])) == is["key"].as_str() {
                was["key"] = is["key"].clone();
            }
        }
    };
    let terms = ["required", "nodeSelectorTerms"];
    if let Some(new) = new {
        list(new, &terms).iter().zip(object::list_mut(&mut before, &terms)).for_each(|(new, old)| replaced(new, old));
    }
    object::same(new, Some(&before))
}

/// `podCIDR` is the first of `podCIDRs`. Where they differ it is `podCIDR` that counts, as clients may know nothing of the other.
fn pod_ranges(node: &mut Value) {
    let Some(spec) = object::ensure(node, &["spec"]) else { return };
    let one = spec.get("podCIDR").and_then(Value::as_str).unwrap_or_default().to_owned();
    let first = spec.get("podCIDRs").and_then(|all| all.get(0)?.as_str()).unwrap_or_default().to_owned();
    if one == first {
        return;
    }
    match one.is_empty() {
        true => spec.insert("podCIDR".to_owned(), first.into()),
        false => spec.insert("podCIDRs".to_owned(), vec![one].into()),
    };
}

/// At most one for each address family.
fn is_pair(ranges: &Field) -> bool {
    let mut families: Vec<bool> = ranges.items().map(|range| range.text().contains(':')).collect();
    families.sort_unstable();
    families.windows(2).all(|pair| pair[0] != pair[1])
}

/// Kubernetes says of taints that they are in the metadata.
fn taints(spec: &Field, errors: &mut Vec<FieldError>) {
    let metadata = FieldPath::new("metadata");
    let taints = Field::new(spec.get("taints").value(), metadata.child("taints"));
    let mut seen = BTreeSet::new();
    for taint in taints.items() {
        let (key, value, effect) = (taint.get("key"), taint.get("value"), taint.get("effect"));
        rules::form(&key, names::qualified_name, errors);
        let wrong = names::label_value(value.text());
        if !wrong.is_empty() {
            errors.push(value.invalid(wrong.join(";")));
        }
        rules::one_of(&effect, &["NoSchedule", "PreferNoSchedule", "NoExecute"], errors);
        if !seen.insert((key.text(), effect.text())) {
            let shown = json!({
                "Key": key.text(), "Value": value.text(), "Effect": effect.text(),
                "TimeAdded": taint.get("timeAdded").value(),
            });
            let mut duplicate = FieldError::duplicate(&taint.path, shown);
            duplicate.detail = "taints must be unique by key and effect pair".to_owned();
            errors.push(duplicate);
        }
    }
}

fn columns() -> Vec<Column> {
    vec![
        Column::name(),
        Column::text("Status", |node, _| status(node).into()).describe("The status of the node"),
        Column::text("Roles", |node, _| roles(node).into()).describe("The roles of the node"),
        Column::age(),
        Column::at("Version", "string", "status.nodeInfo.kubeletVersion").describe("Version of the node agent."),
        Column::text("Internal-IP", |node, _| address(node, "InternalIP").into()).wide(),
        Column::text("External-IP", |node, _| address(node, "ExternalIP").into()).wide(),
        Column::text("OS-Image", |node, _| info(node, "osImage").into()).wide(),
        Column::text("Kernel-Version", |node, _| info(node, "kernelVersion").into()).wide(),
        Column::text("Container-Runtime", |node, _| info(node, "containerRuntimeVersion").into()).wide(),
    ]
}

fn status(node: &Value) -> String {
    let ready = list(node, &["status", "conditions"]).iter().find(|c| text(c, &["type"]) == "Ready");
    let mut status = match ready {
        Some(condition) if text(condition, &["status"]) == "True" => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if is_unschedulable(node) {
        status.push_str(",SchedulingDisabled");
    }
    status
}

fn roles(node: &Value) -> String {
    let labels = map(node, &["metadata", "labels"]).into_iter().flatten();
    let roles: BTreeSet<&str> = labels
        .filter_map(|(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) => Some(role),
            None if key == "kubernetes.io/role" => value.as_str(),
            None => None,
        })
        .filter(|role| !role.is_empty())
        .collect();
    if roles.is_empty() { NONE.to_owned() } else { Vec::from_iter(roles).join(",") }
}

fn address<'v>(node: &'v Value, type_: &str) -> &'v str {
    let address = list(node, &["status", "addresses"]).iter().find(|a| text(a, &["type"]) == type_);
    address.map_or(NONE, |a| text(a, &["address"]))
}

fn info<'v>(node: &'v Value, field: &str) -> &'v str {
    match text(node, &["status", "nodeInfo", field]) {
        "" => UNKNOWN,
        info => info,
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use serde_json::Value;

    use crate::testing::{check, check_default, check_row, kind, updated, yaml};

    #[test]
    fn row() {
        check_row(
            "nodes",
            r#"
            metadata: {name: a, labels: {node-role.kubernetes.io/control-plane: "", kubernetes.io/role: x}}
            spec: {unschedulable: true}
            status:
              conditions: [{type: Ready, status: "True"}]
              addresses: [{type: InternalIP, address: 10.0.0.1}]
              nodeInfo: {kubeletVersion: v1.36.0, osImage: Debian}
            "#,
            expect![
                "Name=a | Status=Ready,SchedulingDisabled | Roles=control-plane,x | Age=<unknown> | Version=v1.36.0 | Internal-IP=10.0.0.1 | External-IP=<none> | OS-Image=Debian | Kernel-Version=<unknown> | Container-Runtime=<unknown>"
            ],
        );
    }

    #[test]
    fn allocatable_is_the_capacity() {
        check_default(
            "nodes",
            "{spec: {podCIDR: 10.0.0.0/24}, status: {capacity: {cpu: 2000m}}}",
            expect![[r#"
                metadata: {}
                spec:
                  podCIDR: 10.0.0.0/24
                  podCIDRs:
                  - 10.0.0.0/24
                status:
                  allocatable:
                    cpu: "2"
                  capacity:
                    cpu: "2"
                  daemonEndpoints:
                    kubeletEndpoint:
                      Port: 0
                  nodeInfo:
                    architecture: ""
                    bootID: ""
                    containerRuntimeVersion: ""
                    kernelVersion: ""
                    kubeProxyVersion: ""
                    kubeletVersion: ""
                    machineID: ""
                    operatingSystem: ""
                    osImage: ""
                    systemUUID: ""
            "#]],
        );
    }

    #[test]
    fn ranges_of_pods_are_one_for_each_family() {
        check(
            "nodes",
            "{metadata: {name: a}, spec: {podCIDR: 10.0.0.0/24, podCIDRs: [10.0.0.0/24, 'fd00::/64']}}",
            expect![""],
        );
        check(
            "nodes",
            "{metadata: {name: a}, spec: {podCIDR: 10.0.0.0/24, podCIDRs: [10.0.0.0/24, 10.0.1.0/24]}}",
            expect![[r#"
                spec.podCIDRs: Invalid value: ["10.0.0.0/24","10.0.1.0/24"]: may specify no more than one CIDR for each IP family
            "#]],
        );
    }

    #[test]
    fn ranges_of_pods_are_given_once() {
        let given = "podCIDR: 10.0.0.0/24, podCIDRs: [10.0.0.0/24]";
        let refused = "spec.podCIDRs: Forbidden: node updates may not change podCIDR except from \"\" to valid\n";
        for (old, new, expected) in [
            ("", given, ""),
            (given, given, ""),
            (given, "podCIDR: 10.0.0.0/24", ""),
            (given, "podCIDRs: [10.0.0.0/24]", ""),
            (given, "podCIDR: 10.0.1.0/24, podCIDRs: [10.0.0.0/24]", refused),
            (given, "podCIDR: 10.0.0.0/24, podCIDRs: [10.0.0.0/24, 'fd00::/64']", refused),
            (given, "podCIDRs: [10.0.1.0/24]", refused),
            (given, "", refused),
        ] {
            let node = |spec: &str| format!("{{metadata: {{name: a, resourceVersion: '1'}}, spec: {{{spec}}}}}");
            assert_eq!(updated("nodes", &node(old), &node(new)), expected, "{new}");
        }
    }

    #[test]
    fn taints() {
        check(
            "nodes",
            "{metadata: {name: a}, spec: {taints: [{key: k, effect: NoSchedule}, {key: k, effect: NoSchedule}, {key: k, effect: x}]}}",
            expect![[r#"
                metadata.taints[1]: Duplicate value: {"Effect":"NoSchedule","Key":"k","TimeAdded":null,"Value":""}: taints must be unique by key and effect pair
                metadata.taints[2].effect: Unsupported value: "x": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute"
            "#]],
        );
    }

    #[test]
    fn updates() {
        let node = |spec: &str| format!("{{metadata: {{name: a}}, spec: {{{spec}}}}}");
        let old = node("providerID: p, externalID: e");
        let taint = "{key: k, value: '-', effect: NoExecute}";
        let rows = [
            node(&format!("providerID: p, externalID: e, podCIDRs: [10.0.0.1/24], taints: [{taint}]")),
            node("providerID: q"),
        ];
        expect![[r#"
            metadata.taints[0].value: Invalid value: "-": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')
            --
            spec.providerID: Forbidden: node updates may not change providerID except from "" to valid
            spec.externalID: Forbidden: may not be updated
            --
        "#]].assert_eq(&rows.map(|new| updated("nodes", &old, &new) + "--\n").concat());
    }

    #[test]
    fn statuses() {
        let address = "{type: InternalIP, address: x}";
        let node = yaml(&format!("{{status: {{capacity: {{cpu: -1}}, addresses: [{address}, {address}]}}}}"));
        let errors = kind("nodes").strategy.validate_status_update(&node, &node);
        let lines: String = errors.iter().map(|error| format!("{error}\n")).collect();
        expect![[r#"
            status.capacity.cpu: Invalid value: "-1": must be greater than or equal to 0
            status.addresses[1]: Duplicate value: {"Address":"x","Type":"InternalIP"}
        "#]]
        .assert_eq(&lines);
    }

    #[test]
    fn what_is_no_more() {
        let strategy = &kind("nodes").strategy;
        let mut node = yaml("{spec: {configSource: {}, externalID: e, podCIDRs: ['FD00::/64']}, status: {config: {}}}");
        expect![[r#"
            spec.configSource: the feature is removed
            spec.externalID: this field is deprecated, and is unused by Kubernetes
            spec.podCIDRs[0]: IPv6 CIDR value "FD00::/64" should be in RFC 5952 canonical format ("fd00::/64")"#]]
        .assert_eq(&strategy.warnings(&node).join("\n"));
        strategy.prepare_for_create(&mut node);
        assert_eq!((&node["spec"]["configSource"], &node["status"]["config"]), (&Value::Null, &Value::Null));
    }
}
