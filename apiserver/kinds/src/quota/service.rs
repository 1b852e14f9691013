//! Services: their number, their node ports and their load balancers.

use jiff::Timestamp;
use serde_json::Value;

use super::{Amounts, Evaluator};
use crate::object::{get, int, list, text};
use crate::quantity::Quantity;

const COUNTS: [&str; 2] = ["count/services", "services"];
const NODE_PORTS: &str = "services.nodeports";
const LOAD_BALANCERS: &str = "services.loadbalancers";

pub struct Services;

impl Evaluator for Services {
    /// A Service may change its type.
    fn handles(&self, _create: bool, subresource: &str) -> bool {
        subresource.is_empty()
    }

    fn tracks(&self, name: &str) -> bool {
        COUNTS.contains(&name) || name == NODE_PORTS || name == LOAD_BALANCERS
    }

    fn usage(&self, service: &Value, _: Timestamp) -> Amounts {
        let ports = list(service, &["spec", "ports"]);
        let given = ports.iter().filter(|port| int(port, &["nodePort"]) != 0).count();
        let without = get(service, &["spec", "allocateLoadBalancerNodePorts"]) == Some(&Value::Bool(false));
        let (node_ports, load_balancers) = match text(service, &["spec", "type"]) {
            "NodePort" => (ports.len(), 0),
            "LoadBalancer" if without => (given, 1),
            "LoadBalancer" => (ports.len(), 1),
            _ => (0, 0),
        };
        let amount = |count: usize| Quantity::from_int(i64::try_from(count).unwrap_or(i64::MAX));
        let counts = COUNTS.map(|name| (name.to_owned(), amount(1)));
        let rest = [(NODE_PORTS, node_ports), (LOAD_BALANCERS, load_balancers)];
        counts.into_iter().chain(rest.map(|(name, count)| (name.to_owned(), amount(count)))).collect()
    }
}
