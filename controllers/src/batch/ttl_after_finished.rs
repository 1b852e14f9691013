//! Deletes Jobs some time after they have finished (API concepts: Automatic Cleanup for Finished Jobs).

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;

use super::job::finished;
use crate::engine::{Controller, Turn, Wake};
use crate::plan::{Plan, Propagation, Step, Target};
use crate::pods::is_deleting;
use crate::resource::{JOBS, Key};
use crate::time;
use crate::world::{Delta, Object, World};

pub struct TtlAfterFinished;

impl Controller for TtlAfterFinished {
    fn name(&self) -> &'static str {
        "ttl-after-finished-controller"
    }

    fn observe(&mut self, delta: &Delta, _: &World, wake: &mut Wake) {
        if let Object::Job(job) = &delta.object
            && !delta.gone
            && finished(job).is_some()
        {
            wake.now(Key::of(&job.metadata));
        }
    }

    fn reconcile(&mut self, key: &Key, world: &World, turn: &mut Turn<'_>) -> Plan {
        world.jobs.by_key(key).and_then(|job| reconcile(job, turn.now)).unwrap_or_default()
    }
}

pub fn reconcile(job: &Job, now: Timestamp) -> Option<Plan> {
    let ttl = job.spec.as_ref()?.ttl_seconds_after_finished.filter(|_| !is_deleting(&job.metadata))?;
    let at = finished(job)?.last_transition_time.as_ref()?.0;
    let left = time::until(time::after(at, time::seconds(ttl)), now);
    let mut plan = Plan::none();
    if left.is_zero() {
        plan.step(Step::Delete {
            // Exact: a TTL that was lengthened meanwhile must be seen first.
            target: Target::exact(&JOBS, &job.metadata),
            propagation: Some(Propagation::Foreground),
            grace_seconds: None,
            then: None,
            or_else: None,
        });
    } else {
        plan.requeue(left);
    }
    Some(plan)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::testing::{Bench, text};

    fn check(ttl: &str, condition: &str, expect: Expect) {
        let world = format!(
            "
apiVersion: batch/v1
kind: Job
metadata: {{namespace: ns, name: j}}
spec: {{template: {{}}{ttl}}}
status: {{conditions: [{{type: {condition}, status: 'True', lastTransitionTime: 2024-01-01T00:00:00Z}}]}}
"
        );
        let mut bench = Bench::new(TtlAfterFinished, &world);
        expect.assert_eq(&text(&bench.reconcile("ns", "j", "2024-01-01T00:01:00Z")));
    }

    #[test]
    fn a_finished_job_goes_when_its_time_has_come() {
        check(
            ", ttlSecondsAfterFinished: 60",
            "Failed",
            expect![[r#"
            delete jobs ns/j at 1 Foreground
        "#]],
        );
        check(
            ", ttlSecondsAfterFinished: 90",
            "Complete",
            expect![[r#"
            look again in 30s
        "#]],
        );
        check(
            ", ttlSecondsAfterFinished: 0",
            "Complete",
            expect![[r#"
            delete jobs ns/j at 1 Foreground
        "#]],
        );
        check(", ttlSecondsAfterFinished: 0", "FailureTarget", expect![]);
        check("", "Complete", expect![]);
    }

    #[test]
    fn only_a_job_that_has_finished_and_stays_has_an_end() {
        let left = |meta: &str, status: &str| {
            let job = format!(
                "metadata: {{name: j{meta}}}\nspec: {{template: {{}}, ttlSecondsAfterFinished: 10}}\nstatus: {{{status}}}"
            );
            let plan = reconcile(&serde_saphyr::from_str(&job).unwrap(), "2024-01-01T00:00:05Z".parse().unwrap());
            plan.map(|plan| plan.requeue_after.map_or(0, |wait| wait.as_secs()))
        };
        let ended = |status: &str, second: u32| {
            format!(
                "conditions: [{{type: Complete, status: '{status}', lastTransitionTime: 2024-01-01T00:00:{second:02}Z}}]"
            )
        };
        assert_eq!(left("", ""), None);
        assert_eq!(left("", &ended("False", 0)), None);
        assert_eq!(left("", &ended("True", 0)), Some(5));
        assert_eq!(left("", &ended("True", 5)), Some(10), "just now");
        assert_eq!(left("", &ended("True", 7)), Some(12), "by a clock that is ahead");
        assert_eq!(left("", "conditions: [{type: Complete, status: 'True'}]"), None, "nobody knows when");
        assert_eq!(left(", deletionTimestamp: 2024-01-01T00:00:04Z", &ended("True", 0)), None);
    }
}
