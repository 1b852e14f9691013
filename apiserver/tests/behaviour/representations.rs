//! <https://kubernetes.io/docs/reference/using-api/api-concepts/#alternate-representations-of-resources>

use crate::api::{Api, CONFIG_MAPS, Reply};
use http::Request;
use k8w_apiserver::Body;
use serde_json::json;

async fn get(api: &Api, path: &str, accept: &str) -> Reply {
    api.send(Request::get(path).header("accept", accept).body(Body::Empty).unwrap()).await
}

#[tokio::test]
async fn tables_have_rows_and_columns() {
    let api = Api::new().await;
    api.config_map("a", "1").await;
    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    for path in [CONFIG_MAPS.to_string(), format!("{CONFIG_MAPS}/a")] {
        let table = get(&api, &path, accept).await.ok();
        assert_eq!((&table["kind"], &table["apiVersion"]), (&json!("Table"), &json!("meta.k8s.io/v1")));
        assert_eq!(table["columnDefinitions"][0]["name"], "Name");
        assert_eq!(table["rows"][0]["cells"][0], "a");
        assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
        assert!(table["metadata"]["resourceVersion"].is_string());
    }
    let table = get(&api, &format!("{CONFIG_MAPS}?includeObject=Object"), accept).await.ok();
    assert_eq!(table["rows"][0]["object"]["data"]["key"], "1");
    let table = get(&api, &format!("{CONFIG_MAPS}?includeObject=None"), accept).await.ok();
    assert!(table["rows"][0]["object"].is_null());
}

#[tokio::test]
async fn metadata_can_be_had_alone() {
    let api = Api::new().await;
    api.config_map("a", "1").await;
    let accept = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
    let one = get(&api, &format!("{CONFIG_MAPS}/a"), accept).await.ok();
    assert_eq!((&one["kind"], &one["metadata"]["name"]), (&json!("PartialObjectMetadata"), &json!("a")));
    assert!(one["data"].is_null());
    let accept = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    let list = get(&api, CONFIG_MAPS, accept).await.ok();
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    assert_eq!(list["items"][0]["metadata"], one["metadata"]);
    assert!(list["items"][0]["data"].is_null());
}

#[tokio::test]
async fn answers_can_be_yaml() {
    let api = Api::new().await;
    api.config_map("a", "1").await;
    let reply = get(&api, &format!("{CONFIG_MAPS}/a"), "application/yaml").await;
    assert_eq!(reply.headers["content-type"], "application/yaml");
    let text = std::str::from_utf8(&reply.body).unwrap();
    assert!(text.contains("kind: ConfigMap\n") && text.contains("  name: a\n"), "{text}");
}
