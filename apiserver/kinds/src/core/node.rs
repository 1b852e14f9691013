//! Node: a machine (or a process) that runs pods.

use std::collections::BTreeSet;

use serde_json::Value;

use super::pod::resources;
use crate::field::{Field, FieldError};
use crate::kind::{Column, KindDef, SelectableField, Shape, Strategy, Subresource};
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

    fn validate(&self, node: &Value) -> Vec<FieldError> {
        let root = Field::root(node);
        let spec = root.get("spec");
        let mut errors = Vec::new();
        taints(&spec.get("taints"), &mut errors);
        for range in spec.get("podCIDRs").items() {
            if range.text().parse::<ipnet::IpNet>().is_err() {
                errors.push(range.invalid("must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"));
            }
        }
        if !is_pair(&spec.get("podCIDRs")) {
            let ranges = spec.get("podCIDRs");
            errors.push(ranges.invalid("may specify no more than one CIDR for each IP family"));
        }
        let status = root.get("status");
        for name in ["capacity", "allocatable"] {
            for (resource, amount) in status.get(name).entries() {
                resources::quantity(resource, &amount, &mut errors);
            }
        }
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.validate(new);
        let (new, old) = (Field::root(new), Field::root(old));
        let (new, old) = (new.get("spec"), old.get("spec"));
        let provider = new.get("providerID");
        if !old.get("providerID").is_empty() && provider.text() != old.get("providerID").text() {
            errors.push(provider.forbidden("node updates may not change providerID except from \"\" to valid"));
        }
        let ranges = new.get("podCIDRs");
        if !old.get("podCIDRs").is_empty() && !object::same(ranges.value(), old.get("podCIDRs").value()) {
            errors.push(ranges.forbidden("node updates may not change podCIDR except from \"\" to valid"));
        }
        errors
    }

    fn validate_status_update(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        let root = Field::root(new);
        let status = root.get("status");
        let mut errors = Vec::new();
        for name in ["capacity", "allocatable"] {
            for (resource, amount) in status.get(name).entries() {
                resources::quantity(resource, &amount, &mut errors);
            }
        }
        let mut seen = BTreeSet::new();
        for address in status.get("addresses").items() {
            let pair = (address.get("type").text(), address.get("address").text());
            if !seen.insert(pair) {
                errors.push(address.duplicate());
            }
        }
        errors
    }
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

fn taints(taints: &Field, errors: &mut Vec<FieldError>) {
    let mut seen = BTreeSet::new();
    for taint in taints.items() {
        let (key, value, effect) = (taint.get("key"), taint.get("value"), taint.get("effect"));
        rules::form(&key, names::qualified_name, errors);
        rules::form(&value, names::label_value, errors);
        rules::one_of(&effect, &["NoSchedule", "PreferNoSchedule", "NoExecute"], errors);
        if !seen.insert((key.text(), effect.text())) {
            let mut duplicate = taint.duplicate();
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

    use crate::testing::{check, check_default, check_row, updated};

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
                spec.taints[1]: Duplicate value: {"effect":"NoSchedule","key":"k"}: taints must be unique by key and effect pair
                spec.taints[2].effect: Unsupported value: "x": supported values: "NoExecute", "NoSchedule", "PreferNoSchedule"
            "#]],
        );
    }
}
