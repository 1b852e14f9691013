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

/// A message holds its fields one after the other: number, wire type, content.
#[tokio::test]
async fn a_document_can_be_had_as_a_message() {
    let openapi = OpenApi::default();
    let (_, index) = get(&openapi, "/openapi/v3").await;
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap();
    let (path, query) = url.split_once('?').unwrap();
    let headers = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(v3::PROTOBUF_ASKED))]);
    let response = openapi.respond(&kinds(), path, &Query::parse(query), &headers).unwrap();
    assert_eq!(response.headers()[header::CONTENT_TYPE], v3::PROTOBUF);
    assert!(response.headers().contains_key(header::CACHE_CONTROL));
    let message = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(message[..7], *b"\x0a\x053.0.0");
    let (_, json) = get(&openapi, path).await;
    // One named schema in the components' schemas: its name, then itself or a reference.
    let described = json["components"]["schemas"]["io.k8s.api.apps.v1.Deployment"]["description"].as_str().unwrap();
    for text in ["io.k8s.api.apps.v1.Deployment", "/apis/apps/v1/watch/deployments", described] {
        assert!(message.windows(text.len()).any(|window| window == text.as_bytes()), "{text}");
    }
    let none = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static("text/html"))]);
    assert_eq!(openapi.respond(&kinds(), path, &Query::parse(""), &none).err().unwrap().code, 406);
}

/// The hand-written tables against each other and the JSON: every member of every schema has a field.
#[tokio::test]
async fn a_message_leaves_nothing_out() {
    fn check(value: &Value, schema: bool, missing: &mut BTreeSet<String>) {
        let Some(members) = value.as_object() else { return };
        for (name, member) in members {
            match name.as_str() {
                "properties" | "schemas" => {
                    member.as_object().into_iter().flatten().for_each(|(_, value)| check(value, true, missing));
                }
                "items" | "additionalProperties" | "not" if schema => check(member, true, missing),
                "allOf" | "oneOf" | "anyOf" => {
                    member.as_array().into_iter().flatten().for_each(|value| check(value, true, missing));
                }
                _ => {}
            }
            if schema && name != "$ref" && !name.starts_with("x-") && !v3::has_schema_field(name) {
                missing.insert(name.clone());
            }
        }
    }
    let openapi = OpenApi::default();
    let mut missing = BTreeSet::new();
    for group_version in paths_by_group_version() {
        let (_, document) = get(&openapi, &format!("{ROOT}/{group_version}")).await;
        check(&document["components"], false, &mut missing);
    }
    assert_eq!(missing, BTreeSet::new());
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
            let mut said: Vec<Value> = said.map(|name| operation[name].clone()).into();
            let answer = operation.pointer("/responses/200/content/application~1json/schema");
            said.push(answer.cloned().unwrap_or_default());
            let said = Value::Array(said);
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
