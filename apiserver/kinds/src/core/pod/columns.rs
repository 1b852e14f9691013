//! The columns of `kubectl get pods`.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::age;
use crate::kind::Column;
use crate::object::{get, int, list, text};

const NONE: &str = "<none>";

pub fn columns() -> Vec<Column> {
    vec![
        Column::name(),
        Column::text("Ready", |pod, _| Summary::of(pod).ready_cell().into())
            .describe("The aggregate readiness state of this pod for accepting traffic."),
        Column::text("Status", |pod, _| Summary::of(pod).reason.into())
            .describe("The aggregate status of the containers in this pod."),
        Column::text("Restarts", |pod, context| Summary::of(pod).restarts_cell(context.now).into())
            .describe("The number of times the containers in this pod have been restarted and when the last container in this pod has restarted."),
        Column::age(),
        Column::text("IP", |pod, _| pod_ip(pod).into())
            .describe("podIP address allocated to the pod. Empty if not yet allocated.")
            .wide(),
        Column::text("Node", |pod, _| or_none(text(pod, &["spec", "nodeName"])).into())
            .describe("NodeName indicates in which node this pod is scheduled.")
            .wide(),
        Column::text("Nominated Node", |pod, _| or_none(text(pod, &["status", "nominatedNodeName"])).into())
            .describe("The node that this pod waits for others to leave.")
            .wide(),
        Column::text("Readiness Gates", |pod, _| readiness_gates(pod).into())
            .describe("How many of the pod's readiness gates are fulfilled.")
            .wide(),
    ]
}

/// A pod that has ended is complete; clients may leave such rows out.
pub fn conditions(pod: &Value) -> Option<Value> {
    let (reason, message) = match text(pod, &["status", "phase"]) {
        "Succeeded" => ("Succeeded", "The pod has completed successfully."),
        "Failed" => ("Failed", "The pod failed."),
        _ => return None,
    };
    Some(json!([{"type": "Completed", "status": "True", "reason": reason, "message": message}]))
}

fn or_none(text: &str) -> &str {
    if text.is_empty() { NONE } else { text }
}

fn pod_ip(pod: &Value) -> &str {
    match text(pod, &["status", "podIP"]) {
        "" => or_none(list(pod, &["status", "podIPs"]).first().map_or("", |ip| text(ip, &["ip"]))),
        ip => ip,
    }
}

fn readiness_gates(pod: &Value) -> String {
    let gates = list(pod, &["spec", "readinessGates"]);
    if gates.is_empty() {
        return NONE.to_owned();
    }
    let met =
        |gate: &&Value| condition(pod, text(gate, &["conditionType"])).is_some_and(|c| text(c, &["status"]) == "True");
    format!("{}/{}", gates.iter().filter(met).count(), gates.len())
}

fn condition<'v>(pod: &'v Value, type_: &str) -> Option<&'v Value> {
    list(pod, &["status", "conditions"]).iter().find(|c| text(c, &["type"]) == type_)
}

/// What one line can say about a pod's containers.
struct Summary {
    reason: String,
    ready: usize,
    containers: usize,
    restarts: i64,
    last_restart: Option<Timestamp>,
}

impl Summary {
    fn of(pod: &Value) -> Summary {
        let mut summary = Summary {
            reason: first_of(&[text(pod, &["status", "reason"]), text(pod, &["status", "phase"])]).to_owned(),
            ready: 0,
            containers: list(pod, &["spec", "containers"]).len(),
            restarts: 0,
            last_restart: None,
        };
        if condition(pod, "PodScheduled").is_some_and(|c| text(c, &["reason"]) == "SchedulingGated") {
            summary.reason = "SchedulingGated".to_owned();
        }
        let initializing = summary.init_containers(pod);
        if !initializing || condition(pod, "Initialized").is_some_and(|c| text(c, &["status"]) == "True") {
            summary.main_containers(pod);
        }
        if get(pod, &["metadata", "deletionTimestamp"]).is_some() {
            if text(pod, &["status", "reason"]) == "NodeLost" {
                summary.reason = "Unknown".to_owned();
            } else if !matches!(text(pod, &["status", "phase"]), "Failed" | "Succeeded") {
                summary.reason = "Terminating".to_owned();
            }
        }
        summary
    }

