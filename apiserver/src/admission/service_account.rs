//! ServiceAccount: every pod runs as one, and gets a token for the API unless it does not want any.

use std::time::Duration;

use async_trait::async_trait;
use k8w_kinds::core::pod::{mirror, references};
use k8w_kinds::object::{ensure, get, list, list_mut, text};
use rand::Rng;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::{forbidden, is};
use crate::plugins::{Admission, AdmissionRequest, GroupResource, Operation};
use crate::status::Status;

const DEFAULT_ACCOUNT: &str = "default";
/// A namespace's default account is made by a controller; a pod that comes right after its namespace waits this long.
const DEFAULT_ACCOUNT_WAIT_MS: u64 = 2_000;
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME_PREFIX: &str = "kube-api-access-";
/// An hour and a few seconds, by which Kubernetes tells these tokens from those that users ask for.
const TOKEN_LIFETIME_SECONDS: i64 = 3607;

pub struct ServiceAccount;

#[async_trait]
impl Admission for ServiceAccount {
    fn name(&self) -> &'static str {
        "ServiceAccount"
    }

    fn resources(&self) -> Option<&'static [GroupResource]> {
        Some(&[("", "pods")])
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), Status> {
        if !is(request, Operation::Create) {
            return Ok(());
        }
        if mirror::mirrored(request.object).is_some() {
            return refuse_api(request);
        }
        let Some(spec) = ensure(request.object, &["spec"]) else { return Ok(()) };
        let name = match spec.get("serviceAccountName").and_then(Value::as_str) {
            Some(name) if !name.is_empty() => name.to_owned(),
            _ => DEFAULT_ACCOUNT.to_owned(),
        };
        spec.insert("serviceAccountName".into(), name.clone().into());
        // The old name of the field follows.
        spec.insert("serviceAccount".into(), name.clone().into());
        let account = find(request, &name).await?;
        if wants_token(request.object, &account) {
            mount_token(request.object);
        }
        if list(request.object, &["spec", "imagePullSecrets"]).is_empty()
            && let Some(secrets) = get(&account, &["imagePullSecrets"])
        {
            request.object["spec"]["imagePullSecrets"] = secrets.clone();
        }
        Ok(())
    }
}

/// A mirror pod shows what a node runs on its own; it must not gain anything from the API.
fn refuse_api(request: &AdmissionRequest<'_>) -> Result<(), Status> {
    const REFUSED: [(&str, &str); 3] = [
        (references::SERVICE_ACCOUNTS, "a mirror pod may not reference service accounts"),
        (references::SECRETS, "a mirror pod may not reference secrets"),
        (references::TOKENS, "a mirror pod may not use service account token volume projections"),
    ];
    let named: Vec<&str> = references::of_the_api(request.object).collect();
    match REFUSED.iter().find(|(what, _)| named.contains(what)) {
        Some((_, why)) => Err(forbidden(request, why)),
        None => Ok(()),
    }
}

async fn find(request: &AdmissionRequest<'_>, name: &str) -> Result<Value, Status> {
    let look = || request.view.get("", "serviceaccounts", request.namespace, name);
    if let Some(account) = look() {
        return Ok(account.value());
    }
    request.view.catch_up().await?;
    let wait = if name == DEFAULT_ACCOUNT { Duration::from_millis(DEFAULT_ACCOUNT_WAIT_MS) } else { Duration::ZERO };
    let until = Instant::now() + wait;
    loop {
        if let Some(account) = look() {
            return Ok(account.value());
        }
        let next = request.view.revision() + 1;
        if timeout(until.saturating_duration_since(Instant::now()), request.view.wait_for(next)).await.is_err() {
            let namespace = request.namespace;
            let why = format!("error looking up service account {namespace}/{name}: serviceaccount {name:?} not found");
            return Err(forbidden(request, why));
        }
    }
}

/// The pod's word counts before the account's; without either, it does.
fn wants_token(pod: &Value, account: &Value) -> bool {
    let own = get(pod, &["spec", "automountServiceAccountToken"]);
    own.or_else(|| get(account, &["automountServiceAccountToken"])).and_then(Value::as_bool).unwrap_or(true)
}

/// Mounts a projected volume with token, CA and namespace into every container that has nothing at its place.
fn mount_token(pod: &mut Value) {
    let volumes = list(pod, &["spec", "volumes"]).iter().map(|volume| text(volume, &["name"]));
    let existing = volumes.clone().find(|name| name.starts_with(VOLUME_PREFIX)).map(str::to_owned);
    let name = existing.clone().unwrap_or_else(|| {
        loop {
            let name = format!("{VOLUME_PREFIX}{}", random_suffix());
            if volumes.clone().all(|other| other != name) {
                break name;
            }
        }
    });
    let mount = json!({"name": name, "readOnly": true, "mountPath": MOUNT_PATH});
    let mut mounted = false;
    for containers in ["initContainers", "containers"] {
        for container in list_mut(pod, &["spec", containers]) {
            let mounts = list(container, &["volumeMounts"]);
            if mounts.iter().all(|mount| text(mount, &["mountPath"]) != MOUNT_PATH) {
                push(container, "volumeMounts", mount.clone());
                mounted = true;
            }
        }
    }
    if mounted && existing.is_none() {
        push(&mut pod["spec"], "volumes", volume(&name));
    }
}

