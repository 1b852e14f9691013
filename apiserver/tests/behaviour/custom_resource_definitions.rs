//! Defining kinds: CustomResourceDefinitions, their conditions, names, versions and end.
//!
//! <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/>

use serde_json::{Value, json};

use crate::api::{Api, names};

pub const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// A definition of one version `v1` in the group `example.com`, with this schema.
pub fn definition(plural: &str, kind: &str, schema: Value) -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.example.com")},
        "spec": {
            "group": "example.com", "scope": "Namespaced", "names": {"plural": plural, "kind": kind},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}],
        },
    })
}

/// A schema that takes any object.
pub fn anything() -> Value {
    json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

impl Api {
    /// Adds a definition and waits until it is established.
    pub async fn define(&self, definition: &Value) -> Value {
        self.post(DEFINITIONS, definition).await.ok();
        self.wait_for(definition["metadata"]["name"].as_str().unwrap(), "Established", "True").await
    }

    /// The definition, once it has the condition.
    pub async fn wait_for(&self, name: &str, condition: &str, status: &str) -> Value {
        let mut watch = self.watch(&format!("{DEFINITIONS}?watch=true&fieldSelector=metadata.name={name}")).await;
        loop {
            let event = watch.next().await.expect("the watch ended");
            let object = &event["object"];
            let conditions = object["status"]["conditions"].as_array().unwrap();
            if conditions.iter().any(|c| c["type"] == condition && c["status"] == status) {
                return object.clone();
            }
        }
    }

    /// Returns when the definition is gone.
    pub async fn wait_until_gone(&self, name: &str) {
        let mut watch = self.watch(&format!("{DEFINITIONS}?watch=true&fieldSelector=metadata.name={name}")).await;
        while self.get(&format!("{DEFINITIONS}/{name}")).await.code != 404 {
            if watch.next().await.expect("the watch ended")["type"] == "DELETED" {
                return;
            }
        }
    }
}

fn condition<'v>(definition: &'v Value, kind: &str) -> &'v Value {
    definition["status"]["conditions"].as_array().unwrap().iter().find(|c| c["type"] == kind).unwrap_or(&Value::Null)
}

/// Conformance: "Custom Resource Definition, create".
#[tokio::test]
async fn a_definition_is_established_and_deleted() {
    let api = Api::new().await;
    let created = api.post(DEFINITIONS, &definition("widgets", "Widget", anything())).await;
    assert_eq!(created.code, 201);
    let created = created.json();
    assert_eq!(
        created["spec"]["names"],
        json!({"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"})
    );
    assert_eq!(created["spec"]["conversion"], json!({"strategy": "None"}));
    assert_eq!(created["status"]["storedVersions"], json!(["v1"]));
    assert_eq!(created["metadata"]["generation"], 1);
    let established = api.wait_for("widgets.example.com", "Established", "True").await;
    assert_eq!(established["status"]["acceptedNames"], created["spec"]["names"]);
    assert_eq!(condition(&established, "NamesAccepted")["reason"], "NoConflicts");
    assert_eq!(condition(&established, "Established")["reason"], "InitialNamesAccepted");
    assert_eq!(established["metadata"]["generation"], 1);
    let deleting = api.delete(&format!("{DEFINITIONS}/widgets.example.com")).await.ok();
    assert_eq!(deleting["metadata"]["finalizers"], json!(["customresourcecleanup.apiextensions.k8s.io"]));
    assert_eq!(condition(&deleting, "Terminating")["reason"], "InstanceDeletionPending");
    api.wait_until_gone("widgets.example.com").await;
    assert_eq!(api.get("/apis/example.com/v1/widgets").await.code, 404);
}

