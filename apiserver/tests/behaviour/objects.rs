//! Creating, reading and replacing objects.

use crate::api::{Api, CONFIG_MAPS, config_map, names, version};
use crate::custom_resource_definitions::{anything, definition};
use serde_json::json;

#[tokio::test]
async fn a_created_object_gets_its_identity() {
    let api = Api::new().await;
    let reply = api.post(CONFIG_MAPS, &config_map("a", "1")).await;
    assert_eq!(reply.code, 201);
    let created = reply.json();
    let metadata = &created["metadata"];
    assert_eq!((&metadata["name"], &metadata["namespace"]), (&json!("a"), &json!("default")));
    assert_eq!(metadata["uid"].as_str().unwrap().len(), 36);
    assert!(metadata["creationTimestamp"].as_str().unwrap().ends_with('Z'));
    assert!(version(&created) > 0);
    assert_eq!(api.get(&format!("{CONFIG_MAPS}/a")).await.ok(), created);
}

#[tokio::test]
async fn fields_that_belong_to_the_server_are_not_taken_from_the_client() {
    let api = Api::new().await;
    let mut object = config_map("a", "1");
    object["metadata"]["uid"] = "mine".into();
    object["metadata"]["deletionTimestamp"] = "2020-01-01T00:00:00Z".into();
    let created = api.post(CONFIG_MAPS, &object).await.ok();
    assert_ne!(created["metadata"]["uid"], "mine");
    assert!(created["metadata"]["deletionTimestamp"].is_null());
}

#[tokio::test]
async fn a_replaced_object_keeps_its_identity() {
    let api = Api::new().await;
    let created = api.config_map("a", "1").await;
    let replaced = api.put(&format!("{CONFIG_MAPS}/a"), &config_map("a", "2")).await.ok();
    assert_eq!(replaced["data"]["key"], "2");
    for field in ["uid", "creationTimestamp", "name", "namespace"] {
        assert_eq!(replaced["metadata"][field], created["metadata"][field], "{field}");
    }
    assert!(version(&replaced) > version(&created));
}

/// What writes of an object do to the fields of its metadata that belong to the server, for kinds of any origin.
#[tokio::test]
async fn what_the_server_says_of_an_object_is_kept_or_defended() {
    let api = Api::new().await;
    let made = api.config_map("a", "1").await;
    api.define(&definition("widgets", "Widget", anything())).await;
    let widget = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "a"}});
    let widgets = "/apis/example.com/v1/namespaces/default/widgets";
    let widget = api.post(widgets, &widget).await.ok();
    for (path, object) in [(format!("{CONFIG_MAPS}/a"), made), (format!("{widgets}/a"), widget)] {
        let kind = object["kind"].as_str().unwrap();
        for kept in [
            json!({"creationTimestamp": "2020-01-01T00:00:00Z"}),
            json!({"generation": 7}),
            json!({"selfLink": "/here"}),
            json!({"deletionTimestamp": null}),
        ] {
            let patch = json!({"metadata": kept});
            assert_eq!(api.patch("merge", &path, &patch).await.ok(), object, "{patch}");
            let mut next = object.clone();
            next["metadata"].as_object_mut().unwrap().extend(kept.as_object().unwrap().clone());
            assert_eq!(api.put(&path, &next).await.ok(), object, "{kept}");
        }
        let time = "2020-01-01T00:00:00Z";
        for (changed, expected) in [
            (json!({"deletionTimestamp": time}), format!("metadata.deletionTimestamp: Invalid value: \"{time}\"")),
            (json!({"deletionGracePeriodSeconds": 5}), "metadata.deletionGracePeriodSeconds: Invalid value: 5".into()),
            (json!({"uid": "other"}), "metadata.uid: Invalid value: \"other\"".into()),
        ] {
            let expected = format!("{kind} \"a\" is invalid: {expected}: field is immutable")
                .replace("Widget ", "Widget.example.com ");
            let patched = api.patch("merge", &path, &json!({"metadata": changed})).await.error();
            assert_eq!((patched.0, &patched.2), (422, &expected));
            let mut metadata = changed.clone();
            metadata["name"] = "a".into();
            let config = json!({"apiVersion": object["apiVersion"], "kind": kind, "metadata": metadata});
            let applied = api.apply(&format!("{path}?fieldManager=me"), &config).await.error();
            assert_eq!((applied.0, &applied.2), (422, &expected));
        }
        for (changed, expected) in [
            (json!({"name": "b"}), "the name of the object (b) does not match the name on the URL (a)"),
            (
                json!({"namespace": "other"}),
                "the namespace of the provided object does not match the namespace sent on the request",
            ),
        ] {
            let (code, _, message) = api.patch("merge", &path, &json!({"metadata": changed})).await.error();
            assert_eq!((code, message.as_str()), (400, expected));
        }
    }
}

