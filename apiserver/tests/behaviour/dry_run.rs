//! <https://kubernetes.io/docs/reference/using-api/api-concepts/#dry-run>

use crate::api::{Api, CONFIG_MAPS, config_map};
use serde_json::json;

#[tokio::test]
async fn nothing_is_stored() {
    let api = Api::new().await;
    let path = format!("{CONFIG_MAPS}/a");
    let created = api.post(&format!("{CONFIG_MAPS}?dryRun=All"), &config_map("a", "1")).await;
    assert_eq!((created.code, &created.json()["data"]["key"]), (201, &json!("1")));
    assert_eq!(api.get(&path).await.code, 404);

    let stored = api.config_map("a", "1").await;
    let dry = format!("{path}?dryRun=All");
    assert_eq!(api.put(&dry, &config_map("a", "2")).await.ok()["data"]["key"], "2");
    assert_eq!(api.patch("merge", &dry, &json!({"data": {"key": "3"}})).await.ok()["data"]["key"], "3");
    assert_eq!(api.delete(&dry).await.code, 200);
    assert_eq!(api.delete_with(&path, &json!({"dryRun": ["All"]})).await.code, 200);
    assert_eq!(api.delete(&format!("{CONFIG_MAPS}?dryRun=All")).await.code, 200);
    assert_eq!(api.get(&path).await.ok(), stored);
}

#[tokio::test]
async fn errors_are_those_of_the_real_thing() {
    let api = Api::new().await;
    api.config_map("a", "1").await;
    assert_eq!(api.post(&format!("{CONFIG_MAPS}?dryRun=All"), &config_map("a", "1")).await.code, 409);
    let reply = api.post(&format!("{CONFIG_MAPS}?dryRun=Some"), &config_map("b", "1")).await;
    let (code, _, message) = reply.error();
    assert_eq!(code, 422);
    assert_eq!(
        message,
        "CreateOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: \"Some\": supported values: \"All\""
    );
}
