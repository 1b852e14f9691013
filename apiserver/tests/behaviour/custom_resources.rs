//! Objects of custom kinds: the same verbs, formats and rules as for built-in ones, under the schema of their definition.

use http::Request;
use k8w_apiserver::Body;
use serde_json::{Value, json};

use crate::api::{Api, names};
use crate::custom_resource_definitions::{DEFINITIONS, anything, definition};

const WIDGETS: &str = "/apis/example.com/v1/namespaces/default/widgets";

fn widget(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name}, "spec": spec})
}

/// A schema whose `spec` has these properties.
fn spec(properties: Value) -> Value {
    json!({"type": "object", "properties": {"spec": {"type": "object", "properties": properties}, "status": anything()}})
}

async fn widgets(schema: Value) -> Api {
    let api = Api::new().await;
    api.define(&definition("widgets", "Widget", schema)).await;
    api
}

/// Replaces the version's part of the definition and waits until that is served.
async fn change(api: &Api, change: impl Fn(&mut Value)) {
    let path = format!("{DEFINITIONS}/widgets.example.com");
    loop {
        let mut definition = api.get(&path).await.ok();
        change(&mut definition["spec"]);
        let reply = api.put(&path, &definition).await;
        if reply.code != 409 {
            reply.ok();
            return;
        }
    }
}

