//! Rules of a Job's policies: which failures of its pods count, and when it has succeeded early.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::field::{Field, FieldError};
use crate::{names, rules};

const MAX_RULES: usize = 20;
const MAX_EXIT_CODES: usize = 255;
const MAX_POD_CONDITIONS: usize = 20;
const MAX_SUCCEEDED_INDEXES_BYTES: usize = 64 * 1024;

const ACTIONS: [&str; 4] = ["Count", "FailIndex", "FailJob", "Ignore"];
const OPERATORS: [&str; 2] = ["In", "NotIn"];
const STATUSES: [&str; 3] = ["False", "True", "Unknown"];

/// Checks `podFailurePolicy`, `successPolicy` and `podReplacementPolicy` of a Job's spec.
pub fn validate(spec: &Field, errors: &mut Vec<FieldError>) {
    let failure = spec.get("podFailurePolicy");
    if failure.is_set() {
        let rules = failure.get("rules");
        not_too_many(&rules, MAX_RULES, errors);
        for rule in rules.items() {
            failure_rule(&rule, spec, errors);
        }
    }
    let success = spec.get("successPolicy");
    if success.is_set() && spec.get("completionMode").text() != "Indexed" {
        errors.push(success.invalid("requires indexed completion mode"));
    } else if success.is_set() {
        let rules = success.get("rules");
        if rules.is_empty() {
            errors.push(rules.required("at least one rules must be specified when the successPolicy is specified"));
        }
        not_too_many(&rules, MAX_RULES, errors);
        for rule in rules.items() {
            success_rule(&rule, spec.get("completions").int().unwrap_or_default(), errors);
        }
    }
    let replacement: &[&str] = if failure.is_set() { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] };
    rules::maybe_one_of(&spec.get("podReplacementPolicy"), replacement, errors);
}

fn not_too_many(list: &Field, max: usize, errors: &mut Vec<FieldError>) {
    if list.len() > max {
        errors.push(FieldError::too_many(&list.path, list.len(), max));
    }
}

/// A field that must be one of some values, which its absence names too.
fn one_of(field: &Field, supported: &[&str], errors: &mut Vec<FieldError>) {
    if field.is_empty() {
        let quoted: Vec<String> = supported.iter().map(|value| format!("{value:?}")).collect();
        errors.push(field.required(format!("valid values: [{}]", quoted.join(" "))));
    } else {
        rules::maybe_one_of(field, supported, errors);
    }
}

fn failure_rule(rule: &Field, spec: &Field, errors: &mut Vec<FieldError>) {
    let action = rule.get("action");
    one_of(&action, &ACTIONS, errors);
    if action.text() == "FailIndex" && !spec.get("backoffLimitPerIndex").is_set() {
        errors.push(action.invalid("requires the backoffLimitPerIndex to be set"));
    }
    let (codes, conditions) = (rule.get("onExitCodes"), rule.get("onPodConditions"));
    if codes.is_set() {
        exit_codes(&codes, &spec.get("template"), errors);
    }
    not_too_many(&conditions, MAX_POD_CONDITIONS, errors);
    for condition in conditions.items() {
        rules::form(&condition.get("type"), names::qualified_name, errors);
        one_of(&condition.get("status"), &STATUSES, errors);
    }
    let detail = match (codes.is_set(), conditions.is_empty()) {
        (true, false) => "specifying both OnExitCodes and OnPodConditions is not supported",
        (false, true) => "specifying one of OnExitCodes and OnPodConditions is required",
        _ => return,
    };
    errors.push(FieldError::invalid_whole(&rule.path, detail));
}

fn exit_codes(codes: &Field, template: &Field, errors: &mut Vec<FieldError>) {
    let (operator, name, values) = (codes.get("operator"), codes.get("containerName"), codes.get("values"));
    one_of(&operator, &OPERATORS, errors);
    let pod = template.get("spec");
    let is_named = |list: &str| pod.get(list).items().any(|container| container.get("name").text() == name.text());
    if name.is_set() && !["containers", "initContainers"].into_iter().any(is_named) {
        errors.push(name.invalid("must be one of the container or initContainer names in the pod template"));
    }
    let invalid = |detail: &str| FieldError::invalid(&values.path, values.value().cloned().unwrap_or_default(), detail);
    if values.is_empty() {
        errors.push(invalid("at least one value is required"));
    }
    not_too_many(&values, MAX_EXIT_CODES, errors);
    let mut seen = BTreeSet::new();
    for value in values.items() {
        if operator.text() == "In" && value.int() == Some(0) {
            errors.push(value.invalid("must not be 0 for the In operator"));
        }
        if !seen.insert(value.int()) {
            errors.push(value.duplicate());
        }
    }
    let codes = values.value().and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if !codes.is_sorted_by_key(Value::as_i64) {
        errors.push(invalid("must be ordered"));
    }
}

