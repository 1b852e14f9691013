//! What evicting a pod does to its PodDisruptionBudget: pure.
//!
//! <https://kubernetes.io/docs/concepts/scheduling-eviction/api-eviction/>

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::object::{ensure, get, int, list, map, text};
use crate::selector::LabelSelector;

/// How many evictions may be under way that the budget's controller has not seen.
const MAX_DISRUPTED_PODS: usize = 2000;

/// Why a budget does not let a pod go. The texts are the ones that clients are shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The budget has changed and was not worked out anew.
    #[error("The disruption budget {0} is still being processed by the server.")]
    Processing(String),
    /// Nothing is left of it.
    #[error("{0}")]
    Exhausted(String),
    /// Its status makes no sense.
    #[error("{0}")]
    Status(&'static str),
}

/// Whether a pod can go without a look at budgets: it has ended, has not begun, or goes already.
pub fn needs_no_budget(pod: &Value) -> bool {
    matches!(text(pod, &["status", "phase"]), "Succeeded" | "Failed" | "Pending")
        || get(pod, &["metadata", "deletionTimestamp"]).is_some()
}

/// Whether the budget is about the pod. A budget without a selector, or with one that cannot be read, is about none.
pub fn covers(budget: &Value, pod: &Value) -> bool {
    let selector = LabelSelector::from_object(get(budget, &["spec", "selector"]));
    selector.is_ok_and(|selector| !selector.is_everything() && selector.matches(map(pod, &["metadata", "labels"])))
}

/// The budget with the eviction of `pod` charged to it; `None` when an unhealthy pod may go without.
///
/// # Errors
/// Why the pod may not go now.
pub fn charge(budget: &Value, pod: &Value, now: Timestamp) -> Result<Option<Value>, Refused> {
    let status = |field: &str| int(budget, &["status", field]);
    let (healthy, desired) = (status("currentHealthy"), status("desiredHealthy"));
    if !is_ready(pod) {
        let always = text(budget, &["spec", "unhealthyPodEvictionPolicy"]) == "AlwaysAllow";
        if always || (healthy >= desired && desired > 0) {
            return Ok(None);
        }
    }
    let name = text(budget, &["metadata", "name"]);
    if status("observedGeneration") < int(budget, &["metadata", "generation"]) {
        return Err(Refused::Processing(name.to_owned()));
    }
    let allowed = status("disruptionsAllowed");
    if allowed < 0 {
        return Err(Refused::Status("pdb disruptions allowed is negative"));
    }
    if map(budget, &["status", "disruptedPods"]).map_or(0, |pods| pods.len()) > MAX_DISRUPTED_PODS {
        let why = "DisruptedPods map too big - too many evictions not confirmed by PDB controller";
        return Err(Refused::Status(why));
    }
    if allowed == 0 {
        return Err(Refused::Exhausted(exhausted(budget, healthy, desired)));
    }
    let mut budget = budget.clone();
    let timestamp = timestamp(now);
    budget["status"]["disruptionsAllowed"] = (allowed - 1).into();
    if allowed == 1 {
        let generation = int(&budget, &["status", "observedGeneration"]);
        let condition = json!({"type": "DisruptionAllowed", "status": "False", "reason": "InsufficientPods",
            "message": "", "observedGeneration": generation, "lastTransitionTime": timestamp});
        set_condition(&mut budget, condition);
    }
    if let Some(disrupted) = ensure(&mut budget, &["status", "disruptedPods"]) {
        disrupted.insert(text(pod, &["metadata", "name"]).to_owned(), timestamp.into());
    }
    Ok(Some(budget))
}

/// Says on a pod that goes why it does (KEP-3329).
pub fn mark(pod: &mut Value, now: Timestamp) {
    let condition = json!({"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting", "lastProbeTime": null, "lastTransitionTime": timestamp(now)});
    set_condition(pod, condition);
}

