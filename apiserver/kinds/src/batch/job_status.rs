//! Rules of a Job's status (KEP-4368): whoever runs a Job, its status says nothing that contradicts itself.
//!
//! A rule is asked only where what it is about changes, so that a status from before the rule can still be written.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::Value;

use super::job_policies::{count_indexes, interval};
use crate::field::{Field, FieldError, FieldPath};
use crate::object::{self, get, int, list, text};
use crate::rules;

const COUNTS: [&str; 5] = ["active", "succeeded", "failed", "ready", "terminating"];

/// A Job, for the questions that its status is asked.
#[derive(Clone, Copy)]
struct Job<'v>(&'v Value);

impl<'v> Job<'v> {
    fn is(self, condition: &str) -> bool {
        let is_met = |c: &Value| text(c, &["type"]) == condition && text(c, &["status"]) == "True";
        list(self.0, &["status", "conditions"]).iter().any(is_met)
    }

    fn is_complete(self) -> bool {
        self.is("Complete")
    }

    fn is_finished(self) -> bool {
        self.is_complete() || self.is("Failed")
    }

    fn status(self, field: &str) -> Option<&'v Value> {
        get(self.0, &["status", field])
    }

    fn count(self, field: &str) -> i64 {
        int(self.0, &["status", field])
    }

    fn time(self, field: &str) -> Option<Timestamp> {
        text(self.0, &["status", field]).parse().ok()
    }

    fn spec(self, field: &str) -> Option<&'v Value> {
        get(self.0, &["spec", field])
    }

    fn completions(self) -> Option<i64> {
        self.spec("completions").and_then(Value::as_i64)
    }

    fn is_indexed(self) -> bool {
        self.spec("completionMode").and_then(Value::as_str) == Some("Indexed")
    }

    fn is_suspended(self) -> bool {
        self.spec("suspend") == Some(&Value::Bool(true))
    }
}

/// What a status writer changes of a Job.
struct Change<'v> {
    new: Job<'v>,
    old: Job<'v>,
}

impl Change<'_> {
    /// Whether one of these conditions begins or ceases to hold.
    fn turns(&self, conditions: &[&str]) -> bool {
        conditions.iter().any(|condition| self.new.is(condition) != self.old.is(condition))
    }

    fn finishes(&self) -> bool {
        self.new.is_finished() != self.old.is_finished()
    }

    fn writes(&self, fields: &[&str]) -> bool {
        fields.iter().any(|field| !object::same(self.new.status(field), self.old.status(field)))
    }
}

/// Checks a Job's status that is written over another.
pub fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let root = Field::root(new);
    let status = root.get("status");
    let change = Change { new: Job(new), old: Job(old) };
    let mut errors = Vec::new();
    for name in COUNTS {
        rules::not_negative(&status.get(name), &mut errors);
    }
    uncounted(&status.get("uncountedTerminatedPods"), &mut errors);
    conditions_and_times(&change, &status, &mut errors);
    finished(&change, &status, &mut errors);
    indexes(&change, &status, &mut errors);
    counts(&change, &status, &mut errors);
    success(change.new, &status.path, &mut errors);
    transitions(&change, &status, &mut errors);
    errors
}

/// Pods that are still to be counted are named once each.
fn uncounted(uncounted: &Field, errors: &mut Vec<FieldError>) {
    let mut seen = BTreeSet::new();
    for list in ["succeeded", "failed"] {
        for uid in uncounted.get(list).items() {
            if uid.is_empty() {
                errors.push(uid.invalid("must not be empty"));
            } else if !seen.insert(uid.text()) {
                errors.push(uid.duplicate());
            }
        }
    }
}

/// Conditions that do not go together are wrong as a whole.
fn wrong_conditions(status: &FieldPath, detail: impl Into<String>) -> FieldError {
    FieldError::invalid_whole(&status.child("conditions"), detail)
}

fn conditions_and_times(change: &Change, status: &Field, errors: &mut Vec<FieldError>) {
    let job = change.new;
    if change.turns(&["Complete", "Failed"]) && job.is_complete() && job.is("Failed") {
        errors.push(wrong_conditions(&status.path, "cannot set Complete=True and Failed=true conditions"));
    }
    if change.turns(&["Complete", "FailureTarget"]) && job.is_complete() && job.is("FailureTarget") {
        errors.push(wrong_conditions(&status.path, "cannot set Complete=True and FailureTarget=true conditions"));
    }
    let end = status.get("completionTime");
    if change.turns(&["Complete"]) || change.writes(&["completionTime"]) {
        match (end.is_set(), job.is_complete()) {
            (true, false) => {
                errors.push(end.invalid("cannot set completionTime when there is no Complete=True condition"));
            }
            (false, true) => errors.push(end.required("completionTime is required for Complete jobs")),
            _ => {}
        }
    }
    if change.writes(&["startTime", "completionTime"])
        && let (Some(started), Some(ended)) = (job.time("startTime"), job.time("completionTime"))
        && ended < started
    {
        errors.push(end.invalid("completionTime cannot be set before startTime"));
    }
    if change.turns(&["Failed", "FailureTarget"]) && job.is("Failed") && !job.is("FailureTarget") {
        let detail = "cannot set Failed=True condition without the FailureTarget=true condition";
        errors.push(wrong_conditions(&status.path, detail));
    }
    if change.turns(&["Complete", "SuccessCriteriaMet"]) && job.is_complete() && !job.is("SuccessCriteriaMet") {
        let detail = "cannot set Complete=True condition without the SuccessCriteriaMet=true condition";
        errors.push(wrong_conditions(&status.path, detail));
    }
}

