//! <https://kubernetes.io/docs/concepts/overview/working-with-objects/owners-dependents/>: who may say that an object
//! belongs to another, and that the other has to wait for it.

use serde_json::{Value, json};

use crate::api::CONFIG_MAPS;
use crate::cluster::{As, Cluster};
use crate::custom_resource_definitions::{DEFINITIONS, anything, definition};

fn owned(name: &str, api_version: &str, kind: &str, uid: &str) -> Value {
    let owner = json!({"apiVersion": api_version, "kind": kind, "name": "w", "uid": uid, "controller": true,
        "blockOwnerDeletion": true});
    json!({"metadata": {"name": name, "ownerReferences": [owner]}})
}

/// What an operator without all rights needs for the children of its custom objects.
#[tokio::test]
async fn an_owner_waits_for_those_who_may_change_its_finalizers() {
    let cluster = Cluster::new().await;
    cluster.make(definition("widgets", "Widget", anything())).await;
    let path = format!("{DEFINITIONS}/widgets.example.com");
    while !cluster.get(As::Admin, &path).await.ok()["status"]["conditions"]
        .to_string()
        .contains(r#""status":"True","type":"Established""#)
    {
        tokio::task::yield_now().await;
    }
    let make = json!({"verbs": ["create", "delete"], "apiGroups": [""], "resources": ["configmaps"]});
    let finalize = json!({"verbs": ["update"], "apiGroups": ["example.com"], "resources": ["widgets/finalizers"]});
    cluster.grant("clerk", json!([make])).await;
    cluster.grant("operator", json!([make, finalize])).await;
    let widget = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}});
    let widget = cluster.post(As::Admin, "/apis/example.com/v1/namespaces/default/widgets", &widget).await.ok();
    let uid = widget["metadata"]["uid"].as_str().unwrap();
    let child = |name: &str| owned(name, "example.com/v1", "Widget", uid);
    let (code, _, message) = cluster.post(As::User("clerk", &[]), CONFIG_MAPS, &child("a")).await.error();
    assert_eq!(code, 403);
    assert_eq!(
        message,
        "configmaps \"a\" is forbidden: cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't \
         set finalizers on: , <nil>"
    );
    assert_eq!(cluster.post(As::User("operator", &[]), CONFIG_MAPS, &child("a")).await.code, 201);
    let unknown = owned("b", "example.com/v1", "Gadget", "1-2");
    let (code, _, message) = cluster.post(As::User("operator", &[]), CONFIG_MAPS, &unknown).await.error();
    assert_eq!(code, 403);
    assert!(message.contains("cannot find RESTMapping for APIVersion example.com/v1 Kind Gadget"), "{message}");
    assert_eq!(cluster.post(As::Admin, CONFIG_MAPS, &unknown).await.code, 201);
}