/// Conformance: "Custom Resource Definition, watch".
#[tokio::test]
async fn definitions_are_watched() {
    let api = Api::new().await;
    let mut watch = api.watch(&format!("{DEFINITIONS}?watch=true")).await;
    api.define(&definition("widgets", "Widget", anything())).await;
    watch.expect(&[("ADDED", "widgets.example.com"), ("MODIFIED", "widgets.example.com")]).await;
    api.delete(&format!("{DEFINITIONS}/widgets.example.com")).await.ok();
    while watch.event().await.0 != "DELETED" {}
}

/// Conformance: "Custom Resource Definition, list".
#[tokio::test]
async fn labelled_definitions_are_listed_and_deleted_together() {
    let api = Api::new().await;
    for i in 0..10 {
        let mut definition = definition(&format!("widget{i}s"), &format!("Widget{i}"), anything());
        definition["metadata"]["labels"] = json!({"test": "yes"});
        api.define(&definition).await;
    }
    api.define(&definition("others", "Other", anything())).await;
    let selected = format!("{DEFINITIONS}?labelSelector=test%3Dyes");
    assert_eq!(names(&api.get(&selected).await.ok()).len(), 10);
    api.delete(&selected).await.ok();
    for i in 0..10 {
        api.wait_until_gone(&format!("widget{i}s.example.com")).await;
    }
    assert_eq!(names(&api.get(DEFINITIONS).await.ok()), ["others.example.com"]);
}

/// Conformance: "Custom Resource Definition, status sub-resource".
#[tokio::test]
async fn the_status_is_read_updated_and_patched() {
    let api = Api::new().await;
    api.define(&definition("widgets", "Widget", anything())).await;
    let path = format!("{DEFINITIONS}/widgets.example.com/status");
    let mut read = api.get(&path).await.ok();
    let own = json!({"type": "Mine", "status": "True", "reason": "r", "message": "m"});
    read["status"]["conditions"].as_array_mut().unwrap().push(own);
    let updated = api.put(&path, &read).await.ok();
    assert_eq!(condition(&updated, "Mine")["status"], "True");
    let patch = json!({"status": {"conditions": [{"type": "Patched", "status": "True"}]}});
    api.patch("merge", &path, &patch).await.ok();
    let seen = api.wait_for("widgets.example.com", "Patched", "True").await;
    // What belongs to the server comes back.
    assert_eq!(condition(&seen, "Mine"), &Value::Null);
    api.wait_for("widgets.example.com", "Established", "True").await;
}

#[tokio::test]
async fn names_that_are_taken_are_not_accepted_until_they_are_free() {
    let api = Api::new().await;
    api.define(&definition("widgets", "Widget", anything())).await;
    let mut second = definition("gadgets", "Widget", anything());
    second["spec"]["names"]["singular"] = "gadget".into();
    api.post(DEFINITIONS, &second).await.ok();
    let refused = api.wait_for("gadgets.example.com", "NamesAccepted", "False").await;
    assert_eq!(condition(&refused, "NamesAccepted")["message"], "\"WidgetList\" is already in use");
    assert_eq!(condition(&refused, "Established")["reason"], "NotAccepted");
    assert_eq!(api.get("/apis/example.com/v1/gadgets").await.code, 404);
    api.delete(&format!("{DEFINITIONS}/widgets.example.com")).await.ok();
    api.wait_for("gadgets.example.com", "Established", "True").await;
    api.get("/apis/example.com/v1/gadgets").await.ok();
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let api = Api::new().await;
    let mut bad = definition("widgets", "Widget", json!({"type": "object", "properties": {"a": {}}}));
    bad["metadata"]["name"] = "wodgets.example.com".into();
    let (code, reason, message) = api.post(DEFINITIONS, &bad).await.error();
    assert_eq!((code, &*reason), (422, "Invalid"));
    assert_eq!(
        message,
        "CustomResourceDefinition.apiextensions.k8s.io \"wodgets.example.com\" is invalid: [metadata.name: Invalid value: \
         \"wodgets.example.com\": must be spec.names.plural+\".\"+spec.group, \
         spec.validation.openAPIV3Schema.properties[a].type: Required value: must not be empty for specified object fields]"
    );
}

