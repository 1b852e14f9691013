//! When a probe's results change a container's state: thresholds, pure.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, ExecAction, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::env::{TooLong, expand_all};
use super::state::ProbeKind;

/// A probe's timing, with the API's defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timing {
    pub initial_delay: Duration,
    pub period: Duration,
    pub timeout: Duration,
    pub success_threshold: u32,
    pub failure_threshold: u32,
}

impl Timing {
    pub fn of(probe: &Probe) -> Timing {
        let seconds = |value: Option<i32>, default: u64| {
            let given = value.and_then(|value| u64::try_from(value).ok()).filter(|value| *value > 0);
            Duration::from_secs(given.unwrap_or(default))
        };
        let count = |value: Option<i32>, default: u32| {
            value.and_then(|value| u32::try_from(value).ok()).filter(|value| *value > 0).unwrap_or(default)
        };
        Timing {
            initial_delay: seconds(probe.initial_delay_seconds, 0),
            period: seconds(probe.period_seconds, 10),
            timeout: seconds(probe.timeout_seconds, 1),
            success_threshold: count(probe.success_threshold, 1),
            failure_threshold: count(probe.failure_threshold, 3),
        }
    }
}

/// Counts results in a row.
#[derive(Clone, Debug)]
pub struct Tracker {
    kind: ProbeKind,
    success_threshold: u32,
    failure_threshold: u32,
    last: Option<bool>,
    run: u32,
    told: Option<bool>,
}

impl Tracker {
    pub fn new(kind: ProbeKind, timing: &Timing) -> Tracker {
        let told = match kind {
            // A container that was not probed yet is not ready, has not started, and lives.
            ProbeKind::Readiness | ProbeKind::Startup => None,
            ProbeKind::Liveness => Some(true),
        };
        Tracker {
            kind,
            success_threshold: timing.success_threshold,
            failure_threshold: timing.failure_threshold,
            last: None,
            run: 0,
            told,
        }
    }

    /// Takes one result; returns what is to be told, when that changes.
    pub fn observe(&mut self, success: bool) -> Option<bool> {
        self.run = if self.last == Some(success) { self.run.saturating_add(1) } else { 1 };
        self.last = Some(success);
        let threshold = if success { self.success_threshold } else { self.failure_threshold };
        if self.run < threshold || self.told == Some(success) {
            return None;
        }
        // A readiness probe that has failed from the start has nothing to tell.
        let nothing_new = self.told.is_none() && !success && self.kind == ProbeKind::Readiness;
        self.told = Some(success);
        (!nothing_new).then_some(success)
    }
}

/// A probe's port: a number, or the name of one of the container's ports.
pub fn port(port: &IntOrString, container: &Container) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => {
            let named = container.ports.iter().flatten().find(|port| port.name.as_deref() == Some(name));
            match (named, name.parse()) {
                (Some(named), _) => named.container_port,
                (None, Ok(number)) => number,
                (None, Err(_)) => return Err(format!("strconv.Atoi: parsing {name:?}: invalid syntax")),
            }
        }
    };
    u16::try_from(number).ok().filter(|number| *number > 0).ok_or_else(|| format!("invalid port number: {number}"))
}

/// A probe's command. `$(NAME)` is expanded from the values that the container's manifest spells out, and from no other
/// (`ExpandContainerCommandOnlyStatic`).
///
/// # Errors
/// [`TooLong`]
pub fn command(action: &ExecAction, container: &Container) -> Result<Vec<String>, TooLong> {
    let look_up = |name: &str| {
        let last = container.env.iter().flatten().rfind(|variable| variable.name == name);
        last.map(|variable| variable.value.as_deref().unwrap_or_default())
    };
    expand_all(action.command.iter().flatten(), look_up)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(kind: ProbeKind, results: &[bool]) -> Vec<Option<bool>> {
        let timing = Timing { success_threshold: 2, ..Timing::of(&Probe::default()) };
        let mut tracker = Tracker::new(kind, &timing);
        results.iter().map(|result| tracker.observe(*result)).collect()
    }

    #[test]
    fn changes_are_told_after_their_threshold() {
        assert_eq!(told(ProbeKind::Readiness, &[true, true, true]), [None, Some(true), None]);
        assert_eq!(
            told(ProbeKind::Readiness, &[true, true, false, false, false, true, true]),
            [None, Some(true), None, None, Some(false), None, Some(true)]
        );
    }

    #[test]
    fn liveness_speaks_only_of_death() {
        assert_eq!(told(ProbeKind::Liveness, &[true, true, true]), [None; 3]);
        assert_eq!(told(ProbeKind::Liveness, &[false, false, false]), [None, None, Some(false)]);
        assert_eq!(told(ProbeKind::Liveness, &[false, false, true, false, false]), [None; 5]);
    }

    #[test]
    fn commands_are_expanded_from_plain_values() {
        let container = serde_json::json!({ "name": "c", "env": [
            { "name": "FILE", "value": "/old" }, { "name": "FILE", "value": "/data/ready" },
            { "name": "NODE", "valueFrom": { "fieldRef": { "fieldPath": "spec.nodeName" } } } ] });
        let container: Container = serde_json::from_value(container).unwrap();
        let words = ["cat", "$(FILE)", "$$(FILE)", "<$(NODE)>", "$(OTHER)"].map(str::to_owned);
        let action = ExecAction { command: Some(words.to_vec()) };
        assert_eq!(command(&action, &container).unwrap(), ["cat", "/data/ready", "$(FILE)", "<>", "$(OTHER)"]);
    }

    #[test]
    fn readiness_starts_out_false() {
        assert_eq!(told(ProbeKind::Readiness, &[false, false, false, false]), [None; 4]);
    }
}
