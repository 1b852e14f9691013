//! What a node has for pods and what of it they have taken, kept along as pods come and go.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8w_kinds::core::pod::host_port::{HostPort, host_ports};
use k8w_kinds::core::pod::resources::is_extended;
use k8w_kinds::core::pod::totals;

use super::quantity;

/// By resource: CPU in thousandths, everything else in its own unit.
type Amounts = BTreeMap<String, u64>;

/// Every pod takes one of these.
const PODS: &str = "pods";
/// Which shortage is named, where there are several; then those of other resources by name.
const FIRST: [&str; 4] = [PODS, "cpu", "memory", "ephemeral-storage"];

/// A pod asks for more than is left.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Node didn't have enough resource: {resource}, requested: {requested}, used: {used}, capacity: {capacity}")]
pub struct Insufficient {
    pub resource: String,
    requested: u64,
    used: u64,
    capacity: u64,
}

/// Why containers do not get what the manifest gives them now: the condition `PodResizePending`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// `Infeasible`: never on this node; `Deferred`: not now.
    pub reason: &'static str,
    pub message: String,
}

/// The room on one node.
pub struct Room {
    allocatable: Amounts,
    used: Amounts,
    /// By the pods' uids.
    taken: HashMap<String, Amounts>,
    /// Likewise, of the pods that take any.
    ports: HashMap<String, Vec<HostPort>>,
}

impl Room {
    pub fn new(allocatable: &BTreeMap<String, Quantity>) -> Room {
        let count = |(name, amount): (&String, &Quantity)| {
            let count = if name == "cpu" { quantity::millis(amount) } else { quantity::units(amount) };
            (name.clone(), count.unwrap_or(0))
        };
        let allocatable = allocatable.iter().map(count).collect();
        Room { allocatable, used: Amounts::new(), taken: HashMap::new(), ports: HashMap::new() }
    }

    /// A pod takes what it asks for, in place of what it had.
    pub fn take(&mut self, uid: &str, pod: &Pod) {
        self.give_back(uid);
        let asked = asked(pod);
        for (name, amount) in &asked {
            let used = self.used.entry(name.clone()).or_default();
            *used = used.saturating_add(*amount);
        }
        self.taken.insert(uid.to_owned(), asked);
        let ports: Vec<HostPort> = host_ports(pod).collect();
        if !ports.is_empty() {
            self.ports.insert(uid.to_owned(), ports);
        }
    }

    /// A pod gives back what it has, if it has anything.
    pub fn give_back(&mut self, uid: &str) {
        self.ports.remove(uid);
        for (name, amount) in self.taken.remove(uid).unwrap_or_default() {
            let used = self.used.entry(name).or_default();
            *used = used.saturating_sub(amount);
        }
    }

    /// Whether a pod fits beside the others.
    ///
    /// # Errors
    /// With the first resource that it asks too much of.
    pub fn fits(&self, uid: &str, pod: &Pod) -> Result<(), Insufficient> {
        self.has(uid, &asked(pod))
    }

    /// Whether the host ports that a new pod asks for are nobody's.
    pub fn has_ports(&self, pod: &Pod) -> bool {
        let taken = |asked: &HostPort| self.ports.values().flatten().any(|other| other.collides(asked));
        !host_ports(pod).any(|asked| taken(&asked))
    }

    /// Whether a pod that is here can have what it asks for now.
    ///
    /// # Errors
    /// With the reason, in the kubelet's words.
    pub fn fits_resized(&self, uid: &str, pod: &Pod) -> Result<(), Pending> {
        let asked = asked(pod);
        for resource in ["memory", "cpu"] {
            let (requested, capacity) = (of(&asked, resource), of(&self.allocatable, resource));
            if requested > capacity {
                let message = format!(
                    "Node didn't have enough capacity: {resource}, requested: {requested}, capacity: {capacity}"
                );
                return Err(Pending { reason: "Infeasible", message });
            }
        }
        let deferred = |lacking: Insufficient| Pending { reason: "Deferred", message: lacking.to_string() };
        self.has(uid, &asked).map_err(deferred)
    }

    fn has(&self, uid: &str, asked: &Amounts) -> Result<(), Insufficient> {
        let none = Amounts::new();
        let own = self.taken.get(uid).unwrap_or(&none);
        let others = asked.keys().map(String::as_str).filter(|name| !FIRST.contains(name));
        for resource in FIRST.into_iter().chain(others) {
            let requested = of(asked, resource);
            // What the node does not count is somebody else's to give.
            if requested == 0 || (is_extended(resource) && !self.allocatable.contains_key(resource)) {
                continue;
            }
            let used = of(&self.used, resource).saturating_sub(of(own, resource));
            let capacity = of(&self.allocatable, resource);
            if requested > capacity.saturating_sub(used) {
                return Err(Insufficient { resource: resource.to_owned(), requested, used, capacity });
            }
        }
        Ok(())
    }
}

fn of(amounts: &Amounts, resource: &str) -> u64 {
    amounts.get(resource).copied().unwrap_or(0)
}