fn success_rule(rule: &Field, completions: i64, errors: &mut Vec<FieldError>) {
    let (count, indexes) = (rule.get("succeededCount"), rule.get("succeededIndexes"));
    if !count.is_set() && !indexes.is_set() {
        errors.push(rule.required("at least one of succeededCount or succeededIndexes must be specified"));
    }
    if indexes.text().len() > MAX_SUCCEEDED_INDEXES_BYTES {
        errors.push(FieldError::too_long(&indexes.path, MAX_SUCCEEDED_INDEXES_BYTES));
    }
    let named = count_indexes(indexes.text(), completions).unwrap_or_else(|wrong| {
        errors.push(indexes.invalid(format!("error parsing succeededIndexes: {wrong}")));
        0
    });
    rules::not_negative(&count, errors);
    let Some(number) = count.int() else { return };
    if number > completions {
        let detail = format!("must be less than or equal to {completions} (the number of specified completions)");
        errors.push(count.invalid(detail));
    }
    if indexes.is_set() && number > named {
        errors.push(count.invalid(format!(
            "must be less than or equal to {named} (the number of indexes in the specified succeededIndexes field)"
        )));
    }
}

/// How many indexes a text such as `0,2-3` names; all must be below `completions` and in order.
pub fn count_indexes(text: &str, completions: i64) -> Result<i64, String> {
    let (mut total, mut previous) = (0, None);
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let (first, last) = interval(part, completions)?;
        if let Some(previous) = previous {
            in_order(previous, first)?;
        }
        total += last - first + 1;
        previous = Some(last);
    }
    Ok(total)
}

/// The first and the last of the indexes that `2` or `2-3` names.
pub fn interval(text: &str, completions: i64) -> Result<(i64, i64), String> {
    let index = |text: &str| match text.parse::<i64>() {
        Ok(index) if index < completions => Ok(index),
        Ok(_) => Err(format!("too large index: {text:?}")),
        Err(_) => Err(format!("cannot convert string to integer for index: {text:?}")),
    };
    match text.split('-').collect::<Vec<_>>()[..] {
        [one] => index(one).map(|one| (one, one)),
        [first, last] => {
            let (first, last) = (index(first)?, index(last)?);
            in_order(first, last)?;
            Ok((first, last))
        }
        _ => Err(format!(
            "the fragment {text:?} violates the requirement that an index interval can have at most two parts separated \
             by '-'"
        )),
    }
}

