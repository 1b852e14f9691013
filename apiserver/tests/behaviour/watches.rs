//! <https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes>

use crate::api::{Api, CONFIG_MAPS, config_map, names, pod, version};
use serde_json::json;

/// Conformance: "watch-configmaps-from-resource-version".
#[tokio::test]
async fn a_watch_from_a_list_sees_every_change_after_it() {
    let api = Api::new().await;
    api.config_map("a", "1").await;
    let list = api.get(CONFIG_MAPS).await.ok();
    api.config_map("b", "1").await;
    let mut watch = api.watch(&format!("{CONFIG_MAPS}?watch=true&resourceVersion={}", version(&list))).await;
    let modified = api.put(&format!("{CONFIG_MAPS}/a"), &config_map("a", "2")).await.ok();
    api.delete(&format!("{CONFIG_MAPS}/a")).await.ok();
    watch.expect(&[("ADDED", "b")]).await;
    assert_eq!(watch.next().await, Some(json!({"type": "MODIFIED", "object": modified})));
    let deleted = watch.next().await.unwrap();
    assert_eq!((&deleted["type"], &deleted["object"]["data"]["key"]), (&json!("DELETED"), &json!("2")));
    assert!(version(&deleted["object"]) > version(&modified));
}

#[tokio::test]
async fn a_watch_without_a_version_begins_with_what_there_is() {
    let api = Api::new().await;
    api.config_map("a", "1").await;
    let mut watch = api.watch(&format!("{CONFIG_MAPS}?watch=1")).await;
    api.config_map("b", "1").await;
    watch.expect(&[("ADDED", "a"), ("ADDED", "b")]).await;
}

/// Conformance: "watch-configmaps-label-changed".
#[tokio::test]
async fn an_object_enters_and_leaves_a_selection() {
    let api = Api::new().await;
    let mut watch = api.watch(&format!("{CONFIG_MAPS}?watch=true&labelSelector=app%3Dx")).await;
    api.config_map("a", "1").await;
    let path = format!("{CONFIG_MAPS}/a");
    let label = |app: &str| json!({"metadata": {"labels": {"app": app}}});
    api.patch("merge", &path, &label("x")).await.ok();
    api.patch("merge", &path, &json!({"data": {"key": "2"}})).await.ok();
    api.patch("merge", &path, &label("y")).await.ok();
    api.delete(&path).await.ok();
    api.patch("merge", &format!("{CONFIG_MAPS}/a"), &label("x")).await;
    let mut other = config_map("b", "1");
    other["metadata"] = json!({"name": "b", "labels": {"app": "x"}});
    api.post(CONFIG_MAPS, &other).await.ok();
    watch.expect(&[("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a"), ("ADDED", "b")]).await;
}

#[tokio::test]
async fn a_node_sees_its_own_pods() {
    let api = Api::new().await;
    let pods = "/api/v1/namespaces/default/pods";
    let mut node = api.watch("/api/v1/pods?watch=true&fieldSelector=spec.nodeName%3Dn1").await;
    for (name, node) in [("a", "n2"), ("b", "n1")] {
        let mut object = pod(name);
        object["spec"]["nodeName"] = node.into();
        api.post(pods, &object).await.ok();
    }
    node.expect(&[("ADDED", "b")]).await;
    let mut one = api.watch(&format!("{pods}?watch=true&fieldSelector=metadata.name%3Da")).await;
    api.delete_with(&format!("{pods}/b"), &json!({"gracePeriodSeconds": 0})).await.ok();
    api.delete_with(&format!("{pods}/a"), &json!({"gracePeriodSeconds": 0})).await.ok();
    one.expect(&[("ADDED", "a"), ("DELETED", "a")]).await;
    node.expect(&[("DELETED", "b")]).await;
}