/// What the manifest asks for; what the status shows is not looked at.
fn asked(pod: &Pod) -> Amounts {
    let spec = serde_json::json!({ "spec": pod.spec });
    let count = |(name, amount): (String, k8w_kinds::quantity::Quantity)| {
        let count = if name == "cpu" { amount.milli_value() } else { amount.value() };
        (name, u64::try_from(count).unwrap_or(0))
    };
    let asked = totals::requests_with_overhead(&spec).into_iter().map(count);
    asked.chain([(PODS.to_owned(), 1)]).collect()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::{Value, json};

    use super::*;

    fn room(allocatable: &[(&str, &str)]) -> Room {
        let quantities = allocatable.iter().map(|(name, amount)| ((*name).to_owned(), Quantity((*amount).to_owned())));
        Room::new(&quantities.collect())
    }

    fn asking(requests: Value, overhead: Value) -> Pod {
        let container = json!({ "name": "c", "resources": { "requests": requests } });
        serde_json::from_value(json!({ "spec": { "containers": [container], "overhead": overhead } })).unwrap()
    }

    fn pod(cpu: &str, memory: &str) -> Pod {
        asking(json!({ "cpu": cpu, "memory": memory }), json!({}))
    }

    #[test]
    fn what_does_not_fit_is_said_as_the_kubelet_says_it() {
        let mut room = room(&[("cpu", "2"), ("memory", "1Gi"), ("pods", "3"), ("k8w.dev/instances", "1")]);
        room.take("a", &pod("500m", "512Mi"));
        room.take("b", &asking(json!({ "cpu": "1" }), json!({ "k8w.dev/instances": "1" })));
        let why = |pod: &Pod| room.fits("c", pod).map_or_else(|lacking| lacking.to_string(), |()| "fits".to_owned());
        assert_eq!(why(&pod("500m", "512Mi")), "fits");
        expect!["Node didn't have enough resource: cpu, requested: 600, used: 1500, capacity: 2000"]
            .assert_eq(&why(&pod("600m", "2Gi")));
        expect![
            "Node didn't have enough resource: memory, requested: 537919488, used: 536870912, capacity: 1073741824"
        ]
        .assert_eq(&why(&pod("100m", "513Mi")));
        expect!["Node didn't have enough resource: k8w.dev/instances, requested: 1, used: 1, capacity: 1"]
            .assert_eq(&why(&asking(json!({}), json!({ "k8w.dev/instances": "1" }))));
        expect!["Node didn't have enough resource: hugepages-2Mi, requested: 2097152, used: 0, capacity: 0"]
            .assert_eq(&why(&asking(json!({ "hugepages-2Mi": "2Mi" }), json!({}))));
        assert_eq!(why(&asking(json!({ "example.com/gpu": "1" }), json!({}))), "fits", "not this node's to give");
        room.take("c", &pod("0", "0"));
        expect!["Node didn't have enough resource: pods, requested: 1, used: 3, capacity: 3"]
            .assert_eq(&room.fits("d", &pod("0", "0")).unwrap_err().to_string());
        room.give_back("a");
        room.give_back("a");
        assert_eq!(room.fits("d", &pod("1", "1Gi")), Ok(()));
    }

    #[test]
    fn a_host_port_is_one_pods() {
        let pod = |ports: &[(&str, &str, u16)]| -> Pod {
            let port = |(ip, protocol, port): &(&str, &str, u16)| json!({ "containerPort": 80, "hostPort": port, "hostIP": ip, "protocol": protocol });
            let ports: Vec<Value> = ports.iter().map(port).collect();
            serde_json::from_value(json!({ "spec": { "containers": [{ "name": "c", "ports": ports }] } })).unwrap()
        };
        let mut room = room(&[("pods", "9")]);
        room.take("a", &pod(&[("", "TCP", 80), ("127.0.0.1", "UDP", 53)]));
        assert!(!room.has_ports(&pod(&[("", "TCP", 81), ("127.0.0.2", "TCP", 80)])));
        assert!(!room.has_ports(&pod(&[("0.0.0.0", "UDP", 53)])));
        assert!(room.has_ports(&pod(&[("", "UDP", 80), ("127.0.0.2", "UDP", 53)])));
        room.give_back("a");
        assert!(room.has_ports(&pod(&[("", "TCP", 80)])));
    }

    #[test]
    fn a_resize_waits_for_room_or_never_fits() {
        let mut room = room(&[("cpu", "2"), ("memory", "1Gi"), ("pods", "2")]);
        room.take("a", &pod("500m", "512Mi"));
        room.take("b", &pod("1", "0"));
        let why = |cpu: &str| {
            let pending = room.fits_resized("a", &pod(cpu, "1Gi")).unwrap_err();
            format!("{}: {}", pending.reason, pending.message)
        };
        assert_eq!(room.fits_resized("a", &pod("1", "1Gi")), Ok(()), "what it has itself is no hindrance");
        expect!["Infeasible: Node didn't have enough capacity: cpu, requested: 3000, capacity: 2000"]
            .assert_eq(&why("3"));
        expect!["Deferred: Node didn't have enough resource: cpu, requested: 1100, used: 1000, capacity: 2000"]
            .assert_eq(&why("1100m"));
    }
}
