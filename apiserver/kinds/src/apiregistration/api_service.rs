//! APIService: who serves a group and version: this server, or one behind a Service.

use std::borrow::Cow;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::field::{Field, FieldError};
use crate::kind::{self, Column, KindDef, Shape, Strategy, Subresource};
use crate::object::{self, get, list, text};
use crate::{names, rules};

pub const GROUP: &str = "apiregistration.k8s.io";
const SCHEMA: &str = "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1.APIService";

const MAX_GROUP_PRIORITY: i64 = 20_000;
const MAX_VERSION_PRIORITY: i64 = 1_000;

pub fn definition() -> KindDef {
    KindDef::builtin(GROUP, "v1", "APIService", "apiservices", SCHEMA)
        .cluster_scoped()
        .categories(&["api-extensions"])
        .subresources(vec![Subresource::status()])
        .columns(vec![
            Column::name(),
            Column::text("Service", |service, _| backend(service).into())
                .describe("The reference to the service that hosts this API endpoint."),
            Column::text("Available", |service, _| available(service).into())
                .describe("Whether this service is available."),
            Column::age(),
        ])
        .strategy(ApiService)
}

/// `Local`, or the Service by namespace and name.
fn backend(service: &Value) -> String {
    match get(service, &["spec", "service"]) {
        None => "Local".to_owned(),
        Some(backend) => format!("{}/{}", text(backend, &["namespace"]), text(backend, &["name"])),
    }
}

fn available(service: &Value) -> String {
    let conditions = list(service, &["status", "conditions"]);
    let Some(condition) = conditions.iter().find(|c| text(c, &["type"]) == "Available") else {
        return "Unknown".to_owned();
    };
    match (text(condition, &["status"]), text(condition, &["reason"])) {
        (status @ "True", _) | (status, "") => status.to_owned(),
        (status, reason) => format!("{status} ({reason})"),
    }
}

struct ApiService;

impl Strategy for ApiService {
    fn shape(&self) -> Shape {
        Shape::STATUS
    }

    fn prepare_for_status_update(&self, new: &mut Value, old: &Value, _now: Timestamp) {
        kind::keep_all_but_status(new, old);
    }

    fn default(&self, service: &mut Value) {
        if let Some(Value::Object(backend)) = object::get_mut(service, &["spec", "service"]) {
            object::set_default(backend, "port", 443);
        }
    }

    /// What this server serves is there at once; what is behind a Service has yet to be asked.
    fn prepare_for_create(&self, service: &mut Value) {
        service["status"] = json!({});
        let created = get(service, &["metadata", "creationTimestamp"]).cloned();
        let (status, reason, message) = match get(service, &["spec", "service"]) {
            None => ("True", "Local", Cow::Borrowed("Local APIServices are always available")),
            Some(_) => {
                let why =
                    format!("the API server does not forward requests to other servers yet: {}", backend(service));
                ("False", "AggregationNotSupported", Cow::Owned(why))
            }
        };
        service["status"]["conditions"] = json!([{"type": "Available", "status": status, "reason": reason,
            "message": message, "lastTransitionTime": created}]);
    }

    fn validate_name(&self, name: &str) -> Vec<String> {
        names::path_segment(name)
    }

    fn validate(&self, service: &Value) -> Vec<FieldError> {
        let root = Field::root(service);
        let (spec, metadata) = (root.get("spec"), root.get("metadata"));
        let mut errors = Vec::new();
        let (name, group, version) = (metadata.get("name"), spec.get("group"), spec.get("version"));
        let required = format!("{}.{}", version.text(), group.text());
        if name.text() != required {
            errors.push(name.invalid(format!("must be `spec.version+\".\"+spec.group`: {required:?}")));
        }
        if group.is_empty() && version.text() != "v1" {
            errors.push(group.required("only v1 may have an empty group and it better be legacy kube"));
        }
        rules::maybe_form(&group, names::dns_subdomain, &mut errors);
        rules::form(&version, names::dns1035_label, &mut errors);
        priority(&spec.get("groupPriorityMinimum"), MAX_GROUP_PRIORITY, &mut errors);
        priority(&spec.get("versionPriority"), MAX_VERSION_PRIORITY, &mut errors);
        transport(&spec, &mut errors);
        errors
    }

