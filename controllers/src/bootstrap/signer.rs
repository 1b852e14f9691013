//! Signs `cluster-info` in `kube-public` with every bootstrap token, so that whoever joins with one can tell that it is
//! genuine (`k8s.io/kubernetes/pkg/controller/bootstrap/bootstrapsigner.go`).

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8w_kinds::core::bootstrap_token::{
    CLUSTER_INFO, CLUSTER_INFO_NAMESPACE, KUBECONFIG, NAME_PREFIX, NAMESPACE, SIGNATURE_PREFIX, TOKEN_ID, TOKEN_SECRET,
    USAGE_SIGNING, is_id,
};
use ring::hmac;
use serde_json::json;

use super::token::{data, end, is_token};
use crate::engine::{Controller, Turn, Wake};
use crate::plan::Plan;
use crate::resource::{CONFIG_MAPS, Key};
use crate::time::until;
use crate::world::{Delta, Object, World};

pub struct BootstrapSigner;

impl Controller for BootstrapSigner {
    fn name(&self) -> &'static str {
        "bootstrapsigner"
    }

    fn observe(&mut self, delta: &Delta, _: &World, wake: &mut Wake) {
        let concerns = match &delta.object {
            Object::ConfigMap(map) => Key::of(&map.metadata) == Key::new(CLUSTER_INFO_NAMESPACE, CLUSTER_INFO),
            Object::Secret(secret) => is_token(secret),
            _ => false,
        };
        if concerns {
            wake.now(Key::new(CLUSTER_INFO_NAMESPACE, CLUSTER_INFO));
        }
    }

    fn reconcile(&mut self, key: &Key, world: &World, turn: &mut Turn<'_>) -> Plan {
        let mut plan = Plan::none();
        let Some(map) = world.config_maps.by_key(key) else { return plan };
        let before = map.data.clone().unwrap_or_default();
        let Some(content) = before.get(KUBECONFIG) else { return plan };
        let mut after: BTreeMap<String, String> = before
            .iter()
            .filter(|(key, _)| !key.starts_with(SIGNATURE_PREFIX))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        for secret in world.secrets.in_namespace(NAMESPACE) {
            let Some((id, value)) = token(secret) else { continue };
            match end(secret) {
                Some(end) if end <= turn.now => continue,
                Some(end) => plan.requeue(until(end, turn.now)),
                None => {}
            }
            after.insert(format!("{SIGNATURE_PREFIX}{id}"), sign(content, id, value));
        }
        if after != before {
            plan.update(&CONFIG_MAPS, &ConfigMap { data: Some(after), ..(**map).clone() }, None);
        }
        plan
    }
}

/// Id and secret of a token that may sign.
fn token(secret: &Secret) -> Option<(&str, &str)> {
    let (id, value) = (data(secret, TOKEN_ID), data(secret, TOKEN_SECRET));
    let is_named_after = secret.metadata.name.as_deref().and_then(|name| name.strip_prefix(NAME_PREFIX)) == Some(id);
    let usable = is_token(secret) && is_id(id) && !value.is_empty() && data(secret, USAGE_SIGNING) == "true";
    (usable && is_named_after).then_some((id, value))
}

/// A JSON web signature without the content (RFC 7515, appendix F), with HMAC SHA-256.
fn sign(content: &str, id: &str, secret: &str) -> String {
    let header = URL_SAFE_NO_PAD.encode(json!({ "alg": "HS256", "kid": id }).to_string());
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(content));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), signed.as_bytes());
    format!("{header}..{}", URL_SAFE_NO_PAD.encode(tag))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Step;
    use crate::testing::Bench;

    const INFO: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {namespace: kube-public, name: cluster-info}
data: {kubeconfig: content, jws-kubeconfig-zzzzzz: stale}
";

    /// `more` are further data of the token `abcdef` with the secret `0123456789abcdef`.
    fn token(more: &str) -> String {
        format!(
            "
---
apiVersion: v1
kind: Secret
metadata: {{namespace: kube-system, name: bootstrap-token-abcdef}}
type: bootstrap.kubernetes.io/token
data: {{token-id: YWJjZGVm, token-secret: MDEyMzQ1Njc4OWFiY2RlZg=={more}}}
"
        )
    }

    /// What the ConfigMap holds afterwards; `None` when it is not written.
    fn signed(world: &str) -> Option<Vec<String>> {
        let mut bench = Bench::new(BootstrapSigner, world);
        let plan = bench.reconcile("kube-public", "cluster-info", "2024-01-01T00:00:00Z");
        let step = plan.steps.first()?;
        let Step::Update { object, .. } = step else { panic!("{step:?}") };
        Some(object["data"].as_object().unwrap().keys().cloned().collect())
    }

    #[test]
    fn every_token_that_may_sign_signs() {
        let signing = ", usage-bootstrap-signing: dHJ1ZQ==";
        assert_eq!(signed(&format!("{INFO}{}", token(signing))).unwrap(), ["jws-kubeconfig-abcdef", "kubeconfig"]);
        assert_eq!(signed(&format!("{INFO}{}", token(""))).unwrap(), ["kubeconfig"]);
        // 2024-01-01T00:00:00Z
        let over = format!("{signing}, expiration: MjAyNC0wMS0wMVQwMDowMDowMFo=");
        assert_eq!(signed(&format!("{INFO}{}", token(&over))).unwrap(), ["kubeconfig"]);
        assert_eq!(signed(&INFO.replace(", jws-kubeconfig-zzzzzz: stale", "")), None);
        let refused = |from: &str, to: &str| signed(&format!("{INFO}{}", token(signing).replace(from, to))).unwrap();
        for (from, to) in [
            ("dHJ1ZQ==", "ZmFsc2U="),
            ("name: bootstrap-token-abcdef", "name: bootstrap-token-ghijkl"),
            ("name: bootstrap-token-abcdef", "name: other"),
            ("namespace: kube-system", "namespace: default"),
            ("type: bootstrap.kubernetes.io/token", "type: Opaque"),
            (", token-secret: MDEyMzQ1Njc4OWFiY2RlZg==", ""),
            ("token-id: YWJjZGVm, ", ""),
        ] {
            assert_eq!(refused(from, to), ["kubeconfig"], "{from} to {to}");
        }
        let long = token(signing).replace("abcdef", "abcdefg").replace("YWJjZGVm", "YWJjZGVmZw==");
        assert_eq!(signed(&format!("{INFO}{long}")).unwrap(), ["kubeconfig"], "an id has six characters");
        let silent = INFO.replace("kubeconfig: content", "other: content");
        assert_eq!(signed(&format!("{silent}{}", token(signing))), None, "there is nothing to sign");
    }

    /// The example of RFC 7515, appendix A.1, has another header; this one was made with Python's `hmac`.
    #[test]
    fn a_signature_is_that_of_its_content() {
        let signature = sign("content", "abcdef", "0123456789abcdef");
        let (header, tag) = signature.split_once("..").unwrap();
        assert_eq!(URL_SAFE_NO_PAD.decode(header).unwrap(), br#"{"alg":"HS256","kid":"abcdef"}"#);
        assert_eq!(tag, "psz1NayrXM3IaFzKZGsb5n_mBl7MjtlsZ1xE8MRmF_4");
    }
}
