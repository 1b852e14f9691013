//! CertificateSigningRequest: a wish for a certificate, and what became of it.

use std::cmp::Ordering;
use std::collections::HashSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::pem;
use crate::field::{Field, FieldError};
use crate::kind::{self, Column, KindDef, SelectableField, Shape, Strategy, Subresource};
use crate::object::{self, get, list, text};
use crate::{age, names, rules};

pub fn definition() -> KindDef {
    let schema = "io.k8s.api.certificates.v1.CertificateSigningRequest";
    let approval = Subresource::of_parent("approval", &["get", "patch", "update"]);
    KindDef::builtin("certificates.k8s.io", "v1", "CertificateSigningRequest", "certificatesigningrequests", schema)
        .cluster_scoped()
        .short_names(&["csr"])
        .subresources(vec![approval, Subresource::status()])
        .columns(vec![
            Column::name(),
            Column::age(),
            Column::at("SignerName", "string", "spec.signerName"),
            Column::at("Requestor", "string", "spec.username"),
            Column::text("RequestedDuration", |request, _| match get(request, &["spec", "expirationSeconds"]) {
                Some(seconds) => age::human(seconds.as_i64().unwrap_or_default()).into(),
                None => "<none>".into(),
            }),
            Column::text("Condition", |request, _| condition(request).into()),
        ])
        .selectable(vec![SelectableField::at("spec.signerName")])
        .strategy(CertificateSigningRequest)
}

/// `Pending`, `Approved,Issued`, `Denied`.
fn condition(request: &Value) -> String {
    let conditions = list(request, &["status", "conditions"]);
    let has = |type_: &str| conditions.iter().any(|c| text(c, &["type"]) == type_);
    let decided = match (has("Denied"), has("Approved")) {
        (true, _) => "Denied",
        (false, true) => "Approved",
        (false, false) => "Pending",
    };
    let mut shown = vec![decided];
    if has("Failed") {
        shown.push("Failed");
    }
    if !text(request, &["status", "certificate"]).is_empty() {
        shown.push("Issued");
    }
    shown.join(",")
}

struct CertificateSigningRequest;

impl Strategy for CertificateSigningRequest {
    fn shape(&self) -> Shape {
        Shape::STATUS
    }

    /// Any name will do that can stand in a path.
    fn validate_name(&self, name: &str) -> Vec<String> {
        names::path_segment(name)
    }

    fn prepare_for_create(&self, request: &mut Value) {
        kind::prepare_for_create(self.shape(), request);
        if let Some(object) = request.as_object_mut() {
            object.insert("status".to_owned(), json!({}));
        }
    }

    /// What was asked for stays; only `/approval` and `/status` move it on.
    fn prepare_for_update(&self, new: &mut Value, old: &Value) {
        kind::prepare_for_update(self.shape(), new, old);
        object::keep(new, old, "spec");
    }

    fn validate(&self, request: &Value) -> Vec<FieldError> {
        const USAGES: &[&str] = &[
            "any",
            "cert sign",
            "client auth",
            "code signing",
            "content commitment",
            "crl sign",
            "data encipherment",
            "decipher only",
            "digital signature",
            "email protection",
            "encipher only",
            "ipsec end system",
            "ipsec tunnel",
            "ipsec user",
            "key agreement",
            "key encipherment",
            "microsoft sgc",
            "netscape sgc",
            "ocsp signing",
            "s/mime",
            "server auth",
            "signing",
            "timestamping",
        ];
        const MIN_SECONDS: i64 = 600;
        let root = Field::root(request);
        let spec = root.get("spec");
        let mut errors = Vec::new();
        let request = spec.get("request");
        errors.extend(pem::wrong_request(&decoded(&request)).map(|wrong| request.invalid(wrong)));
        let usages = spec.get("usages");
        if usages.is_empty() {
            errors.push(usages.required(""));
        }
        let mut seen = HashSet::new();
        for usage in usages.items() {
            if !USAGES.contains(&usage.text()) {
                errors.push(usage.not_supported(USAGES));
            }
            if !seen.insert(usage.text()) {
                errors.push(usage.duplicate());
            }
        }
        signer_name(&spec.get("signerName"), &mut errors);
        let seconds = spec.get("expirationSeconds");
        if seconds.int().is_some_and(|s| s < MIN_SECONDS) {
            errors.push(seconds.invalid("may not specify a duration less than 600 seconds (10 minutes)"));
        }
        errors
    }

