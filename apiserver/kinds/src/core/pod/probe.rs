//! Rules of probes and lifecycle handlers.

use crate::field::{Field, FieldError};
use crate::rules;

/// Checks everything of a container that is called while it runs.
///
/// `grace` is what the pod has to end, in seconds.
pub fn container(container: &Field, grace: Option<i64>, errors: &mut Vec<FieldError>) {
    for hook in ["postStart", "preStop"] {
        let lifecycle = container.get("lifecycle");
        let hook = lifecycle.get(hook);
        if hook.is_set() {
            handler(&hook, &["exec", "httpGet", "tcpSocket", "sleep"], errors);
            sleep(&hook.get("sleep"), grace, errors);
        }
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let probe = container.get(name);
        if !probe.is_set() {
            continue;
        }
        self::probe(&probe, errors);
        let (threshold, grace) = (probe.get("successThreshold"), probe.get("terminationGracePeriodSeconds"));
        if name != "readinessProbe" && threshold.int() != Some(1) {
            errors.push(FieldError::invalid(&threshold.path, threshold.int().unwrap_or_default(), "must be 1"));
        }
        if name == "readinessProbe" && grace.is_set() {
            errors.push(grace.invalid("must not be set for readinessProbes"));
        }
    }
}

fn probe(probe: &Field, errors: &mut Vec<FieldError>) {
    handler(probe, &["exec", "httpGet", "tcpSocket", "grpc"], errors);
    for name in ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"] {
        rules::not_negative(&probe.get(name), errors);
    }
    let grace = probe.get("terminationGracePeriodSeconds");
    if grace.int().is_some_and(|s| s <= 0) {
        errors.push(grace.invalid("must be greater than 0"));
    }
}

fn handler(handler: &Field, supported: &[&str], errors: &mut Vec<FieldError>) {
    let mut first = None;
    for name in supported {
        let action = handler.get(name);
        if !action.is_set() {
            continue;
        }
        if first.is_some() {
            errors.push(action.forbidden("may not specify more than 1 handler type"));
            continue;
        }
        first = Some(*name);
        match *name {
            "exec" => {
                rules::required(&action.get("command"), errors);
            }
            "httpGet" => http(&action, errors),
            "tcpSocket" => rules::port_or_name(&action.get("port"), errors),
            "grpc" => rules::port(&action.get("port"), errors),
            _ => {}
        }
    }
    if first.is_none() {
        errors.push(handler.required("must specify a handler type"));
    }
}

/// A container cannot sleep longer than it has to end.
fn sleep(sleep: &Field, grace: Option<i64>, errors: &mut Vec<FieldError>) {
    let (seconds, Some(grace)) = (sleep.get("seconds").int().unwrap_or_default(), grace) else { return };
    if sleep.is_set() && (seconds < 0 || seconds > grace) {
        let detail = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
        errors.push(FieldError::invalid(&sleep.path, seconds, detail));
    }
}

fn http(action: &Field, errors: &mut Vec<FieldError>) {
    rules::required(&action.get("path"), errors);
    rules::port_or_name(&action.get("port"), errors);
    rules::one_of(&action.get("scheme"), &["HTTP", "HTTPS"], errors);
    for header in action.get("httpHeaders").items() {
        let name = header.get("name").text();
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
            let wrong = "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex \
                         used for validation is '[-A-Za-z0-9]+')";
            errors.push(FieldError::invalid(&action.path.child("httpHeaders"), name, wrong));
        }
    }
}
