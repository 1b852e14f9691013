//! How long to wait after failed pods before the next ones: 10 s, then twice as long each time, up to 10 minutes.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod};

use crate::pods;
use crate::time;

const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(600);

/// What is left of the wait after `failures` in a row, the last of them at `last`.
pub fn remaining(failures: u32, last: Option<Timestamp>, now: Timestamp) -> Duration {
    let (Some(last), 1..) = (last, failures) else { return Duration::ZERO };
    let wait = FIRST.saturating_mul(1 << (failures - 1).min(16)).min(LONGEST);
    time::until(time::after(last, wait), now)
}

/// What is left of a Job's wait: its failures since the last success, as the pods that are still there tell them.
pub fn of_pods<'a>(succeeded: &[&Pod], failed: impl Iterator<Item = &'a Pod>, now: Timestamp) -> Duration {
    let last_success = succeeded.iter().filter_map(|pod| finished_at(pod)).max();
    let failures: Vec<Timestamp> =
        failed.filter_map(finished_at).filter(|at| last_success.is_none_or(|success| success < *at)).collect();
    remaining(u32::try_from(failures.len()).unwrap_or(u32::MAX), failures.iter().max().copied(), now)
}

/// When the pod ended: by its containers, or else by what it is known from that it has.
pub fn finished_at(pod: &Pod) -> Option<Timestamp> {
    let unready = || {
        let condition = pods::condition(pod, "Ready").filter(|c| c.status == "False")?;
        condition.last_transition_time.as_ref().map(|t| t.0)
    };
    let deleted = || {
        let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(0);
        let at = pod.metadata.deletion_timestamp.as_ref()?.0;
        at.checked_sub(time::seconds(grace)).ok()
    };
    let created = || pod.metadata.creation_timestamp.as_ref().map(|t| t.0);
    containers_ended_at(pod).or_else(unready).or_else(deleted).or_else(created)
}

/// The end of the last container; `None` while one has not ended. Sidecars end after the others.
fn containers_ended_at(pod: &Pod) -> Option<Timestamp> {
    let status = pod.status.as_ref()?;
    let is_sidecar = |c: &&Container| c.restart_policy.as_deref() == Some("Always");
    let sidecars: Vec<&str> = pod
        .spec
        .iter()
        .flat_map(|s| s.init_containers.iter().flatten())
        .filter(is_sidecar)
        .map(|c| c.name.as_str())
        .collect();
    let mains = status.container_statuses.iter().flatten();
    let sidecars = status.init_container_statuses.iter().flatten().filter(|c| sidecars.contains(&c.name.as_str()));
    let ended = |c: &ContainerStatus| c.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref().map(|t| t.0);
    mains.chain(sidecars).map(ended).collect::<Option<Vec<_>>>()?.into_iter().max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_in_a_row_doubles_the_wait() {
        let at: Timestamp = "2024-01-01T00:00:00Z".parse().unwrap();
        let wait = |failures| remaining(failures, Some(at), at).as_secs();
        assert_eq!([0, 1, 2, 3, 6, 7, 8, 100].map(wait), [0, 10, 20, 40, 320, 600, 600, 600]);
        assert_eq!(remaining(1, Some(at), time::after(at, Duration::from_secs(4))).as_secs(), 6);
    }

    #[test]
    fn a_pod_ends_with_its_last_container_or_when_it_stopped_being_ready() {
        let check = |yaml: &str| finished_at(&serde_saphyr::from_str(yaml).unwrap()).map(|t| t.to_string());
        let container = |second: u32| {
            format!(
                "{{name: c{second}, image: i, imageID: i, ready: false, restartCount: 0, \
                 state: {{terminated: {{exitCode: 0, finishedAt: 2024-01-01T00:00:{second:02}Z}}}}}}"
            )
        };
        let two = format!("{{status: {{containerStatuses: [{}, {}]}}}}", container(3), container(7));
        assert_eq!(check(&two).as_deref(), Some("2024-01-01T00:00:07Z"));
        let unready =
            "{status: {conditions: [{type: Ready, status: 'False', lastTransitionTime: 2024-01-01T00:00:05Z}]}}";
        assert_eq!(check(unready).as_deref(), Some("2024-01-01T00:00:05Z"));
        let deleted = "{metadata: {deletionTimestamp: 2024-01-01T00:00:40Z, deletionGracePeriodSeconds: 30}}";
        assert_eq!(check(deleted).as_deref(), Some("2024-01-01T00:00:10Z"));
    }
}