fn in_order(previous: i64, current: i64) -> Result<(), String> {
    let wrong = || Err(format!("non-increasing order, previous: {previous}, current: {current}"));
    if previous < current { Ok(()) } else { wrong() }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use crate::testing;

    /// Checks an Indexed Job of three completions.
    fn check(policies: &str, expected: Expect) {
        let job = format!(
            "{{metadata: {{name: a, namespace: b}}, spec: {{completionMode: Indexed, completions: 3, {policies}, \
             manualSelector: true, selector: {{matchLabels: {{x: z}}}}, template: {{metadata: {{labels: {{x: z}}}}, \
             spec: {{restartPolicy: Never, containers: [{{name: c, image: i}}]}}}}}}}}"
        );
        testing::check("jobs", &job, expected);
    }

    #[test]
    fn failures() {
        check(
            "podReplacementPolicy: TerminatingOrFailed, podFailurePolicy: {rules: [{action: Foo}, \
             {action: FailIndex, onExitCodes: {containerName: zz, operator: X, values: []}}, \
             {action: Ignore, onExitCodes: {operator: In, values: [0, 2, 1, 1]}, onPodConditions: [{type: 'a b', status: Maybe}]}, \
             {onExitCodes: {}}]}",
            expect![[r#"
                spec.podFailurePolicy.rules[0].action: Unsupported value: "Foo": supported values: "Count", "FailIndex", "FailJob", "Ignore"
                spec.podFailurePolicy.rules[0]: Invalid value: specifying one of OnExitCodes and OnPodConditions is required
                spec.podFailurePolicy.rules[1].action: Invalid value: "FailIndex": requires the backoffLimitPerIndex to be set
                spec.podFailurePolicy.rules[1].onExitCodes.operator: Unsupported value: "X": supported values: "In", "NotIn"
                spec.podFailurePolicy.rules[1].onExitCodes.containerName: Invalid value: "zz": must be one of the container or initContainer names in the pod template
                spec.podFailurePolicy.rules[1].onExitCodes.values: Invalid value: []: at least one value is required
                spec.podFailurePolicy.rules[2].onExitCodes.values[0]: Invalid value: 0: must not be 0 for the In operator
                spec.podFailurePolicy.rules[2].onExitCodes.values[3]: Duplicate value: 1
                spec.podFailurePolicy.rules[2].onExitCodes.values: Invalid value: [0,2,1,1]: must be ordered
                spec.podFailurePolicy.rules[2].onPodConditions[0].type: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
                spec.podFailurePolicy.rules[2].onPodConditions[0].status: Unsupported value: "Maybe": supported values: "False", "True", "Unknown"
                spec.podFailurePolicy.rules[2]: Invalid value: specifying both OnExitCodes and OnPodConditions is not supported
                spec.podFailurePolicy.rules[3].action: Required value: valid values: ["Count" "FailIndex" "FailJob" "Ignore"]
                spec.podFailurePolicy.rules[3].onExitCodes.operator: Required value: valid values: ["In" "NotIn"]
                spec.podFailurePolicy.rules[3].onExitCodes.values: Invalid value: null: at least one value is required
                spec.podReplacementPolicy: Unsupported value: "TerminatingOrFailed": supported values: "Failed"
            "#]],
        );
        let many = vec!["{action: Count, onPodConditions: [{type: DisruptionTarget}]}"; 21].join(", ");
        check(
            &format!("podFailurePolicy: {{rules: [{many}]}}"),
            expect![[r#"
                spec.podFailurePolicy.rules: Too many: 21: must have at most 20 items
            "#]],
        );
        check(
            "backoffLimitPerIndex: 1, podFailurePolicy: {rules: [{action: FailIndex, onExitCodes: {containerName: c, operator: NotIn, values: [0, 42]}}]}",
            expect![[r#""#]],
        );
    }

    #[test]
    fn successes() {
        check(
            "successPolicy: {rules: []}",
            expect![[r#"
                spec.successPolicy.rules: Required value: at least one rules must be specified when the successPolicy is specified
            "#]],
        );
        check(
            "successPolicy: {rules: [{}, {succeededIndexes: '5-2,a', succeededCount: -1}, {succeededIndexes: '1,x'}, \
             {succeededIndexes: '1,0'}, {succeededIndexes: '2-1'}, {succeededIndexes: '0-1-2'}, {succeededCount: 4}, \
             {succeededIndexes: '0,1-2', succeededCount: 3}, {succeededIndexes: '0,2', succeededCount: 3}]}",
            expect![[r#"
                spec.successPolicy.rules[0]: Required value: at least one of succeededCount or succeededIndexes must be specified
                spec.successPolicy.rules[1].succeededIndexes: Invalid value: "5-2,a": error parsing succeededIndexes: too large index: "5"
                spec.successPolicy.rules[1].succeededCount: Invalid value: -1: must be greater than or equal to 0
                spec.successPolicy.rules[2].succeededIndexes: Invalid value: "1,x": error parsing succeededIndexes: cannot convert string to integer for index: "x"
                spec.successPolicy.rules[3].succeededIndexes: Invalid value: "1,0": error parsing succeededIndexes: non-increasing order, previous: 1, current: 0
                spec.successPolicy.rules[4].succeededIndexes: Invalid value: "2-1": error parsing succeededIndexes: non-increasing order, previous: 2, current: 1
                spec.successPolicy.rules[5].succeededIndexes: Invalid value: "0-1-2": error parsing succeededIndexes: the fragment "0-1-2" violates the requirement that an index interval can have at most two parts separated by '-'
                spec.successPolicy.rules[6].succeededCount: Invalid value: 4: must be less than or equal to 3 (the number of specified completions)
                spec.successPolicy.rules[8].succeededCount: Invalid value: 3: must be less than or equal to 2 (the number of indexes in the specified succeededIndexes field)
            "#]],
        );
    }
}
