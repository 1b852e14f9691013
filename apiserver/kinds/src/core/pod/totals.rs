//! What a pod asks for and may use at most, all containers together (KEP-753, KEP-1287, KEP-2837).

use std::collections::BTreeMap;

use serde_json::Value;

use super::resources::parse;
use crate::object::{get, list, map, text};
use crate::quantity::Quantity;

/// Amounts by resource.
pub type Amounts = BTreeMap<String, Quantity>;

/// What the pod's containers ask for: all of them together with the sidecars, or the most that starting takes, whichever
/// is more; what is said for the pod as a whole counts instead. What is being resized counts with whichever is more of what
/// it has and what it wants.
pub fn requests(pod: &Value) -> Amounts {
    total(pod, "requests", |container| {
        let mut amounts = of_list(container, &["resources", "requests"]);
        let status = status_of(pod, text(container, &["name"]));
        for path in [&["allocatedResources"][..], &["resources", "requests"]] {
            raise(&mut amounts, &status.map(|status| of_list(status, path)).unwrap_or_default());
        }
        amounts
    })
}

/// Likewise what the pod's containers may use at most.
pub fn limits(pod: &Value) -> Amounts {
    total(pod, "limits", |container| {
        let mut amounts = of_list(container, &["resources", "limits"]);
        let status = status_of(pod, text(container, &["name"]));
        raise(&mut amounts, &status.map(|status| of_list(status, &["resources", "limits"])).unwrap_or_default());
        amounts
    })
}

/// [`requests`] with what the pod's runtime takes beside.
pub fn requests_with_overhead(pod: &Value) -> Amounts {
    let mut amounts = requests(pod);
    add(&mut amounts, &of_list(pod, &["spec", "overhead"]));
    amounts
}

/// [`limits`] with what the pod's runtime takes beside, where there is a limit.
pub fn limits_with_overhead(pod: &Value) -> Amounts {
    let mut amounts = limits(pod);
    let mut overhead = of_list(pod, &["spec", "overhead"]);
    overhead.retain(|name, _| amounts.contains_key(name));
    add(&mut amounts, &overhead);
    amounts
}

/// Whether the pod says what it needs as a whole.
pub fn has_pod_level_resources(pod: &Value) -> bool {
    ["requests", "limits"]
        .iter()
        .any(|name| map(pod, &["spec", "resources", name]).is_some_and(|list| !list.is_empty()))
}

/// The resource list at `path`.
pub fn of_list(object: &Value, path: &[&str]) -> Amounts {
    let entries = map(object, path).into_iter().flatten();
    entries.filter_map(|(name, amount)| Some((name.clone(), parse(amount)?))).collect()
}

/// Adds `more` to `amounts`.
pub fn add(amounts: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let own = amounts.entry(name.clone()).or_insert(Quantity::ZERO);
        *own = *own + *amount;
    }
}

fn raise(amounts: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        let own = amounts.entry(name.clone()).or_insert(*amount);
        *own = (*own).max(*amount);
    }
}

fn status_of<'v>(pod: &'v Value, container: &str) -> Option<&'v Value> {
    let statuses = ["containerStatuses", "initContainerStatuses"].iter().flat_map(|name| list(pod, &["status", name]));
    let mut statuses = statuses.filter(|status| text(status, &["name"]) == container);
    statuses
        .next()
        .filter(|status| get(status, &["resources"]).is_some() || get(status, &["allocatedResources"]).is_some())
}

/// What the containers of a pod's spec say in `requests` or `limits`, together.
pub fn of_containers(spec: &Value, amounts: &str) -> Amounts {
    together(spec, |container| of_list(container, &["resources", amounts]))
}

fn total(pod: &Value, pod_level: &str, of: impl Fn(&Value) -> Amounts) -> Amounts {
    let mut amounts = get(pod, &["spec"]).map(|spec| together(spec, of)).unwrap_or_default();
    let mut whole = of_list(pod, &["spec", "resources", pod_level]);
    let mut had = of_list(pod, &["status", "resources", pod_level]);
    if pod_level == "requests" {
        raise(&mut had, &of_list(pod, &["status", "allocatedResources"]));
    }
    had.retain(|name, _| whole.contains_key(name));
    raise(&mut whole, &had);
    amounts.extend(whole);
    amounts
}

fn together(spec: &Value, of: impl Fn(&Value) -> Amounts) -> Amounts {
    let mut running = Amounts::new();
    for container in list(spec, &["containers"]) {
        add(&mut running, &of(container));
    }
    let (mut sidecars, mut starting) = (Amounts::new(), Amounts::new());
    for container in list(spec, &["initContainers"]) {
        let mut step = of(container);
        if text(container, &["restartPolicy"]) == "Always" {
            add(&mut running, &step);
            add(&mut sidecars, &step);
            raise(&mut starting, &sidecars);
        } else {
            add(&mut step, &sidecars);
            raise(&mut starting, &step);
        }
    }
    raise(&mut running, &starting);
    running
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn container(cpu: &str) -> Value {
        json!({"name": cpu, "resources": {"requests": {"cpu": cpu}, "limits": {"cpu": cpu}}})
    }

    fn cpu(amounts: &Amounts) -> String {
        amounts["cpu"].to_string()
    }

    #[test]
    fn starting_and_running_are_weighed_against_each_other() {
        let mut sidecar = container("500m");
        sidecar["restartPolicy"] = "Always".into();
        for (containers, init, expected) in [
            (vec![container("100m"), container("200m")], vec![], "300m"),
            (vec![container("100m")], vec![container("1")], "1"),
            (vec![container("100m")], vec![sidecar.clone(), container("1")], "1500m"),
            (vec![container("100m")], vec![container("200m"), sidecar.clone()], "600m"),
        ] {
            let pod = json!({"spec": {"containers": containers, "initContainers": init}});
            assert_eq!((cpu(&requests(&pod)).as_str(), cpu(&limits(&pod)).as_str()), (expected, expected));
        }
    }

    #[test]
    fn the_pods_own_word_and_its_runtime_count() {
        let pod = json!({"spec": {"containers": [container("1")], "resources": {"requests": {"cpu": "2"}},
            "overhead": {"cpu": "50m", "memory": "1Mi"}}});
        assert_eq!(cpu(&requests(&pod)), "2");
        assert_eq!(cpu(&requests_with_overhead(&pod)), "2050m");
        assert_eq!(requests_with_overhead(&pod)["memory"].to_string(), "1Mi");
        assert_eq!(limits_with_overhead(&pod).into_keys().collect::<Vec<_>>(), ["cpu"]);
    }

    #[test]
    fn what_is_being_resized_counts_with_the_more() {
        let statuses = json!([{"name": "1", "allocatedResources": {"cpu": "3"}}]);
        let pod = json!({"spec": {"containers": [container("1")]}, "status": {"containerStatuses": statuses}});
        assert_eq!(cpu(&requests(&pod)), "3");
        let status =
            json!({"allocatedResources": {"cpu": "4"}, "resources": {"requests": {"cpu": "5", "memory": "1Gi"}}});
        let spec = json!({"containers": [container("1")], "resources": {"requests": {"cpu": "2"}}});
        let pod = json!({"spec": spec, "status": status});
        assert_eq!((cpu(&requests(&pod)), requests(&pod).len()), ("5".to_owned(), 1));
    }
}