fn timestamp(now: Timestamp) -> String {
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn is_ready(pod: &Value) -> bool {
    let conditions = list(pod, &["status", "conditions"]);
    conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

fn exhausted(budget: &Value, healthy: i64, desired: i64) -> String {
    let name = text(budget, &["metadata", "name"]);
    if healthy <= desired {
        return format!("The disruption budget {name} needs {desired} healthy pods and has {healthy} currently");
    }
    let generation = int(budget, &["metadata", "generation"]);
    let conditions = list(budget, &["status", "conditions"]);
    let why = conditions.iter().find(|condition| {
        condition["type"] == "DisruptionAllowed"
            && condition["status"] == "False"
            && int(condition, &["observedGeneration"]) == generation
    });
    match why.map(|condition| text(condition, &["message"])).filter(|message| !message.is_empty()) {
        Some(message) => format!("The disruption budget {name} does not allow evicting pods currently: {message}"),
        None => format!("The disruption budget {name} does not allow evicting pods currently"),
    }
}

/// Sets the condition of its type.
fn set_condition(object: &mut Value, condition: Value) {
    let Some(status) = ensure(object, &["status"]) else { return };
    let conditions = status.entry("conditions").or_insert_with(|| json!([]));
    let Some(conditions) = conditions.as_array_mut() else { return };
    match conditions.iter_mut().find(|found| found["type"] == condition["type"]) {
        Some(found) => *found = condition,
        None => conditions.push(condition),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(allowed: i64, healthy: i64, spec: Value) -> Value {
        json!({"metadata": {"name": "b", "generation": 2}, "spec": spec, "status": {"observedGeneration": 2,
            "disruptionsAllowed": allowed, "currentHealthy": healthy, "desiredHealthy": 2, "expectedPods": 3}})
    }

    fn pod(ready: &str) -> Value {
        json!({"metadata": {"name": "p", "labels": {"app": "a"}},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]}})
    }

    fn charged(budget: &Value, pod: &Value) -> Result<Option<Value>, Refused> {
        charge(budget, pod, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn a_disruption_is_taken_from_the_budget() {
        let after = charged(&budget(2, 4, json!({})), &pod("True")).unwrap().unwrap();
        assert_eq!(after["status"]["disruptionsAllowed"], 1);
        assert_eq!(after["status"]["disruptedPods"], json!({"p": "1970-01-01T00:00:00Z"}));
        assert_eq!(after["status"]["conditions"], Value::Null);
        let last = charged(&after, &pod("True")).unwrap().unwrap();
        assert_eq!(last["status"]["conditions"][0]["reason"], "InsufficientPods");
    }

    #[test]
    fn what_refuses() {
        let refused = |budget: &Value| charged(budget, &pod("True")).unwrap_err().to_string();
        assert_eq!(
            refused(&budget(0, 2, json!({}))),
            "The disruption budget b needs 2 healthy pods and has 2 currently"
        );
        assert_eq!(refused(&budget(0, 3, json!({}))), "The disruption budget b does not allow evicting pods currently");
        let mut stale = budget(1, 3, json!({}));
        stale["status"]["observedGeneration"] = 1.into();
        assert_eq!(refused(&stale), "The disruption budget b is still being processed by the server.");
        assert_eq!(refused(&budget(-1, 3, json!({}))), "pdb disruptions allowed is negative");
    }

    #[test]
    fn unhealthy_pods() {
        assert_eq!(charged(&budget(0, 2, json!({})), &pod("False")), Ok(None));
        assert!(charged(&budget(0, 1, json!({})), &pod("False")).is_err());
        let always = json!({"unhealthyPodEvictionPolicy": "AlwaysAllow"});
        assert_eq!(charged(&budget(0, 1, always.clone()), &pod("False")), Ok(None));
        assert!(charged(&budget(0, 1, always), &pod("True")).is_err());
    }

    #[test]
    fn budgets_cover_what_they_select() {
        let select = |selector: Value| covers(&json!({"spec": {"selector": selector}}), &pod("True"));
        assert!(select(json!({"matchLabels": {"app": "a"}})));
        assert!(!select(json!({"matchLabels": {"app": "b"}})));
        assert!(!select(json!({})));
        assert!(!select(Value::Null));
    }
}
