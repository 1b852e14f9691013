//! Event: a report of something that happened in the cluster.

use jiff::Timestamp;
use serde_json::Value;

use crate::age;
use crate::field::{Field, FieldError, FieldPath};
use crate::kind::{Column, KindDef, SelectableField, Strategy};
use crate::object::{get, int, text};
use crate::{names, rules};

pub fn definition() -> KindDef {
    KindDef::builtin("", "v1", "Event", "events", "io.k8s.api.core.v1.Event")
        .short_names(&["ev"])
        .columns(columns())
        .selectable(selectable())
        .strategy(Event)
}

fn selectable() -> Vec<SelectableField> {
    let mut fields: Vec<SelectableField> = [
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "type",
    ]
    .map(SelectableField::at)
    .into();
    fields.push(SelectableField::at("reportingComponent"));
    fields.push(SelectableField::computed("source", |event| component(event).to_owned()));
    fields
}

/// The text at the first of these paths that has one: the two spellings of an event differ in names alone.
fn either<'v>(event: &'v Value, paths: &[&[&str]]) -> &'v str {
    paths.iter().map(|path| text(event, path)).find(|t| !t.is_empty()).unwrap_or_default()
}

fn component(event: &Value) -> &str {
    let paths: &[&[&str]] = &[
        &["source", "component"],
        &["deprecatedSource", "component"],
        &["reportingComponent"],
        &["reportingController"],
    ];
    either(event, paths)
}

/// The columns of events, in either spelling.
pub(crate) fn columns() -> Vec<Column> {
    vec![
        Column::text("Last Seen", |event, context| last_seen(event, context.now).into())
            .describe("The time at which the most recent occurrence of this event was recorded."),
        Column::at("Type", "string", "type")
            .describe("Type of this event (Normal, Warning), new types could be added in the future"),
        Column::at("Reason", "string", "reason").describe("A short, machine understandable reason for this event."),
        Column::text("Object", |event, _| object(event).into()).describe("The object that this event is about."),
        Column::text("Subobject", |event, _| about(event, "fieldPath").into()).wide(),
        Column::text("Source", |event, _| source(event).into()).describe("The component reporting this event.").wide(),
        Column::text("Message", |event, _| either(event, &[&["message"], &["note"]]).trim().into())
            .describe("A human-readable description of the status of this operation."),
        Column::text("First Seen", |event, context| first_seen(event, context.now).into()).wide(),
        Column::new("Count", "string", |event, _| count(event).into())
            .describe("The number of times this event has occurred.")
            .wide(),
        Column { priority: 1, ..Column::name() },
    ]
}

fn about<'v>(event: &'v Value, field: &str) -> &'v str {
    either(event, &[&["involvedObject", field], &["regarding", field]])
}

fn first_seen(event: &Value, now: Timestamp) -> String {
    let time = either(event, &[&["firstTimestamp"], &["deprecatedFirstTimestamp"], &["eventTime"]]);
    age::since(Some(time), now)
}

fn last_seen(event: &Value, now: Timestamp) -> String {
    let paths: &[&[&str]] = &[&["series", "lastObservedTime"], &["lastTimestamp"], &["deprecatedLastTimestamp"]];
    match either(event, paths) {
        "" => first_seen(event, now),
        time => age::since(Some(time), now),
    }
}

fn object(event: &Value) -> String {
    let (kind, name) = (about(event, "kind").to_lowercase(), about(event, "name"));
    if name.is_empty() { kind } else { format!("{kind}/{name}") }
}

fn source(event: &Value) -> String {
    let host = either(event, &[&["source", "host"], &["deprecatedSource", "host"], &["reportingInstance"]]);
    let component = component(event);
    if host.is_empty() { component.to_owned() } else { format!("{component}, {host}") }
}

fn count(event: &Value) -> i64 {
    match get(event, &["series"]) {
        Some(series) => int(series, &["count"]),
        None => int(event, &["count"]).max(int(event, &["deprecatedCount"])).max(1),
    }
}

/// What reports in the newer form say at most, in bytes.
const MAX_BYTES: usize = 128;
const MESSAGE_MAX_BYTES: usize = 1024;

struct Event;

impl Strategy for Event {
    fn validate_name(&self, name: &str) -> Vec<String> {
        names::path_segment(name)
    }

    fn validate(&self, event: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        basics(&Field::root(event), "involvedObject", "reportingComponent", "message", &mut errors);
        errors
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }
}