#[tokio::test]
async fn the_objects_go_before_their_definition() {
    let api = Api::new().await;
    api.define(&definition("widgets", "Widget", anything())).await;
    let objects = "/apis/example.com/v1/namespaces/default/widgets";
    let object = |name: &str, finalizers: Value| json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name, "finalizers": finalizers}});
    api.post(objects, &object("free", json!([]))).await.ok();
    api.post(objects, &object("held", json!(["example.com/hold"]))).await.ok();
    let mut watch = api.watch(&format!("{objects}?watch=true")).await;
    watch.expect(&[("ADDED", "free"), ("ADDED", "held")]).await;
    api.delete(&format!("{DEFINITIONS}/widgets.example.com")).await.ok();
    api.wait_for("widgets.example.com", "Terminating", "True").await;
    let (code, _, message) = api.post(objects, &object("late", json!([]))).await.error();
    assert_eq!((code, &*message), (405, "create is not supported on resources of kind \"widgets.example.com\""));
    // The watch that began before ends with the kind as it was served then.
    while watch.next().await.is_some() {}
    while api.get(&format!("{objects}/held")).await.ok()["metadata"]["deletionTimestamp"].is_null() {
        tokio::task::yield_now().await;
    }
    api.patch("merge", &format!("{objects}/held"), &json!({"metadata": {"finalizers": null}})).await.ok();
    api.wait_until_gone("widgets.example.com").await;
    // Nothing is left for a kind of the same name.
    api.define(&definition("widgets", "Widget", anything())).await;
    assert!(names(&api.get(objects).await.ok()).is_empty());
}

#[tokio::test]
async fn a_second_server_on_the_datastore_serves_the_same_kinds() {
    let first = Api::new().await;
    let second = Api::on(first.datastore.clone()).await;
    first.define(&definition("widgets", "Widget", anything())).await;
    let objects = "/apis/example.com/v1/namespaces/default/widgets";
    let object = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "a"}, "spec": {"x": 1}});
    let created = second.post(objects, &object).await.ok();
    assert_eq!(first.get(&format!("{objects}/a")).await.ok(), created);
    second.delete(&format!("{DEFINITIONS}/widgets.example.com")).await.ok();
    first.wait_until_gone("widgets.example.com").await;
    for api in [&first, &second] {
        assert_eq!(api.get(objects).await.code, 404);
    }
    // And a third that starts when all is there.
    second.define(&definition("widgets", "Widget", anything())).await;
    second.post(objects, &object).await.ok();
    let third = Api::on(first.datastore.clone()).await;
    assert_eq!(names(&third.get(objects).await.ok()), ["a"]);
}

/// Conformance: "Custom Resource Definition, discovery"; "Aggregated Discovery Interface CRDs"; "Aggregated Discovery
/// Endpoint Accept Headers CRDs".
#[tokio::test]
async fn discovery_follows_the_definitions() {
    let api = Api::new().await;
    let own = api.get("/apis/apiextensions.k8s.io/v1").await.ok();
    assert!(own["resources"].as_array().unwrap().iter().any(|r| r["name"] == "customresourcedefinitions"));
    let mut definition = definition("widgets", "Widget", anything());
    definition["spec"]["names"]["shortNames"] = json!(["wd"]);
    definition["spec"]["names"]["categories"] = json!(["all"]);
    definition["spec"]["versions"][0]["subresources"] = json!({"status": {}});
    api.define(&definition).await;
    let groups = api.get("/apis").await.ok();
    let group = groups["groups"].as_array().unwrap().iter().find(|group| group["name"] == "example.com");
    assert_eq!(group.unwrap()["preferredVersion"]["groupVersion"], "example.com/v1");
    let list = api.get("/apis/example.com/v1").await.ok();
    let resource = &list["resources"][0];
    assert_eq!(
        (&resource["name"], &resource["kind"], &resource["shortNames"], &resource["categories"]),
        (&json!("widgets"), &json!("Widget"), &json!(["wd"]), &json!(["all"]))
    );
    assert_eq!(list["resources"][1]["name"], "widgets/status");
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let request = http::Request::get("/apis").header("accept", accept).body(k8w_apiserver::Body::Empty).unwrap();
    let aggregated = api.send(request).await.ok();
    let group = aggregated["items"].as_array().unwrap().iter().find(|item| item["metadata"]["name"] == "example.com");
    assert_eq!(group.unwrap()["versions"][0]["resources"][0]["resource"], "widgets");
    api.delete(&format!("{DEFINITIONS}/widgets.example.com")).await.ok();
    api.wait_until_gone("widgets.example.com").await;
    assert_eq!(api.get("/apis/example.com/v1").await.code, 404);
}

