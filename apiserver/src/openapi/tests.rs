use std::collections::{BTreeMap, BTreeSet};

use http_body_util::BodyExt;
use k8w_kinds::registry;

use super::*;

fn kinds() -> Vec<&'static KindDef> {
    registry::all().iter().collect()
}

async fn get(openapi: &OpenApi, target: &str) -> (Response<()>, Value) {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let response = openapi.respond(&kinds(), path, &Query::parse(query), &HeaderMap::new()).unwrap();
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    (Response::from_parts(parts, ()), serde_json::from_slice(&bytes).unwrap_or_default())
}

#[tokio::test]
async fn the_index_leads_to_documents_that_may_be_kept() {
    let openapi = OpenApi::default();
    let (_, index) = get(&openapi, "/openapi/v3").await;
    let paths = index["paths"].as_object().unwrap();
    assert!(paths.contains_key("api/v1") && paths.contains_key("apis/apps/v1"));
    for entry in paths.values() {
        let (response, document) = get(&openapi, entry["serverRelativeURL"].as_str().unwrap()).await;
        assert!(response.headers()[header::CACHE_CONTROL].to_str().unwrap().contains("immutable"));
        assert_eq!(document["openapi"], "3.0.0");
    }
}

#[tokio::test]
async fn an_outdated_hash_is_redirected() {
    let openapi = OpenApi::default();
    let (response, _) = get(&openapi, "/openapi/v3/apis/apps/v1?hash=old").await;
    assert_eq!(response.status(), StatusCode::MOVED_PERMANENTLY);
    let location = response.headers()[header::LOCATION].to_str().unwrap();
    assert_eq!(get(&openapi, location).await.0.status(), StatusCode::OK);
}

/// kubectl looks for this before it trusts the server to validate.
#[tokio::test]
async fn every_patch_takes_field_validation() {
    let openapi = OpenApi::default();
    for kind in registry::all().iter().filter(|kind| kind.verbs.contains(&"patch")) {
        let (_, document) = get(&openapi, &format!("{ROOT}/{}", paths::group_version(kind))).await;
        let gvk = json!({"group": kind.group, "version": kind.version, "kind": kind.kind});
        let patches = document["paths"].as_object().unwrap().values().filter_map(|path| path.get("patch"));
        let patches: Vec<_> = patches.filter(|patch| patch["x-kubernetes-group-version-kind"] == gvk).collect();
        assert!(!patches.is_empty(), "{}", kind.kind);
        for patch in patches {
            let parameters = patch["parameters"].as_array().unwrap();
            assert!(parameters.iter().any(|parameter| parameter["name"] == "fieldValidation"));
        }
    }
}

#[tokio::test]
async fn every_reference_leads_somewhere() {
    let openapi = OpenApi::default();
    let (_, index) = get(&openapi, "/openapi/v3").await;
    for group_version in index["paths"].as_object().unwrap().keys() {
        let (_, document) = get(&openapi, &format!("{ROOT}/{group_version}")).await;
        let schemas = document["components"]["schemas"].as_object().unwrap();
        let text = document.to_string();
        for reference in text.split("\"$ref\":\"#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(schemas.contains_key(name), "{group_version}: {name}");
        }
    }
}

#[test]
fn operations_are_named_as_upstream_names_them() {
    let deployment = registry::by_resource("apps", "v1", "deployments").unwrap();
    let mut ids: Vec<String> = Vec::new();
    for (_, path) in paths::of(deployment) {
        let operations = path.as_object().unwrap().values();
        ids.extend(operations.filter_map(|operation| operation["operationId"].as_str()).map(str::to_owned));
    }
    ids.sort();
    expect_test::expect![[r#"
        createAppsV1NamespacedDeployment
        deleteAppsV1CollectionNamespacedDeployment
        deleteAppsV1NamespacedDeployment
        listAppsV1DeploymentForAllNamespaces
        listAppsV1NamespacedDeployment
        patchAppsV1NamespacedDeployment
        patchAppsV1NamespacedDeploymentScale
        patchAppsV1NamespacedDeploymentStatus
        readAppsV1NamespacedDeployment
        readAppsV1NamespacedDeploymentScale
        readAppsV1NamespacedDeploymentStatus
        replaceAppsV1NamespacedDeployment
        replaceAppsV1NamespacedDeploymentScale
        replaceAppsV1NamespacedDeploymentStatus
        watchAppsV1DeploymentListForAllNamespaces
        watchAppsV1NamespacedDeployment
        watchAppsV1NamespacedDeploymentList"#]]
    .assert_eq(&ids.join("\n"));
}

/// The operations of an OpenAPI v3 document and what is said about each.
fn operations(document: &Value) -> BTreeMap<String, Value> {
    let mut operations = BTreeMap::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap().iter().filter(|(name, _)| *name != "parameters") {
            let said = ["operationId", "tags", "x-kubernetes-action", "x-kubernetes-group-version-kind"];
            let said: Value = said.map(|name| operation[name].clone()).into_iter().collect();
            operations.insert(format!("{method} {path}"), said);
        }
    }
    operations
}

/// Operations of Kubernetes that are not published here, each with the reason.
const NOT_PUBLISHED: [(&str, &str); 3] = [
    ("/proxy/{path}", "the path behind a proxy is the proxied server's own"),
    ("options /", "a proxy's preflight is answered by what is behind it"),
    ("head /", "HEAD goes wherever GET goes"),
];

/// What Kubernetes publishes is published here: compared where a copy of it is at hand (`K8W_REFERENCE_DATA`).
#[tokio::test]
async fn every_path_of_every_group_is_published() {
    let Ok(data) = std::env::var("K8W_REFERENCE_DATA") else {
        eprintln!("skipped: K8W_REFERENCE_DATA is not set");
        return;
    };
    let openapi = OpenApi::default();
    let (mut missing, mut compared) = (Vec::new(), 0);
    for kinds in paths_by_group_version() {
        let name = kinds.replace('/', "__");
        let theirs = std::fs::read(format!("{data}/openapi-v3/{name}_openapi.json")).unwrap();
        let theirs = operations(&serde_json::from_slice(&theirs).unwrap());
        let (_, ours) = get(&openapi, &format!("{ROOT}/{kinds}")).await;
        let ours = operations(&ours);
        compared += theirs.len();
        for operation in theirs.keys().chain(ours.keys().filter(|operation| !theirs.contains_key(*operation))) {
            let (ours, theirs) = (ours.get(operation), theirs.get(operation));
            let excused = NOT_PUBLISHED.iter().any(|(part, _)| operation.contains(part));
            if ours != theirs && !excused {
                missing.push(format!("{operation}\n  ours:   {ours:?}\n  theirs: {theirs:?}"));
            }
        }
    }
    assert!(compared > 400, "only {compared} operations were compared");
    assert!(missing.is_empty(), "{} differ:\n{}", missing.len(), missing.join("\n"));
}

fn paths_by_group_version() -> BTreeSet<String> {
    registry::all().iter().map(paths::group_version).collect()
}