/// A Job that is finished has begun, and nothing of it is left to be done.
fn finished(change: &Change, status: &Field, errors: &mut Vec<FieldError>) {
    let job = change.new;
    if !job.is_finished() {
        return;
    }
    let (finishes, uncounted) = (change.finishes(), status.get("uncountedTerminatedPods"));
    if (finishes || change.writes(&["active"])) && job.count("active") > 0 {
        errors.push(status.get("active").invalid("active>0 is invalid for finished job"));
    }
    // One that wants no pods is complete without ever having been resumed.
    let may_not_have_begun = job.is_suspended() && job.completions() == Some(0);
    if (finishes || change.writes(&["startTime"])) && job.status("startTime").is_none() && !may_not_have_begun {
        errors.push(status.get("startTime").required("startTime is required for finished job"));
    }
    if (finishes || change.writes(&["uncountedTerminatedPods"]))
        && ["succeeded", "failed"].iter().any(|list| !uncounted.get(list).is_empty())
    {
        errors.push(uncounted.invalid("uncountedTerminatedPods needs to be empty for finished job"));
    }
}

fn indexes(change: &Change, status: &Field, errors: &mut Vec<FieldError>) {
    let job = change.new;
    let (completed, failed) = (status.get("completedIndexes"), status.get("failedIndexes"));
    let (completed_changes, failed_changes) = (change.writes(&["completedIndexes"]), change.writes(&["failedIndexes"]));
    let limited = job.spec("backoffLimitPerIndex").is_some();
    if let Some(completions) = job.completions() {
        if completed_changes && let Err(wrong) = count_indexes(completed.text(), completions) {
            errors.push(completed.invalid(format!("error parsing completedIndexes: {wrong}")));
        }
        if failed_changes
            && limited
            && let Err(wrong) = count_indexes(failed.text(), completions)
        {
            errors.push(failed.invalid(format!("error parsing failedIndexes: {wrong}")));
        }
    }
    if completed_changes && !completed.is_empty() && !job.is_indexed() {
        errors.push(completed.invalid("cannot set non-empty completedIndexes when non-indexed completion mode"));
    }
    if failed_changes && failed.is_set() && !limited {
        errors.push(failed.invalid("cannot set non-null failedIndexes when backoffLimitPerIndex is null"));
    }
    if (completed_changes || failed_changes)
        && let Some(completions) = job.completions()
        && let Some(index) = overlap(completed.text(), failed.text(), completions)
    {
        errors.push(failed.invalid(format!("failedIndexes and completedIndexes overlap at index: {index}")));
    }
}

/// The first index that both texts name; what cannot be read in them is left out.
fn overlap(completed: &str, failed: &str, completions: i64) -> Option<i64> {
    let read = |text: &str| -> Vec<(i64, i64)> {
        text.split(',').filter_map(|part| interval(part, completions).ok()).collect()
    };
    let (completed, failed) = (read(completed), read(failed));
    let (mut completed, mut failed) = (&completed[..], &failed[..]);
    while let ([(from, to), later_completed @ ..], [(first, last), later_failed @ ..]) = (completed, failed) {
        if from <= last && first <= to {
            return Some(*from.max(first));
        }
        if from <= first {
            completed = later_completed;
        } else {
            failed = later_failed;
        }
    }
    None
}

fn counts(change: &Change, status: &Field, errors: &mut Vec<FieldError>) {
    let job = change.new;
    if (change.finishes() || change.writes(&["terminating"])) && job.is_finished() && job.count("terminating") > 0 {
        errors.push(status.get("terminating").invalid("terminating>0 is invalid for finished job"));
    }
    if change.writes(&["ready", "active"]) && job.count("ready") > job.count("active") {
        errors.push(status.get("ready").invalid("cannot set more ready pods than active"));
    }
}