#[tokio::test]
async fn objects_are_created_read_replaced_patched_listed_watched_and_deleted() {
    let api = widgets(spec(json!({"size": {"type": "integer"}}))).await;
    let mut watch = api.watch(&format!("{WIDGETS}?watch=true")).await;
    let created = api.post(WIDGETS, &widget("a", json!({"size": 1}))).await;
    assert_eq!(created.code, 201);
    let created = created.json();
    assert_eq!(created["metadata"]["generation"], 1);
    assert_eq!(created["metadata"]["managedFields"][0]["apiVersion"], "example.com/v1");
    let path = format!("{WIDGETS}/a");
    assert_eq!(api.get(&path).await.ok(), created);
    let mut next = created.clone();
    next["spec"]["size"] = 2.into();
    let replaced = api.put(&path, &next).await.ok();
    assert_eq!((&replaced["spec"]["size"], &replaced["metadata"]["generation"]), (&json!(2), &json!(2)));
    let patched = api.patch("merge", &path, &json!({"spec": {"size": 3}})).await.ok();
    assert_eq!(patched["metadata"]["generation"], 3);
    let patch = json!([{"op": "replace", "path": "/spec/size", "value": 4}]);
    let request = Request::patch(&path).header("content-type", "application/json-patch+json");
    api.send(request.body(Body::from(patch.to_string())).unwrap()).await.ok();
    let list = api.get(WIDGETS).await.ok();
    assert_eq!((&list["kind"], &list["apiVersion"]), (&json!("WidgetList"), &json!("example.com/v1")));
    assert_eq!((&list["items"][0]["kind"], &list["items"][0]["spec"]["size"]), (&json!("Widget"), &json!(4)));
    assert_eq!(names(&api.get("/apis/example.com/v1/widgets").await.ok()), ["a"]);
    let status = api.delete(&path).await.ok();
    assert_eq!(
        status["details"],
        json!({"name": "a", "group": "example.com", "kind": "widgets", "uid": created["metadata"]["uid"]})
    );
    watch.expect(&[("ADDED", "a"), ("MODIFIED", "a"), ("MODIFIED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]).await;
}

#[tokio::test]
async fn a_replacement_says_which_revision_it_replaces() {
    let api = widgets(anything()).await;
    api.post(WIDGETS, &widget("a", json!({}))).await.ok();
    let (code, _, message) = api.put(&format!("{WIDGETS}/a"), &widget("a", json!({}))).await.error();
    assert_eq!(code, 422);
    assert!(message.contains("metadata.resourceVersion: Invalid value"), "{message}");
}

#[tokio::test]
async fn strategic_merge_patches_are_not_taken() {
    let api = widgets(anything()).await;
    api.post(WIDGETS, &widget("a", json!({}))).await.ok();
    let (code, _, message) = api.patch("strategic-merge", &format!("{WIDGETS}/a"), &json!({})).await.error();
    assert_eq!(code, 415);
    assert_eq!(
        message,
        "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, \
         application/merge-patch+json, application/apply-patch+yaml"
    );
}

#[tokio::test]
async fn values_are_held_to_their_schema() {
    let api = widgets(spec(json!({
        "size": {"type": "integer", "minimum": 1}, "mode": {"type": "string", "enum": ["on", "off"]},
        "name": {"type": "string", "pattern": "^[a-z]+$"},
    })))
    .await;
    let bad = json!({"size": 0, "mode": "up", "name": "A1"});
    let (code, reason, message) = api.post(WIDGETS, &widget("a", bad)).await.error();
    assert_eq!((code, &*reason), (422, "Invalid"));
    assert_eq!(
        message,
        "Widget.example.com \"a\" is invalid: [spec.mode: Unsupported value: \"up\": supported values: \"on\", \"off\", \
         spec.name: Invalid value: \"A1\": spec.name in body should match '^[a-z]+$', \
         spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1]"
    );
    let (_, _, message) = api.post(WIDGETS, &widget("a", json!({"size": "big"}))).await.error();
    assert_eq!(
        message,
        "Widget.example.com \"a\" is invalid: spec.size: Invalid value: \"string\": spec.size in body must be of type \
         integer: \"string\""
    );
}

#[tokio::test]
async fn what_did_not_change_is_not_held_against_an_update() {
    let api = widgets(spec(json!({"a": {"type": "integer"}, "b": {"type": "integer"}}))).await;
    let created = api.post(WIDGETS, &widget("x", json!({"a": 1, "b": 1}))).await.ok();
    change(&api, |spec| {
        spec["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["a"]["minimum"] = 5.into()
    })
    .await;
    let path = format!("{WIDGETS}/x");
    assert_eq!(api.get(&path).await.ok()["metadata"]["uid"], created["metadata"]["uid"]);
    api.patch("merge", &path, &json!({"spec": {"b": 2}})).await.ok();
    assert_eq!(api.patch("merge", &path, &json!({"spec": {"a": 2}})).await.code, 422);
}

#[tokio::test]
async fn unknown_fields_are_pruned_and_told() {
    let api = widgets(spec(json!({"size": {"type": "integer"}}))).await;
    let reply = api.post(WIDGETS, &widget("a", json!({"size": 1, "extra": 2}))).await;
    assert_eq!(reply.warnings(), ["299 - \"unknown field \\\"spec.extra\\\"\""]);
    assert_eq!(reply.ok()["spec"], json!({"size": 1}));
    let strict = format!("{WIDGETS}?fieldValidation=Strict");
    let (code, _, message) = api.post(&strict, &widget("b", json!({"extra": 2}))).await.error();
    assert_eq!(code, 400);
    assert_eq!(
        message,
        "Widget in version \"v1\" cannot be handled as a Widget: strict decoding error: unknown field \"spec.extra\""
    );
    let ignoring = api.post(&format!("{WIDGETS}?fieldValidation=Ignore"), &widget("c", json!({"extra": 2}))).await;
    assert!(ignoring.warnings().is_empty());
}

/// Conformance: "Custom Resource Definition, defaulting".
#[tokio::test]
async fn defaults_are_filled_in_for_requests_and_from_storage() {
    let api = widgets(spec(json!({"a": {"type": "string"}, "b": {"type": "string"}}))).await;
    let schema = |spec: &mut Value, field: &str, default: Option<&str>| {
        let properties = &mut spec["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
        match default {
            Some(default) => properties[field]["default"] = default.into(),
            None => drop(properties[field].as_object_mut().unwrap().remove("default")),
        }
    };
    api.post(WIDGETS, &widget("first", json!({}))).await.ok();
    change(&api, |spec| schema(spec, "a", Some("A"))).await;
    assert_eq!(api.get(&format!("{WIDGETS}/first")).await.ok()["spec"], json!({"a": "A"}));
    let second = api.post(WIDGETS, &widget("second", json!({}))).await.ok();
    assert_eq!(second["spec"], json!({"a": "A"}));
    change(&api, |spec| {
        schema(spec, "a", None);
        schema(spec, "b", Some("B"));
    })
    .await;
    assert_eq!(api.get(&format!("{WIDGETS}/first")).await.ok()["spec"], json!({"b": "B"}));
    assert_eq!(api.get(&format!("{WIDGETS}/second")).await.ok()["spec"], json!({"a": "A", "b": "B"}));
}

#[tokio::test]
async fn an_object_shows_in_every_served_version() {
    let api = Api::new().await;
    let mut definition = definition("widgets", "Widget", anything());
    let version =
        |name: &str| json!({"name": name, "served": true, "storage": false, "schema": {"openAPIV3Schema": anything()}});
    definition["spec"]["versions"].as_array_mut().unwrap().extend([version("v1beta1"), version("v1alpha1")]);
    definition["spec"]["versions"][1]["deprecated"] = true.into();
    definition["spec"]["versions"][2]["served"] = false.into();
    api.define(&definition).await;
    let beta = "/apis/example.com/v1beta1/namespaces/default/widgets";
    let mut object = widget("a", json!({"x": 1}));
    object["apiVersion"] = "example.com/v1beta1".into();
    let reply = api.post(beta, &object).await;
    assert_eq!(reply.warnings(), ["299 - \"example.com/v1beta1 Widget is deprecated; use example.com/v1 Widget\""]);
    assert_eq!(reply.ok()["apiVersion"], "example.com/v1beta1");
    let one = api.get(&format!("{WIDGETS}/a")).await;
    assert!(one.warnings().is_empty());
    assert_eq!(one.ok()["apiVersion"], "example.com/v1");
    assert_eq!(api.get(beta).await.ok()["items"][0]["apiVersion"], "example.com/v1beta1");
    assert_eq!(api.get("/apis/example.com/v1alpha1/namespaces/default/widgets").await.code, 404);
    let stored = api.datastore.list(k8w_storage::datastore::ListRequest {
        range: k8w_storage::datastore::KeyRange::prefix("/registry/example.com/widgets/"),
        start_key: None,
        limit: 0,
        revision: None,
    });
    let stored: Value = serde_json::from_slice(&stored.await.unwrap().items[0].value).unwrap();
    assert_eq!(stored["apiVersion"], "example.com/v1");
    // A new storage version leaves the old objects as they are, and is remembered.
    change(&api, |spec| {
        spec["versions"][0]["storage"] = false.into();
        spec["versions"][1]["storage"] = true.into();
    })
    .await;
    let definition = api.get(&format!("{DEFINITIONS}/widgets.example.com")).await.ok();
    assert_eq!(definition["status"]["storedVersions"], json!(["v1", "v1beta1"]));
    assert_eq!(api.get(&format!("{beta}/a")).await.ok()["spec"], json!({"x": 1}));
}

#[tokio::test]
async fn versions_that_a_webhook_would_convert_are_refused_by_name() {
    let api = Api::new().await;
    let mut definition = definition("widgets", "Widget", anything());
    let other = json!({"name": "v2", "served": true, "storage": false, "schema": {"openAPIV3Schema": anything()}});
    definition["spec"]["versions"].as_array_mut().unwrap().push(other);
    definition["spec"]["conversion"] = json!({"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"],
        "clientConfig": {"service": {"namespace": "a", "name": "b"}}}});
    let reply = api.post(DEFINITIONS, &definition).await;
    assert!(reply.warnings()[0].contains("conversion webhooks"), "{:?}", reply.warnings());
    api.wait_for("widgets.example.com", "Established", "True").await;
    api.post(WIDGETS, &widget("a", json!({}))).await.ok();
    let (code, _, message) = api.get("/apis/example.com/v2/widgets").await.error();
    assert_eq!(code, 500);
    assert!(message.ends_with("conversion webhooks are not supported yet"), "{message}");
}

#[tokio::test]
async fn the_status_is_written_through_its_subresource_alone() {
    let api = Api::new().await;
    let mut definition = definition("widgets", "Widget", spec(json!({"size": {"type": "integer"}})));
    definition["spec"]["versions"][0]["subresources"] = json!({"status": {}});
    api.define(&definition).await;
    let mut object = widget("a", json!({"size": 1}));
    object["status"] = json!({"x": 1});
    let created = api.post(WIDGETS, &object).await.ok();
    assert!(created.get("status").is_none());
    let mut with_status = created.clone();
    with_status["status"] = json!({"x": 2});
    with_status["spec"]["size"] = 9.into();
    with_status["metadata"]["labels"] = json!({"a": "b"});
    let updated = api.put(&format!("{WIDGETS}/a/status"), &with_status).await.ok();
    assert_eq!((&updated["status"], &updated["spec"]), (&json!({"x": 2}), &json!({"size": 1})));
    assert!(updated["metadata"]["labels"].is_null());
    assert_eq!(updated["metadata"]["generation"], 1);
    assert_eq!(updated["metadata"]["managedFields"][1]["subresource"], "status");
    let patched =
        api.patch("merge", &format!("{WIDGETS}/a"), &json!({"status": {"x": 3}, "spec": {"size": 2}})).await.ok();
    assert_eq!((&patched["status"], &patched["metadata"]["generation"]), (&json!({"x": 2}), &json!(2)));
}

#[tokio::test]
async fn replicas_are_scaled() {
    let api = Api::new().await;
    let schema = json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {"count": {"type": "integer"}}},
        "status": {"type": "object", "properties": {"count": {"type": "integer"}, "selector": {"type": "string"}}}}});
    let mut definition = definition("widgets", "Widget", schema);
    definition["spec"]["versions"][0]["subresources"] = json!({"status": {}, "scale": {"specReplicasPath": ".spec.count",
        "statusReplicasPath": ".status.count", "labelSelectorPath": ".status.selector"}});
    api.define(&definition).await;
    api.post(WIDGETS, &widget("a", json!({"count": 2}))).await.ok();
    api.patch("merge", &format!("{WIDGETS}/a/status"), &json!({"status": {"count": 1, "selector": "a=b"}})).await.ok();
    let path = format!("{WIDGETS}/a/scale");
    let mut scale = api.get(&path).await.ok();
    assert_eq!((&scale["kind"], &scale["spec"]["replicas"]), (&json!("Scale"), &json!(2)));
    assert_eq!(scale["status"], json!({"replicas": 1, "selector": "a=b"}));
    scale["spec"]["replicas"] = 5.into();
    api.put(&path, &scale).await.ok();
    let object = api.get(&format!("{WIDGETS}/a")).await.ok();
    assert_eq!((&object["spec"]["count"], &object["metadata"]["generation"]), (&json!(5), &json!(2)));
    // Like the object itself, it is not merged by a strategy.
    assert_eq!(api.patch("strategic-merge", &path, &json!({"spec": {"replicas": 6}})).await.code, 415);
    let (code, _, message) = api.post(WIDGETS, &widget("b", json!({"count": -1}))).await.error();
    assert_eq!(code, 422);
    assert!(message.contains(".spec.count: Invalid value: -1: should be a non-negative integer"), "{message}");
    let (_, _, message) = api.post(WIDGETS, &widget("b", json!({"count": "x"}))).await.error();
    assert_eq!(
        message,
        "Widget.example.com \"b\" is invalid: [spec.count: Invalid value: \"string\": spec.count in body must be of type \
         integer: \"string\", .spec.count: Invalid value: 0: .spec.count accessor error: x is of the type string, expected \
         int64]"
    );
    api.post(WIDGETS, &widget("none", json!({}))).await.ok();
    assert_eq!(api.get(&format!("{WIDGETS}/none/scale")).await.code, 500);
}

