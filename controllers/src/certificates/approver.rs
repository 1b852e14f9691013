//! Approves the certificates that nodes ask for: for the API server, where an access review says that the requester may have
//! it (`k8s.io/kubernetes/pkg/controller/certificates/approver/sarapprove.go`), and for a node's own port, where it is for the
//! node's name alone.
//!
//! Kubernetes leaves the second to whoever runs the cluster; here the API server and the nodes verify what a node shows. They
//! ask for its name and not for an address, which a node could make up.

use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};
use serde_json::{Value, json};

use super::request::{self, Asked, KUBELET_CLIENT, KUBELET_SERVING};
use crate::engine::{Controller, Turn, Wake};
use crate::plan::{self, Plan, Step};
use crate::resource::{CERTIFICATE_SIGNING_REQUESTS, Key};
use crate::world::{Delta, Object, World};

pub struct CertificateApprover;

impl Controller for CertificateApprover {
    fn name(&self) -> &'static str {
        "csrapproving"
    }

    fn observe(&mut self, delta: &Delta, _: &World, wake: &mut Wake) {
        if let Object::CertificateSigningRequest(request) = &delta.object {
            wake.now(Key::of(&request.metadata));
        }
    }

    fn reconcile(&mut self, key: &Key, world: &World, _: &mut Turn<'_>) -> Plan {
        let mut plan = Plan::none();
        let Some(request) = world.certificate_signing_requests.by_key(key).filter(|r| !is_decided(r)) else {
            return plan;
        };
        let Some(asked) = Asked::parse(&request.spec.request.0) else { return plan };
        let usages = request.spec.usages.as_deref().unwrap_or_default();
        let signer = request.spec.signer_name.as_str();
        if !matches!(request::check(signer, &asked, usages), Some(Ok(()))) {
            return plan;
        }
        let is_own = request.spec.username.as_deref() == Some(asked.common_name.as_str());
        match signer {
            KUBELET_CLIENT => {
                let own = is_own.then(|| review(request, "selfnodeclient"));
                plan.step(Step::CheckAllowed(own.into_iter().chain([review(request, "nodeclient")]).collect()));
                let whose = if is_own { "self kubelet" } else { "kubelet" };
                plan.step(approval(
                    request,
                    format!("Auto approving {whose} client certificate after SubjectAccessReview."),
                ));
            }
            KUBELET_SERVING if is_own && asked.addresses.is_empty() && is_own_name(&asked) => {
                let message = "Auto approving kubelet serving certificate for the name of its node.";
                plan.step(approval(request, message.to_owned()));
            }
            _ => {}
        }
        plan
    }
}

fn is_decided(request: &CertificateSigningRequest) -> bool {
    request::has_certificate(request)
        || ["Approved", "Denied"].iter().any(|type_| request::has_condition(request, type_))
}

/// Whether whoever made the request may create this subresource of such requests.
fn review(request: &CertificateSigningRequest, subresource: &str) -> Value {
    let spec = &request.spec;
    json!({
        "user": spec.username, "uid": spec.uid, "groups": spec.groups, "extra": spec.extra,
        "resourceAttributes": {"group": "certificates.k8s.io", "resource": "certificatesigningrequests",
            "verb": "create", "subresource": subresource, "version": "*"},
    })
}

/// Whether the node's name is the only one, and none that others know the API server by.
fn is_own_name(asked: &Asked) -> bool {
    let node = asked.node().unwrap_or_default();
    let is_the_servers = ["kubernetes", "localhost"].contains(&node) || node.starts_with("kubernetes.default");
    asked.dns_names == [node] && !is_the_servers
}