/// What has succeeded has not failed.
fn success(job: Job, status: &FieldPath, errors: &mut Vec<FieldError>) {
    let has_succeeded = job.is("SuccessCriteriaMet");
    if has_succeeded && job.is("Failed") {
        errors.push(wrong_conditions(status, "cannot set SuccessCriteriaMet=True and Failed=true conditions"));
    }
    if has_succeeded && job.is("FailureTarget") {
        errors.push(wrong_conditions(status, "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions"));
    }
    if job.spec("successPolicy").is_some() && !has_succeeded && job.is_complete() {
        let detail = "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True";
        errors.push(wrong_conditions(status, detail));
    }
}

/// What may not be taken back.
fn transitions(change: &Change, status: &Field, errors: &mut Vec<FieldError>) {
    let (new, old) = (change.new, change.old);
    for condition in ["Failed", "Complete", "FailureTarget"] {
        if old.is(condition) && !new.is(condition) {
            let detail = format!("cannot disable the terminal {condition}=True condition");
            errors.push(wrong_conditions(&status.path, detail));
        }
    }
    let decreases = |field: &str| new.count(field) < old.count(field);
    let shown = |field: &str, detail: &str| FieldError::invalid(&status.path.child(field), new.count(field), detail);
    if decreases("failed") {
        errors.push(shown("failed", "cannot decrease the failed counter"));
    }
    // An Indexed Job that is resized has fewer indexes, and so fewer that succeeded.
    let is_resizable = new.is_indexed() && new.completions() == new.spec("parallelism").and_then(Value::as_i64);
    if decreases("succeeded") && !is_resizable {
        errors.push(shown("succeeded", "cannot decrease the succeeded counter"));
    }
    if new.status("completionTime").is_some()
        && old.status("completionTime").is_some()
        && change.writes(&["completionTime"])
    {
        errors.push(status.get("completionTime").invalid("completionTime cannot be mutated"));
    }
    if old.status("startTime").is_some() && change.writes(&["startTime"]) && !new.is_suspended() {
        errors.push(status.get("startTime").required("startTime cannot be removed for unsuspended job"));
    }
    if old.is("SuccessCriteriaMet") && !new.is("SuccessCriteriaMet") {
        errors.push(wrong_conditions(&status.path, "cannot disable the SuccessCriteriaMet=True condition"));
    }
    if old.is_complete() && !old.is("SuccessCriteriaMet") && new.is("SuccessCriteriaMet") {
        let detail = "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions";
        errors.push(wrong_conditions(&status.path, detail));
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::yaml;

    use super::*;

    const INDEXED: &str = "completionMode: Indexed, completions: 5, parallelism: 2";
    const LIMITED: &str = "completionMode: Indexed, completions: 5, parallelism: 2, backoffLimitPerIndex: 1";
    const MET: &str = "{type: SuccessCriteriaMet, status: 'True'}";
    const COMPLETE: &str = "{type: Complete, status: 'True'}";
    const TARGET: &str = "{type: FailureTarget, status: 'True'}";
    const FAILED: &str = "{type: Failed, status: 'True'}";

    /// What is said of a status that is written over another one.
    fn told(spec: &str, old: &str, new: &str) -> Vec<String> {
        let job = |status: &str| yaml(&format!("{{spec: {{{spec}}}, status: {{{status}}}}}"));
        validate_update(&job(new), &job(old)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn rules() {
        let started = "startTime: '2026-01-01T00:00:09Z'";
        let done = format!("{started}, completionTime: '2026-01-01T00:00:09Z'");
        let with = |first: &str, conditions: &[&str]| format!("{first}, conditions: [{}]", conditions.join(", "));
        let complete = with(&done, &[MET, COMPLETE]);
        let rows: Vec<(&str, String, String, &[&str])> = vec![
            ("", String::new(), "active: 1, ready: 1".into(), &[]),
            ("", String::new(), started.into(), &[]),
            ("", started.into(), complete.clone(), &[]),
            ("", started.into(), with(started, &[TARGET, FAILED]), &[]),
            (
                "",
                String::new(),
                "active: -1, uncountedTerminatedPods: {succeeded: [a, ''], failed: [a]}, ready: 1".into(),
                &[
                    "status.active: Invalid value: -1: must be greater than or equal to 0",
                    r#"status.uncountedTerminatedPods.succeeded[1]: Invalid value: "": must not be empty"#,
                    r#"status.uncountedTerminatedPods.failed[0]: Duplicate value: "a""#,
                    "status.ready: Invalid value: 1: cannot set more ready pods than active",
                ],
            ),
            (
                "",
                started.into(),
                with(&done, &[MET, COMPLETE, TARGET, FAILED]),
                &[
                    "status.conditions: Invalid value: cannot set Complete=True and Failed=true conditions",
                    "status.conditions: Invalid value: cannot set Complete=True and FailureTarget=true conditions",
                    "status.conditions: Invalid value: cannot set SuccessCriteriaMet=True and Failed=true conditions",
                    "status.conditions: Invalid value: cannot set SuccessCriteriaMet=True and FailureTarget=true conditions",
                ],
            ),
            (
                "",
                String::new(),
                with("active: 1, terminating: 2, uncountedTerminatedPods: {failed: [a]}", &[COMPLETE]),
                &[
                    "status.completionTime: Required value: completionTime is required for Complete jobs",
                    "status.conditions: Invalid value: cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
                    "status.active: Invalid value: 1: active>0 is invalid for finished job",
                    "status.startTime: Required value: startTime is required for finished job",
                    r#"status.uncountedTerminatedPods: Invalid value: {"failed":["a"]}: uncountedTerminatedPods needs to be empty for finished job"#,
                    "status.terminating: Invalid value: 2: terminating>0 is invalid for finished job",
                ],
            ),
            (
                "",
                started.into(),
                with(started, &[FAILED]),
                &[
                    "status.conditions: Invalid value: cannot set Failed=True condition without the FailureTarget=true condition",
                ],
            ),
            (
                "",
                started.into(),
                format!("{started}, completionTime: '2026-01-01T00:00:01Z'"),
                &[
                    r#"status.completionTime: Invalid value: "2026-01-01T00:00:01Z": cannot set completionTime when there is no Complete=True condition"#,
                    r#"status.completionTime: Invalid value: "2026-01-01T00:00:01Z": completionTime cannot be set before startTime"#,
                ],
            ),
            (
                INDEXED,
                String::new(),
                "completedIndexes: '0,9', failedIndexes: '1'".into(),
                &[
                    r#"status.completedIndexes: Invalid value: "0,9": error parsing completedIndexes: too large index: "9""#,
                    r#"status.failedIndexes: Invalid value: "1": cannot set non-null failedIndexes when backoffLimitPerIndex is null"#,
                ],
            ),
            (
                LIMITED,
                String::new(),
                "completedIndexes: '0-1,4', failedIndexes: '2-4'".into(),
                &[
                    r#"status.failedIndexes: Invalid value: "2-4": failedIndexes and completedIndexes overlap at index: 4"#,
                ],
            ),
            (LIMITED, String::new(), "completedIndexes: '0-1,4', failedIndexes: '2-3'".into(), &[]),
            (
                LIMITED,
                String::new(),
                "completedIndexes: '4', failedIndexes: '3,2'".into(),
                &[
                    r#"status.failedIndexes: Invalid value: "3,2": error parsing failedIndexes: non-increasing order, previous: 3, current: 2"#,
                ],
            ),
            (
                "completionMode: NonIndexed",
                String::new(),
                "completedIndexes: '0'".into(),
                &[
                    r#"status.completedIndexes: Invalid value: "0": cannot set non-empty completedIndexes when non-indexed completion mode"#,
                ],
            ),
            (
                "",
                with(&format!("{done}, failed: 2, succeeded: 3"), &[MET, COMPLETE]),
                "failed: 1, succeeded: 2".into(),
                &[
                    "status.conditions: Invalid value: cannot disable the terminal Complete=True condition",
                    "status.failed: Invalid value: 1: cannot decrease the failed counter",
                    "status.succeeded: Invalid value: 2: cannot decrease the succeeded counter",
                    "status.startTime: Required value: startTime cannot be removed for unsuspended job",
                    "status.conditions: Invalid value: cannot disable the SuccessCriteriaMet=True condition",
                ],
            ),
            (
                "",
                complete.clone(),
                complete.replace("completionTime: '2026-01-01T00:00:09Z'", "completionTime: '2026-01-01T00:00:10Z'"),
                &[r#"status.completionTime: Invalid value: "2026-01-01T00:00:10Z": completionTime cannot be mutated"#],
            ),
            (
                "completionMode: Indexed, completions: 2, parallelism: 2",
                "succeeded: 2".into(),
                "succeeded: 1".into(),
                &[],
            ),
            ("suspend: true", started.into(), String::new(), &[]),
            (
                "suspend: true, completions: 0",
                String::new(),
                with("completionTime: '2026-01-01T00:00:09Z'", &[MET, COMPLETE]),
                &[],
            ),
            (
                "successPolicy: {}",
                with(&done, &[COMPLETE]),
                with(&done, &[COMPLETE]),
                &[
                    "status.conditions: Invalid value: cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True",
                ],
            ),
            (
                "",
                with(&done, &[COMPLETE]),
                complete.clone(),
                &[
                    "status.conditions: Invalid value: cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions",
                ],
            ),
            // What was wrong before may be written again.
            ("", with("active: 1", &[FAILED]), with("active: 1, succeeded: 1", &[FAILED]), &[]),
        ];
        for (spec, old, new, expected) in rows {
            assert_eq!(told(spec, &old, &new), expected, "{spec}: {old} -> {new}");
        }
    }
}
