//! Issues the certificates that were approved, for the signers of `kubernetes.io`
//! (`k8s.io/kubernetes/pkg/controller/certificates/signer`).

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};

use super::request::{self, Asked};
use crate::engine::{Controller, Turn, Wake};
use crate::plan::Plan;
use crate::resource::{CERTIFICATE_SIGNING_REQUESTS, Key};
use crate::time::stamp;
use crate::world::{Delta, Object, World};

/// A certificate lives no shorter than this, whatever was asked for.
const MIN_LIFETIME: Duration = Duration::from_secs(10 * 60);

/// Signs certificates with the cluster's CA.
pub trait CertificateSigner: Debug + Send + Sync {
    /// The certificate (PEM) that a request (PEM) asks for, with these usages; `lifetime` is the signer's own when not given,
    /// and at most that.
    ///
    /// # Errors
    /// Why there never is one, in words.
    fn sign(&self, request_pem: &[u8], usages: &[String], lifetime: Option<Duration>) -> Result<String, String>;
}

pub struct CertificateSigning {
    signer: Option<Arc<dyn CertificateSigner>>,
}

impl CertificateSigning {
    /// Without a signer nothing is issued.
    pub fn new(signer: Option<Arc<dyn CertificateSigner>>) -> Self {
        Self { signer }
    }
}

impl Controller for CertificateSigning {
    fn name(&self) -> &'static str {
        "csrsigning"
    }

    fn observe(&mut self, delta: &Delta, _: &World, wake: &mut Wake) {
        if let Object::CertificateSigningRequest(request) = &delta.object {
            wake.now(Key::of(&request.metadata));
        }
    }

    fn reconcile(&mut self, key: &Key, world: &World, turn: &mut Turn<'_>) -> Plan {
        let mut plan = Plan::none();
        let request = world.certificate_signing_requests.by_key(key).filter(|request| is_due(request));
        let (Some(request), Some(signer)) = (request, &self.signer) else { return plan };
        let spec = &request.spec;
        let usages = spec.usages.as_deref().unwrap_or_default();
        let checked = match Asked::parse(&spec.request.0) {
            Some(asked) => request::check(&spec.signer_name, &asked, usages),
            None => request::is_ours(&spec.signer_name).then(|| Err("unable to parse csr".to_owned())),
        };
        let Some(checked) = checked else { return plan };
        let mut answered = CertificateSigningRequest::clone(request);
        let status = answered.status.get_or_insert_default();
        match checked.and_then(|()| signer.sign(&spec.request.0, usages, lifetime(request))) {
            Ok(certificate) => status.certificate = Some(ByteString(certificate.into_bytes())),
            Err(why) => status.conditions.get_or_insert_default().push(CertificateSigningRequestCondition {
                type_: "Failed".to_owned(),
                status: "True".to_owned(),
                reason: Some("SignerValidationFailure".to_owned()),
                message: Some(why),
                last_update_time: Some(stamp(turn.now)),
                ..CertificateSigningRequestCondition::default()
            }),
        }
        plan.update_status(&CERTIFICATE_SIGNING_REQUESTS, &answered);
        plan
    }
}

fn is_due(request: &CertificateSigningRequest) -> bool {
    let has = |type_| request::has_condition(request, type_);
    has("Approved") && !has("Failed") && !request::has_certificate(request)
}

fn lifetime(request: &CertificateSigningRequest) -> Option<Duration> {
    let seconds = request.spec.expiration_seconds?;
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)).max(MIN_LIFETIME))
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use expect_test::{Expect, expect};

    use super::super::request::samples::{NODE_CLIENT, USER};
    use super::*;
    use crate::testing::{Bench, text};

    /// Signs by repeating what is asked for, for no more than a day.
    #[derive(Debug)]
    struct Clear;

    impl CertificateSigner for Clear {
        fn sign(&self, _: &[u8], usages: &[String], lifetime: Option<Duration>) -> Result<String, String> {
            if lifetime > Some(Duration::from_secs(24 * 60 * 60)) {
                return Err("that is too long".to_owned());
            }
            Ok(format!("{} for {lifetime:?}", usages.join(" and ")))
        }
    }

    fn check(signer: &str, pem: &str, more: &str, conditions: &str, expected: Expect) {
        let world = format!(
            "
apiVersion: certificates.k8s.io/v1
kind: CertificateSigningRequest
metadata: {{name: r}}
spec: {{request: {}, signerName: {signer}, usages: [client auth]{more}}}
status: {{conditions: [{conditions}]}}
",
            STANDARD.encode(pem)
        );
        let plan = Bench::new(CertificateSigning::new(Some(Arc::new(Clear))), &world).reconcile(
            "",
            "r",
            "2024-01-01T00:00:00Z",
        );
        let shown = text(&plan).replace(&STANDARD.encode("client auth for None"), "<client auth for None>");
        expected.assert_eq(&shown.replace(&STANDARD.encode("client auth for Some(600s)"), "<client auth for 600 s>"));
    }

    const APPROVED: &str = "{type: Approved, status: 'True'}";
    const CLIENT: &str = "kubernetes.io/kube-apiserver-client";

    #[test]
    fn what_was_approved_is_signed() {
        check(
            CLIENT,
            USER,
            "",
            APPROVED,
            expect![[r#"
                update certificatesigningrequests r status: {"certificate":"<client auth for None>","conditions":[{"status":"True","type":"Approved"}]}
            "#]],
        );
        check(
            CLIENT,
            USER,
            ", expirationSeconds: 60",
            APPROVED,
            expect![[r#"
                update certificatesigningrequests r status: {"certificate":"<client auth for 600 s>","conditions":[{"status":"True","type":"Approved"}]}
            "#]],
        );
    }

    #[test]
    fn what_a_signer_does_not_give_has_failed() {
        check(
            "kubernetes.io/kube-apiserver-client-kubelet",
            NODE_CLIENT,
            "",
            APPROVED,
            expect![[r#"
                update certificatesigningrequests r status: {"conditions":[{"status":"True","type":"Approved"},{"lastUpdateTime":"2024-01-01T00:00:00Z","message":"usages did not match [client auth digital signature key encipherment]","reason":"SignerValidationFailure","status":"True","type":"Failed"}]}
            "#]],
        );
    }

    #[test]
    fn what_cannot_be_signed_has_failed() {
        check(
            CLIENT,
            USER,
            ", expirationSeconds: 100000",
            APPROVED,
            expect![[r#"
                update certificatesigningrequests r status: {"conditions":[{"status":"True","type":"Approved"},{"lastUpdateTime":"2024-01-01T00:00:00Z","message":"that is too long","reason":"SignerValidationFailure","status":"True","type":"Failed"}]}
            "#]],
        );
        check(
            CLIENT,
            "nonsense",
            "",
            APPROVED,
            expect![[r#"
                update certificatesigningrequests r status: {"conditions":[{"status":"True","type":"Approved"},{"lastUpdateTime":"2024-01-01T00:00:00Z","message":"unable to parse csr","reason":"SignerValidationFailure","status":"True","type":"Failed"}]}
            "#]],
        );
        check("example.com/own", "nonsense", "", APPROVED, expect![""]);
    }

    #[test]
    fn the_rest_is_left_alone() {
        check(CLIENT, USER, "", "", expect![""]);
        check(CLIENT, USER, "", "{type: Approved, status: 'True'}, {type: Failed, status: 'True'}", expect![""]);
        check("example.com/own", USER, "", APPROVED, expect![""]);
    }
}
