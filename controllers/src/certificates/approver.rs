//! Approves the certificates that nodes ask for: for the API server, where an access review says that the requester may have
//! it (`k8s.io/kubernetes/pkg/controller/certificates/approver/sarapprove.go`), and for a node's own port, where it is for the
//! node's name alone.
//!
//! Stricter than Kubernetes: who is not the node gets no certificate of a node that exists, and nobody one for a name of the
//! API server. Whoever runs the cluster may approve both.
//!
//! Kubernetes leaves the second to whoever runs the cluster; here the API server and the nodes verify what a node shows. They
//! ask for its name and not for an address, which a node could make up.

use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};
use serde_json::{Value, json};

use super::request::{self, Asked, KUBELET_CLIENT, KUBELET_SERVING};
use crate::engine::{Controller, Turn, Wake};
use crate::plan::{self, Plan, Step, Target};
use crate::resource::{CERTIFICATE_SIGNING_REQUESTS, Key, NODES};
use crate::world::{Delta, Object, World};

pub struct CertificateApprover {
    /// The names that clients know the API server by; one may stand for many (`*.example`).
    api_server_names: Vec<String>,
}

impl CertificateApprover {
    pub fn new(api_server_names: &[String]) -> Self {
        Self { api_server_names: api_server_names.to_vec() }
    }

    /// Whether a server of this name can be taken for the API server.
    fn is_api_server(&self, name: &str) -> bool {
        self.api_server_names.iter().any(|own| match own.strip_prefix("*.") {
            None => own.eq_ignore_ascii_case(name),
            Some(domain) => name.split_once('.').is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(domain)),
        })
    }
}

impl Controller for CertificateApprover {
    fn name(&self) -> &'static str {
        "csrapproving"
    }

    fn observe(&mut self, delta: &Delta, world: &World, wake: &mut Wake) {
        match &delta.object {
            Object::CertificateSigningRequest(request) => wake.now(Key::of(&request.metadata)),
            // Its name is free again.
            Object::Node(_) if delta.gone => {
                let waiting = world.certificate_signing_requests.iter().filter(|request| !is_decided(request));
                waiting.for_each(|request| wake.now(Key::of(&request.metadata)));
            }
            _ => {}
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
        let Some(node) = asked.node().ok().filter(|node| !self.is_api_server(node)) else { return plan };
        match signer {
            KUBELET_CLIENT => {
                if !is_own {
                    plan.step(Step::CheckAbsent(Target::named(&NODES, Key::new("", node), None)));
                }
                let own = is_own.then(|| review(request, "selfnodeclient"));
                plan.step(Step::CheckAllowed(own.into_iter().chain([review(request, "nodeclient")]).collect()));
                let whose = if is_own { "self kubelet" } else { "kubelet" };
                plan.step(approval(
                    request,
                    format!("Auto approving {whose} client certificate after SubjectAccessReview."),
                ));
            }
            KUBELET_SERVING if is_own && asked.addresses.is_empty() && asked.dns_names == [node] => {
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
    use crate::world::Change;

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

    fn approver() -> CertificateApprover {
        CertificateApprover::new(&["kubernetes.default.svc", "Localhost", "n1", "*.api.example"].map(str::to_owned))
    }

    /// What is asked, and what is then written.
    fn plan(world: &str) -> String {
        let mut said = String::new();
        for step in Bench::new(approver(), world).reconcile("", "r", "2024-01-01T00:00:00Z").steps {
            match step {
                Step::CheckAbsent(target) => {
                    said += &format!("is there no {} {}?\n", target.resource.plural, target.key)
                }
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
                is there no nodes a?
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
    }

    #[test]
    fn nobody_gets_a_name_of_the_api_server() {
        for (name, expected) in [
            ("kubernetes.default.svc", true),
            ("localhost", true),
            ("n1", true),
            ("one.api.example", true),
            ("api.example", false),
            ("one.two.api.example", false),
            ("a", false),
        ] {
            assert_eq!(approver().is_api_server(name), expected, "{name}");
        }
        for (signer, user, pem) in
            [(KUBELET_SERVING, "system:node:a", NODE_SERVING), (KUBELET_CLIENT, "system:bootstrap:abcdef", NODE_CLIENT)]
        {
            let mut bench = Bench::new(CertificateApprover::new(&["A".to_owned()]), &request(signer, user, pem, ""));
            assert!(bench.reconcile("", "r", "2024-01-01T00:00:00Z").steps.is_empty(), "{signer}");
        }
    }

    #[test]
    fn a_name_that_is_free_again_can_be_had() {
        let waiting = request(KUBELET_CLIENT, "system:bootstrap:abcdef", NODE_CLIENT, "");
        let world = format!("{waiting}\n---\napiVersion: v1\nkind: Node\nmetadata: {{name: a}}\n");
        let mut bench = Bench::new(approver(), &world);
        let uid = bench.world.nodes.get("", "a").unwrap().metadata.uid.clone().unwrap_or_default();
        assert!(bench.wakes(Change::Removed { resource: NODES.clone(), key: Key::new("", "a"), uid }));
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
