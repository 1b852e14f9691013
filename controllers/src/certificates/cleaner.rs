//! Deletes certificate signing requests that nobody waits for any more
//! (`k8s.io/kubernetes/pkg/controller/certificates/cleaner`).

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};
use x509_parser::pem::Pem;

use crate::engine::{Controller, Turn, Wake};
use crate::plan::{Plan, Target};
use crate::resource::{CERTIFICATE_SIGNING_REQUESTS, Key};
use crate::time::{after, until};
use crate::world::{Delta, Object, World};

/// How long what was decided, and what was not, is kept.
const DECIDED: Duration = Duration::from_secs(60 * 60);
const PENDING: Duration = Duration::from_secs(24 * 60 * 60);

pub struct CertificateCleaner;

impl Controller for CertificateCleaner {
    fn name(&self) -> &'static str {
        "csrcleaner"
    }

    fn observe(&mut self, delta: &Delta, _: &World, wake: &mut Wake) {
        if let Object::CertificateSigningRequest(request) = &delta.object {
            wake.now(Key::of(&request.metadata));
        }
    }

    fn reconcile(&mut self, key: &Key, world: &World, turn: &mut Turn<'_>) -> Plan {
        let mut plan = Plan::none();
        let Some(request) = world.certificate_signing_requests.by_key(key) else { return plan };
        match end(request) {
            Some(end) if end < turn.now => {
                plan.delete(Target::new(&CERTIFICATE_SIGNING_REQUESTS, &request.metadata));
            }
            // Over is what is past its end, so a moment later.
            Some(end) => plan.requeue(until(end, turn.now) + Duration::from_millis(1)),
            None => {}
        }
        plan
    }
}

/// Until when the request is kept; `None` while it is approved and waits for its certificate.
fn end(request: &CertificateSigningRequest) -> Option<Timestamp> {
    let status = request.status.clone().unwrap_or_default();
    let conditions = status.conditions.unwrap_or_default();
    let certificate = status.certificate.filter(|certificate| !certificate.0.is_empty());
    let decided = |condition: &CertificateSigningRequestCondition| {
        let kept = condition.last_update_time.as_ref().map(|time| after(time.0, DECIDED));
        match (condition.type_.as_str(), &certificate) {
            ("Denied" | "Failed", _) => kept,
            ("Approved", Some(certificate)) => kept.into_iter().chain(expiry(&certificate.0)).min(),
            _ => None,
        }
    };
    if conditions.is_empty() {
        return request.metadata.creation_timestamp.as_ref().map(|time| after(time.0, PENDING));
    }
    conditions.iter().filter_map(decided).min()
}

/// When the first certificate of a PEM bundle ends.
fn expiry(pem: &[u8]) -> Option<Timestamp> {
    let pem = Pem::iter_from_buffer(pem).next()?.ok()?;
    let certificate = pem.parse_x509().ok()?;
    Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::testing::{Bench, text};

    fn check(status: &str, now: &str, expected: Expect) {
        let world = format!(
            "
apiVersion: certificates.k8s.io/v1
kind: CertificateSigningRequest
metadata: {{name: r, creationTimestamp: 2024-01-01T00:00:00Z}}
spec: {{request: eA==, signerName: example.com/own}}
status: {status}"
        );
        expected.assert_eq(&text(&Bench::new(CertificateCleaner, &world).reconcile("", "r", now)));
    }

    fn gone() -> Expect {
        expect![[r#"
            delete certificatesigningrequests r
        "#]]
    }

    #[test]
    fn a_pending_request_is_kept_for_a_day() {
        check(
            "{}",
            "2024-01-02T00:00:00Z",
            expect![[r#"
            look again in 1ms
        "#]],
        );
        check("{}", "2024-01-02T00:00:01Z", gone());
    }

    #[test]
    fn a_decided_request_is_kept_for_an_hour() {
        let decided = |how: &str, more: &str| {
            format!("{{{more}conditions: [{{type: {how}, status: 'True', lastUpdateTime: 2024-01-05T00:00:00Z}}]}}")
        };
        for how in ["Denied", "Failed"] {
            check(
                &decided(how, ""),
                "2024-01-05T00:30:00Z",
                expect![[r#"
                look again in 1800.001s
            "#]],
            );
            check(&decided(how, ""), "2024-01-05T01:00:01Z", gone());
        }
        check(&decided("Approved", "certificate: eA==, "), "2024-01-05T01:00:01Z", gone());
        check(&decided("Approved", ""), "2024-02-05T00:00:00Z", expect![[""]]);
    }
}
