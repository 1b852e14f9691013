use expect_test::{Expect, expect};

use super::Jobs;
use super::orphans::OrphanedPods;
use crate::testing::{Bench, text};

/// A Job of this spec and status, beside what every Job here has.
fn job(spec: &str, status: &str) -> String {
    format!(
        "
apiVersion: batch/v1
kind: Job
metadata: {{namespace: ns, name: j}}
spec: {{selector: {{matchLabels: {{job: j}}}}, template: {{metadata: {{labels: {{job: j}}}}, spec: {{restartPolicy: Never, containers: [{{name: c}}]}}}}, {spec}}}
status: {{startTime: 2024-01-01T00:00:00Z, uncountedTerminatedPods: {{}}, ready: 0, terminating: 0, {status}}}
"
    )
}

/// A pod of the Job in this phase; `more` goes to its metadata.
fn pod(name: &str, phase: &str, more: &str) -> String {
    let tracked = if more.contains("finalizers") { "" } else { ", finalizers: [batch.kubernetes.io/job-tracking]" };
    format!(
        "---
apiVersion: v1
kind: Pod
metadata: {{namespace: ns, name: {name}, labels: {{job: j}}{tracked}{more}, ownerReferences: [{{apiVersion: batch/v1, kind: Job, name: j, uid: j-uid, controller: true}}]}}
spec: {{containers: []}}
status: {{phase: {phase}, conditions: [{{type: Ready, status: 'False', lastTransitionTime: 2024-01-01T00:00:58Z}}]}}
"
    )
}

fn indexed(name: &str, index: u32, phase: &str, more: &str) -> String {
    let annotations = format!("batch.kubernetes.io/job-completion-index: '{index}'{more}");
    pod(name, phase, &format!(", annotations: {{{annotations}}}"))
}

fn check(world: &[String], expect: Expect) {
    let mut bench = Bench::new(Jobs, &world.concat());
    expect.assert_eq(&text(&bench.reconcile("ns", "j", "2024-01-01T00:01:00Z")));
}

const LET_GO: &str = ", finalizers: []";

