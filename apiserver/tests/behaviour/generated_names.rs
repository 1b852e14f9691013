//! <https://kubernetes.io/docs/reference/using-api/api-concepts/#generated-values>

use crate::api::{Api, CONFIG_MAPS};
use serde_json::json;

#[tokio::test]
async fn a_name_is_made_from_generate_name() {
    let api = Api::new().await;
    let created = api.post(CONFIG_MAPS, &json!({"metadata": {"generateName": "web-"}})).await.ok();
    let name = created["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("web-") && name.len() == "web-".len() + 5, "{name}");
    assert_eq!((&created["apiVersion"], &created["kind"]), (&json!("v1"), &json!("ConfigMap")));
}

#[tokio::test]
async fn one_of_name_and_generate_name_is_required() {
    let api = Api::new().await;
    let (code, reason, message) = api.post(CONFIG_MAPS, &json!({"metadata": {}})).await.error();
    assert_eq!((code, reason.as_str()), (422, "Invalid"));
    let expected = "ConfigMap \"\" is invalid: metadata.name: Required value: name or generateName is required";
    assert_eq!(message, expected);
}