#[tokio::test]
async fn groups_and_versions_are_registered() {
    let api = Api::new().await;
    let services = "/apis/apiregistration.k8s.io/v1/apiservices";
    let mut watch = api.watch(&format!("{services}?watch=true")).await;
    api.define(&definition("widgets", "Widget", anything())).await;
    watch.expect(&[("ADDED", "v1.example.com")]).await;
    let service = api.get(&format!("{services}/v1.example.com")).await.ok();
    assert_eq!(service["metadata"]["labels"], json!({"kube-aggregator.kubernetes.io/automanaged": "true"}));
    assert_eq!(service["spec"]["groupPriorityMinimum"], 1000);
    assert_eq!(service["status"]["conditions"][0]["reason"], "Local");
    api.delete(&format!("{DEFINITIONS}/widgets.example.com")).await.ok();
    watch.expect(&[("DELETED", "v1.example.com")]).await;
}

const OPENAPI: &str = "/openapi/v3/apis/example.com";

/// The published schema of a kind in the group `example.com`.
async fn published(api: &Api, version: &str, kind: &str) -> Option<Value> {
    let reply = api.get(&format!("{OPENAPI}/{version}")).await;
    let document = (reply.code == 200).then(|| reply.json())?;
    document["components"]["schemas"].get(format!("com.example.{version}.{kind}")).cloned()
}

/// Conformance: "Custom Resource OpenAPI Publish, with validation schema"; "Custom Resource OpenAPI Publish, with
/// x-kubernetes-preserve-unknown-fields in object"; "Custom Resource OpenAPI Publish, with
/// x-kubernetes-preserve-unknown-fields at root"; "Custom Resource OpenAPI Publish, with
/// x-kubernetes-preserve-unknown-fields in embedded object"; "Custom Resource OpenAPI Publish, varying kinds".
#[tokio::test]
async fn schemas_are_published_as_they_were_written() {
    let api = Api::new().await;
    let schema = json!({"type": "object", "description": "A widget.", "properties": {
        "spec": {"type": "object", "description": "What it should be.", "required": ["name"], "properties": {
            "name": {"type": "string"}, "open": anything(),
            "template": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true}}}}});
    let before = api.get("/openapi/v3").await;
    api.define(&definition("widgets", "Widget", schema.clone())).await;
    let mut gadgets = definition("gadgets", "Gadget", anything());
    gadgets["spec"]["names"]["listKind"] = "Gadgets".into();
    api.define(&gadgets).await;
    let widget = published(&api, "v1", "Widget").await.unwrap();
    assert_eq!(
        widget["x-kubernetes-group-version-kind"],
        json!([{"group": "example.com", "kind": "Widget", "version": "v1"}])
    );
    assert_eq!(widget["properties"]["spec"]["required"], json!(["name"]));
    assert_eq!(widget["properties"]["spec"]["properties"]["open"], anything());
    assert!(widget["properties"]["metadata"]["allOf"].is_array());
    assert!(widget["properties"]["spec"]["properties"]["template"]["properties"]["metadata"].is_object());
    let gadget = published(&api, "v1", "Gadget").await.unwrap();
    assert_eq!(gadget["x-kubernetes-preserve-unknown-fields"], true);
    assert!(published(&api, "v1", "Gadgets").await.is_some());
    let document = api.get(&format!("{OPENAPI}/v1")).await.ok();
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(document["components"]["schemas"].get(name).is_some(), "{name}");
    }
    let patch = &document["paths"]["/apis/example.com/v1/namespaces/{namespace}/widgets/{name}"]["patch"];
    assert!(patch["requestBody"]["content"].get("application/strategic-merge-patch+json").is_none());
    // What did not change is answered as before.
    let (before, after) = (before.json(), api.get("/openapi/v3").await.ok());
    assert_eq!(before["paths"]["apis/apps/v1"], after["paths"]["apis/apps/v1"]);
    assert!(
        before["paths"].get("apis/example.com/v1").is_none() && after["paths"].get("apis/example.com/v1").is_some()
    );
}

