//! The Node object, built from the configuration and the machine: pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeRuntimeHandler,
    NodeRuntimeHandlerFeatures, NodeStatus, NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

use k8w_kinds::core::pod::resources::is_extended;
use serde_json::{Value, json};

use super::{Machine, labels};
use crate::config::NodeConfig;

/// The Kubernetes version whose kubelet this node stands in for.
pub const KUBELET_VERSION: &str = "v1.36.0+k8w";
/// The handler of RuntimeClass `wasmtime`.
pub const RUNTIME_HANDLER: &str = "wasmtime";
/// Room for instances of components that are alive: processes always are, servers while they are called. A process that is
/// to be placed by it asks for one as for any extended resource.
const INSTANCES: &str = "k8w.dev/instances";
/// Version of the engine; the workspace's lock file holds the same.
const ENGINE_VERSION: &str = "48.0.8";
/// Images that a status lists at most, as the kubelet's `nodeStatusMaxImages`.
const MAX_IMAGES: usize = 50;

/// The images on a node.
pub trait Inventory: Send + Sync {
    /// The largest images first.
    fn images(&self) -> Vec<ContainerImage>;
}

/// The Node as it is created.
pub fn node(config: &NodeConfig, machine: &Machine) -> Node {
    Node {
        metadata: ObjectMeta {
            name: Some(config.name.clone()),
            labels: Some(labels(config, machine)),
            annotations: Some(annotations(config)),
            ..Default::default()
        },
        ..Default::default()
    }
}

/// Where this node keeps the volumes that are made of its directories (the provisioner of `local-path` reads it).
fn annotations(config: &NodeConfig) -> BTreeMap<String, String> {
    let directory = config.local_path_dir();
    BTreeMap::from([("k8w.io/local-path-directory".to_owned(), directory.display().to_string())])
}

/// Where the node is found.
pub(super) fn addresses(config: &NodeConfig) -> Vec<NodeAddress> {
    let address = |type_: &str, address: String| NodeAddress { type_: type_.to_owned(), address };
    vec![address("InternalIP", config.address.to_string()), address("Hostname", config.name.clone())]
}

/// What pods may ask for.
pub fn allocatable(config: &NodeConfig, machine: &Machine) -> BTreeMap<String, Quantity> {
    let memory = config.allocatable_memory_bytes.unwrap_or(machine.memory_bytes).min(machine.memory_bytes);
    capacity_of(config, machine, memory)
}

/// The whole status. Transition times are kept from the live one.
pub fn status(
    config: &NodeConfig,
    machine: &Machine,
    live: Option<&NodeStatus>,
    mut images: Vec<ContainerImage>,
    now: Timestamp,
) -> NodeStatus {
    images.truncate(MAX_IMAGES);
    NodeStatus {
        capacity: Some(capacity_of(config, machine, machine.memory_bytes)),
        allocatable: Some(allocatable(config, machine).into_iter().chain(advertised(live)).collect()),
        addresses: Some(addresses(config)),
        conditions: Some(conditions(live, now)),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint { port: i32::from(config.port) }),
        }),
        images: Some(images),
        node_info: Some(NodeSystemInfo {
            architecture: machine.architecture.clone(),
            boot_id: machine.boot_id.clone(),
            container_runtime_version: format!("wasmtime://{ENGINE_VERSION}"),
            kernel_version: machine.kernel_version.clone(),
            kube_proxy_version: String::new(),
            kubelet_version: KUBELET_VERSION.to_owned(),
            machine_id: machine.machine_id.clone(),
            operating_system: "linux".to_owned(),
            os_image: machine.os_image.clone(),
            swap: None,
            system_uuid: machine.system_uuid.clone(),
        }),
        runtime_handlers: Some(vec![NodeRuntimeHandler {
            name: Some(RUNTIME_HANDLER.to_owned()),
            features: Some(NodeRuntimeHandlerFeatures {
                recursive_read_only_mounts: Some(false),
                user_namespaces: Some(false),
            }),
        }]),
        ..Default::default()
    }
}

/// The extended resources that somebody else says the node has: written into `status.capacity` through the API, they can be
/// allocated as they are (<https://kubernetes.io/docs/tasks/administer-cluster/extended-resource-node/>).
fn advertised(live: Option<&NodeStatus>) -> BTreeMap<String, Quantity> {
    extended(live.and_then(|live| live.capacity.as_ref()))
}

fn extended(amounts: Option<&BTreeMap<String, Quantity>>) -> BTreeMap<String, Quantity> {
    let is_others = |name: &str| is_extended(name) && name != INSTANCES;
    let amounts = amounts.into_iter().flatten().filter(|(name, _)| is_others(name));
    amounts.map(|(name, amount)| (name.clone(), amount.clone())).collect()
}

/// Whether what others advertise on a node is not yet, or still, what pods may ask for.
pub(super) fn is_behind(live: &NodeStatus) -> bool {
    advertised(Some(live)) != extended(live.allocatable.as_ref())
}

/// What brings a status to what it is to be: a strategic merge patch, in which resources that are gone are null.
pub(super) fn patch(live: Option<&NodeStatus>, new: &NodeStatus) -> Value {
    let mut patch = json!({ "status": new });
    for name in extended(live.and_then(|live| live.allocatable.as_ref())).into_keys() {
        if new.allocatable.as_ref().is_none_or(|new| !new.contains_key(&name)) {
            patch["status"]["allocatable"][name] = Value::Null;
        }
    }
    patch
}

