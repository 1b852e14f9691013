//! The quality of service that a pod's requests and limits amount to.

use std::collections::BTreeMap;

use serde_json::Value;

use super::resources::parse;
use crate::object;
use crate::quantity::Quantity;

/// `Guaranteed`, `Burstable` or `BestEffort`, from CPU and memory of all containers (or of the pod, where set there).
pub fn class(pod: &Value) -> &'static str {
    let containers: Vec<&Value> = match object::get(pod, &["spec", "resources"]).filter(|r| sets_any(r)) {
        Some(_) => object::get(pod, &["spec"]).into_iter().collect(),
        None => ["initContainers", "containers"].iter().flat_map(|list| object::list(pod, &["spec", list])).collect(),
    };
    let mut requests = BTreeMap::new();
    let mut limits = BTreeMap::new();
    let mut guaranteed = true;
    for container in containers {
        add(&mut requests, container, "requests");
        let limited = add(&mut limits, container, "limits");
        guaranteed &= limited == 2;
    }
    if requests.is_empty() && limits.is_empty() {
        "BestEffort"
    } else if guaranteed && requests == limits {
        "Guaranteed"
    } else {
        "Burstable"
    }
}

fn sets_any(resources: &Value) -> bool {
    ["requests", "limits"].iter().any(|list| object::map(resources, &[list]).is_some_and(|m| !m.is_empty()))
}

/// Adds a container's CPU and memory; how many of the two it sets.
fn add(sum: &mut BTreeMap<&'static str, Quantity>, container: &Value, list: &str) -> usize {
    let mut set = 0;
    for name in ["cpu", "memory"] {
        let amount = object::get(container, &["resources", list, name]).and_then(parse);
        if let Some(amount) = amount.filter(|a| !a.is_zero()) {
            set += 1;
            let total = sum.entry(name).or_insert(Quantity::ZERO);
            *total = *total + amount;
        }
    }
    set
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn classes() {
        let pod = |resources: Value| json!({"spec": {"containers": [{"resources": resources}]}});
        let all = json!({"cpu": "1", "memory": "1Gi"});
        assert_eq!(class(&pod(json!({}))), "BestEffort");
        assert_eq!(class(&pod(json!({"requests": {"cpu": "1"}}))), "Burstable");
        assert_eq!(class(&pod(json!({"requests": all, "limits": all}))), "Guaranteed");
        assert_eq!(class(&pod(json!({"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": all}))), "Burstable");
    }
}
