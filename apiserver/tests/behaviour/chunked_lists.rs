//! <https://kubernetes.io/docs/reference/using-api/api-concepts/#retrieving-large-results-sets-in-chunks>

use crate::api::{Api, CONFIG_MAPS, config_map, names, version};
use serde_json::Value;

async fn five(api: &Api) {
    for name in ["a", "b", "c", "d", "e"] {
        api.config_map(name, "1").await;
    }
}

fn next(list: &Value) -> &str {
    list["metadata"]["continue"].as_str().unwrap()
}

/// Conformance: "API Chunking, server should return chunks of results for list calls".
#[tokio::test]
async fn all_chunks_show_one_moment() {
    let api = Api::new().await;
    five(&api).await;
    let first = api.get(&format!("{CONFIG_MAPS}?limit=2")).await.ok();
    assert_eq!(names(&first), ["a", "b"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 3);

    api.delete(&format!("{CONFIG_MAPS}/c")).await.ok();
    api.config_map("bb", "2").await;
    let second = api.get(&format!("{CONFIG_MAPS}?limit=2&continue={}", next(&first))).await.ok();
    assert_eq!(names(&second), ["c", "d"]);
    assert_eq!(version(&second), version(&first));
    assert_eq!(second["metadata"]["remainingItemCount"], 1);
    let third = api.get(&format!("{CONFIG_MAPS}?limit=2&continue={}", next(&second))).await.ok();
    assert_eq!(names(&third), ["e"]);
    assert!(third["metadata"]["continue"].is_null());
}

/// Conformance: "API Chunking, server should support continue listing from the last key even if the original version
/// has been compacted away".
#[tokio::test]
async fn the_rest_of_a_compacted_list_can_be_had_inconsistently() {
    let api = Api::new().await;
    five(&api).await;
    let first = api.get(&format!("{CONFIG_MAPS}?limit=2")).await.ok();
    api.delete(&format!("{CONFIG_MAPS}/d")).await.ok();
    let newest = api.config_map("f", "2").await;
    api.datastore.compact(version(&newest)).await.unwrap();

    let expired = api.get(&format!("{CONFIG_MAPS}?limit=2&continue={}", next(&first))).await;
    let (code, reason, message) = expired.error();
    assert_eq!((code, reason.as_str()), (410, "Expired"));
    assert!(message.starts_with("The provided continue parameter is too old"), "{message}");
    let rest = api.get(&format!("{CONFIG_MAPS}?continue={}", next(&expired.json()))).await.ok();
    assert_eq!(names(&rest), ["c", "e", "f"]);
}

#[tokio::test]
async fn selectors_hide_the_remaining_count() {
    let api = Api::new().await;
    for (name, app) in [("a", "x"), ("b", "y"), ("c", "x"), ("d", "y"), ("e", "x")] {
        let mut object = config_map(name, "");
        object["metadata"]["labels"] = serde_json::json!({"app": app});
        api.post(CONFIG_MAPS, &object).await.ok();
    }
    let path = format!("{CONFIG_MAPS}?labelSelector=app%3Dx&limit=2");
    let first = api.get(&path).await.ok();
    assert_eq!(names(&first), ["a", "c"]);
    assert!(first["metadata"]["remainingItemCount"].is_null());
    let second = api.get(&format!("{path}&continue={}", next(&first))).await.ok();
    assert_eq!(names(&second), ["e"]);
}

#[tokio::test]
async fn tokens_of_others_are_refused() {
    let api = Api::new().await;
    let (code, _, message) = api.get(&format!("{CONFIG_MAPS}?continue=nonsense")).await.error();
    assert_eq!(code, 400);
    assert!(message.starts_with("invalid continue token: continue key is not valid: "), "{message}");
}
