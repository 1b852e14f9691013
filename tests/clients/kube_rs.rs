//! kube-rs: the Rust client, with its runtime.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use futures::TryStreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8w_testkit::{DEFAULT_TIMEOUT, TestCluster};
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::GroupVersionKind;
use kube::runtime::wait::{await_condition, conditions};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Config, Discovery, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

async fn client(cluster: &TestCluster) -> Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let kubeconfig = Kubeconfig::read_from(cluster.kubeconfig()).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

fn typed<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

/// What comes within the time that anything may take.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    let limit: Duration = DEFAULT_TIMEOUT;
    tokio::time::timeout(limit, future).await.expect("it took too long")
}

#[tokio::test]
async fn objects_are_applied_watched_and_listed_in_pages() {
    let cluster = super::cluster();
    cluster.namespace("kube-rs");
    let maps: Api<ConfigMap> = Api::namespaced(client(&cluster).await, "kube-rs");
    let map = |name: &str, color: &str| -> ConfigMap {
        typed(json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"color": color},
            "metadata": {"name": name, "labels": {"watched": "yes"}}}))
    };
    let apply = PatchParams::apply("kube-rs").force();
    maps.patch("a", &apply, &Patch::Apply(&map("a", "red"))).await.unwrap();
    // Both ways to begin a watch: a list and then a watch, and one stream of both.
    for config in [watcher::Config::default(), watcher::Config::default().streaming_lists()] {
        let mut changes = pin!(watcher(maps.clone(), config.labels("watched=yes")).applied_objects());
        let color = |map: Option<ConfigMap>| map.and_then(|map| map.data?.remove("color"));
        assert_eq!(color(soon(changes.try_next()).await.unwrap()), Some("red".into()));
        maps.patch("a", &apply, &Patch::Apply(&map("a", "blue"))).await.unwrap();
        assert_eq!(color(soon(changes.try_next()).await.unwrap()), Some("blue".into()));
        maps.patch("a", &apply, &Patch::Apply(&map("a", "red"))).await.unwrap();
    }
    for name in ["b", "c"] {
        maps.create(&PostParams::default(), &map(name, "red")).await.unwrap();
    }
    let mut page = ListParams::default().labels("watched=yes").limit(2);
    let first = maps.list(&page).await.unwrap();
    page.continue_token = first.metadata.continue_.clone();
    let second = maps.list(&page).await.unwrap();
    let names: Vec<String> = first.iter().chain(&second.items).map(|map| map.name_any()).collect();
    assert_eq!((first.items.len(), names), (2, vec!["a".into(), "b".into(), "c".into()]));
    let conflict = maps.create(&PostParams::default(), &map("b", "red")).await.unwrap_err();
    assert!(matches!(conflict, kube::Error::Api(status) if status.code == 409 && status.reason == "AlreadyExists"));
}

#[tokio::test]
async fn conditions_are_awaited_and_custom_kinds_discovered() {
    let cluster = super::cluster();
    cluster.namespace("kube-rs-kinds");
    let client = client(&cluster).await;
    let pods: Api<Pod> = Api::namespaced(client.clone(), "kube-rs-kinds");
    let pod = typed(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"nodeSelector": {"nobody": "here"}, "containers": [{"name": "c", "image": "example.test/c"}]}}));
    let uid = pods.create(&PostParams::default(), &pod).await.unwrap().uid().unwrap();
    let gone = await_condition(pods.clone(), "p", conditions::is_deleted(&uid));
    pods.delete("p", &DeleteParams::default()).await.unwrap();
    soon(gone).await.unwrap();

    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let version = json!({"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}});
    let definition = typed(json!({"metadata": {"name": "lamps.kube-rs.example.com"}, "spec": {
        "group": "kube-rs.example.com", "scope": "Namespaced", "names": {"plural": "lamps", "kind": "Lamp"},
        "versions": [version]}}));
    definitions.create(&PostParams::default(), &definition).await.unwrap();
    let name = "lamps.kube-rs.example.com";
    soon(await_condition(definitions.clone(), name, conditions::is_crd_established())).await.unwrap();
    let kind = GroupVersionKind::gvk("kube-rs.example.com", "v1", "Lamp");
    let discovery = Discovery::new(client.clone()).run().await.unwrap();
    assert!(discovery.has_group("apps"));
    let (resource, _) = discovery.resolve_gvk(&kind).unwrap();
    assert_eq!(resource, ApiResource::from_gvk_with_plural(&kind, "lamps"));
    let lamps: Api<DynamicObject> = Api::namespaced_with(client, "kube-rs-kinds", &resource);
    let lamp = DynamicObject::new("desk", &resource).data(json!({"spec": {"on": true}}));
    assert_eq!(lamps.create(&PostParams::default(), &lamp).await.unwrap().data["spec"]["on"], true);
    definitions.delete(name, &DeleteParams::default()).await.unwrap();
}
