//! <https://kubernetes.io/docs/concepts/overview/kubernetes-api/#discovery-api>

use crate::api::{Api, Reply};
use http::Request;
use k8w_apiserver::Body;
use serde_json::{Value, json};

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

async fn get(api: &Api, path: &str, accept: &str) -> Reply {
    api.send(Request::get(path).header("accept", accept).body(Body::Empty).unwrap()).await
}

fn list<'v>(value: &'v Value, field: &str) -> &'v Vec<Value> {
    value[field].as_array().unwrap()
}

/// Conformance: "Discovery, confirm the groupVerion and a resourcefrom each apiGroup"; "Discovery, confirm the
/// PreferredVersion for each api group".
#[tokio::test]
async fn every_group_leads_to_its_versions_and_they_to_their_resources() {
    let api = Api::new().await;
    let groups = api.get("/apis").await.ok();
    assert_eq!(groups["kind"], "APIGroupList");
    for group in list(&groups, "groups") {
        let name = group["name"].as_str().unwrap();
        let one = api.get(&format!("/apis/{name}")).await.ok();
        assert_eq!((&one["kind"], &one["name"]), (&json!("APIGroup"), &group["name"]));
        let versions = list(&one, "versions");
        assert!(versions.contains(&one["preferredVersion"]), "{name}");
        for version in versions {
            let group_version = version["groupVersion"].as_str().unwrap();
            let resources = api.get(&format!("/apis/{group_version}")).await.ok();
            assert_eq!(resources["groupVersion"], group_version);
            assert!(list(&resources, "resources").iter().all(|resource| resource["kind"].is_string()), "{name}");
            assert!(!list(&resources, "resources").is_empty(), "{name}");
        }
    }
    let versions = api.get("/api").await.ok();
    assert_eq!((&versions["kind"], &versions["versions"]), (&json!("APIVersions"), &json!(["v1"])));
}

/// Conformance: "Aggregated Discovery Interface"; "Aggregated Discovery Endpoint Accept Headers".
#[tokio::test]
async fn one_document_has_all_groups_for_those_who_accept_it() {
    let api = Api::new().await;
    for (path, group, version, resource) in [
        ("/api", "", "v1", "namespaces"),
        ("/apis", "apps", "v1", "deployments"),
        ("/apis", "admissionregistration.k8s.io", "v1", "mutatingwebhookconfigurations"),
        ("/apis", "apiextensions.k8s.io", "v1", "customresourcedefinitions"),
        ("/apis", "apiregistration.k8s.io", "v1", "apiservices"),
    ] {
        let reply = get(&api, path, &format!("{AGGREGATED},application/json")).await;
        assert_eq!(reply.headers["content-type"], AGGREGATED);
        let document = reply.ok();
        assert_eq!(document["kind"], "APIGroupDiscoveryList");
        let groups = list(&document, "items");
        let found = groups.iter().find(|item| item["metadata"]["name"].as_str().unwrap_or_default() == group).unwrap();
        let versions = list(found, "versions");
        let found = versions.iter().find(|item| item["version"] == version).unwrap();
        assert!(list(found, "resources").iter().any(|item| item["resource"] == resource), "{group} {resource}");
    }
    let plain = get(&api, "/apis", "application/json").await;
    assert_eq!(plain.headers["content-type"], "application/json");
    assert_eq!(plain.ok()["kind"], "APIGroupList");
}

#[tokio::test]
async fn the_root_lists_the_paths_that_there_are() {
    let api = Api::new().await;
    let index = api.get("/").await.ok();
    let paths: Vec<&str> = list(&index, "paths").iter().filter_map(Value::as_str).collect();
    for path in
        ["/api", "/api/v1", "/apis", "/apis/apps", "/apis/apps/v1", "/healthz", "/metrics", "/openapi/v2", "/version"]
    {
        assert!(paths.contains(&path), "{path} is missing from {paths:?}");
    }
    assert!(paths.is_sorted());
}

/// Conformance: "Confirm a server version".
#[tokio::test]
async fn the_server_says_its_version() {
    let version = Api::new().await.get("/version").await.ok();
    assert_eq!((&version["major"], &version["minor"]), (&json!("1"), &json!("36")));
    assert!(version["gitVersion"].as_str().unwrap().starts_with("v1.36."), "{version}");
}
