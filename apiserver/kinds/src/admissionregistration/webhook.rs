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
        review_versions(&webhook.get("admissionReviewVersions"), &mut errors);
        let name = webhook.get("name");
        if !name.is_empty() && seen.contains(&name.text()) {
            errors.push(name.duplicate());
        }
        seen.push(name.text());
    }
    errors
}

fn webhook(webhook: &Field, errors: &mut Vec<FieldError>) {
    let name = webhook.get("name");
    if rules::required(&name, errors) {
        let wrong = names::dns_subdomain(name.text());
        if !wrong.is_empty() {
            errors.push(name.invalid(wrong.join(",")));
        } else if name.text().split('.').count() < 3 {
            errors.push(name.invalid("should be a domain with at least three segments separated by dots"));
        }
    }
    for rule in webhook.get("rules").items() {
        matching::rule(&rule, errors);
    }
    rules::maybe_one_of(&webhook.get("failurePolicy"), &["Fail", "Ignore"], errors);
    rules::maybe_one_of(&webhook.get("matchPolicy"), &["Equivalent", "Exact"], errors);
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
    for name in ["namespaceSelector", "objectSelector"] {
        rules::label_selector(&webhook.get(name), errors);
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
        if seen.contains(&version.text()) {
            errors.push(version.invalid("duplicate version"));
            continue;
        }
        rules::form(&version, names::dns1035_label, errors);
        seen.push(version.text());
    }
    if !seen.iter().any(|version| REVIEW_VERSIONS.contains(version)) {
        errors.push(versions.invalid(format!("must include at least one of {known}")));
    }
}

/// Where a webhook is: a URL, or a Service.
fn client_config(config: &Field, errors: &mut Vec<FieldError>) {
    let (url, service) = (config.get("url"), config.get("service"));
    if url.is_set() == service.is_set() {
        errors.push(config.required("exactly one of url or service is required"));
    } else if url.is_set() {
        self::url(&url, errors);
    } else {
        self::service(&service, errors);
    }
}

/// `https://host[/path]`, and nothing else. What is wrong is shown alone.
pub fn url(url: &Field, errors: &mut Vec<FieldError>) {
    const FORM: &str = "; desired format: https://host[/path]";
    let (text, fragment) = url.text().split_once('#').unwrap_or((url.text(), ""));
    let (scheme, rest) = match text.split_once(':') {
        Some((scheme, rest)) if scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && !scheme.contains('/') => {
            (scheme.to_lowercase(), rest)
        }
        _ => (String::new(), text),
    };
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = rest.strip_prefix("//").map(|below| below.split('/').next().unwrap_or_default());
    let (user, host) = authority.unwrap_or_default().rsplit_once('@').unwrap_or(("", authority.unwrap_or_default()));
    if let Some(wrong) = host.chars().find(|c| " \\^`{|}".contains(*c)) {
        let text = url.text();
        let detail = format!("parse {text:?}: invalid character \"{wrong}\" in host name{FORM}");
        return errors.push(url.required(format!("url must be a valid URL: {detail}")));
    }
    let mut invalid = |shown: &str, detail: String| errors.push(FieldError::invalid(&url.path, shown, detail));
    if scheme != "https" {
        invalid(&scheme, format!("'https' is the only allowed URL scheme{FORM}"));
    }
    if host.is_empty() {
        invalid(host, format!("host must be specified{FORM}"));
    }
    for (shown, detail) in [
        (user, "user information is not permitted in the URL"),
        (fragment, "fragments are not permitted in the URL"),
        (query, "query parameters are not permitted in the URL"),
    ] {
        if !shown.is_empty() {
            invalid(shown, detail.to_owned());
        }
    }
}

/// A Service that a webhook is behind. Kubernetes takes its name for its namespace here, and the other way round.
pub fn service(service: &Field, errors: &mut Vec<FieldError>) {
    for (name, told) in [("namespace", "name"), ("name", "namespace")] {
        if service.get(name).is_empty() {
            errors.push(service.get(told).required(""));
        }
    }
    let port = service.get("port");
    if let Some(number) = port.int() {
        let wrong = names::port_number(number);
        if !wrong.is_empty() {
            errors.push(port.invalid(format!("port is not valid: {}", wrong.join(", "))));
        }
    }
    service_path(&service.get("path"), errors);
}

fn service_path(path: &Field, errors: &mut Vec<FieldError>) {
    let text = path.text();
    match text {
        "" | "/" => return,
        "//" => return errors.push(path.invalid("segment[0] may not be empty")),
        _ => {}
    }
    if !text.starts_with('/') {
        errors.push(path.invalid("must start with a '/'"));
    }
    let mut below = text.chars();
    below.next();
    let below = below.as_str();
    for (index, segment) in below.strip_suffix('/').unwrap_or(below).split('/').enumerate() {
        if segment.is_empty() {
            errors.push(path.invalid(format!("segment[{index}] may not be empty")));
            continue;
        }
        let wrong = names::dns_subdomain(segment).into_iter();
        errors.extend(wrong.map(|wrong| path.invalid(format!("segment[{index}]: {wrong}"))));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_wrong_with_a_url_is_told() {
        let cases = [
            ("https://a.b/c", ""),
            (
                "http://a",
                "u: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired format: https://host[/path]",
            ),
            ("https:///a", "u: Invalid value: \"\": host must be specified; desired format: https://host[/path]"),
            ("https://u:p@a", "u: Invalid value: \"u:p\": user information is not permitted in the URL"),
            ("https://a?b", "u: Invalid value: \"b\": query parameters are not permitted in the URL"),
            ("https://a#b", "u: Invalid value: \"b\": fragments are not permitted in the URL"),
            (
                "https://a b",
                "u: Required value: url must be a valid URL: parse \"https://a b\": invalid character \" \" in host name; desired format: https://host[/path]",
            ),
        ];
        for (text, expected) in cases {
            let value = json!({"u": text});
            let mut errors = Vec::new();
            url(&Field::root(&value).get("u"), &mut errors);
            assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"), expected, "{text}");
        }
    }
}
