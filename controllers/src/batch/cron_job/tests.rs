use expect_test::{Expect, expect};

use super::CronJobs;
use crate::testing::{Bench, text};

fn cron_job(spec: &str, status: &str) -> String {
    format!(
        "
apiVersion: batch/v1
kind: CronJob
metadata: {{namespace: ns, name: c, creationTimestamp: 2024-01-01T00:00:00Z}}
spec: {{jobTemplate: {{metadata: {{labels: {{a: b}}}}, spec: {{template: {{}}}}}}, {spec}}}
status: {{{status}}}
"
    )
}

/// A Job of the CronJob, made for this time; `condition` is what it ended with.
fn job(name: &str, scheduled: &str, condition: &str) -> String {
    let annotations = match scheduled {
        "" => String::new(),
        at => format!(", annotations: {{batch.kubernetes.io/cronjob-scheduled-timestamp: '{at}'}}"),
    };
    let ended = match condition {
        "" => String::new(),
        type_ => format!(
            "conditions: [{{type: {type_}, status: 'True'}}], startTime: '{scheduled}', completionTime: '{scheduled}'"
        ),
    };
    format!(
        "---
apiVersion: batch/v1
kind: Job
metadata: {{namespace: ns, name: {name}{annotations}, ownerReferences: [{{apiVersion: batch/v1, kind: CronJob, name: c, uid: c-uid, controller: true}}]}}
spec: {{template: {{}}}}
status: {{{ended}}}
"
    )
}

fn check(now: &str, world: &[String], expect: Expect) {
    let mut bench = Bench::new(CronJobs, &world.concat());
    expect.assert_eq(&text(&bench.reconcile("ns", "c", now)));
}

const ACTIVE: &str = "lastScheduleTime: 2024-01-01T01:00:00Z, active: [{name: c-1, uid: c-1-uid}]";