    /// Nothing is left to be checked: spec and status stay.
    fn validate_update(&self, _new: &Value, _old: &Value) -> Vec<FieldError> {
        Vec::new()
    }

    /// `/status` leaves what was decided as it is.
    fn prepare_for_status_update(&self, new: &mut Value, old: &Value, now: Timestamp) {
        kind::prepare_for_status_update(new, old);
        for kind in DECISIONS {
            let before = of_type(old, kind);
            let conditions = object::list_mut(new, &["status", "conditions"]).iter_mut();
            let decided: Vec<&mut Value> = conditions.filter(|condition| text(condition, &["type"]) == kind).collect();
            // Some more or fewer are an error.
            if decided.len() == before.len() {
                decided.into_iter().zip(before).for_each(|(condition, before)| condition.clone_from(before));
            }
        }
        date_all(new, old, now);
    }

    /// `/approval` writes conditions.
    fn prepare_for_subresource_update(&self, _subresource: &str, new: &mut Value, old: &Value, now: Timestamp) {
        kind::prepare_for_status_update(new, old);
        let certificate = get(old, &["status", "certificate"]).cloned();
        if let Some(status) = object::ensure(new, &["status"]) {
            match certificate {
                Some(certificate) => status.insert("certificate".to_owned(), certificate),
                None => status.remove("certificate"),
            };
        }
        date_all(new, old, now);
    }

    fn validate_subresource_update(&self, _subresource: &str, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        conditions(new, old, &mut errors);
        errors
    }

    fn validate_status_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let root = Field::root(new);
        let status = root.get("status");
        let mut errors = Vec::new();
        conditions(new, old, &mut errors);
        for kind in DECISIONS {
            let (now, before) = (of_type(new, kind), of_type(old, kind));
            let detail = match now.len().cmp(&before.len()) {
                Ordering::Greater => format!("updates may not add a condition of type {kind:?}"),
                Ordering::Equal if now != before => format!("updates may not modify a condition of type {kind:?}"),
                _ => continue,
            };
            errors.push(status.get("conditions").forbidden(detail));
        }
        let certificate = status.get("certificate");
        let before = text(old, &["status", "certificate"]);
        if certificate.text() == before {
            return errors;
        }
        if !certificate.is_empty()
            && let Some(wrong) = pem::wrong_certificates(&decoded(&certificate))
        {
            errors.push(FieldError::invalid(&certificate.path, "<certificate data>", wrong));
        }
        if !before.is_empty() {
            errors.push(certificate.forbidden("updates may not modify existing certificate content"));
        }
        errors
    }
}

/// What stands in a field of bytes, as text.
fn decoded(field: &Field) -> String {
    String::from_utf8_lossy(&STANDARD.decode(field.text()).unwrap_or_default()).into_owned()
}

fn of_type<'v>(request: &'v Value, kind: &str) -> Vec<&'v Value> {
    list(request, &["status", "conditions"]).iter().filter(|condition| text(condition, &["type"]) == kind).collect()
}

/// `DOMAIN/PATH`, of a domain with a dot in it; not the one that only versions before this one know.
fn signer_name(signer: &Field, errors: &mut Vec<FieldError>) {
    const LEGACY: &str = "kubernetes.io/legacy-unknown";
    if signer.text() == LEGACY {
        return errors.push(signer.invalid("the legacy signerName is not allowed via this API version"));
    }
    rules::signer_name(signer, errors);
}

/// What `/approval` is for.
const DECISIONS: [&str; 2] = ["Approved", "Denied"];

