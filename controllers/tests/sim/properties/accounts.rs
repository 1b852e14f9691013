//! Reconcilers of who is who: accounts, what is published for them, and tokens.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use k8w_controllers::certificates::signing::CertificateSigner;
use k8w_controllers::core::service_account_token::TokenSigner;
use k8w_controllers::plan::Propagation;
use k8w_controllers::resource::{CERTIFICATE_SIGNING_REQUESTS, CONFIG_MAPS, NAMESPACES, SECRETS, SERVICE_ACCOUNTS};
use k8w_kinds::core::bootstrap_token::{SECRET_TYPE as BOOTSTRAP, TOKEN_ID, TOKEN_SECRET};
use k8w_kinds::core::service_account_token::{
    ACCOUNT_NAME, ACCOUNT_UID, INVALID_SINCE, LAST_USED, SECRET_TYPE, SecretClaims, TRACKING,
};
use ring::hmac;
use serde_json::{Value, json};

use super::{ROW, Row};
use crate::cluster::namespace;
use crate::server::Server;

pub const ROWS: &[Row] = &[
    Row {
        name: "ServiceAccounts and root CA",
        of: &["serviceaccount", "root-ca-cert-publisher"],
        prepare: |server| _ = server.create(&NAMESPACES, "", namespace("other")).unwrap(),
        changes: &[
            |server| server.delete_if_there(&SERVICE_ACCOUNTS, "other", "default", Propagation::Background),
            |server| {
                server
                    .edit(&CONFIG_MAPS, "other", "kube-root-ca.crt", |map| map["data"] = json!({ "ca.crt": "forged" }))
            },
            |server| server.delete_if_there(&CONFIG_MAPS, "default", "kube-root-ca.crt", Propagation::Background),
            |server| _ = server.create(&NAMESPACES, "", namespace("third")),
        ],
        arrived: |server| {
            for namespace in server.list(&NAMESPACES).map(name) {
                assert!(server.get(&SERVICE_ACCOUNTS, namespace, "default").is_some(), "{namespace} has an account");
                let published = server.get(&CONFIG_MAPS, namespace, "kube-root-ca.crt").unwrap();
                assert_eq!(published["data"]["ca.crt"], "pem", "{namespace}");
            }
        },
        config: |config| config.root_ca_pem = "pem".into(),
        ..ROW
    },
    Row {
        name: "tokens in Secrets",
        of: &["serviceaccount-token"],
        prepare: |server| {
            account(server);
            token(server);
        },
        changes: &[
            account,
            |server| server.delete_if_there(&SERVICE_ACCOUNTS, "default", "robot", Propagation::Background),
            token,
            |server| server.delete_if_there(&SECRETS, "default", "t", Propagation::Background),
            |server| server.edit(&SECRETS, "default", "t", |secret| secret["data"] = json!({ "ca.crt": "Zm9yZ2Vk" })),
        ],
        promise: |server| {
            for secret in server.list(&SECRETS).filter(|secret| secret["data"]["token"].is_string()) {
                let token = text(&secret["data"]["token"]);
                let owner = &secret["metadata"]["annotations"][ACCOUNT_UID];
                assert_eq!(owner, token.as_str(), "the token is the account's that the Secret names");
            }
        },
        arrived: |server| {
            let account = server.get(&SERVICE_ACCOUNTS, "default", "robot");
            for secret in server.list(&SECRETS) {
                let uid = &account.expect("a Secret goes with its account")["metadata"]["uid"];
                assert_eq!(text(&secret["data"]["token"]), uid.as_str().unwrap(), "{secret}");
                assert_eq!(["namespace", "ca.crt"].map(|key| text(&secret["data"][key])), ["default", "pem"]);
            }
        },
        config: |config| {
            config.root_ca_pem = "pem".into();
            config.token_signer = Some(Arc::new(Clear));
        },
        ..ROW
    },
    Row {
        name: "tokens that nobody uses",
        of: &["legacy-serviceaccount-token-cleaner"],
        prepare: |server| {
            server.create(&NAMESPACES, "", namespace("kube-system")).unwrap();
            let tracking = json!({ "metadata": { "name": TRACKING }, "data": { "since": "2020-01-01" } });
            server.create(&CONFIG_MAPS, "kube-system", tracking).unwrap();
            account(server);
            let names = ["idle", "marked", "used"];
            server.edit(&SERVICE_ACCOUNTS, "default", "robot", |account| {
                account["secrets"] = names.map(|name| json!({ "name": name })).into_iter().collect();
            });
            let marks = [json!({}), json!({ INVALID_SINCE: "2022-06-01" }), json!({ LAST_USED: "2023-12-31" })];
            names.iter().zip(marks).for_each(|(name, labels)| old_token(server, name, labels));
        },
        changes: &[
            |server| {
                server.edit(&SECRETS, "default", "idle", |secret| {
                    secret["metadata"]["labels"] = json!({ LAST_USED: "2024-01-01" });
                })
            },
            |server| server.edit(&SECRETS, "default", "used", |secret| secret["metadata"]["labels"] = json!({})),
        ],
        promise: |server| {
            for name in ["idle", "used"] {
                assert!(server.get(&SECRETS, "default", name).is_some(), "{name} was not marked for a year");
            }
        },
        arrived: |server| {
            assert!(server.get(&SECRETS, "default", "marked").is_none());
            for secret in server.list(&SECRETS) {
                let labels = &secret["metadata"]["labels"];
                assert_eq!(labels[LAST_USED].is_null(), labels[INVALID_SINCE].is_string(), "{secret}");
            }
        },
        ..ROW
    },
    Row {
        name: "signatures of bootstrap tokens",
        of: &["bootstrapsigner", "token-cleaner"],
        prepare: |server| {
            for name in ["kube-public", "kube-system"] {
                server.create(&NAMESPACES, "", namespace(name)).unwrap();
            }
            let info = json!({ "metadata": { "name": "cluster-info" }, "data": { "kubeconfig": "one" } });
            server.create(&CONFIG_MAPS, "kube-public", info).unwrap();
            bootstrap_token(server, "aaaaaa", "");
        },
        changes: &[
            |server| bootstrap_token(server, "bbbbbb", ""),
            |server| server.delete_if_there(&SECRETS, "kube-system", "bootstrap-token-aaaaaa", Propagation::Background),
            |server| {
                let end = (server.now + Duration::from_secs(60)).to_string();
                bootstrap_token(server, "cccccc", &end);
            },
            |server| {
                server
                    .edit(&CONFIG_MAPS, "kube-public", "cluster-info", |info| info["data"]["kubeconfig"] = json!("two"))
            },
            |server| {
                server.edit(&CONFIG_MAPS, "kube-public", "cluster-info", |info| {
                    info["data"]["jws-kubeconfig-aaaaaa"] = json!("forged");
                })
            },
        ],
        arrived: |server| {
            let data = server.get(&CONFIG_MAPS, "kube-public", "cluster-info").unwrap()["data"].clone();
            let signed = data.as_object().unwrap().keys().filter(|key| *key != "kubeconfig").count();
            assert_eq!(signed, server.list(&SECRETS).count(), "{data}");
            for secret in server.list(&SECRETS) {
                let (id, key) = (text(&secret["data"][TOKEN_ID]), text(&secret["data"][TOKEN_SECRET]));
                let signature = data[format!("jws-kubeconfig-{id}")].as_str().unwrap();
                assert!(is_signed(data["kubeconfig"].as_str().unwrap(), &key, signature), "{data}");
            }
        },
        ..ROW
    },
    Row {
        name: "certificates that nodes ask for",
        of: &["csrapproving", "csrsigning"],
        prepare: |server| ask(server, "first", NODE_CLIENT),
        changes: &[
            |server| ask(server, "second", NODE_CLIENT),
            |server| ask(server, "other", "example.com/signer"),
            |server| server.delete_if_there(&CERTIFICATE_SIGNING_REQUESTS, "", "second", Propagation::Background),
        ],
        promise: |server| {
            for request in server.list(&CERTIFICATE_SIGNING_REQUESTS) {
                let is_approved = request["status"]["conditions"][0]["type"] == "Approved";
                assert!(is_approved || request["status"]["certificate"].is_null(), "{request}");
            }
        },
        arrived: |server| {
            for request in server.list(&CERTIFICATE_SIGNING_REQUESTS) {
                let is_ours = request["spec"]["signerName"] == NODE_CLIENT;
                assert_eq!(request["status"]["certificate"].is_string(), is_ours, "{request}");
            }
        },
        config: |config| config.certificate_signer = Some(Arc::new(Clear)),
        ..ROW
    },
];