/// Conformance: "CronJob AllowConcurrent".
#[test]
fn a_job_is_made_when_its_time_has_come() {
    check(
        "2024-01-01T00:50:00Z",
        &[cron_job("schedule: '0 * * * *'", "")],
        expect![[r#"
        look again in 600s
    "#]],
    );
    check(
        "2024-01-01T01:00:01Z",
        &[cron_job("schedule: '0 * * * *'", "")],
        expect![[r#"
        create jobs in ns: {"apiVersion":"batch/v1","kind":"Job","metadata":{"annotations":{"batch.kubernetes.io/cronjob-scheduled-timestamp":"2024-01-01T01:00:00Z"},"labels":{"a":"b"},"name":"c-28401180","namespace":"ns","ownerReferences":[{"apiVersion":"batch/v1","blockOwnerDeletion":true,"controller":true,"kind":"CronJob","name":"c","uid":"c-uid"}]},"spec":{"template":{}}}
        look again in 3599s
    "#]],
    );
    check(
        "2024-01-01T23:00:01Z",
        &[cron_job("schedule: '0 0 * * *', timeZone: Europe/Berlin", "")],
        expect![[r#"
        create jobs in ns: {"apiVersion":"batch/v1","kind":"Job","metadata":{"annotations":{"batch.kubernetes.io/cronjob-scheduled-timestamp":"2024-01-02T00:00:00+01:00"},"labels":{"a":"b"},"name":"c-28402500","namespace":"ns","ownerReferences":[{"apiVersion":"batch/v1","blockOwnerDeletion":true,"controller":true,"kind":"CronJob","name":"c","uid":"c-uid"}]},"spec":{"template":{}}}
        look again in 86399s
    "#]],
    );
}

#[test]
fn a_job_that_was_made_is_told_once_and_not_made_again() {
    let made = job("c-28401180", "2024-01-01T01:00:00Z", "");
    check(
        "2024-01-01T01:00:02Z",
        &[cron_job("schedule: '0 * * * *'", ""), made],
        expect![[r#"
        update cronjobs ns/c status: {"active":[{"apiVersion":"batch/v1","kind":"Job","name":"c-28401180","namespace":"ns","resourceVersion":"2","uid":"c-28401180-uid"}],"lastScheduleTime":"2024-01-01T01:00:00Z"}
        look again in 3598s
    "#]],
    );
    check(
        "2024-01-01T01:00:02Z",
        &[cron_job("schedule: '0 * * * *'", "lastScheduleTime: 2024-01-01T01:00:00Z"), job("manual", "", "")],
        expect![[r#"
            note Warning UnexpectedJob on c: Saw a job that the controller did not create or forgot: manual
            look again in 3598s
        "#]],
    );
}

#[test]
fn jobs_that_ended_or_vanished_leave_the_list() {
    let world = [
        cron_job("schedule: '0 * * * *'", &ACTIVE.replace("[{", "[{name: gone, uid: gone-uid}, {")),
        job("c-1", "2024-01-01T01:00:00Z", "Complete"),
    ];
    check(
        "2024-01-01T01:30:00Z",
        &world,
        expect![[r#"
        note Normal SawCompletedJob on c: Saw completed job: c-1, condition: Complete
        note Normal MissingJob on c: Active job went missing: gone
        update cronjobs ns/c status: {"lastScheduleTime":"2024-01-01T01:00:00Z","lastSuccessfulTime":"2024-01-01T01:00:00Z"}
        look again in 1800s
    "#]],
    );
}

/// Conformance: "CronJob ForbidConcurrent"; "CronJob ReplaceConcurrent".
#[test]
fn a_running_job_forbids_the_next_or_is_replaced() {
    let running = || job("c-1", "2024-01-01T01:00:00Z", "");
    let now = "2024-01-01T02:00:00Z";
    check(
        now,
        &[cron_job("schedule: '0 * * * *', concurrencyPolicy: Forbid", ACTIVE), running()],
        expect![[r#"
        note Normal JobAlreadyActive on c: Not starting job because prior execution is running and concurrency policy is Forbid
        look again in 3600s
    "#]],
    );
    check(
        now,
        &[cron_job("schedule: '0 * * * *', concurrencyPolicy: Replace", ACTIVE), running()],
        expect![[r#"
        delete jobs ns/c-1 Background
        update cronjobs ns/c status: {"lastScheduleTime":"2024-01-01T01:00:00Z"}
        create jobs in ns: {"apiVersion":"batch/v1","kind":"Job","metadata":{"annotations":{"batch.kubernetes.io/cronjob-scheduled-timestamp":"2024-01-01T02:00:00Z"},"labels":{"a":"b"},"name":"c-28401240","namespace":"ns","ownerReferences":[{"apiVersion":"batch/v1","blockOwnerDeletion":true,"controller":true,"kind":"CronJob","name":"c","uid":"c-uid"}]},"spec":{"template":{}}}
        look again in 3600s
    "#]],
    );
}

#[test]
fn a_run_that_is_too_late_is_missed() {
    let late = || [cron_job("schedule: '0 * * * *', startingDeadlineSeconds: 60", "")];
    check(
        "2024-01-01T05:30:00Z",
        &late(),
        expect![[r#"
        look again in 1800s
    "#]],
    );
    check(
        "2024-01-01T05:01:00.5Z",
        &late(),
        expect![[r#"
        look again in 3539.5s
    "#]],
    );
}

/// Conformance: "CronJob Suspend".
#[test]
fn nothing_starts_while_suspended_or_by_a_schedule_that_makes_no_sense() {
    let now = "2024-01-01T05:30:00Z";
    check(now, &[cron_job("schedule: '0 * * * *', suspend: true", "")], expect![]);
    check(
        now,
        &[cron_job("schedule: 'often'", "")],
        expect![[r#"
        note Warning UnparseableSchedule on c: unparseable schedule: "often" : expected exactly 5 fields, found 1: ["often"]
    "#]],
    );
    check(
        now,
        &[cron_job("schedule: '59 23 31 2 *'", "")],
        expect![[r#"
        note Warning InvalidSchedule on c: invalid schedule: 59 23 31 2 * : time difference between two schedules is less than 1 second
    "#]],
    );
    check(
        now,
        &[cron_job("schedule: '0 * * * *', timeZone: Middle/Earth", "")],
        expect![[r#"
        note Warning UnknownTimeZone on c: invalid timeZone: "Middle/Earth": unknown time zone Middle/Earth
    "#]],
    );
}

#[test]
fn the_oldest_finished_jobs_go() {
    let hour = |at: u32, condition: &str| job(&format!("c-{at}"), &format!("2024-01-01T0{at}:00:00Z"), condition);
    let limits = "schedule: '0 * * * *', suspend: true, successfulJobsHistoryLimit: 1, failedJobsHistoryLimit: 0";
    let world = [
        cron_job(limits, "lastScheduleTime: 2024-01-01T04:00:00Z, lastSuccessfulTime: 2024-01-01T03:00:00Z"),
        hour(2, "Complete"),
        hour(1, "Complete"),
        hour(3, "Complete"),
        hour(4, "Failed"),
    ];
    check(
        "2024-01-01T05:30:00Z",
        &world,
        expect![[r#"
        delete jobs ns/c-1 Background
        delete jobs ns/c-2 Background
        delete jobs ns/c-4 Background
    "#]],
    );
}