    fn validate_status_update(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        let root = Field::root(new);
        let status = root.get("status");
        let mut errors = Vec::new();
        for condition in status.get("conditions").items() {
            let status = condition.get("status");
            if !["True", "False", "Unknown"].contains(&status.text()) {
                errors.push(status.not_supported(&["True", "False", "Unknown"]));
            }
        }
        errors
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }
}

fn priority(field: &Field, max: i64, errors: &mut Vec<FieldError>) {
    let number = field.int().unwrap_or_default();
    if number <= 0 || number > max {
        errors.push(FieldError::invalid(&field.path, number, format!("must be positive and less than {max}")));
    }
}

/// How the server behind a Service is reached and recognised.
fn transport(spec: &Field, errors: &mut Vec<FieldError>) {
    let (service, bundle) = (spec.get("service"), spec.get("caBundle"));
    let insecure = spec.get("insecureSkipTLSVerify");
    let is_insecure = insecure.bool() == Some(true);
    if !service.is_set() {
        if !bundle.is_empty() {
            let text = bundle.text();
            let bytes =
                (text.len() / 4 * 3).saturating_sub(text.bytes().rev().take_while(|b| *b == b'=').count().min(2));
            let shown = format!("{bytes} bytes");
            errors.push(FieldError::invalid(&bundle.path, shown, "local APIServices may not have a caBundle"));
        }
        if is_insecure {
            errors.push(insecure.invalid("local APIServices may not have insecureSkipTLSVerify"));
        }
        return;
    }
    for name in ["namespace", "name"] {
        rules::required(&service.get(name), errors);
    }
    let port = service.get("port");
    let wrong = names::port_number(port.int().unwrap_or_default());
    if !wrong.is_empty() {
        errors.push(port.invalid(format!("port is not valid: {}", wrong.join(", "))));
    }
    if is_insecure && !bundle.is_empty() {
        errors.push(insecure.invalid("may not be true if caBundle is present"));
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::testing::{check, check_row};

    #[test]
    fn what_names_a_service_has_its_group_and_version() {
        check(
            "apiservices",
            "{metadata: {name: v1.b}, spec: {group: a.b, version: V1, caBundle: AAAA, insecureSkipTLSVerify: true}}",
            expect![[r#"
                metadata.name: Invalid value: "v1.b": must be `spec.version+"."+spec.group`: "V1.a.b"
                spec.version: Invalid value: "V1": a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')
                spec.groupPriorityMinimum: Invalid value: 0: must be positive and less than 20000
                spec.versionPriority: Invalid value: 0: must be positive and less than 1000
                spec.caBundle: Invalid value: "3 bytes": local APIServices may not have a caBundle
                spec.insecureSkipTLSVerify: Invalid value: true: local APIServices may not have insecureSkipTLSVerify
            "#]],
        );
        check(
            "apiservices",
            "{metadata: {name: v1.a.b}, spec: {group: a.b, version: v1, groupPriorityMinimum: 1, versionPriority: 1,
              service: {name: x, port: 0}}}",
            expect![[r#"
                spec.service.namespace: Required value
                spec.service.port: Invalid value: 0: port is not valid: must be between 1 and 65535, inclusive
            "#]],
        );
    }

    #[test]
    fn rows_say_who_serves() {
        check_row(
            "apiservices",
            "{metadata: {name: v1.a}, status: {conditions: [{type: Available, status: 'True', reason: Local}]}}",
            expect!["Name=v1.a | Service=Local | Available=True | Age=<unknown>"],
        );
        check_row(
            "apiservices",
            "{metadata: {name: v1.a}, spec: {service: {namespace: n, name: s}},
              status: {conditions: [{type: Available, status: 'False', reason: Why}]}}",
            expect!["Name=v1.a | Service=/s | Available=False (Why) | Age=<unknown>"],
        );
    }
}