/// Conditions are well formed, and none that says how the request ended goes away.
fn conditions(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let root = Field::root(new);
    let status = root.get("status");
    let conditions = status.get("conditions");
    let decided = |request| DECISIONS.map(|kind| !of_type(request, kind).is_empty()) == [true, true];
    let (mut seen, may_be_both) = (HashSet::new(), decided(old));
    for condition in conditions.items() {
        let (kind, value) = (condition.get("type"), condition.get("status"));
        rules::required(&kind, errors);
        if DECISIONS.contains(&kind.text()) || kind.text() == "Failed" {
            rules::one_of(&value, &["True"], errors);
        } else {
            rules::one_of(&value, &["False", "True", "Unknown"], errors);
        }
        let other = match kind.text() {
            "Approved" => Some("Denied"),
            "Denied" => Some("Approved"),
            _ => None,
        };
        if !may_be_both && other.is_some_and(|other| seen.contains(other)) {
            errors.push(kind.invalid("Approved and Denied conditions are mutually exclusive"));
        }
        if !seen.insert(kind.text()) {
            errors.push(kind.duplicate());
        }
    }
    for kind in ["Approved", "Denied", "Failed"] {
        if of_type(new, kind).len() < of_type(old, kind).len() {
            errors.push(conditions.forbidden(format!("updates may not remove a condition of type {kind:?}")));
        }
    }
}

fn date_all(new: &mut Value, old: &Value, now: Timestamp) {
    let before = list(old, &["status", "conditions"]);
    for condition in object::list_mut(new, &["status", "conditions"]) {
        date(condition, before, now);
    }
}

