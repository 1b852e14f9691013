//! Requests that make no sense get an answer that says so, and the server goes on.

use crate::api::{Api, CONFIG_MAPS, deployment, pod};
use http::{Method, Request};
use k8w_apiserver::Body;
use serde_json::json;

#[tokio::test]
async fn bodies_that_are_no_objects_are_refused() {
    let api = Api::new().await;
    api.config_map("a", "1").await;
    let path = format!("{CONFIG_MAPS}/a");
    let deep = "[".repeat(100_000);
    for body in ["", "[]", "\"x\"", "1", "null", "{\"metadata\": 1}", "{\"metadata\": {\"name\": {}}}", "\u{0}", &deep]
    {
        for (method, path) in [(Method::POST, CONFIG_MAPS), (Method::PUT, path.as_str())] {
            for content_type in ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"] {
                let request = Request::builder().method(method.clone()).uri(path).header("content-type", content_type);
                let reply = api.send(request.body(Body::from(body.to_string())).unwrap()).await;
                // An empty object takes its name from the URL.
                let harmless = method == Method::PUT && matches!(body, "" | "null");
                assert!(harmless || (400..500).contains(&reply.code), "{method} {content_type} {body:.50}: {reply:?}");
            }
        }
    }
    assert_eq!(api.get(&path).await.code, 200);
}

#[tokio::test]
async fn patches_cannot_break_an_object() {
    let api = Api::new().await;
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    api.post(deployments, &deployment("d", 1)).await.ok();
    let path = format!("{deployments}/d");
    for patch in [
        json!([{"op": "replace", "path": "", "value": 1}]),
        json!([{"op": "remove", "path": "/metadata"}]),
        json!([{"op": "remove", "path": "/spec"}]),
        json!([{"op": "replace", "path": "/metadata", "value": []}]),
        json!([{"op": "add", "path": "/spec/template/spec/containers/9", "value": {}}]),
        json!([{"op": "nonsense"}]),
    ] {
        let reply = api.patch("json", &path, &patch).await;
        assert!(reply.code < 500, "{patch}: {reply:?}");
    }
    for patch in [
        json!({"metadata": null}),
        json!({"metadata": "x"}),
        json!({"metadata": {"name": "other"}}),
        json!({"metadata": {"resourceVersion": "x"}}),
        json!({"metadata": {"managedFields": [{"manager": 1}]}}),
        json!({"spec": null}),
        json!({"spec": {"template": {"spec": {"containers": [{"$patch": "nonsense"}]}}}}),
        json!({"$patch": "replace"}),
    ] {
        for format in ["merge", "strategic-merge"] {
            for path in [path.clone(), format!("{path}/status"), format!("{path}/scale")] {
                let reply = api.patch(format, &path, &patch).await;
                assert!(reply.code < 500, "{format} {path} {patch}: {reply:?}");
            }
        }
    }
    let object = api.get(&path).await.ok();
    assert_eq!(
        (&object["metadata"]["name"], &object["spec"]["selector"]),
        (&json!("d"), &json!({"matchLabels": {"app": "d"}}))
    );
}

#[tokio::test]
async fn parameters_out_of_range_are_refused_or_bounded() {
    let api = Api::new().await;
    for (query, code) in [
        ("limit=-1", 200),
        ("limit=", 400),
        ("limit=99999999999999999999", 400),
        ("limit=x", 400),
        ("timeoutSeconds=x", 400),
        ("watch=true&timeoutSeconds=x", 400),
        ("watch=true&timeoutSeconds=-1", 200),
        ("sendInitialEvents=true", 422),
        ("resourceVersion=-1", 400),
        ("resourceVersion=18446744073709551616", 400),
        ("continue=%00", 400),
        ("labelSelector=%ff", 400),
        ("fieldSelector=%2C%3D", 400),
    ] {
        assert_eq!(api.get(&format!("{CONFIG_MAPS}?{query}")).await.code, code, "{query}");
    }
    drop(api.watch(&format!("{CONFIG_MAPS}?watch=true&timeoutSeconds={}", i64::MAX)).await);
    let selector = "!a,".repeat(10_000);
    assert_eq!(api.get(&format!("{CONFIG_MAPS}?labelSelector={selector}!a")).await.code, 200);
    let selector = "metadata.name=a,".repeat(2_000);
    assert_eq!(api.get(&format!("{CONFIG_MAPS}?fieldSelector={selector}metadata.name=a")).await.code, 200);
}