fn approval(request: &CertificateSigningRequest, message: String) -> Step {
    let mut approved = request.clone();
    let conditions = &mut approved.status.get_or_insert_default().conditions;
    conditions.get_or_insert_default().push(CertificateSigningRequestCondition {
        type_: "Approved".to_owned(),
        status: "True".to_owned(),
        reason: Some("AutoApproved".to_owned()),
        message: Some(message),
        ..CertificateSigningRequestCondition::default()
    });
    plan::update(&CERTIFICATE_SIGNING_REQUESTS, &approved, "approval", None)
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use expect_test::{Expect, expect};

    use super::super::request::samples::{NODE_CLIENT, NODE_SERVING, NODE_SERVING_BY_ADDRESS, USER};
    use super::*;
    use crate::testing::Bench;

    fn request(signer: &str, user: &str, pem: &str, status: &str) -> String {
        let (pem, auth) = (STANDARD.encode(pem), if signer == KUBELET_SERVING { "server auth" } else { "client auth" });
        format!(
            "
apiVersion: certificates.k8s.io/v1
kind: CertificateSigningRequest
metadata: {{name: r}}
spec: {{request: {pem}, signerName: {signer}, username: '{user}', groups: [g], usages: [digital signature, {auth}]}}
status: {{{status}}}
"
        )
    }

    /// What is asked, and what is then written.
    fn plan(world: &str) -> String {
        let mut said = String::new();
        for step in Bench::new(CertificateApprover, world).reconcile("", "r", "2024-01-01T00:00:00Z").steps {
            match step {
                Step::CheckAllowed(reviews) => {
                    let asked = |review: &Value| format!("{}", review["resourceAttributes"]["subresource"]);
                    said += &format!(
                        "may {} {}?\n",
                        reviews[0]["user"],
                        reviews.iter().map(asked).collect::<Vec<_>>().join(" or ")
                    );
                }
                Step::Update { subresource, object, .. } => {
                    said += &format!("{subresource}: {}\n", object["status"]["conditions"][0]["message"]);
                }
                other => panic!("{other:?}"),
            }
        }
        said
    }

    fn check(world: &str, expected: Expect) {
        expected.assert_eq(&plan(world));
    }

    #[test]
    fn a_node_gets_a_client_certificate_if_its_requester_may_have_it() {
        check(
            &request(KUBELET_CLIENT, "system:bootstrap:abcdef", NODE_CLIENT, ""),
            expect![[r#"
                may "system:bootstrap:abcdef" "nodeclient"?
                approval: "Auto approving kubelet client certificate after SubjectAccessReview."
            "#]],
        );
        check(
            &request(KUBELET_CLIENT, "system:node:a", NODE_CLIENT, ""),
            expect![[r#"
                may "system:node:a" "selfnodeclient" or "nodeclient"?
                approval: "Auto approving self kubelet client certificate after SubjectAccessReview."
            "#]],
        );
    }

    #[test]
    fn a_node_gets_a_serving_certificate_for_its_name() {
        check(
            &request(KUBELET_SERVING, "system:node:a", NODE_SERVING, ""),
            expect![[r#"
                approval: "Auto approving kubelet serving certificate for the name of its node."
            "#]],
        );
        check(&request(KUBELET_SERVING, "system:node:b", NODE_SERVING, ""), expect![""]);
        check(&request(KUBELET_SERVING, "system:node:a", NODE_SERVING_BY_ADDRESS, ""), expect![""]);
        let named = |names: &[&str]| Asked {
            common_name: format!("system:node:{}", names[0]),
            dns_names: names.iter().map(|name| (*name).to_owned()).collect(),
            ..Asked::default()
        };
        assert!(is_own_name(&named(&["a"])) && !is_own_name(&named(&["a", "b"])));
        assert!(!is_own_name(&named(&["kubernetes.default.svc"])) && !is_own_name(&named(&["localhost"])));
    }

    #[test]
    fn the_rest_is_left_to_others() {
        check(&request("kubernetes.io/kube-apiserver-client", "jane", USER, ""), expect![""]);
        check(&request(KUBELET_CLIENT, "jane", USER, ""), expect![""]);
        check(&request(KUBELET_CLIENT, "jane", "-----BEGIN CERTIFICATE REQUEST-----", ""), expect![""]);
        let denied = "conditions: [{type: Denied, status: 'True'}]";
        check(&request(KUBELET_CLIENT, "system:node:a", NODE_CLIENT, denied), expect![""]);
    }
}