/// Says when a condition was written and when it last changed, where its writer does not.
fn date(condition: &mut Value, before: &[Value], now: Timestamp) {
    let same = |other: &&Value| ["type", "status"].iter().all(|field| other.get(field) == condition.get(field));
    let since = before.iter().find(same).map(|other| text(other, &["lastTransitionTime"]).to_owned());
    let Some(condition) = condition.as_object_mut() else { return };
    let now = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    object::set_default(condition, "lastUpdateTime", now.clone());
    object::set_default(condition, "lastTransitionTime", since.filter(|since| !since.is_empty()).unwrap_or(now));
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::certificates::pem::tests::{certificate, request};
    use crate::testing::{check, check_row, yaml};

    /// A request that is right but for what is given.
    fn asked(more: &str) -> String {
        format!("{{metadata: {{name: A_b}}, spec: {{request: {}, {more}}}}}", STANDARD.encode(request()))
    }

    #[test]
    fn conditions_and_certificates_are_decided_on_once() {
        let with = |conditions: &str, certificate: &str| {
            yaml(&format!(
                "{{status: {{conditions: [{conditions}], certificate: '{}'}}}}",
                STANDARD.encode(certificate)
            ))
        };
        let (approved, denied) = ("{type: Approved, status: 'True'}", "{type: Denied, status: 'True'}");
        let told = |errors: Vec<FieldError>| errors.iter().map(ToString::to_string).collect::<Vec<_>>();
        let status = |new: &Value, old: &Value| told(CertificateSigningRequest.validate_status_update(new, old));
        let approval = |new: &Value, old: &Value| {
            told(CertificateSigningRequest.validate_subresource_update("approval", new, old))
        };
        let (before, signed) = (with(approved, ""), with(approved, &certificate()));
        assert_eq!(status(&signed, &before), [""; 0]);
        assert_eq!(
            status(&with(approved, "x"), &signed),
            [
                r#"status.certificate: Invalid value: "<certificate data>": must contain at least one CERTIFICATE PEM block"#,
                "status.certificate: Forbidden: updates may not modify existing certificate content",
            ]
        );
        assert_eq!(
            status(&with("{type: Approved, status: 'True', reason: R}", ""), &before),
            [r#"status.conditions: Forbidden: updates may not modify a condition of type "Approved""#]
        );
        assert_eq!(
            status(&before, &with("", "")),
            [r#"status.conditions: Forbidden: updates may not add a condition of type "Approved""#]
        );
        let odd = with(
            &format!("{denied}, {approved}, {denied}, {{type: X}}, {{status: Odd}}, {{type: Failed, status: 'False'}}"),
            "",
        );
        assert_eq!(
            approval(&odd, &with("", "")),
            [
                r#"status.conditions[1].type: Invalid value: "Approved": Approved and Denied conditions are mutually exclusive"#,
                r#"status.conditions[2].type: Invalid value: "Denied": Approved and Denied conditions are mutually exclusive"#,
                r#"status.conditions[2].type: Duplicate value: "Denied""#,
                "status.conditions[3].status: Required value",
                "status.conditions[4].type: Required value",
                r#"status.conditions[4].status: Unsupported value: "Odd": supported values: "False", "True", "Unknown""#,
                r#"status.conditions[5].status: Unsupported value: "False": supported values: "True""#,
            ]
        );
        assert_eq!(
            approval(&with("", ""), &before),
            [r#"status.conditions: Forbidden: updates may not remove a condition of type "Approved""#]
        );
    }

    #[test]
    fn conditions_are_dated_and_decisions_kept() {
        let at = |type_: &str, status: &str, time: &str| {
            let times =
                ["lastUpdateTime", "lastTransitionTime"].map(|name| format!(", {name}: '2026-01-0{time}T00:00:00Z'"));
            let times = if time.is_empty() { String::new() } else { times.concat() };
            format!("{{type: {type_}, status: '{status}'{times}}}")
        };
        let with = |conditions: &[String]| yaml(&format!("{{status: {{conditions: [{}]}}}}", conditions.join(", ")));
        let old = with(&[at("Approved", "True", "1"), at("Own", "True", "1")]);
        let mut new = with(&[at("Approved", "True", ""), at("Own", "True", ""), at("Failed", "True", "")]);
        CertificateSigningRequest.prepare_for_status_update(&mut new, &old, "2026-01-02T00:00:00Z".parse().unwrap());
        let dates = |condition: &Value| {
            let [written, since] =
                ["lastUpdateTime", "lastTransitionTime"].map(|name| text(condition, &[name])[..10].to_owned());
            format!("{} {written} {since}", text(condition, &["type"]))
        };
        assert_eq!(
            list(&new, &["status", "conditions"]).iter().map(dates).collect::<Vec<_>>(),
            ["Approved 2026-01-01 2026-01-01", "Own 2026-01-02 2026-01-01", "Failed 2026-01-02 2026-01-02"]
        );
    }

    #[test]
    fn rules() {
        check("certificatesigningrequests", &asked("usages: [any], signerName: a.b/c"), expect![""]);
        check(
            "certificatesigningrequests",
            &asked("usages: []"),
            expect![[r#"
                spec.usages: Required value
                spec.signerName: Required value
            "#]],
        );
        check(
            "certificatesigningrequests",
            "{metadata: {name: a}, spec: {request: eA==, usages: [odd], signerName: x, expirationSeconds: 1}}",
            expect![[r#"
                spec.request: Invalid value: "eA==": PEM block type must be CERTIFICATE REQUEST
                spec.usages[0]: Unsupported value: "odd": supported values: "any", "cert sign", "client auth", "code signing", "content commitment", "crl sign", "data encipherment", "decipher only", "digital signature", "email protection", "encipher only", "ipsec end system", "ipsec tunnel", "ipsec user", "key agreement", "key encipherment", "microsoft sgc", "netscape sgc", "ocsp signing", "s/mime", "server auth", "signing", "timestamping"
                spec.signerName: Invalid value: "x": must be a fully qualified domain and path of the form 'example.com/signer-name'
                spec.expirationSeconds: Invalid value: 1: may not specify a duration less than 600 seconds (10 minutes)
            "#]],
        );
        check(
            "certificatesigningrequests",
            &asked("usages: [any, any], signerName: kubernetes.io/legacy-unknown"),
            expect![[r#"
                spec.usages[1]: Duplicate value: "any"
                spec.signerName: Invalid value: "kubernetes.io/legacy-unknown": the legacy signerName is not allowed via this API version
            "#]],
        );
        check(
            "certificatesigningrequests",
            &asked("usages: [any], signerName: a_b/c_d"),
            expect![[r#"
                spec.signerName: Invalid value: "a_b": validating label "a_b": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
                spec.signerName: Invalid value: "a_b": should be a domain with at least two segments separated by dots
                spec.signerName: Invalid value: "c_d": validating label "c_d": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            "#]],
        );
        check_row(
            "certificatesigningrequests",
            "{metadata: {name: a}, spec: {signerName: a/b, username: u}, status: {conditions: [{type: Approved}], certificate: eA==}}",
            expect![
                "Name=a | Age=<unknown> | SignerName=a/b | Requestor=u | RequestedDuration=<none> | Condition=Approved,Issued"
            ],
        );
    }
}