const NODE_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";

/// The node `a` asks for a certificate; it may have done so before.
fn ask(server: &mut Server, name: &str, signer: &str) {
    let request = include_str!("../../../src/certificates/samples/node-client.csr");
    let spec = json!({
        "request": STANDARD.encode(request), "signerName": signer, "username": "system:node:a",
        "groups": ["system:nodes"], "usages": ["client auth", "digital signature"],
    });
    let _ = server.create(&CERTIFICATE_SIGNING_REQUESTS, "", json!({ "metadata": { "name": name }, "spec": spec }));
}

/// Signs by saying whose token it is, or for what.
#[derive(Debug)]
struct Clear;

impl CertificateSigner for Clear {
    fn sign(&self, _: &[u8], usages: &[String], _: Option<Duration>) -> Result<String, String> {
        Ok(usages.join(", "))
    }
}

impl TokenSigner for Clear {
    fn sign(&self, claims: &SecretClaims) -> Result<String, String> {
        Ok(claims.account_uid.clone())
    }
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap()
}

/// The account `robot`, which names a Secret; it may be there from before.
fn account(server: &mut Server) {
    let account = json!({ "metadata": { "name": "robot" }, "secrets": [{ "name": "t" }] });
    let _ = server.create(&SERVICE_ACCOUNTS, "default", account);
}

