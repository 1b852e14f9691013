//! Approves the certificates that nodes ask for: for the API server, where an access review says that the requester may have
//! it (`k8s.io/kubernetes/pkg/controller/certificates/approver/sarapprove.go`), and for a node's own port, where the names
//! are those that its Node object shows.
//!
//! Kubernetes leaves the second to whoever runs the cluster; here the API server verifies what nodes show.

use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};
use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};

use super::request::{self, Asked, KUBELET_CLIENT, KUBELET_SERVING, NODE_PREFIX};
use crate::engine::{Controller, Turn, Wake};
use crate::plan::{self, Plan, Step};
use crate::resource::{CERTIFICATE_SIGNING_REQUESTS, Key};
use crate::world::{Delta, Object, World};

pub struct CertificateApprover;

impl Controller for CertificateApprover {
    fn name(&self) -> &'static str {
        "csrapproving"
    }

    fn observe(&mut self, delta: &Delta, world: &World, wake: &mut Wake) {
        match &delta.object {
            Object::CertificateSigningRequest(request) => wake.now(Key::of(&request.metadata)),
            // Its addresses may be what a request waits for.
            Object::Node(node) if !delta.gone => {
                let user = format!("{NODE_PREFIX}{}", node.metadata.name.as_deref().unwrap_or_default());
                let waits = |request: &&std::sync::Arc<CertificateSigningRequest>| {
                    request.spec.signer_name == KUBELET_SERVING
                        && request.spec.username.as_deref() == Some(&user)
                        && !is_decided(request)
                };
                world.certificate_signing_requests.iter().filter(waits).for_each(|r| wake.now(Key::of(&r.metadata)));
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
            KUBELET_SERVING if is_own => {
                let node = asked.node().and_then(|name| world.nodes.get("", name));
                if node.is_some_and(|node| shows(node, &asked)) {
                    let message = "Auto approving kubelet serving certificate for the addresses of its Node.";
                    plan.step(approval(request, message.to_owned()));
                }
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

/// Whether these are names and addresses of the node and of nobody else.
fn shows(node: &Node, asked: &Asked) -> bool {
    let addresses = node.status.as_ref().and_then(|status| status.addresses.as_ref());
    let shown = |address: &std::net::IpAddr| {
        addresses.into_iter().flatten().any(|shown| shown.address.parse().as_ref() == Ok(address))
    };
    asked.dns_names.iter().all(|name| Some(name) == node.metadata.name.as_ref()) && asked.addresses.iter().all(shown)
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

    use super::super::request::samples::{NODE_CLIENT, NODE_SERVING, USER};
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

    fn node(addresses: &str) -> String {
        format!("---\napiVersion: v1\nkind: Node\nmetadata: {{name: a}}\nstatus: {{addresses: [{addresses}]}}\n")
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
    fn a_node_gets_a_serving_certificate_for_what_it_is_called() {
        let own = request(KUBELET_SERVING, "system:node:a", NODE_SERVING, "");
        check(
            &(own.clone() + &node("{type: InternalIP, address: 192.0.2.1}")),
            expect![[r#"
                approval: "Auto approving kubelet serving certificate for the addresses of its Node."
            "#]],
        );
        check(&(own.clone() + &node("{type: InternalIP, address: 192.0.2.2}")), expect![""]);
        check(&own, expect![""]);
        let others = request(KUBELET_SERVING, "system:node:b", NODE_SERVING, "");
        check(&(others + &node("{type: InternalIP, address: 192.0.2.1}")), expect![""]);
    }

    #[test]
    fn a_request_waits_for_its_nodes_addresses() {
        let mut bench = Bench::new(CertificateApprover, &request(KUBELET_SERVING, "system:node:a", NODE_SERVING, ""));
        let node = crate::testing::objects(&node("{type: InternalIP, address: 192.0.2.1}")).remove(0);
        assert!(bench.wakes(Change::Watched(node)));
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