fn capacity_of(config: &NodeConfig, machine: &Machine, memory_bytes: u64) -> BTreeMap<String, Quantity> {
    let quantities = [
        ("cpu", machine.cpus.to_string()),
        ("memory", format!("{}Ki", memory_bytes / 1_024)),
        ("ephemeral-storage", format!("{}Ki", machine.storage_bytes / 1_024)),
        ("pods", config.max_pods.to_string()),
        (INSTANCES, config.max_instances.to_string()),
    ];
    quantities.into_iter().map(|(name, value)| (name.to_owned(), Quantity(value))).collect()
}

/// Condition type, status, reason and message.
const CONDITIONS: [(&str, &str, &str, &str); 4] = [
    ("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
    ("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
];

/// What a kubelet that starts says in events of those of the conditions that are about what it has.
pub(super) const SUFFICIENT: [&str; 3] = ["NodeHasSufficientMemory", "NodeHasNoDiskPressure", "NodeHasSufficientPID"];

fn conditions(live: Option<&NodeStatus>, now: Timestamp) -> Vec<NodeCondition> {
    let before = |type_: &str, status: &str| {
        let mut conditions = live.into_iter().flat_map(|live| live.conditions.iter().flatten());
        let same = conditions.find(|before| before.type_ == type_ && before.status == status);
        same.and_then(|before| before.last_transition_time.clone())
    };
    let build = |(type_, status, reason, message): (&str, &str, &str, &str)| NodeCondition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_heartbeat_time: Some(Time(now)),
        last_transition_time: before(type_, status).or(Some(Time(now))),
    };
    CONDITIONS.into_iter().map(build).collect()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use expect_test::expect;

    use super::*;

    fn machine() -> Machine {
        Machine {
            architecture: "amd64".to_owned(),
            cpus: 2,
            memory_bytes: 4 << 30,
            storage_bytes: 10 << 30,
            kernel_version: "6.1.0".to_owned(),
            os_image: "Debian GNU/Linux 12 (bookworm)".to_owned(),
            machine_id: "m".to_owned(),
            system_uuid: "s".to_owned(),
            boot_id: "b".to_owned(),
        }
    }

    fn config() -> NodeConfig {
        NodeConfig::new("node-1", Ipv4Addr::new(10, 0, 0, 1).into(), 10250, "/var/lib/k8w")
    }

    #[test]
    fn the_node_has_its_true_labels() {
        let labels = node(&config(), &machine()).metadata.labels.unwrap();
        expect![[r#"
            {
                "beta.kubernetes.io/arch": "amd64",
                "beta.kubernetes.io/os": "linux",
                "k8w.dev/runtime-wasmtime": "true",
                "kubernetes.io/arch": "amd64",
                "kubernetes.io/hostname": "node-1",
                "kubernetes.io/os": "linux",
            }
        "#]]
        .assert_debug_eq(&labels);
    }

    #[test]
    fn allocatable_is_what_the_configuration_leaves() {
        let config = NodeConfig { allocatable_memory_bytes: Some(1 << 30), ..config() };
        let shown = serde_json::to_string(&allocatable(&config, &machine())).unwrap();
        expect![[r#"{"cpu":"2","ephemeral-storage":"10485760Ki","k8w.dev/instances":"1000","memory":"1048576Ki","pods":"1000"}"#]]
            .assert_eq(&shown);
    }

    #[test]
    fn what_others_advertise_can_be_allocated_until_they_take_it_back() {
        let at = Timestamp::from_second(10).unwrap();
        let mut live = status(&config(), &machine(), None, Vec::new(), at);
        assert!(!is_behind(&live));
        let three = || ("example.com/dongle".to_owned(), Quantity("3".to_owned()));
        live.capacity.as_mut().unwrap().extend([three()]);
        assert!(is_behind(&live));
        let new = status(&config(), &machine(), Some(&live), Vec::new(), at);
        let told = patch(Some(&live), &new);
        assert_eq!(told["status"]["allocatable"]["example.com/dongle"], "3");
        assert_eq!(told["status"]["capacity"]["example.com/dongle"], Value::Null, "that is theirs");

        live.allocatable = new.allocatable;
        assert!(!is_behind(&live));
        live.capacity.as_mut().unwrap().remove("example.com/dongle");
        assert!(is_behind(&live));
        let new = status(&config(), &machine(), Some(&live), Vec::new(), at);
        let told = patch(Some(&live), &new);
        let taken_back = told["status"]["allocatable"].as_object().unwrap().get("example.com/dongle");
        assert_eq!(taken_back, Some(&Value::Null));
        assert!(told["status"]["allocatable"]["cpu"].is_string());
    }

    #[test]
    fn transition_times_stay_while_nothing_changes() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let first = status(&config(), &machine(), None, Vec::new(), at(10));
        let second = status(&config(), &machine(), Some(&first), Vec::new(), at(20));
        let ready = second.conditions.unwrap().pop().unwrap();
        assert_eq!(ready.last_transition_time, Some(Time(at(10))));
        assert_eq!(ready.last_heartbeat_time, Some(Time(at(20))));
    }
}