/// A Secret that asks for its token; it may be there from before.
fn token(server: &mut Server) {
    let metadata = json!({ "name": "t", "annotations": { ACCOUNT_NAME: "robot" } });
    let _ = server.create(&SECRETS, "default", json!({ "metadata": metadata, "type": SECRET_TYPE }));
}

/// One that was made of itself, years ago.
fn old_token(server: &mut Server, name: &str, labels: Value) {
    let uid = server.get(&SERVICE_ACCOUNTS, "default", "robot").unwrap()["metadata"]["uid"].clone();
    let annotations = json!({ ACCOUNT_NAME: "robot", ACCOUNT_UID: uid });
    let metadata = json!({ "name": name, "labels": labels, "annotations": annotations });
    server.create(&SECRETS, "default", json!({ "metadata": metadata, "type": SECRET_TYPE })).unwrap();
    server.edit(&SECRETS, "default", name, |secret| {
        secret["metadata"]["creationTimestamp"] = json!("2021-01-01T00:00:00Z");
    });
}

/// A token that may sign until `end`, or for ever; it may be there from before.
fn bootstrap_token(server: &mut Server, id: &str, end: &str) {
    let data =
        [(TOKEN_ID, id), (TOKEN_SECRET, "0123456789abcdef"), ("usage-bootstrap-signing", "true"), ("expiration", end)];
    let data = data.iter().filter(|(_, value)| !value.is_empty());
    let data: Value = data.map(|(key, value)| ((*key).to_owned(), Value::from(STANDARD.encode(value)))).collect();
    let metadata = json!({ "name": format!("bootstrap-token-{id}") });
    let _ = server.create(&SECRETS, "kube-system", json!({ "metadata": metadata, "type": BOOTSTRAP, "data": data }));
}

/// A value of a Secret's data, as text.
fn text(value: &Value) -> String {
    String::from_utf8(STANDARD.decode(value.as_str().unwrap()).unwrap()).unwrap()
}

fn is_signed(content: &str, key: &str, signature: &str) -> bool {
    let Some((header, tag)) = signature.split_once("..") else { return false };
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(content));
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
    hmac::verify(&key, signed.as_bytes(), &URL_SAFE_NO_PAD.decode(tag).unwrap()).is_ok()
}
