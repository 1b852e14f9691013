//! What validating and mutating webhooks have in common.

use serde_json::{Value, json};

use super::matching;
use crate::field::{Field, FieldError};
use crate::kind::{Column, KindDef};
use crate::{names, object, rules};

/// Seconds that a webhook may take.
const MAX_TIMEOUT_SECONDS: i64 = 30;
/// Versions of AdmissionReview that an API server speaks.
const REVIEW_VERSIONS: [&str; 2] = ["v1", "v1beta1"];

/// The row of either kind.
pub fn row(kind: &'static str, plural: &'static str, schema: &'static str) -> KindDef {
    super::row(kind, plural, schema).columns(vec![
        Column::name(),
        Column::new("Webhooks", "integer", |configuration, _| object::list(configuration, &["webhooks"]).len().into())
            .describe("Webhooks indicates the number of webhooks registered in this configuration"),
        Column::age(),
    ])
}

pub fn default(configuration: &mut Value, mutating: bool) {
    for webhook in object::list_mut(configuration, &["webhooks"]).iter_mut().filter_map(Value::as_object_mut) {
        matching::default(webhook);
        matching::default_rules(webhook.get_mut("rules"));
        object::set_default(webhook, "failurePolicy", "Fail");
        object::set_default(webhook, "timeoutSeconds", 10);
        if mutating {
            object::set_default(webhook, "reinvocationPolicy", "Never");
        }
        let service = webhook.get_mut("clientConfig").and_then(|config| config.get_mut("service"));
        if let Some(service) = service.and_then(Value::as_object_mut) {
            object::set_default(service, "port", json!(443));
        }
    }
}

pub fn validate(configuration: &Value) -> Vec<FieldError> {
    let root = Field::root(configuration);
    let mut errors = Vec::new();
    let mut seen = Vec::new();
    for webhook in root.get("webhooks").items() {
        self::webhook(&webhook, &mut errors);
        let name = webhook.get("name");
        if seen.contains(&name.text()) {
            errors.push(name.duplicate());
        }
        seen.push(name.text());
    }
    errors
}

fn webhook(webhook: &Field, errors: &mut Vec<FieldError>) {
    let name = webhook.get("name");
    if rules::required(&name, errors) {
        let labels = name.text().split('.').count();
        rules::form(&name, names::dns_subdomain, errors);
        if labels < 3 {
            errors.push(name.invalid("should be a domain with at least three segments separated by dots"));
        }
    }
    review_versions(&webhook.get("admissionReviewVersions"), errors);
    for rule in webhook.get("rules").items() {
        matching::rule(&rule, errors);
    }
    rules::maybe_one_of(&webhook.get("failurePolicy"), &["Fail", "Ignore"], errors);
    matching::selectors(webhook, errors);
    let side_effects = webhook.get("sideEffects");
    if side_effects.is_empty() {
        errors.push(side_effects.required("must specify one of None, NoneOnDryRun"));
    } else {
        rules::one_of(&side_effects, &["None", "NoneOnDryRun"], errors);
    }
    let timeout = webhook.get("timeoutSeconds");
    if timeout.int().is_some_and(|seconds| !(1..=MAX_TIMEOUT_SECONDS).contains(&seconds)) {
        errors.push(timeout.invalid("the timeout value must be between 1 and 30 seconds"));
    }
    rules::maybe_one_of(&webhook.get("reinvocationPolicy"), &["IfNeeded", "Never"], errors);
    client_config(&webhook.get("clientConfig"), errors);
    matching::conditions(&webhook.get("matchConditions"), errors);
}

fn review_versions(versions: &Field, errors: &mut Vec<FieldError>) {
    let known = REVIEW_VERSIONS.join(", ");
    if versions.is_empty() {
        errors.push(versions.required(format!("must specify one of {known}")));
        return;
    }
    let mut seen = Vec::new();
    for version in versions.items() {
        rules::form(&version, names::dns1035_label, errors);
        if seen.contains(&version.text()) {
            errors.push(version.invalid("duplicate version"));
        }
        seen.push(version.text());
    }
    if !seen.iter().any(|version| REVIEW_VERSIONS.contains(version)) {
        errors.push(versions.invalid(format!("must include at least one of {known}")));
    }
}

/// Where a webhook is: a URL, or a Service.
pub fn client_config(config: &Field, errors: &mut Vec<FieldError>) {
    let (url, service) = (config.get("url"), config.get("service"));
    if url.is_set() == service.is_set() {
        errors.push(config.required("exactly one of url or service is required"));
    } else if url.is_set() {
        webhook_url(&url, errors);
    } else {
        for (name, detail) in [("name", "service name is required"), ("namespace", "service namespace is required")] {
            if service.get(name).is_empty() {
                errors.push(service.get(name).required(detail));
            }
        }
        let port = service.get("port");
        if let Some(number) = port.int() {
            let wrong = names::port_number(number).into_iter();
            errors.extend(wrong.map(|wrong| port.invalid(format!("port is not valid: {wrong}"))));
        }
        let path = service.get("path");
        if path.is_set() {
            service_path(&path, errors);
        }
    }
}

fn webhook_url(url: &Field, errors: &mut Vec<FieldError>) {
    const FORM: &str = "; desired format: https://host[/path]";
    let text = url.text();
    let Some(rest) = text.strip_prefix("https://") else {
        errors.push(url.invalid(format!("'https' is the only allowed URL scheme{FORM}")));
        return;
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.is_empty() {
        errors.push(url.invalid(format!("host must be specified{FORM}")));
    }
    for (found, detail) in [
        (authority.contains('@'), "user information is not permitted in the URL"),
        (rest.contains('#'), "fragments are not permitted in the URL"),
        (rest.contains('?'), "query parameters are not permitted in the URL"),
    ] {
        if found {
            errors.push(url.invalid(detail));
        }
    }
}

fn service_path(path: &Field, errors: &mut Vec<FieldError>) {
    let Some(below) = path.text().strip_prefix('/') else {
        errors.push(path.invalid("must start with a '/'"));
        return;
    };
    let below = below.strip_suffix('/').unwrap_or(below);
    for (index, segment) in below.split('/').enumerate().filter(|_| !below.is_empty()) {
        if segment.is_empty() {
            errors.push(path.invalid(format!("segment[{index}] may not be empty")));
            continue;
        }
        let wrong = names::dns_subdomain(segment).into_iter();
        errors.extend(wrong.map(|wrong| path.invalid(format!("segment[{index}]: {wrong}"))));
    }
}
