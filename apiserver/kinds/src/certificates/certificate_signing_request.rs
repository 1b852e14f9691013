//! CertificateSigningRequest: a wish for a certificate, and what became of it.

use std::collections::HashSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::field::{Field, FieldError};
use crate::kind::{self, Column, KindDef, SelectableField, Shape, Strategy, Subresource};
use crate::object::{self, get, list, text};
use crate::{age, rules};

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
        let pem = STANDARD.decode(spec.get("request").text()).unwrap_or_default();
        if !String::from_utf8_lossy(&pem).contains("-----BEGIN CERTIFICATE REQUEST-----") {
            let detail = "PEM block type must be CERTIFICATE REQUEST";
            errors.push(spec.get("request").invalid(detail));
        }
        let usages = spec.get("usages");
        rules::required(&usages, &mut errors);
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
        let before = list(old, &["status", "conditions"]);
        for condition in object::list_mut(new, &["status", "conditions"]) {
            date(condition, before, now);
        }
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
            let of = |request| list(request, &["status", "conditions"]).iter().filter(|c| text(c, &["type"]) == kind);
            if of(new).count() > of(old).count() {
                let detail = format!("updates may not add a condition of type {kind:?}");
                errors.push(status.get("conditions").forbidden(detail));
            }
        }
        let certificate = status.get("certificate");
        let before = text(old, &["status", "certificate"]);
        if !before.is_empty() && certificate.text() != before {
            errors.push(certificate.forbidden("updates may not modify existing certificate content"));
        }
        errors
    }
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
    let has = |kind: &str| conditions.items().any(|condition| condition.get("type").text() == kind);
    for condition in conditions.items() {
        let (kind, value) = (condition.get("type"), condition.get("status"));
        if !rules::required(&kind, errors) {
            continue;
        }
        if DECISIONS.contains(&kind.text()) || kind.text() == "Failed" {
            rules::one_of(&value, &["True"], errors);
        } else {
            rules::one_of(&value, &["True", "False", "Unknown"], errors);
        }
        if kind.text() == "Denied" && has("Approved") {
            errors.push(kind.invalid("Approved and Denied conditions are mutually exclusive"));
        }
    }
    for kind in ["Approved", "Denied", "Failed"] {
        let before = list(old, &["status", "conditions"]).iter().any(|c| text(c, &["type"]) == kind);
        if before && !has(kind) {
            errors.push(conditions.forbidden(format!("updates may not remove a condition of type {kind:?}")));
        }
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

    use crate::testing::{check, check_row};

    #[test]
    fn rules() {
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
            "{metadata: {name: a}, spec: {request: LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0=, usages: [any, any], signerName: kubernetes.io/legacy-unknown}}",
            expect![[r#"
                spec.usages[1]: Duplicate value: "any"
                spec.signerName: Invalid value: "kubernetes.io/legacy-unknown": the legacy signerName is not allowed via this API version
            "#]],
        );
        check(
            "certificatesigningrequests",
            "{metadata: {name: a}, spec: {request: LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0=, usages: [any], signerName: a_b/c_d}}",
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
