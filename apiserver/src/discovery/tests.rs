use std::collections::BTreeSet;

use http::{HeaderValue, StatusCode};
use http_body_util::BodyExt;
use k8w_kinds::registry;
use serde_json::Value;

use super::*;

fn discovery() -> Discovery {
    Discovery::new(registry::all(), "127.0.0.1:6443")
}

fn accept(value: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(value))])
}

async fn get(path: &str, headers: &HeaderMap) -> (Response<()>, Value) {
    let response = discovery().respond(path, headers, false).unwrap();
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    (Response::from_parts(parts, ()), serde_json::from_slice(&bytes).unwrap_or_default())
}

#[tokio::test]
async fn every_kind_is_in_the_list_of_its_group_and_version() {
    for kind in registry::all() {
        let prefix = if kind.group.is_empty() { "/api".into() } else { format!("/apis/{}", kind.group) };
        let (_, list) = get(&format!("{prefix}/{}", kind.version), &HeaderMap::new()).await;
        assert_eq!(list["groupVersion"], kind.api_version());
        let resources = list["resources"].as_array().unwrap();
        let found = resources.iter().find(|resource| resource["name"] == *kind.plural).unwrap();
        assert_eq!(found["kind"], *kind.kind);
        assert_eq!(found["verbs"], json!(kind.verbs));
        for sub in &kind.subresources {
            let name = format!("{}/{}", kind.plural, sub.name);
            assert!(resources.iter().any(|resource| resource["name"] == *name), "{name}");
        }
    }
}

#[tokio::test]
async fn a_subresource_of_another_group_says_so() {
    let (_, list) = get("/apis/apps/v1/", &HeaderMap::new()).await;
    let resources = list["resources"].as_array().unwrap();
    let scale = resources.iter().find(|resource| resource["name"] == "deployments/scale").unwrap();
    assert_eq!(
        (&scale["group"], &scale["version"], &scale["kind"]),
        (&json!("autoscaling"), &json!("v1"), &json!("Scale"))
    );
    let status = resources.iter().find(|resource| resource["name"] == "deployments/status").unwrap();
    assert!(status.get("group").is_none());
    // Known from every Kubernetes cluster: the hash does not depend on the implementation.
    let deployments = resources.iter().find(|resource| resource["name"] == "deployments").unwrap();
    assert_eq!(deployments["storageVersionHash"], "8aSe+NMegvE=");
    // Of one that is stored in another spelling it is that one's.
    for path in ["/apis/autoscaling/v1", "/apis/autoscaling/v2"] {
        let (_, list) = get(path, &HeaderMap::new()).await;
        assert_eq!(list["resources"][0]["storageVersionHash"], "qwQve8ut294=", "{path}");
    }
}

#[tokio::test]
async fn both_forms_name_the_same_resources() {
    let accept = accept("application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList, application/json;q=0.9");
    let mut aggregated = BTreeSet::new();
    for path in ["/api", "/apis"] {
        let (response, list) = get(path, &accept).await;
        assert_eq!(response.headers()[header::CONTENT_TYPE], AGGREGATED);
        for group in list["items"].as_array().unwrap() {
            let name = group["metadata"]["name"].as_str().unwrap_or_default();
            for resource in group["versions"][0]["resources"].as_array().unwrap() {
                aggregated.insert((name.to_owned(), resource["resource"].as_str().unwrap().to_owned()));
            }
        }
    }
    let kinds: BTreeSet<_> = registry::all().iter().map(|k| (k.group.to_string(), k.plural.to_string())).collect();
    assert_eq!(aggregated, kinds);
}

#[tokio::test]
async fn other_versions_of_the_aggregated_form_get_the_plain_one() {
    let (response, list) =
        get("/apis", &accept("application/json;g=apidiscovery.k8s.io;v=v1;as=APIGroupDiscoveryList")).await;
    assert_eq!(response.headers()[header::CONTENT_TYPE], JSON);
    assert_eq!(list["kind"], "APIGroupList");
}

#[tokio::test]
async fn a_client_that_has_the_document_gets_304() {
    let (response, _) = get("/apis", &HeaderMap::new()).await;
    let etag = response.headers()[header::ETAG].clone();
    let known = HeaderMap::from_iter([(header::IF_NONE_MATCH, etag.clone())]);
    let (response, body) = get("/apis", &known).await;
    assert_eq!((response.status(), &response.headers()[header::ETAG]), (StatusCode::NOT_MODIFIED, &etag));
    assert_eq!(body, Value::Null);
}

#[test]
fn other_paths_are_not_discovery() {
    for path in ["/apis/none.example", "/api/v2", "/apis/apps/v1/deployments"] {
        assert!(discovery().respond(path, &HeaderMap::new(), false).is_none(), "{path}");
    }
}

#[test]
fn versions_are_ordered_as_kubernetes_orders_them() {
    let mut versions = ["foo1", "v1alpha1", "v2", "v11beta2", "v10", "v1", "v12alpha1", "v3beta1", "foo10"];
    versions.sort_by_key(|version| Reverse(version_priority(version)));
    assert_eq!(versions, ["v10", "v2", "v1", "v11beta2", "v3beta1", "v12alpha1", "v1alpha1", "foo1", "foo10"]);
}

/// Scripts look into these documents with `grep`, so members stand where Kubernetes' own stand.
#[tokio::test]
async fn members_come_in_the_order_of_kubernetes_types() {
    let response = discovery().respond("/api/v1", &HeaderMap::new(), false).unwrap();
    let text = String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap();
    assert!(text.starts_with(r#"{"kind":"APIResourceList","#), "{text}");
    let config_maps = r#"{"name":"configmaps","singularName":"configmap","namespaced":true,"kind":"ConfigMap","verbs":["create","delete","deletecollection","get","list","patch","update","watch"],"shortNames":["cm"],"storageVersionHash":"#;
    assert!(text.contains(config_maps), "{text}");
    assert!(text.contains(r#""shortNames":["po"],"categories":["all"],"storageVersionHash":"#), "{text}");
}