/// Checks what every event is held to, whichever group it is written in; the fields that differ are given by name. Reports
/// in the newer form say when, who reports, and what was done.
pub(crate) fn basics(event: &Field, object: &str, reporter: &str, message: &str, errors: &mut Vec<FieldError>) {
    if !event.get("eventTime").is_set() {
        namespaces(event, object, errors);
    } else {
        // Kubernetes names the fields of the core group whatever group it is.
        let path = FieldPath::new("involvedObject");
        let own = event.get("metadata").get("namespace").text();
        let of_object = event.get(object).get("namespace").text();
        if of_object.is_empty() && !matches!(own, "default" | "kube-system") {
            errors.push(FieldError::invalid(&path.child("namespace"), "", "does not match event.namespace"));
        }
        let controller = event.get(reporter);
        rules::required(&controller, errors);
        rules::form(&controller, names::qualified_name, errors);
        for name in ["reportingInstance", "action", "reason"] {
            let field = event.get(name);
            rules::required(&field, errors);
            at_most(MAX_BYTES, field.text(), &field.path, errors);
        }
        at_most(MESSAGE_MAX_BYTES, event.get(message).text(), &FieldPath::new("message"), errors);
    }
    let namespace = event.get("metadata").get("namespace").text();
    let (path, wrong) = (FieldPath::new("namespace"), names::dns_subdomain(namespace).into_iter());
    errors.extend(wrong.map(|wrong| FieldError::invalid(&path, namespace, wrong)));
}

fn at_most(bytes: usize, text: &str, path: &FieldPath, errors: &mut Vec<FieldError>) {
    if text.len() > bytes {
        errors.push(FieldError::invalid(path, "", format!("can have at most {bytes} characters")));
    }
}

/// An event lives in the namespace of its object; events of cluster-scoped objects in `default`.
fn namespaces(event: &Field, object: &str, errors: &mut Vec<FieldError>) {
    let metadata = event.get("metadata");
    let (own, object) = (metadata.get("namespace").text(), event.get(object));
    let of_object = object.get("namespace").text();
    let fits = match of_object {
        "" => matches!(own, "" | "default"),
        namespace => namespace == own,
    };
    if !fits {
        let path = FieldPath::new("involvedObject");
        errors.push(FieldError::invalid(&path.child("namespace"), of_object, "does not match event.namespace"));
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::testing::{check, check_row};

    #[test]
    fn namespaces() {
        check(
            "events",
            "{metadata: {name: a, namespace: b}, involvedObject: {namespace: c}}",
            expect![[r#"
            involvedObject.namespace: Invalid value: "c": does not match event.namespace
        "#]],
        );
        check("events", "{metadata: {name: a, namespace: default}, involvedObject: {kind: Node}}", expect![[r#""#]]);
        check(
            "events",
            "{metadata: {name: A_b, namespace: b}, involvedObject: {namespace: b}, eventTime: x, type: Odd}",
            expect![[r#"
                reportingComponent: Required value
                reportingComponent: Invalid value: "": name part must be non-empty
                reportingComponent: Invalid value: "": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
                reportingInstance: Required value
                action: Required value
                reason: Required value
            "#]],
        );
        let long = "x".repeat(129);
        check(
            "events",
            &format!(
                "{{metadata: {{name: a, namespace: b}}, eventTime: x, reportingComponent: a/b, reportingInstance: {long}, \
                 action: {long}, reason: {long}, message: {}}}",
                long.repeat(8)
            ),
            expect![[r#"
                involvedObject.namespace: Invalid value: "": does not match event.namespace
                reportingInstance: Invalid value: "": can have at most 128 characters
                action: Invalid value: "": can have at most 128 characters
                reason: Invalid value: "": can have at most 128 characters
                message: Invalid value: "": can have at most 1024 characters
            "#]],
        );
    }

    #[test]
    fn row() {
        check_row(
            "events",
            r#"
            metadata: {name: e}
            involvedObject: {kind: Pod, name: a, fieldPath: "spec.containers{c}"}
            type: Warning
            reason: BackOff
            message: "Back-off restarting failed container "
            source: {component: kubelet, host: node}
            firstTimestamp: "2026-01-01T00:00:00Z"
            lastTimestamp: "2026-01-01T00:59:00Z"
            count: 4
            "#,
            expect![
                "Last Seen=60s | Type=Warning | Reason=BackOff | Object=pod/a | Subobject=spec.containers{c} | Source=kubelet, node | Message=Back-off restarting failed container | First Seen=60m | Count=4 | Name=e"
            ],
        );
    }
}
