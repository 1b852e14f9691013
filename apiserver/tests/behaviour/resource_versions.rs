//! <https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions>

use crate::api::{Api, CONFIG_MAPS, names, version};

#[tokio::test]
async fn reads_are_as_new_as_asked() {
    let api = Api::new().await;
    let old = api.config_map("a", "1").await;
    let new = api.config_map("b", "1").await;
    for query in ["", "?resourceVersion=0", &format!("?resourceVersion={}", version(&new))] {
        let list = api.get(&format!("{CONFIG_MAPS}{query}")).await.ok();
        assert_eq!(names(&list), ["a", "b"], "{query}");
        assert_eq!(version(&list), version(&new), "{query}");
    }
    let exact = format!("?resourceVersion={}&resourceVersionMatch=Exact", version(&old));
    let list = api.get(&format!("{CONFIG_MAPS}{exact}")).await.ok();
    assert_eq!((names(&list), version(&list)), (vec!["a"], version(&old)));
}

#[tokio::test]
async fn the_future_times_out() {
    let api = Api::new().await;
    let reply = api.get(&format!("{CONFIG_MAPS}?resourceVersion=1000000")).await;
    let (code, reason, message) = reply.error();
    assert_eq!((code, reason.as_str()), (504, "Timeout"));
    assert!(message.starts_with("Timeout: Too large resource version: 1000000, current: "), "{message}");
    assert_eq!(reply.json()["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
    assert_eq!(reply.headers["retry-after"], "1");
}

#[tokio::test]
async fn the_compacted_past_is_gone() {
    let api = Api::new().await;
    let old = api.config_map("a", "1").await;
    let new = api.config_map("b", "1").await;
    api.datastore.compact(version(&new)).await.unwrap();
    let exact = format!("?resourceVersion={}&resourceVersionMatch=Exact", version(&old));
    let (code, reason, _) = api.get(&format!("{CONFIG_MAPS}{exact}")).await.error();
    assert_eq!((code, reason.as_str()), (410, "Expired"));
}

#[tokio::test]
async fn a_match_needs_a_version() {
    let api = Api::new().await;
    for query in [
        "resourceVersionMatch=Exact",
        "resourceVersion=0&resourceVersionMatch=Exact",
        "resourceVersion=1&resourceVersionMatch=X",
    ] {
        let (code, _, message) = api.get(&format!("{CONFIG_MAPS}?{query}")).await.error();
        assert_eq!(code, 422);
        assert!(message.starts_with("ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: "), "{message}");
    }
    for query in ["resourceVersion=x", "watch=true&resourceVersion=x"] {
        let (code, _, message) = api.get(&format!("{CONFIG_MAPS}?{query}")).await.error();
        assert_eq!(code, 400);
        assert_eq!(
            message,
            "invalid resource version: resourceVersion: Invalid value: \"x\": strconv.ParseUint: parsing \"x\": invalid \
             syntax"
        );
    }
}
