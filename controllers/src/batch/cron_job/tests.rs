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
        note Warning UnparseableSchedule on c: unparseable schedule: "often" : expected exactly 5 fields, found 1: [often]
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

#[test]
fn a_run_starts_by_its_policy_its_deadline_and_what_ran_before() {
    const BEFORE: &str = "2016-05-19T09:59:00Z";
    const AFTER: &str = "2016-05-19T10:01:00Z";
    const WEEK_LATER: &str = "2016-05-26T10:00:00Z";
    const NONE: &str = "";
    const SHORT: &str = ", startingDeadlineSeconds: 10";
    const MEDIUM: &str = ", startingDeadlineSeconds: 7200";
    const LONG: &str = ", startingDeadlineSeconds: 1000000";
    const POLICIES: [&str; 3] = ["Allow", "Forbid", "Replace"];
    /// Jobs that are made and deleted, those that are active then, and warnings.
    type Done = (usize, usize, usize, usize);
    // Policy, suspended, deadline, ran an hour ago, still runs, and when that is looked at.
    let mut cases: Vec<(&str, bool, &str, bool, bool, &str, Done)> = Vec::new();
    for policy in POLICIES {
        for ran in [false, true] {
            cases.push((policy, false, NONE, ran, false, BEFORE, (0, 0, 0, 0)));
            cases.push((policy, false, NONE, ran, false, AFTER, (1, 0, 0, 0)));
        }
        cases.push((policy, false, NONE, true, true, BEFORE, (0, 0, 1, 0)));
        for deadline in [NONE, LONG] {
            cases.push((policy, false, deadline, true, false, WEEK_LATER, (1, 0, 0, 1)));
        }
        for deadline in [SHORT, MEDIUM] {
            cases.push((policy, false, deadline, true, false, WEEK_LATER, (1, 0, 0, 0)));
        }
    }
    for (ran, runs) in [(false, false), (true, false), (true, true)] {
        let left = usize::from(runs);
        cases.push(("Allow", true, NONE, ran, runs, AFTER, (0, 0, left, 0)));
        cases.push(("Allow", false, SHORT, ran, runs, AFTER, (0, 0, left, 0)));
        cases.push(("Allow", false, LONG, ran, runs, AFTER, (1, 0, left, 0)));
    }
    cases.push(("Allow", false, NONE, true, true, AFTER, (1, 0, 1, 0)));
    cases.push(("Forbid", false, NONE, true, true, AFTER, (0, 0, 1, 0)));
    cases.push(("Replace", false, NONE, true, true, AFTER, (1, 1, 0, 0)));
    for (policy, suspend, deadline, ran, runs, now, expected) in cases {
        let spec = format!("schedule: '0 * * * ?', concurrencyPolicy: {policy}, suspend: {suspend}{deadline}");
        let active = if runs { ", active: [{name: c-1, uid: c-1-uid}]" } else { "" };
        let status = if ran { format!("lastScheduleTime: 2016-05-19T09:01:00Z{active}") } else { String::new() };
        let created = if ran { "2016-05-19T08:59:00Z" } else { BEFORE };
        let world = [
            cron_job(&spec, &status).replace("2024-01-01T00:00:00Z", created),
            if runs { job("c-1", "2016-05-19T09:00:00Z", "") } else { String::new() },
        ];
        let mut bench = Bench::new(CronJobs, &world.concat());
        let before = bench.world.cron_jobs.get("ns", "c").unwrap().status.clone().unwrap_or_default();
        let plan = bench.reconcile("ns", "c", now);
        let status = plan.steps.iter().find_map(|step| match step {
            crate::plan::Step::Update { object, .. } => Some(object["status"]["active"].as_array().map_or(0, Vec::len)),
            _ => None,
        });
        let active = status.unwrap_or_else(|| before.active.map_or(0, |active| active.len()));
        let text = text(&plan);
        let found = (
            text.matches("create jobs").count(),
            text.matches("delete jobs").count(),
            active,
            text.matches("note Warning").count(),
        );
        assert_eq!(found, expected, "{spec}; ran: {ran}, runs: {runs}, at {now}: {text}");
    }
}

#[test]
fn a_clock_that_went_back_starts_nothing_twice() {
    let ran = cron_job("schedule: '0 * * * *'", "lastScheduleTime: 2024-01-01T01:00:00Z");
    check(
        "2024-01-01T00:59:00Z",
        &[ran],
        expect![[r#"
        look again in 60s
    "#]],
    );
}

#[test]
fn each_history_has_its_own_limit() {
    // Limits of those that succeeded and that failed; how the Jobs of the hours from the fourth on ended, and which go.
    let cases = [
        ("2", "1", ["Complete", "Complete", "Complete", "Complete", "", "Failed"], "4 5"),
        ("2", "2", ["Failed", "Failed", "Complete", "Complete", "Failed", "Failed"], "4 5"),
        ("0", "1", ["Complete", "Failed", "Complete", "Complete", "", "Failed"], "4 6 7 5"),
        ("3", "0", ["Complete", "Failed", "Complete", "Complete", "", "Failed"], "5 9"),
        ("3", "3", ["Complete", "Failed", "Complete", "Complete", "Failed", "Failed"], ""),
        ("null", "null", ["Complete", "Failed", "Complete", "Complete", "Failed", "Failed"], ""),
        ("null", "1", ["Complete", "Failed", "Complete", "Complete", "Failed", "Failed"], "5 8"),
        ("1", "null", ["Complete", "Failed", "Complete", "Complete", "Failed", "Failed"], "4 6"),
        ("0", "0", ["", "", "", "", "", ""], ""),
    ];
    for (successful, failed, ended, expected) in cases {
        let limits = format!("successfulJobsHistoryLimit: {successful}, failedJobsHistoryLimit: {failed}");
        let jobs =
            (4..).zip(ended).map(|(hour, end)| job(&format!("c-{hour}"), &format!("2024-01-01T0{hour}:00:00Z"), end));
        let world =
            cron_job(&format!("schedule: '0 * * * *', suspend: true, {limits}"), "") + &jobs.collect::<String>();
        let plan = text(&Bench::new(CronJobs, &world).reconcile("ns", "c", "2024-01-01T09:59:00Z"));
        let gone = plan.lines().filter_map(|line| line.strip_prefix("delete jobs ns/c-")?.strip_suffix(" Background"));
        assert_eq!(gone.collect::<Vec<_>>().join(" "), expected, "{limits}: {ended:?}");
    }
}