    /// Whether the first init container that has not finished decides the status.
    fn init_containers(&mut self, pod: &Value) -> bool {
        let specs = list(pod, &["spec", "initContainers"]);
        let restartable =
            |name: &str| specs.iter().any(|c| text(c, &["name"]) == name && text(c, &["restartPolicy"]) == "Always");
        self.containers += specs.iter().filter(|c| text(c, &["restartPolicy"]) == "Always").count();
        let mut sidecar_restarts = 0;
        let mut sidecar_last = None;
        for (i, status) in list(pod, &["status", "initContainerStatuses"]).iter().enumerate() {
            self.count_restart(status);
            let sidecar = restartable(text(status, &["name"]));
            if sidecar {
                sidecar_restarts += int(status, &["restartCount"]);
                sidecar_last = sidecar_last.max(last_finished(status));
            }
            let terminated = get(status, &["state", "terminated"]);
            let waiting = text(status, &["state", "waiting", "reason"]);
            let flag = |name: &str| get(status, &[name]) == Some(&Value::Bool(true));
            if terminated.is_some_and(|t| int(t, &["exitCode"]) == 0) {
                continue;
            }
            if sidecar && flag("started") {
                self.ready += usize::from(flag("ready"));
                continue;
            }
            self.reason = match terminated {
                Some(terminated) => format!("Init:{}", termination(terminated)),
                None if !waiting.is_empty() && waiting != "PodInitializing" => format!("Init:{waiting}"),
                None => format!("Init:{i}/{}", specs.len()),
            };
            return true;
        }
        // Past initialization only sidecars still count.
        self.restarts = sidecar_restarts;
        self.last_restart = sidecar_last;
        false
    }

    fn main_containers(&mut self, pod: &Value) {
        let restarts = self.restarts;
        let mut running = false;
        if !list(pod, &["status", "initContainerStatuses"]).is_empty() && restarts == 0 {
            self.last_restart = None;
        }
        for status in list(pod, &["status", "containerStatuses"]).iter().rev() {
            self.count_restart(status);
            let waiting = text(status, &["state", "waiting", "reason"]);
            if !waiting.is_empty() {
                self.reason = waiting.to_owned();
            } else if let Some(terminated) = get(status, &["state", "terminated"]) {
                self.reason = termination(terminated);
            } else if get(status, &["ready"]) == Some(&Value::Bool(true))
                && get(status, &["state", "running"]).is_some()
            {
                running = true;
                self.ready += 1;
            }
        }
        if self.reason == "Completed" && running {
            let ready = condition(pod, "Ready").is_some_and(|c| text(c, &["status"]) == "True");
            self.reason = if ready { "Running" } else { "NotReady" }.to_owned();
        }
    }

    fn count_restart(&mut self, status: &Value) {
        self.restarts += int(status, &["restartCount"]);
        self.last_restart = self.last_restart.max(last_finished(status));
    }

    fn ready_cell(&self) -> String {
        format!("{}/{}", self.ready, self.containers)
    }

    fn restarts_cell(&self, now: Timestamp) -> String {
        match self.last_restart {
            Some(last) if self.restarts != 0 => {
                let seconds = (now.as_nanosecond() - last.as_nanosecond()).div_euclid(1_000_000_000) as i64;
                format!("{} ({} ago)", self.restarts, age::human(seconds))
            }
            _ => self.restarts.to_string(),
        }
    }
}

fn first_of<'v>(texts: &[&'v str]) -> &'v str {
    texts.iter().find(|t| !t.is_empty()).copied().unwrap_or_default()
}

fn last_finished(status: &Value) -> Option<Timestamp> {
    text(status, &["lastState", "terminated", "finishedAt"]).parse().ok()
}