/// Conformance: "custom-resource-definition-field-selectors-list-watch-register-informers" (without its webhook).
#[tokio::test]
async fn objects_are_selected_by_their_fields() {
    let api = Api::new().await;
    let mut definition =
        definition("widgets", "Widget", spec(json!({"color": {"type": "string"}, "on": {"type": "boolean"}})));
    definition["spec"]["versions"][0]["selectableFields"] =
        json!([{"jsonPath": ".spec.color"}, {"jsonPath": ".spec.on"}]);
    api.define(&definition).await;
    let red = format!("{WIDGETS}?fieldSelector=spec.color%3Dred");
    let mut watch = api.watch(&format!("{red}&watch=true")).await;
    for (name, color) in [("a", "red"), ("b", "blue"), ("c", "red")] {
        api.post(WIDGETS, &widget(name, json!({"color": color, "on": true}))).await.ok();
    }
    assert_eq!(names(&api.get(&red).await.ok()), ["a", "c"]);
    assert_eq!(names(&api.get(&format!("{red},spec.on%3Dfalse")).await.ok()), Vec::<&str>::new());
    api.patch("merge", &format!("{WIDGETS}/a"), &json!({"spec": {"color": "blue"}})).await.ok();
    api.patch("merge", &format!("{WIDGETS}/b"), &json!({"spec": {"color": "red"}})).await.ok();
    watch.expect(&[("ADDED", "a"), ("ADDED", "c"), ("DELETED", "a"), ("ADDED", "b")]).await;
    api.delete(&red).await.ok();
    assert_eq!(names(&api.get(WIDGETS).await.ok()), ["a"]);
    let (code, _, message) = api.get(&format!("{WIDGETS}?fieldSelector=spec.size%3D1")).await.error();
    assert_eq!((code, &*message), (400, "field label not supported: spec.size"));
}