#[test]
fn as_many_pods_run_as_may_and_are_still_needed() {
    check(
        &[job("parallelism: 2, completions: 3, backoffLimit: 6", "active: 1"), pod("a", "Running", "")],
        expect![[r#"
        together:
          create pods in ns: {"apiVersion":"v1","kind":"Pod","metadata":{"finalizers":["batch.kubernetes.io/job-tracking"],"generateName":"j-","labels":{"job":"j"},"namespace":"ns","ownerReferences":[{"apiVersion":"batch/v1","blockOwnerDeletion":true,"controller":true,"kind":"Job","name":"j","uid":"j-uid"}]},"spec":{"containers":[{"name":"c"}],"restartPolicy":"Never"}}
    "#]],
    );
    check(&[job("parallelism: 2, completions: 3", "active: 1, succeeded: 2"), pod("a", "Running", "")], expect![]);
}

#[test]
fn a_first_look_notes_when_the_job_started() {
    let fresh = job("parallelism: 0", "").replace("startTime: 2024-01-01T00:00:00Z, ", "");
    check(
        &[fresh],
        expect![[r#"
        update jobs ns/j status: {"ready":0,"startTime":"2024-01-01T00:01:00Z","terminating":0,"uncountedTerminatedPods":{}}
    "#]],
    );
}

#[test]
fn what_has_ended_is_told_then_let_go_then_counted() {
    let spec = "parallelism: 1, completions: 2";
    check(
        &[job(spec, ""), pod("a", "Succeeded", ""), pod("b", "Running", "")],
        expect![[r#"
        update jobs ns/j status: {"active":1,"ready":0,"startTime":"2024-01-01T00:00:00Z","terminating":0,"uncountedTerminatedPods":{"succeeded":["a-uid"]}}
        together:
          patch pods ns/a at 2 : {"metadata":{"finalizers":[]}}
    "#]],
    );
    let told = "active: 1, uncountedTerminatedPods: {succeeded: [a-uid]}";
    let told = job(spec, told).replacen("uncountedTerminatedPods: {}, ", "", 1);
    check(
        &[told.clone(), pod("a", "Succeeded", ""), pod("b", "Running", "")],
        expect![[r#"
        together:
          patch pods ns/a at 2 : {"metadata":{"finalizers":[]}}
    "#]],
    );
    check(
        &[told, pod("a", "Succeeded", LET_GO), pod("b", "Running", "")],
        expect![[r#"
        update jobs ns/j status: {"active":1,"ready":0,"startTime":"2024-01-01T00:00:00Z","succeeded":1,"terminating":0,"uncountedTerminatedPods":{}}
    "#]],
    );
}

#[test]
fn the_last_completion_meets_the_criteria_and_ends_the_job_when_it_is_counted() {
    let spec = "parallelism: 1, completions: 1";
    check(
        &[job(spec, "active: 1"), pod("a", "Succeeded", "")],
        expect![[r#"
        update jobs ns/j status: {"conditions":[{"lastProbeTime":"2024-01-01T00:01:00Z","lastTransitionTime":"2024-01-01T00:01:00Z","message":"Reached expected number of succeeded pods","reason":"CompletionsReached","status":"True","type":"SuccessCriteriaMet"}],"ready":0,"startTime":"2024-01-01T00:00:00Z","terminating":0,"uncountedTerminatedPods":{"succeeded":["a-uid"]}}
        together:
          patch pods ns/a at 2 : {"metadata":{"finalizers":[]}}
    "#]],
    );
    let met = job(
        spec,
        "conditions: [{type: SuccessCriteriaMet, status: 'True', reason: CompletionsReached, message: enough}], \
         uncountedTerminatedPods: {succeeded: [a-uid]}",
    )
    .replacen("uncountedTerminatedPods: {}, ", "", 1);
    check(
        &[met, pod("a", "Succeeded", LET_GO)],
        expect![[r#"
        update jobs ns/j status: {"completionTime":"2024-01-01T00:01:00Z","conditions":[{"message":"enough","reason":"CompletionsReached","status":"True","type":"SuccessCriteriaMet"},{"lastProbeTime":"2024-01-01T00:01:00Z","lastTransitionTime":"2024-01-01T00:01:00Z","message":"enough","reason":"CompletionsReached","status":"True","type":"Complete"}],"ready":0,"startTime":"2024-01-01T00:00:00Z","succeeded":1,"terminating":0,"uncountedTerminatedPods":{}}
    "#]],
    );
    // Suspended to its end, it begins with it.
    let idle = job(
        "suspend: true, completions: 0",
        "conditions: [{type: SuccessCriteriaMet, status: 'True', reason: CompletionsReached, message: enough}]",
    );
    check(
        &[idle.replace("startTime: 2024-01-01T00:00:00Z, ", "")],
        expect![[r#"
        update jobs ns/j status: {"completionTime":"2024-01-01T00:01:00Z","conditions":[{"message":"enough","reason":"CompletionsReached","status":"True","type":"SuccessCriteriaMet"},{"lastProbeTime":"2024-01-01T00:01:00Z","lastTransitionTime":"2024-01-01T00:01:00Z","message":"enough","reason":"CompletionsReached","status":"True","type":"Complete"}],"ready":0,"startTime":"2024-01-01T00:01:00Z","terminating":0,"uncountedTerminatedPods":{}}
    "#]],
    );
}

#[test]
fn a_failure_delays_the_next_pod_and_too_many_end_the_job() {
    let counted = "failed: 1, active: 0";
    check(
        &[
            job("parallelism: 1, completions: 1, backoffLimit: 1", counted).replace("active: 0", ""),
            pod("a", "Failed", LET_GO),
        ],
        expect![[r#"
        look again in 8s
    "#]],
    );
    let failing = [
        job("parallelism: 2, completions: 2, backoffLimit: 0", "active: 2"),
        pod("a", "Failed", ""),
        pod("b", "Running", ""),
    ];
    check(
        &failing,
        expect![[r#"
        update jobs ns/j status: {"active":1,"conditions":[{"lastProbeTime":"2024-01-01T00:01:00Z","lastTransitionTime":"2024-01-01T00:01:00Z","message":"Job has reached the specified backoff limit","reason":"BackoffLimitExceeded","status":"True","type":"FailureTarget"}],"ready":0,"startTime":"2024-01-01T00:00:00Z","terminating":0,"uncountedTerminatedPods":{"failed":["a-uid"]}}
        together:
          patch pods ns/a at 2 : {"metadata":{"finalizers":[]}}
        together:
          delete pods ns/b
    "#]],
    );
}

#[test]
fn a_job_that_failed_waits_for_its_last_pod() {
    let decided = |more: &str| {
        job(
            "parallelism: 1, completions: 1",
            &format!(
                "conditions: [{{type: FailureTarget, status: 'True', reason: DeadlineExceeded, message: late}}], failed: 1{more}"
            ),
        )
    };
    let leaving = ", finalizers: [], deletionTimestamp: 2024-01-01T00:00:30Z";
    check(&[decided(", terminating: 1").replacen("terminating: 0, ", "", 1), pod("a", "Running", leaving)], expect![]);
    check(
        &[decided(""), pod("a", "Failed", leaving)],
        expect![[r#"
        update jobs ns/j status: {"conditions":[{"message":"late","reason":"DeadlineExceeded","status":"True","type":"FailureTarget"},{"lastProbeTime":"2024-01-01T00:01:00Z","lastTransitionTime":"2024-01-01T00:01:00Z","message":"late","reason":"DeadlineExceeded","status":"True","type":"Failed"}],"failed":1,"ready":0,"startTime":"2024-01-01T00:00:00Z","terminating":0,"uncountedTerminatedPods":{}}
    "#]],
    );
}

#[test]
fn the_deadline_ends_a_job_and_brings_it_back_until_then() {
    check(
        &[job("parallelism: 1, activeDeadlineSeconds: 90", "active: 1"), pod("a", "Running", "")],
        expect![[r#"
        look again in 30s
    "#]],
    );
    check(
        &[job("parallelism: 1, activeDeadlineSeconds: 60", "active: 1"), pod("a", "Running", "")],
        expect![[r#"
        update jobs ns/j status: {"active":1,"conditions":[{"lastProbeTime":"2024-01-01T00:01:00Z","lastTransitionTime":"2024-01-01T00:01:00Z","message":"Job was active longer than specified deadline","reason":"DeadlineExceeded","status":"True","type":"FailureTarget"}],"ready":0,"startTime":"2024-01-01T00:00:00Z","terminating":0,"uncountedTerminatedPods":{}}
        together:
          delete pods ns/a
    "#]],
    );
}

#[test]
fn a_suspended_job_gives_up_its_pods_and_starts_anew_when_it_resumes() {
    check(
        &[job("parallelism: 1, suspend: true", "active: 1"), pod("a", "Running", "")],
        expect![[r#"
            update jobs ns/j status: {"active":1,"conditions":[{"lastProbeTime":"2024-01-01T00:01:00Z","lastTransitionTime":"2024-01-01T00:01:00Z","message":"Job suspended","reason":"JobSuspended","status":"True","type":"Suspended"}],"ready":0,"terminating":0,"uncountedTerminatedPods":{}}
            together:
              patch pods ns/a at 2 : {"metadata":{"finalizers":[]}}
            together:
              delete pods ns/a
        "#]],
    );
    let suspended = "conditions: [{type: Suspended, status: 'True', reason: JobSuspended, message: Job suspended}]";
    check(
        &[job("parallelism: 0", suspended)],
        expect![[r#"
        update jobs ns/j status: {"conditions":[{"lastProbeTime":"2024-01-01T00:01:00Z","lastTransitionTime":"2024-01-01T00:01:00Z","message":"Job resumed","reason":"JobResumed","status":"False","type":"Suspended"}],"ready":0,"startTime":"2024-01-01T00:01:00Z","terminating":0,"uncountedTerminatedPods":{}}
    "#]],
    );
}

#[test]
fn an_indexed_job_runs_the_lowest_indexes_that_are_missing() {
    let spec = "completionMode: Indexed, parallelism: 3, completions: 5";
    check(
        &[job(spec, "active: 1, succeeded: 1, completedIndexes: '0'"), indexed("b", 2, "Running", "")],
        expect![[r#"
            together:
              create pods in ns: {"apiVersion":"v1","kind":"Pod","metadata":{"annotations":{"batch.kubernetes.io/job-completion-index":"1"},"finalizers":["batch.kubernetes.io/job-tracking"],"generateName":"j-1-","labels":{"batch.kubernetes.io/job-completion-index":"1","job":"j"},"namespace":"ns","ownerReferences":[{"apiVersion":"batch/v1","blockOwnerDeletion":true,"controller":true,"kind":"Job","name":"j","uid":"j-uid"}]},"spec":{"containers":[{"env":[{"name":"JOB_COMPLETION_INDEX","valueFrom":{"fieldRef":{"fieldPath":"metadata.labels['batch.kubernetes.io/job-completion-index']"}}}],"name":"c"}],"hostname":"j-1","restartPolicy":"Never"}}
              create pods in ns: {"apiVersion":"v1","kind":"Pod","metadata":{"annotations":{"batch.kubernetes.io/job-completion-index":"3"},"finalizers":["batch.kubernetes.io/job-tracking"],"generateName":"j-3-","labels":{"batch.kubernetes.io/job-completion-index":"3","job":"j"},"namespace":"ns","ownerReferences":[{"apiVersion":"batch/v1","blockOwnerDeletion":true,"controller":true,"kind":"Job","name":"j","uid":"j-uid"}]},"spec":{"containers":[{"env":[{"name":"JOB_COMPLETION_INDEX","valueFrom":{"fieldRef":{"fieldPath":"metadata.labels['batch.kubernetes.io/job-completion-index']"}}}],"name":"c"}],"hostname":"j-3","restartPolicy":"Never"}}
        "#]],
    );
    check(
        &[
            job(spec, "active: 3"),
            indexed("a", 0, "Running", ""),
            indexed("b", 0, "Pending", ""),
            indexed("c", 9, "Running", ""),
        ],
        expect![[r#"
            together:
              patch pods ns/c at 4 : {"metadata":{"finalizers":[]}}
              patch pods ns/b at 3 : {"metadata":{"finalizers":[]}}
            together:
              delete pods ns/c
              delete pods ns/b
        "#]],
    );
}

/// Conformance: "Ensure that all indexes are executed for an indexed job with backoffLimitPerIndex despite some failing".
#[test]
fn an_index_carries_its_failures_on_until_they_are_too_many() {
    let spec =
        "completionMode: Indexed, parallelism: 2, completions: 2, backoffLimitPerIndex: 1, backoffLimit: 2147483647";
    let world = [
        job(spec, "failedIndexes: ''"),
        indexed("a", 0, "Failed", ", batch.kubernetes.io/job-index-failure-count: '1'"),
        indexed("b", 1, "Failed", ""),
    ];
    check(
        &world,
        expect![[r#"
        update jobs ns/j status: {"failedIndexes":"0","ready":0,"startTime":"2024-01-01T00:00:00Z","terminating":0,"uncountedTerminatedPods":{"failed":["a-uid"]}}
        together:
          patch pods ns/a at 2 : {"metadata":{"finalizers":[]}}
        look again in 8s
    "#]],
    );
    let mut bench =
        Bench::new(Jobs, &[job(spec, "failedIndexes: '0', failed: 1"), indexed("b", 1, "Failed", "")].concat());
    let later = text(&bench.reconcile("ns", "j", "2024-01-01T00:02:00Z"));
    assert!(later.contains(r#""batch.kubernetes.io/job-index-failure-count":"1""#), "{later}");
    assert!(!later.contains("patch pods"), "b waits for its replacement: {later}");
    check(
        &[job(spec, "failedIndexes: '0', completedIndexes: '1', succeeded: 1, failed: 2")],
        expect![[r#"
            update jobs ns/j status: {"completedIndexes":"1","conditions":[{"lastProbeTime":"2024-01-01T00:01:00Z","lastTransitionTime":"2024-01-01T00:01:00Z","message":"Job has failed indexes","reason":"FailedIndexes","status":"True","type":"FailureTarget"}],"failed":2,"failedIndexes":"0","ready":0,"startTime":"2024-01-01T00:00:00Z","succeeded":1,"terminating":0,"uncountedTerminatedPods":{}}
        "#]],
    );
}

/// Conformance: "Ensure that job with successPolicy succeededIndexes rule succeeded even when some indexes remain
/// pending".
#[test]
fn a_success_policy_ends_the_job_early() {
    let spec =
        "completionMode: Indexed, parallelism: 2, completions: 2, successPolicy: {rules: [{succeededIndexes: '0'}]}";
    check(
        &[job(spec, "active: 2"), indexed("a", 0, "Succeeded", ""), indexed("b", 1, "Running", "")],
        expect![[r#"
            update jobs ns/j status: {"active":1,"completedIndexes":"0","conditions":[{"lastProbeTime":"2024-01-01T00:01:00Z","lastTransitionTime":"2024-01-01T00:01:00Z","message":"Matched rules at index 0","reason":"SuccessPolicy","status":"True","type":"SuccessCriteriaMet"}],"ready":0,"startTime":"2024-01-01T00:00:00Z","succeeded":1,"terminating":0,"uncountedTerminatedPods":{}}
            together:
              patch pods ns/a at 2 : {"metadata":{"finalizers":[]}}
            together:
              delete pods ns/b
        "#]],
    );
}

#[test]
fn terminating_pods_are_replaced_at_once_or_when_they_have_failed() {
    let leaving = ", deletionTimestamp: 2024-01-01T00:00:30Z";
    let world = |policy: &str| {
        let spec = format!("parallelism: 1, completions: 1, podReplacementPolicy: {policy}");
        [job(&spec, "terminating: 1").replacen("terminating: 0, ", "", 1), pod("a", "Running", leaving)]
    };
    check(&world("Failed"), expect![]);
    check(
        &world("TerminatingOrFailed"),
        expect![[r#"
        update jobs ns/j status: {"ready":0,"startTime":"2024-01-01T00:00:00Z","terminating":1,"uncountedTerminatedPods":{"failed":["a-uid"]}}
        together:
          patch pods ns/a at 2 : {"metadata":{"finalizers":[]}}
        look again in 8s
    "#]],
    );
}

#[test]
fn others_jobs_and_finished_ones_are_left_alone() {
    check(&[job("parallelism: 1, managedBy: example.com/other", "")], expect![]);
    check(&[job("parallelism: 1", "conditions: [{type: Complete, status: 'True'}]")], expect![]);
}

#[test]
fn pods_that_no_job_accounts_for_are_freed() {
    let check = |world: &[String], expect: Expect| {
        let mut bench = Bench::new(OrphanedPods, &world.concat());
        expect.assert_eq(&text(&bench.reconcile("ns", "a", "2024-01-01T00:01:00Z")));
    };
    let running = job("parallelism: 1", "");
    let finished = job("parallelism: 1", "conditions: [{type: Failed, status: 'True'}]");
    check(&[running, pod("a", "Running", "")], expect![]);
    check(
        &[pod("a", "Running", "")],
        expect![[r#"
        patch pods ns/a at 1 : {"metadata":{"finalizers":[]}}
    "#]],
    );
    check(
        &[finished, pod("a", "Failed", "")],
        expect![[r#"
        patch pods ns/a at 2 : {"metadata":{"finalizers":[]}}
    "#]],
    );
}

#[test]
fn a_failure_policy_waits_for_how_a_pod_ends_before_it_is_replaced() {
    let policy =
        "podFailurePolicy: {rules: [{action: Ignore, onPodConditions: [{type: DisruptionTarget, status: 'True'}]}]}";
    let leaving = ", deletionTimestamp: 2024-01-01T00:00:30Z";
    let told = |spec: &str| job(spec, "terminating: 1").replacen("terminating: 0, ", "", 1);
    let spec = format!("parallelism: 1, completions: 1, {policy}");
    check(&[told(&spec), pod("a", "Running", leaving)], expect![""]);
}

#[test]
fn a_failed_index_is_ignored_counted_or_final_as_the_policy_says() {
    let rules = "{action: FailIndex, onExitCodes: {operator: In, values: [3]}}";
    let spec = format!(
        "completionMode: Indexed, parallelism: 2, completions: 2, backoffLimitPerIndex: 5, backoffLimit: 2147483647, \
         podFailurePolicy: {{rules: [{rules}]}}"
    );
    let ended = "status: {containerStatuses: [{name: c, image: i, imageID: i, ready: false, restartCount: 0, \
                 state: {terminated: {exitCode: 3}}}], ";
    let failed = indexed("a", 0, "Failed", "").replace("status: {", ended);
    check(
        &[job(&spec, "active: 1, failedIndexes: ''"), failed, indexed("b", 1, "Running", "")],
        expect![[r#"
        update jobs ns/j status: {"active":1,"failedIndexes":"0","ready":0,"startTime":"2024-01-01T00:00:00Z","terminating":0,"uncountedTerminatedPods":{"failed":["a-uid"]}}
        together:
          patch pods ns/a at 2 : {"metadata":{"finalizers":[]}}
    "#]],
    );
}

#[test]
fn too_many_failed_indexes_end_the_job() {
    let spec = "completionMode: Indexed, parallelism: 1, completions: 5, backoffLimitPerIndex: 0, maxFailedIndexes: 1, \
                backoffLimit: 2147483647";
    let world = [job(spec, "failed: 1, failedIndexes: '0'"), indexed("b", 1, "Failed", "")];
    check(
        &world,
        expect![[r#"
        update jobs ns/j status: {"conditions":[{"lastProbeTime":"2024-01-01T00:01:00Z","lastTransitionTime":"2024-01-01T00:01:00Z","message":"Job has exceeded the specified maximal number of failed indexes","reason":"MaxFailedIndexesExceeded","status":"True","type":"FailureTarget"}],"failed":1,"failedIndexes":"0,1","ready":0,"startTime":"2024-01-01T00:00:00Z","terminating":0,"uncountedTerminatedPods":{"failed":["b-uid"]}}
        together:
          patch pods ns/b at 2 : {"metadata":{"finalizers":[]}}
    "#]],
    );
}

/// What a plan does, in numbers: pods that are made and deleted, and what the Job is found to be.
fn numbers(world: &[String]) -> (usize, usize, &'static str) {
    let plan = text(&Bench::new(Jobs, &world.concat()).reconcile("ns", "j", "2024-01-01T00:10:00Z"));
    let reasons = ["CompletionsReached", "BackoffLimitExceeded"];
    let found = reasons.into_iter().find(|reason| plan.contains(reason)).unwrap_or_default();
    (plan.matches("create pods").count(), plan.matches("delete pods").count(), found)
}

/// So many pods of the Job in this phase.
fn some(count: usize, phase: &str) -> String {
    (0..count).map(|at| pod(&format!("{}-{at}", phase.to_lowercase()), phase, "")).collect()
}

#[test]
fn pods_are_made_and_deleted_by_number() {
    // Parallelism and completions; pods that wait, run, have succeeded and have failed; what is done.
    const WORK: Option<i32> = Some(5);
    const QUEUE: Option<i32> = None;
    let cases = [
        (2, WORK, [0, 0, 0, 0], (2, 0, "")),
        (2, QUEUE, [0, 0, 0, 0], (2, 0, "")),
        (2, WORK, [2, 0, 0, 0], (0, 0, "")),
        (2, WORK, [0, 2, 0, 0], (0, 0, "")),
        (2, QUEUE, [0, 2, 0, 0], (0, 0, "")),
        (2, WORK, [0, 1, 1, 0], (1, 0, "")),
        (2, QUEUE, [0, 1, 0, 0], (1, 0, "")),
        (2, WORK, [0, 3, 0, 0], (0, 1, "")),
        (2, WORK, [0, 1, 1, 1], (1, 0, "")),
        (2, WORK, [0, 0, 5, 0], (0, 0, "CompletionsReached")),
        (2, QUEUE, [0, 1, 1, 0], (0, 0, "")),
        (2, QUEUE, [0, 0, 2, 0], (0, 0, "CompletionsReached")),
        (2, QUEUE, [0, 0, 1, 1], (0, 0, "CompletionsReached")),
        (2, WORK, [0, 10, 0, 0], (0, 8, "")),
        (2, WORK, [0, 2, 2, 0], (0, 0, "")),
        (2, WORK, [0, 2, 4, 0], (0, 1, "")),
        (0, WORK, [0, 2, 0, 0], (0, 2, "")),
        (100, Some(200), [0, 0, 0, 0], (100, 0, "")),
        (700, Some(700), [0, 0, 0, 0], (super::MAX_PODS_PER_PLAN, 0, "")),
    ];
    for (parallelism, completions, [pending, running, succeeded, failed], expected) in cases {
        let completions = completions.map(|count| format!(", completions: {count}")).unwrap_or_default();
        let world = [
            job(&format!("parallelism: {parallelism}{completions}"), ""),
            some(pending, "Pending"),
            some(running, "Running"),
            some(succeeded, "Succeeded"),
            some(failed, "Failed"),
        ];
        let found = numbers(&world);
        assert_eq!(found, expected, "{parallelism}{completions}: {pending} {running} {succeeded} {failed}");
    }
}

#[test]
fn a_job_that_is_being_deleted_makes_and_deletes_nothing() {
    let deleted = job("parallelism: 2, completions: 5", "")
        .replace("name: j}", "name: j, deletionTimestamp: 2024-01-01T00:00:00Z}");
    assert_eq!(numbers(&[deleted, some(1, "Pending"), some(1, "Running"), some(1, "Succeeded")]), (0, 0, ""));
}

#[test]
fn failures_are_pods_that_failed_or_containers_that_started_again() {
    const TOO_MANY: &str = "BackoffLimitExceeded";
    // Parallelism and limit; pods that run and have failed.
    let never = [
        ((1, 0), (1, 0), (0, 0, "")),
        ((1, 1), (0, 1), (1, 0, "")),
        ((1, 1), (0, 2), (0, 0, TOO_MANY)),
        ((2, 6), (1, 6), (1, 0, "")),
        ((2, 6), (0, 7), (0, 0, TOO_MANY)),
    ];
    for ((parallelism, limit), (running, failed), expected) in never {
        let spec = format!("parallelism: {parallelism}, completions: 2, backoffLimit: {limit}");
        let found = numbers(&[job(&spec, ""), some(running, "Running"), some(failed, "Failed")]);
        assert_eq!(found, expected, "{failed} of {limit} failed");
    }
    // Parallelism and limit; how often each pod's container has started again.
    let on_failure: [(_, &[u32], _); 6] = [
        ((1, 0), &[0], (0, 0, "")),
        ((1, 1), &[0], (0, 0, "")),
        ((1, 1), &[1], (0, 1, TOO_MANY)),
        ((1, 2), &[2], (0, 1, TOO_MANY)),
        ((2, 2), &[1, 1], (0, 2, TOO_MANY)),
        ((2, 3), &[1, 1], (0, 0, "")),
    ];
    for ((parallelism, limit), restarts, expected) in on_failure {
        for phase in ["Running", "Pending"] {
            let spec = format!("parallelism: {parallelism}, completions: 5, backoffLimit: {limit}");
            let job = job(&spec, "").replace("restartPolicy: Never", "restartPolicy: OnFailure");
            let restarted = |(at, count): (usize, &u32)| {
                let status = format!(
                    "status: {{containerStatuses: [{{name: c, image: i, imageID: i, ready: false, restartCount: {count}}}], "
                );
                pod(&format!("p{at}"), phase, "").replace("status: {", &status)
            };
            let pods: String = restarts.iter().enumerate().map(restarted).collect();
            assert_eq!(numbers(&[job, pods]), expected, "{restarts:?} of {limit}, {phase}");
        }
    }
}
