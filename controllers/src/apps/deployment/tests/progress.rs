//! When a rollout counts as complete, as moving, and as having missed its deadline.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus};

use super::super::bounds::Bounds;
use super::super::status::Facts;

fn status(replicas: i32, updated: i32, ready: i32, available: i32) -> DeploymentStatus {
    let positive = |count: i32| Some(count).filter(|count| *count > 0);
    DeploymentStatus {
        replicas: positive(replicas),
        updated_replicas: positive(updated),
        ready_replicas: positive(ready),
        available_replicas: positive(available),
        ..DeploymentStatus::default()
    }
}

/// What is asked of a Deployment of this many replicas that stored this, at this second of the minute.
fn ask<T>(replicas: i32, deadline: &str, stored: DeploymentStatus, second: f64, question: impl Fn(&Facts) -> T) -> T {
    let spec = format!("spec: {{replicas: {replicas}, selector: {{}}, template: {{}}, {deadline}}}");
    let deployment = Deployment { status: Some(stored), ..serde_saphyr::from_str(&spec).unwrap() };
    question(&Facts {
        deployment: &deployment,
        bounds: Bounds::of(deployment.spec.as_ref().unwrap()),
        new: None,
        old: &[],
        create_error: None,
        is_rolling_out: true,
        now: format!("2024-01-01T00:01:{second:05.2}Z").parse().unwrap(),
    })
}

#[test]
fn a_rollout_is_complete_when_all_that_is_asked_for_is_new_and_available_and_nothing_else_is_left() {
    let complete = |replicas, now| ask(replicas, "", DeploymentStatus::default(), 0.0, |facts| facts.is_complete(&now));
    assert!(complete(5, status(5, 5, 5, 5)));
    assert!(!complete(5, status(5, 5, 4, 4)), "one is not available");
    assert!(!complete(5, status(5, 4, 5, 5)), "one is not new");
    assert!(!complete(1, status(2, 1, 1, 1)), "an old one is left");
    assert!(!complete(1, status(1, 1, 0, 0)), "it never comes up");
    assert!(complete(0, status(0, 0, 0, 0)));
    let unseen = |replicas, now| {
        let stored = DeploymentStatus::default();
        let spec = "metadata: {generation: 2}\nspec: {replicas: 1, selector: {}, template: {}}";
        let deployment = Deployment { status: Some(stored), ..serde_saphyr::from_str(spec).unwrap() };
        ask(replicas, "", DeploymentStatus::default(), 0.0, |facts| {
            Facts { deployment: &deployment, create_error: None, ..*facts }.is_complete(&now)
        })
    };
    assert!(!unseen(1, status(1, 1, 1, 1)), "it is of an earlier generation");
}

#[test]
fn a_rollout_moves_when_there_is_more_of_the_new_or_less_of_the_old() {
    let moves = |before, now| ask(10, "", before, 0.0, |facts| facts.has_progressed(&now));
    let cases = [
        (status(10, 4, 4, 4), status(10, 6, 4, 4), true),
        (status(10, 4, 4, 4), status(10, 4, 4, 4), false),
        (status(10, 4, 6, 6), status(8, 4, 6, 6), true),
        (status(10, 7, 3, 3), status(10, 6, 3, 3), false),
        (status(10, 4, 7, 7), status(8, 8, 5, 5), true),
        (status(10, 10, 9, 8), status(10, 10, 10, 8), true),
        (status(10, 10, 10, 9), status(10, 10, 10, 10), true),
    ];
    for (before, now, expected) in cases {
        assert_eq!(moves(before.clone(), now.clone()), expected, "{before:?} to {now:?}");
    }
}

#[test]
fn a_deadline_is_looked_at_again_a_second_after_it_passes() {
    const DEADLINE: &str = "progressDeadlineSeconds: 60";
    let said = |condition: &str, stored: DeploymentStatus| {
        let conditions = format!("[{{type: Progressing, {condition}}}]");
        DeploymentStatus { conditions: serde_saphyr::from_str(&conditions).unwrap(), ..stored }
    };
    let stuck = || said("status: 'True', lastUpdateTime: 2024-01-01T00:01:00Z", status(3, 3, 1, 1));
    let wait = |deadline: &str, stored: DeploymentStatus, second: f64| {
        let asked = stored.clone();
        ask(3, deadline, stored, second, |facts| facts.deadline_in(&asked)).map(|wait| wait.as_secs_f64())
    };
    assert_eq!(wait(DEADLINE, stuck(), 30.0), Some(31.0));
    assert_eq!(wait(DEADLINE, stuck(), 59.0), Some(2.0));
    assert_eq!(wait(DEADLINE, stuck(), 59.5), Some(1.5));
    assert_eq!(wait("", stuck(), 30.0), None, "there is none");
    assert_eq!(wait("progressDeadlineSeconds: 2147483647", stuck(), 30.0), None, "it is none in all but name");
    assert_eq!(wait(DEADLINE, status(3, 3, 1, 1), 30.0), None, "nothing is said of progress");
    assert_eq!(wait(DEADLINE, said("status: 'True'", status(3, 3, 3, 3)), 30.0), None, "it is complete");
    let missed = said("status: 'False', reason: ProgressDeadlineExceeded", status(3, 3, 0, 0));
    assert_eq!(wait(DEADLINE, missed, 30.0), None, "it was missed already");
}