#[tokio::test]
async fn objects_of_the_cluster_have_no_namespace() {
    let api = Api::new().await;
    let namespace = json!({"metadata": {"name": "n", "namespace": "default"}});
    let made = api.post("/api/v1/namespaces", &namespace).await.ok();
    assert!(made["metadata"]["namespace"].is_null());
    let patched = api.patch("merge", "/api/v1/namespaces/n", &json!({"metadata": {"namespace": "default"}})).await.ok();
    assert_eq!(patched, made);
}

#[tokio::test]
async fn a_write_that_changes_nothing_does_not_count() {
    let api = Api::new().await;
    let created = api.config_map("a", "1").await;
    let again = api.put(&format!("{CONFIG_MAPS}/a"), &created).await.ok();
    assert_eq!(again, created);
    let patched = api.patch("merge", &format!("{CONFIG_MAPS}/a"), &json!({"data": {"key": "1"}})).await.ok();
    assert_eq!(version(&patched), version(&created));
}

#[tokio::test]
async fn objects_of_one_name_live_in_several_namespaces() {
    let api = Api::new().await;
    for namespace in ["a", "a-b", "b"] {
        api.post(&format!("/api/v1/namespaces/{namespace}/configmaps"), &config_map("x", namespace)).await.ok();
    }
    let list = api.get("/api/v1/configmaps").await.ok();
    assert_eq!((&list["kind"], names(&list).len()), (&json!("ConfigMapList"), 3));
    let list = api.get("/api/v1/namespaces/a/configmaps").await.ok();
    assert_eq!(list["items"][0]["data"]["key"], "a");
    assert_eq!(names(&list).len(), 1);
}

#[tokio::test]
async fn manifests_may_be_yaml() {
    let api = Api::new().await;
    let yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  key: |\n    two\n    lines\n";
    let request = http::Request::post(CONFIG_MAPS).header("content-type", "application/yaml").body(yaml.into());
    let created = api.send(request.unwrap()).await.ok();
    assert_eq!(created["data"]["key"], "two\nlines\n");
}

#[tokio::test]
async fn the_state_outlives_the_server() {
    let first = Api::new().await;
    let created = first.config_map("a", "1").await;
    let second = Api::on(first.datastore.clone()).await;
    assert_eq!(second.get(&format!("{CONFIG_MAPS}/a")).await.ok(), created);
}

/// A field of a protobuf message that holds bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, bytes.len() as u8], bytes].concat()
}

#[tokio::test]
async fn go_clients_may_write_protobuf() {
    let api = Api::new().await;
    let type_meta = [field(1, b"v1"), field(2, b"ConfigMap")].concat();
    let data = [field(1, b"key"), field(2, b"value")].concat();
    let object = [field(1, &field(1, b"a")), field(2, &data)].concat();
    let body = [b"k8s\0".to_vec(), field(1, &type_meta), field(2, &object)].concat();
    let content_type = "application/vnd.kubernetes.protobuf";
    let request = http::Request::post(CONFIG_MAPS).header("content-type", content_type).body(body.into());
    let created = api.send(request.unwrap()).await.ok();
    assert_eq!((&created["metadata"]["name"], &created["data"]), (&json!("a"), &json!({"key": "value"})));
}