#[tokio::test]
async fn tables_have_the_columns_of_the_definition() {
    let api = Api::new().await;
    let mut definition = definition("widgets", "Widget", anything());
    definition["spec"]["versions"][0]["additionalPrinterColumns"] = json!([
        {"name": "Size", "type": "integer", "jsonPath": ".spec.size", "description": "How big"},
        {"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status", "priority": 1}]);
    api.define(&definition).await;
    let mut object = widget("a", json!({"size": 3}));
    object["status"] = json!({"conditions": [{"type": "Ready", "status": "True"}]});
    api.post(WIDGETS, &object).await.ok();
    let request = Request::get(WIDGETS).header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io");
    let table = api.send(request.body(Body::Empty).unwrap()).await.ok();
    let columns: Vec<&Value> = table["columnDefinitions"].as_array().unwrap().iter().map(|c| &c["name"]).collect();
    assert_eq!(columns, ["Name", "Size", "Ready"]);
    assert_eq!(table["columnDefinitions"][1]["description"], "How big");
    assert_eq!(table["rows"][0]["cells"], json!(["a", 3, "True"]));
}

#[tokio::test]
async fn lists_and_maps_merge_in_server_side_apply_as_their_schema_says() {
    let api = widgets(spec(json!({
        "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
            "items": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}, "port": {"type": "integer"}}}},
        "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "all": {"type": "object", "x-kubernetes-map-type": "atomic", "additionalProperties": {"type": "string"}},
    })))
    .await;
    let apply = async |manager: &str, spec: Value| {
        api.apply(&format!("{WIDGETS}/a?fieldManager={manager}"), &widget("a", spec)).await
    };
    apply("one", json!({"ports": [{"name": "a", "port": 1}], "tags": ["x"], "all": {"k": "v"}})).await.ok();
    let both = apply("two", json!({"ports": [{"name": "b", "port": 2}], "tags": ["y"]})).await.ok();
    assert_eq!(both["spec"]["ports"].as_array().unwrap().len(), 2);
    assert_eq!(both["spec"]["tags"], json!(["x", "y"]));
    let (code, _, message) = apply("two", json!({"all": {"l": "w"}})).await.error();
    assert_eq!(code, 409);
    assert!(message.contains(".spec.all"), "{message}");
    let twice = json!({"ports": [{"name": "a"}, {"name": "a"}], "tags": ["x", "x"]});
    let (code, _, message) = api.post(WIDGETS, &widget("b", twice)).await.error();
    assert_eq!(code, 422);
    assert_eq!(
        message,
        "Widget.example.com \"b\" is invalid: [spec.ports[1]: Duplicate value: {\"name\":\"a\"}, spec.tags[1]: Duplicate \
         value: \"x\"]"
    );
}

