//! Failures, in Kubernetes' words.

use crate::api::{Api, CONFIG_MAPS, config_map, pod};
use expect_test::{Expect, expect};
use http::Request;
use k8w_apiserver::Body;
use serde_json::json;

fn check(reply: &crate::api::Reply, expected: Expect) {
    let (code, reason, message) = reply.error();
    expected.assert_eq(&format!("{code} {reason}: {message}"));
}

#[tokio::test]
async fn what_does_not_exist_is_not_found() {
    let api = Api::new().await;
    let reply = api.get(&format!("{CONFIG_MAPS}/x")).await;
    check(&reply, expect![[r#"404 NotFound: configmaps "x" not found"#]]);
    assert_eq!(reply.json()["details"], json!({"name": "x", "kind": "configmaps"}));
    let reply = api.delete("/apis/apps/v1/namespaces/default/deployments/x").await;
    check(&reply, expect![[r#"404 NotFound: deployments.apps "x" not found"#]]);
    check(
        &api.get("/api/v1/nonsense").await,
        expect!["404 NotFound: the server could not find the requested resource"],
    );
    check(
        &api.get(&format!("{CONFIG_MAPS}/x/nonsense")).await,
        expect!["404 NotFound: the server could not find the requested resource"],
    );
}

#[tokio::test]
async fn a_name_is_taken_once() {
    let api = Api::new().await;
    api.config_map("x", "1").await;
    let reply = api.post(CONFIG_MAPS, &config_map("x", "1")).await;
    check(&reply, expect![[r#"409 AlreadyExists: configmaps "x" already exists"#]]);
}

#[tokio::test]
async fn a_write_from_an_old_state_conflicts() {
    let api = Api::new().await;
    let created = api.config_map("x", "1").await;
    let path = format!("{CONFIG_MAPS}/x");
    api.put(&path, &config_map("x", "2")).await.ok();
    check(
        &api.put(&path, &created).await,
        expect![[
            r#"409 Conflict: Operation cannot be fulfilled on configmaps "x": the object has been modified; please apply your changes to the latest version and try again"#
        ]],
    );
    let patch = json!({"metadata": {"resourceVersion": created["metadata"]["resourceVersion"]}, "data": {"key": "3"}});
    assert_eq!(api.patch("merge", &path, &patch).await.code, 409);
    let mut other = config_map("x", "4");
    other["metadata"]["uid"] = "other".into();
    let (code, _, message) = api.put(&path, &other).await.error();
    assert_eq!(code, 409);
    assert!(message.contains("Precondition failed: UID in precondition: other, UID in object meta:"), "{message}");
}

#[tokio::test]
async fn invalid_objects_say_each_cause() {
    let api = Api::new().await;
    let mut object = pod("x");
    object["metadata"]["labels"] = json!({"a b": "c"});
    object["metadata"]["name"] = "UPPER".into();
    let reply = api.post("/api/v1/namespaces/default/pods", &object).await;
    let (code, reason, message) = reply.error();
    assert_eq!((code, reason.as_str()), (422, "Invalid"));
    assert!(message.starts_with("Pod \"UPPER\" is invalid: [metadata.name: Invalid value: \"UPPER\": "), "{message}");
    let status = reply.json();
    let causes = status["details"]["causes"].as_array().unwrap();
    assert_eq!(causes[0]["field"], "metadata.name");
    assert_eq!(causes[0]["reason"], "FieldValueInvalid");
    assert!(causes[0]["message"].as_str().unwrap().starts_with("Invalid value: \"UPPER\": "));
    assert_eq!((&status["details"]["kind"], &status["details"]["name"]), (&json!("Pod"), &json!("UPPER")));
}

#[tokio::test]
async fn the_url_and_the_object_must_agree() {
    let api = Api::new().await;
    api.config_map("x", "1").await;
    check(
        &api.put(&format!("{CONFIG_MAPS}/x"), &config_map("y", "1")).await,
        expect!["400 BadRequest: the name of the object (y) does not match the name on the URL (x)"],
    );
    let mut other = config_map("y", "1");
    other["metadata"]["namespace"] = "other".into();
    check(
        &api.post(CONFIG_MAPS, &other).await,
        expect![
            "400 BadRequest: the namespace of the provided object does not match the namespace sent on the request"
        ],
    );
    check(
        &api.post(CONFIG_MAPS, &pod("x")).await,
        expect![[
            r#"400 BadRequest: Pod in version "v1" cannot be handled as a ConfigMap: converting (v1.Pod) to (core.ConfigMap): unknown conversion"#
        ]],
    );
    let mut other = config_map("y", "1");
    other["apiVersion"] = "v2".into();
    check(
        &api.post(CONFIG_MAPS, &other).await,
        expect!["400 BadRequest: the API version in the data (v2) does not match the expected API version (v1)"],
    );
}

#[tokio::test]
async fn verbs_and_places_must_exist() {
    let api = Api::new().await;
    api.config_map("x", "1").await;
    let one = format!("{CONFIG_MAPS}/x");
    let object = config_map("x", "1");
    for (what, reply) in [
        ("namespaces are deleted one by one", api.delete("/api/v1/namespaces").await),
        ("a collection is not replaced", api.put(CONFIG_MAPS, &object).await),
        ("nor patched", api.patch("merge", CONFIG_MAPS, &json!({})).await),
        ("nor applied", api.apply(CONFIG_MAPS, &object).await),
        ("an object is made in its collection", api.post(&one, &object).await),
        ("which lies in a namespace", api.post("/api/v1/configmaps", &object).await),
        ("a review is made", api.get("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews").await),
        ("logs are read", api.post("/api/v1/namespaces/default/pods/x/log", &json!({})).await),
    ] {
        let (code, reason, message) = reply.error();
        assert_eq!((code, reason.as_str()), (405, "MethodNotAllowed"), "{what}");
        assert_eq!(message, "the server does not allow this method on the requested resource", "{what}");
    }
    assert_eq!(api.get("/api/v1/namespaces/default/nodes").await.code, 404);
    assert_eq!(api.get("/nonsense").await.code, 404);
}

#[tokio::test]
async fn names_in_paths_are_one_segment() {
    let api = Api::new().await;
    check(
        &api.get("/api/v1/namespaces/..%2Fother/configmaps").await,
        expect![[r#"400 BadRequest: Namespace parameter invalid: "../other": may not contain '/'"#]],
    );
    check(
        &api.get("/api/v1/namespaces/../configmaps").await,
        expect![[r#"400 BadRequest: Namespace parameter invalid: "..": may not be '..'"#]],
    );
    check(
        &api.get(&format!("{CONFIG_MAPS}/a%25b")).await,
        expect![[r#"400 BadRequest: Name parameter invalid: "a%b": may not contain '%'"#]],
    );
}

#[tokio::test]
async fn bodies_must_be_of_a_known_type_and_size() {
    let api = Api::new().await;
    let request = |content_type: &str, body: Body| {
        Request::post(CONFIG_MAPS).header("content-type", content_type).body(body).unwrap()
    };
    let reply = api.send(request("application/cbor", Body::Empty)).await;
    check(
        &reply,
        expect![
            "415 UnsupportedMediaType: the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf"
        ],
    );
    let huge = vec![b' '; (3 << 20) + 1];
    let reply = api.send(request("application/json", huge.into())).await;
    check(&reply, expect!["413 RequestEntityTooLarge: Request entity too large: limit is 3145728"]);
    let reply = api.send(request("application/json", "{".into())).await;
    assert_eq!(reply.code, 400);
    let reply = api.patch("nonsense", &format!("{CONFIG_MAPS}/x"), &json!({})).await;
    assert_eq!(reply.code, 415);
    let accept = Request::get(CONFIG_MAPS).header("accept", "application/cbor");
    check(
        &api.send(accept.body(Body::Empty).unwrap()).await,
        expect![
            "406 NotAcceptable: only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf"
        ],
    );
}

#[tokio::test]
async fn a_new_object_has_no_resource_version() {
    let api = Api::new().await;
    let mut object = config_map("x", "1");
    object["metadata"]["resourceVersion"] = "1".into();
    check(
        &api.post(CONFIG_MAPS, &object).await,
        expect!["400 BadRequest: resourceVersion should not be set on objects to be created"],
    );
}