fn volume(name: &str) -> Value {
    json!({"name": name, "projected": {"defaultMode": 0o644, "sources": [
        {"serviceAccountToken": {"expirationSeconds": TOKEN_LIFETIME_SECONDS, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace",
            "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
    ]}})
}

fn push(object: &mut Value, field: &str, item: Value) {
    match object.get_mut(field) {
        Some(Value::Array(items)) => items.push(item),
        _ => object[field] = vec![item].into(),
    }
}

/// Five letters as Kubernetes makes names unique: no vowels, nothing that looks like something else.
fn random_suffix() -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    const LENGTH: usize = 5;
    let mut random = rand::rng();
    (0..LENGTH).map(|_| char::from(LETTERS[random.random_range(0..LETTERS.len())])).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::*;

    fn account(extra: Value) -> Value {
        let mut account =
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": "a"}});
        account.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        account
    }

    fn pod(spec: Value) -> Value {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "a"}, "spec": spec})
    }

    /// Conformance: "Service Account Tokens Must AutoMount".
    #[tokio::test]
    async fn a_pod_gets_the_default_account_and_its_token() {
        let world = World::new([account(json!({"imagePullSecrets": [{"name": "pull"}]}))]).await;
        let elsewhere = json!([{"name": "own", "mountPath": MOUNT_PATH}]);
        let containers = json!([{"name": "a"}, {"name": "b", "volumeMounts": elsewhere}]);
        let pod = world.create(&ServiceAccount, pod(json!({"containers": containers}))).await.unwrap();
        let spec = &pod["spec"];
        assert_eq!((&spec["serviceAccountName"], &spec["serviceAccount"]), (&json!("default"), &json!("default")));
        assert_eq!(spec["imagePullSecrets"], json!([{"name": "pull"}]));
        let name = text(&spec["volumes"][0], &["name"]);
        assert!(name.starts_with(VOLUME_PREFIX) && name.len() == VOLUME_PREFIX.len() + 5, "{name}");
        assert_eq!(
            spec["containers"][0]["volumeMounts"],
            json!([{"name": name, "readOnly": true, "mountPath": MOUNT_PATH}])
        );
        assert_eq!(spec["containers"][1]["volumeMounts"], elsewhere);
        expect_test::expect![[r#"{"defaultMode":420,"sources":[{"serviceAccountToken":{"expirationSeconds":3607,"path":"token"}},{"configMap":{"items":[{"key":"ca.crt","path":"ca.crt"}],"name":"kube-root-ca.crt"}},{"downwardAPI":{"items":[{"fieldRef":{"apiVersion":"v1","fieldPath":"metadata.namespace"},"path":"namespace"}]}}]}"#]]
        .assert_eq(&spec["volumes"][0]["projected"].to_string());
    }

    /// Conformance: "Service account tokens auto mount optionally".
    #[tokio::test]
    async fn the_pods_word_on_tokens_counts_before_the_accounts() {
        let world = World::new([account(json!({"automountServiceAccountToken": false}))]).await;
        let without = world.create(&ServiceAccount, pod(json!({"containers": [{"name": "a"}]}))).await.unwrap();
        assert_eq!(without["spec"].get("volumes"), None);
        let spec = json!({"containers": [{"name": "a"}], "automountServiceAccountToken": true});
        let with = world.create(&ServiceAccount, pod(spec)).await.unwrap();
        assert_eq!(list(&with, &["spec", "volumes"]).len(), 1);
    }

    #[tokio::test]
    async fn a_missing_account_is_named() {
        let world = World::new([]).await;
        let refused = world.create(&ServiceAccount, pod(json!({"serviceAccountName": "x"}))).await.unwrap_err();
        assert_eq!(
            refused.message,
            "pods \"p\" is forbidden: error looking up service account a/x: serviceaccount \"x\" not found"
        );
    }

    #[tokio::test]
    async fn a_pod_waits_for_the_default_account_of_a_new_namespace() {
        let world = World::new([]).await;
        let create = world.create(&ServiceAccount, pod(json!({"containers": [{"name": "a"}]})));
        let (created, ()) = tokio::join!(create, async {
            tokio::task::yield_now().await;
            world.put(account(json!({}))).await;
        });
        assert_eq!(created.unwrap()["spec"]["serviceAccountName"], "default");
    }
}