#[tokio::test]
async fn objects_inside_of_objects_are_checked() {
    let api = widgets(spec(json!({
        "template": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true},
        "port": {"x-kubernetes-int-or-string": true},
    })))
    .await;
    let good = json!({"template": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {"a": 1}}, "port": "http"});
    assert_eq!(api.post(WIDGETS, &widget("a", good.clone())).await.ok()["spec"], good);
    let bad = json!({"template": {"kind": "Pod", "metadata": {"name": "x/y", "labels": {"a b": "c"}}}, "port": true});
    let (code, _, message) = api.post(WIDGETS, &widget("b", bad)).await.error();
    assert_eq!(code, 422);
    for part in [
        "spec.template.apiVersion: Required value",
        "spec.template.metadata.name: Invalid value: \"x/y\"",
        "spec.template.metadata.labels: Invalid value: \"a b\"",
        "spec.port: Invalid value: \"boolean\"",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
}

#[tokio::test]
async fn finalizers_without_a_domain_are_let_be() {
    let api = widgets(anything()).await;
    let mut object = widget("a", json!({}));
    object["metadata"]["finalizers"] = json!(["mine"]);
    let reply = api.post(WIDGETS, &object).await;
    assert_eq!(
        reply.warnings(),
        ["299 - \"metadata.finalizers: \\\"mine\\\": prefer a domain-qualified finalizer name to avoid accidental \
          conflicts with other finalizer writers\""]
    );
    reply.ok();
}