/// `Error`, `OOMKilled`, or what is left to say: `Signal:9`, `ExitCode:1`.
fn termination(terminated: &Value) -> String {
    let (reason, signal) = (text(terminated, &["reason"]), int(terminated, &["signal"]));
    if !reason.is_empty() {
        reason.to_owned()
    } else if signal != 0 {
        format!("Signal:{signal}")
    } else {
        format!("ExitCode:{}", int(terminated, &["exitCode"]))
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::kind::CellContext;

    fn check(pod: Value, expected: Expect) {
        let context = CellContext { now: "2026-01-01T01:00:00Z".parse().unwrap() };
        let row: Vec<String> =
            columns().iter().map(|c| c.render(&pod, &context).as_str().unwrap().to_owned()).collect();
        expected.assert_eq(&row.join(" | "));
    }

    fn pod(spec: Value, status: Value) -> Value {
        let metadata = json!({"name": "a", "creationTimestamp": "2026-01-01T00:55:00Z"});
        json!({"metadata": metadata, "spec": spec, "status": status})
    }

    #[test]
    fn a_pod_through_its_life() {
        let spec = json!({"containers": [{"name": "c"}]});
        check(
            pod(spec.clone(), json!({"phase": "Pending"})),
            expect![[r#"a | 0/1 | Pending | 0 | 5m | <none> | <none> | <none> | <none>"#]],
        );
        let waiting = json!([{"name": "c", "restartCount": 0, "state": {"waiting": {"reason": "ErrImagePull"}}}]);
        check(
            pod(spec.clone(), json!({"phase": "Pending", "containerStatuses": waiting})),
            expect![[r#"a | 0/1 | ErrImagePull | 0 | 5m | <none> | <none> | <none> | <none>"#]],
        );
        let running = json!([{"name": "c", "restartCount": 2, "ready": true, "state": {"running": {}},
            "lastState": {"terminated": {"exitCode": 1, "finishedAt": "2026-01-01T00:59:55Z"}}}]);
        check(
            pod(spec.clone(), json!({"phase": "Running", "containerStatuses": running, "podIP": "10.0.0.1"})),
            expect![[r#"a | 1/1 | Running | 2 (5s ago) | 5m | 10.0.0.1 | <none> | <none> | <none>"#]],
        );
        let done =
            json!([{"name": "c", "restartCount": 0, "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}]);
        check(
            pod(spec, json!({"phase": "Succeeded", "containerStatuses": done})),
            expect![[r#"a | 0/1 | Completed | 0 | 5m | <none> | <none> | <none> | <none>"#]],
        );
    }

    #[test]
    fn initializing_and_gates() {
        let spec = json!({"containers": [{"name": "c"}], "initContainers": [{"name": "i"}, {"name": "j"}],
            "readinessGates": [{"conditionType": "x"}]});
        let init = json!([{"name": "i", "state": {"terminated": {"exitCode": 0}}}, {"name": "j", "restartCount": 1,
            "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]);
        check(
            pod(spec.clone(), json!({"phase": "Pending", "initContainerStatuses": init})),
            expect![[r#"a | 0/1 | Init:CrashLoopBackOff | 1 | 5m | <none> | <none> | <none> | 0/1"#]],
        );
        let init = json!([{"name": "i", "state": {"running": {}}}, {"name": "j", "state": {"waiting": {"reason": "PodInitializing"}}}]);
        check(
            pod(spec, json!({"phase": "Pending", "initContainerStatuses": init})),
            expect![[r#"a | 0/1 | Init:0/2 | 0 | 5m | <none> | <none> | <none> | 0/1"#]],
        );
    }

    #[test]
    fn being_deleted() {
        let mut pod = pod(json!({"containers": [{"name": "c"}]}), json!({"phase": "Running"}));
        pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:59:00Z".into();
        check(pod, expect![[r#"a | 0/1 | Terminating | 0 | 5m | <none> | <none> | <none> | <none>"#]]);
    }
}