#[tokio::test]
async fn grace_periods_out_of_range_are_bounded() {
    let api = Api::new().await;
    let pods = "/api/v1/namespaces/default/pods";
    for grace in [i64::MIN, -1, i64::MAX] {
        let mut object = pod("p");
        object["spec"]["nodeName"] = "n".into();
        api.post(pods, &object).await.ok();
        let path = format!("{pods}/p");
        let reply = api.delete_with(&path, &json!({"gracePeriodSeconds": grace})).await;
        assert!(reply.code < 500, "{grace}: {reply:?}");
        api.delete_with(&path, &json!({"gracePeriodSeconds": 0})).await;
        assert_eq!(api.get(&path).await.code, 404);
    }
}

#[tokio::test]
async fn a_json_patch_cannot_double_an_object_again_and_again() {
    let api = Api::new().await;
    let data = json!({"data": {"a": "x".repeat(500_000)}, "metadata": {"name": "big"}});
    api.post(CONFIG_MAPS, &data).await.ok();
    let copies: Vec<_> =
        (0..40).map(|n| json!({"op": "copy", "from": "/data", "path": format!("/data/x{n}")})).collect();
    let reply = api.patch("json", &format!("{CONFIG_MAPS}/big"), &json!(copies)).await;
    assert_eq!(reply.code, 413, "{reply:?}");
}

#[tokio::test]
async fn a_json_patch_has_so_many_operations() {
    let api = Api::new().await;
    api.config_map("a", "1").await;
    let operations: Vec<_> = (0..10_001).map(|_| json!({"op": "test", "path": "/data/key", "value": "1"})).collect();
    let (code, _, message) = api.patch("json", &format!("{CONFIG_MAPS}/a"), &json!(operations)).await.error();
    assert_eq!(code, 413);
    assert_eq!(message, "Request entity too large: The allowed maximum operations in a JSON patch is 10000, got 10001");
    assert_eq!(api.patch("json", &format!("{CONFIG_MAPS}/a"), &json!(operations[..10_000])).await.code, 200);
}

/// A right in one namespace must not reach another Namespace through a path that names both.
#[tokio::test]
async fn namespaces_are_not_found_inside_a_namespace() {
    let api = Api::new().await;
    api.post("/api/v1/namespaces", &json!({"metadata": {"name": "victim"}})).await.ok();
    for path in [
        "/api/v1/namespaces/default/namespaces",
        "/api/v1/namespaces/default/namespaces/victim",
        "/api/v1/namespaces/victim/namespaces/victim",
        "/api/v1/namespaces/default/namespaces/victim/finalize",
    ] {
        for method in [Method::GET, Method::PUT, Method::PATCH, Method::DELETE] {
            let request = Request::builder().method(method.clone()).uri(path);
            let request = request.header("content-type", "application/merge-patch+json");
            let reply = api.send(request.body(Body::from("{}".to_string())).unwrap()).await;
            assert!((400..500).contains(&reply.code), "{method} {path}: {reply:?}");
        }
    }
    assert_eq!(api.get("/api/v1/namespaces/victim").await.code, 200);
}

#[tokio::test]
async fn paths_that_are_nearly_right_lead_nowhere() {
    let api = Api::new().await;
    api.post("/api/v1/namespaces", &json!({"metadata": {"name": "here"}})).await.ok();
    api.post(CONFIG_MAPS, &json!({"metadata": {"name": "a"}})).await.ok();
    let wrong = [
        "/api/v1/namespaces/here/namespaces/here",
        "/api/v1/namespaces/here/status/more",
        "/api/v1/namespaces/default/nodes",
        "/api/v1/namespaces/default/configmaps/a/status",
        "/api/v1/namespaces/default/configmaps/a/more/and/more",
        "/api/v1/namespaces/default//configmaps",
        "/api/v1//configmaps",
        "/api/v1/configmaps/a",
        "/api/v1/watch/configmaps/a",
        "/api/v1/watch/namespaces/here/namespaces/here",
    ];
    for path in wrong {
        let reply = api.get(path).await;
        assert_eq!(reply.code, 404, "{path}: {reply:?}");
    }
    for path in ["/api/v1/namespaces/here/", "/api/v1/configmaps/", "/api/v1/namespaces/default/configmaps/a/"] {
        assert_eq!(api.get(path).await.code, 200, "{path}");
    }
    let reply = api.post("/api/v1/watch/namespaces/default/configmaps", &json!({"metadata": {"name": "b"}})).await;
    assert_eq!(reply.code, 405, "{reply:?}");
}