/// Conformance: "Custom Resource OpenAPI Publish, varying groups"; "Custom Resource OpenAPI Publish, varying versions";
/// "Custom Resource OpenAPI Publish, stop serving version"; "Custom Resource OpenAPI Publish, version rename".
#[tokio::test]
async fn published_schemas_follow_the_definitions() {
    let api = Api::new().await;
    let mut definition = definition("widgets", "Widget", anything());
    let second =
        json!({"name": "v2", "served": true, "storage": false, "schema": {"openAPIV3Schema": {"type": "object"}}});
    definition["spec"]["versions"].as_array_mut().unwrap().push(second);
    api.define(&definition).await;
    let mut other = definition.clone();
    other["metadata"]["name"] = "widgets.example.org".into();
    other["spec"]["group"] = "example.org".into();
    api.define(&other).await;
    assert_eq!(api.get("/openapi/v3/apis/example.org/v2").await.code, 200);
    assert!(published(&api, "v1", "Widget").await.is_some() && published(&api, "v2", "Widget").await.is_some());
    let path = format!("{DEFINITIONS}/widgets.example.com");
    let unserve = json!([{"op": "replace", "path": "/spec/versions/1/served", "value": false}]);
    let patch = |patch: Value| {
        let request = http::Request::patch(&path).header("content-type", "application/json-patch+json");
        api.send(request.body(patch.to_string().into()).unwrap())
    };
    patch(unserve).await.ok();
    assert!(published(&api, "v1", "Widget").await.is_some() && published(&api, "v2", "Widget").await.is_none());
    let rename = json!([{"op": "replace", "path": "/spec/versions/1/served", "value": true},
        {"op": "replace", "path": "/spec/versions/1/name", "value": "v3"}]);
    patch(rename).await.ok();
    assert!(published(&api, "v2", "Widget").await.is_none() && published(&api, "v3", "Widget").await.is_some());
}

/// What the conformance suite reads of "Custom Resource OpenAPI Publish" is OpenAPI v2.
#[tokio::test]
async fn old_readers_get_what_they_understand() {
    let api = Api::new().await;
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "required": ["a", "b"], "properties": {
        "a": {"type": "string", "nullable": true}, "b": {"type": "integer", "anyOf": [{"minimum": 1}]},
        "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"c": {"type": "string"}}}}}}});
    api.define(&definition("widgets", "Widget", schema)).await;
    api.define(&definition("gadgets", "Gadget", anything())).await;
    let document = api.get("/openapi/v2").await.ok();
    let spec = &document["definitions"]["com.example.v1.Widget"]["properties"]["spec"];
    let expected = json!({"type": "object", "required": ["b"], "properties": {
        "a": {}, "b": {"type": "integer"}, "open": {"x-kubernetes-preserve-unknown-fields": true}}});
    assert_eq!(spec, &expected);
    let gadget = json!({"type": "object",
        "x-kubernetes-group-version-kind": [{"group": "example.com", "kind": "Gadget", "version": "v1"}]});
    assert_eq!(document["definitions"]["com.example.v1.Gadget"], gadget);
}
