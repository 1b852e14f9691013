//! Pods: their number, and what they ask for and may use at most.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::{Amounts, Evaluator, Scope};
use crate::core::pod::resources::is_extended;
use crate::core::pod::{qos, totals};
use crate::object::{get, list, text};
use crate::quantity::Quantity;

const COUNT: &str = "count/pods";
const PODS: &str = "pods";
/// Resources that quotas also know without `requests.` before them.
const NATIVE: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
/// What every container must say when a quota limits it. Only these, for reasons of history.
const REQUIRED: &[&str] = &["cpu", "limits.cpu", "limits.memory", "memory", "requests.cpu", "requests.memory"];

pub struct Pods;

impl Evaluator for Pods {
    fn handles(&self, create: bool, subresource: &str) -> bool {
        if create { subresource.is_empty() } else { subresource == "resize" }
    }

    fn tracks(&self, name: &str) -> bool {
        let requested = name.strip_prefix("requests.");
        let native = |name: &str| NATIVE.contains(&name);
        name == COUNT
            || name == PODS
            || native(name)
            || name.starts_with("hugepages-")
            || name.strip_prefix("limits.").is_some_and(native)
            || requested.is_some_and(|rest| native(rest) || rest.starts_with("hugepages-") || is_extended(rest))
    }

    fn in_scope(&self, scope: &Scope, pod: &Value) -> bool {
        let terminating =
            || get(pod, &["spec", "activeDeadlineSeconds"]).and_then(Value::as_i64).is_some_and(|s| s >= 0);
        let best_effort = || qos::class(pod) == "BestEffort";
        match scope.name {
            "Terminating" => terminating(),
            "NotTerminating" => !terminating(),
            "BestEffort" => best_effort(),
            "NotBestEffort" => !best_effort(),
            "PriorityClass" => scope.selects(text(pod, &["spec", "priorityClassName"])),
            "CrossNamespacePodAffinity" => reaches_across_namespaces(pod),
            _ => false,
        }
    }

    fn constraints(&self, required: &[&str], pod: &Value) -> Result<(), String> {
        if totals::has_pod_level_resources(pod) {
            return Ok(());
        }
        let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        let containers = ["containers", "initContainers"].iter().flat_map(|name| list(pod, &["spec", name]));
        for container in containers {
            let of = |name: &str| totals::of_list(container, &["resources", name]);
            let given = compute(&of("requests"), &of("limits"));
            let wanted = required.iter().filter(|name| REQUIRED.contains(name) && !given.contains_key(**name));
            for name in wanted {
                missing.entry(*name).or_default().insert(text(container, &["name"]));
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let parts = missing.into_iter().map(|(name, containers)| {
            let containers: Vec<&str> = containers.into_iter().collect();
            format!("{name} for: {}", containers.join(","))
        });
        Err(format!("must specify {}", parts.collect::<Vec<_>>().join("; ")))
    }

    /// `count/pods` counts every pod; everything else those that have not ended.
    fn usage(&self, pod: &Value, now: Timestamp) -> Amounts {
        let mut usage = Amounts::from([(COUNT.to_owned(), Quantity::from_int(1))]);
        if is_alive(pod, now) {
            usage.insert(PODS.to_owned(), Quantity::from_int(1));
            usage.extend(compute(&totals::requests_with_overhead(pod), &totals::limits_with_overhead(pod)));
        }
        usage
    }
}

/// Requests and limits under the names that quotas have for them.
fn compute(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut usage = Amounts::new();
    for (name, amount) in requests {
        let native = NATIVE.contains(&name.as_str());
        if native || name.starts_with("hugepages-") {
            usage.insert(name.clone(), *amount);
        }
        if native || name.starts_with("hugepages-") || is_extended(name) {
            usage.insert(format!("requests.{name}"), *amount);
        }
    }
    let native = limits.iter().filter(|(name, _)| NATIVE.contains(&name.as_str()));
    usage.extend(native.map(|(name, amount)| (format!("limits.{name}"), *amount)));
    usage
}

/// A pod that has ended, or that a node fails to end in time, uses nothing.
fn is_alive(pod: &Value, now: Timestamp) -> bool {
    if matches!(text(pod, &["status", "phase"]), "Failed" | "Succeeded") {
        return false;
    }
    let deletion: Option<Timestamp> = text(pod, &["metadata", "deletionTimestamp"]).parse().ok();
    let grace = get(pod, &["metadata", "deletionGracePeriodSeconds"]).and_then(Value::as_i64);
    let (Some(deletion), Some(grace)) = (deletion, grace) else { return true };
    deletion.checked_add(SignedDuration::from_secs(grace)).is_ok_and(|end| now <= end)
}

/// Whether an affinity of the pod names other namespaces than its own.
fn reaches_across_namespaces(pod: &Value) -> bool {
    ["podAffinity", "podAntiAffinity"].iter().any(|affinity| {
        let terms = |when: &str| list(pod, &["spec", "affinity", affinity, when]);
        let required = terms("requiredDuringSchedulingIgnoredDuringExecution").iter();
        let preferred = terms("preferredDuringSchedulingIgnoredDuringExecution").iter();
        let mut all = required.chain(preferred.filter_map(|weighted| get(weighted, &["podAffinityTerm"])));
        all.any(|term| !list(term, &["namespaces"]).is_empty() || get(term, &["namespaceSelector"]).is_some())
    })
}