#[tokio::test]
async fn a_watch_ends_with_a_bookmark_that_says_how_far_it_got() {
    let api = Api::new().await;
    let mut watch = api.watch(&format!("{CONFIG_MAPS}?watch=true&allowWatchBookmarks=true&timeoutSeconds=1")).await;
    // What there was comes first, as if the client had asked for it.
    let first = watch.next().await.unwrap();
    assert_eq!(first["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    let other = api.post("/api/v1/namespaces", &json!({"metadata": {"name": "other"}})).await.ok();
    let bookmark = watch.next().await.unwrap();
    assert_eq!((&bookmark["type"], &bookmark["object"]["kind"]), (&json!("BOOKMARK"), &json!("ConfigMap")));
    assert!(version(&bookmark["object"]) >= version(&other));
    assert_eq!(watch.next().await, None);
}

#[tokio::test]
async fn streaming_lists_end_with_a_bookmark() {
    let api = Api::new().await;
    api.config_map("a", "1").await;
    let newest = api.config_map("b", "1").await;
    let query = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut watch = api.watch(&format!("{CONFIG_MAPS}?{query}")).await;
    watch.expect(&[("ADDED", "a"), ("ADDED", "b")]).await;
    let end = watch.next().await.unwrap();
    assert_eq!(end["type"], "BOOKMARK");
    assert_eq!(end["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    assert_eq!(version(&end["object"]), version(&newest));
    api.config_map("c", "1").await;
    watch.expect(&[("ADDED", "c")]).await;
    let refused = api.get(&format!("{CONFIG_MAPS}?watch=true&sendInitialEvents=true")).await;
    assert_eq!(refused.code, 422);
}

#[tokio::test]
async fn a_watch_from_before_the_history_is_gone() {
    let first = Api::new().await;
    let old = first.config_map("a", "1").await;
    first.config_map("b", "1").await;
    // A server that starts later knows no history.
    let api = Api::on(first.datastore.clone()).await;
    let mut watch = api.watch(&format!("{CONFIG_MAPS}?watch=true&resourceVersion={}", version(&old))).await;
    let error = watch.next().await.unwrap();
    assert_eq!((&error["type"], &error["object"]["code"]), (&json!("ERROR"), &json!(410)));
    let message = error["object"]["message"].as_str().unwrap();
    assert!(message.starts_with(&format!("too old resource version: {} (", version(&old))), "{message}");
    assert_eq!(watch.next().await, None);
}

#[tokio::test]
async fn a_slow_watch_is_closed_and_can_list_again() {
    let api = Api::new().await;
    let mut slow = api.watch(&format!("{CONFIG_MAPS}?watch=true")).await;
    api.config_map("a", "0").await;
    let path = format!("{CONFIG_MAPS}/a");
    for n in 1..5000 {
        api.patch("merge", &path, &json!({"data": {"key": n.to_string()}})).await.ok();
    }
    let mut last = None;
    while let Some(event) = slow.next().await {
        last = Some(event);
    }
    let last = last.unwrap();
    assert_eq!((&last["type"], &last["object"]["reason"]), (&json!("ERROR"), &json!("Expired")));
    assert_eq!(names(&api.get(CONFIG_MAPS).await.ok()), ["a"]);
}

#[tokio::test]
async fn watches_can_be_tables() {
    let api = Api::new().await;
    api.config_map("a", "1").await;
    let request = http::Request::get(format!("{CONFIG_MAPS}?watch=true&timeoutSeconds=1"))
        .header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
        .body(k8w_apiserver::Body::Empty)
        .unwrap();
    let reply = api.send(request).await;
    let event: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!((&event["type"], &event["object"]["kind"]), (&json!("ADDED"), &json!("Table")));
    assert_eq!(event["object"]["rows"][0]["cells"][0], "a");
}

/// The old paths that stand for `?watch=true`.
#[tokio::test]
async fn an_old_path_can_watch_one_object() {
    let api = Api::new().await;
    api.config_map("a", "1").await;
    let mut watch = api.watch("/api/v1/watch/namespaces/default/configmaps/b?timeoutSeconds=1").await;
    api.config_map("b", "1").await;
    watch.expect(&[("ADDED", "b")]).await;
    assert_eq!(watch.next().await, None);
    let path = "/api/v1/watch/namespaces/default/configmaps/b?fieldSelector=metadata.name%3Da";
    assert_eq!(api.get(path).await.code, 400);
}

/// Conformance: "watch-configmaps-with-multiple-watchers"; "watch-configmaps-closed-and-restarted".
#[tokio::test]
async fn watchers_see_what_they_select_and_go_on_where_they_left_off() {
    let api = Api::new().await;
    let selected = |selector: &str| format!("{CONFIG_MAPS}?watch=true&labelSelector={selector}");
    let mut a = api.watch(&selected("of%3Da")).await;
    let mut b = api.watch(&selected("of%3Db")).await;
    let mut both = api.watch(&selected("of%20in%20(a,b)")).await;
    let labelled = |of: &str, data: &str| {
        let mut object = config_map(of, data);
        object["metadata"]["labels"] = json!({"of": of});
        object
    };
    api.post(CONFIG_MAPS, &labelled("a", "1")).await.ok();
    let changed = api.put(&format!("{CONFIG_MAPS}/a"), &labelled("a", "2")).await.ok();
    a.expect(&[("ADDED", "a"), ("MODIFIED", "a")]).await;
    drop(a);
    api.delete(&format!("{CONFIG_MAPS}/a")).await.ok();
    api.post(CONFIG_MAPS, &labelled("b", "1")).await.ok();
    b.expect(&[("ADDED", "b")]).await;
    both.expect(&[("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a"), ("ADDED", "b")]).await;
    let mut again = api.watch(&format!("{}&resourceVersion={}", selected("of%3Da"), version(&changed))).await;
    again.expect(&[("DELETED", "a")]).await;
}

/// Conformance: "watch-consistency".
#[tokio::test]
async fn all_watchers_see_the_same_events_in_the_same_order() {
    const CHANGES: usize = 60;
    let api = Api::new().await;
    let mut first = api.watch(&format!("{CONFIG_MAPS}?watch=true")).await;
    let mut versions = Vec::new();
    let mut later = Vec::new();
    for n in 0..CHANGES {
        let name = format!("m{}", n % 5);
        if n % 7 == 6 {
            api.delete(&format!("{CONFIG_MAPS}/{name}")).await;
        } else if api.post(CONFIG_MAPS, &config_map(&name, "0")).await.code == 409 {
            api.put(&format!("{CONFIG_MAPS}/{name}"), &config_map(&name, &n.to_string())).await.ok();
        }
        let event = first.next().await.unwrap();
        versions.push(version(&event["object"]));
        let from = versions.last().unwrap();
        later.push(api.watch(&format!("{CONFIG_MAPS}?watch=true&resourceVersion={from}")).await);
    }
    assert!(versions.is_sorted());
    for (seen, mut watch) in later.into_iter().enumerate() {
        for expected in &versions[seen + 1..] {
            assert_eq!(version(&watch.next().await.unwrap()["object"]), *expected);
        }
    }
}
