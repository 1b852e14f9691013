//! <https://kubernetes.io/docs/reference/using-api/api-concepts/#field-validation>

use crate::api::{Api, CONFIG_MAPS, Reply, deployment};
use crate::custom_resource_definitions::{anything, definition};
use http::Request;
use serde_json::{Value, json};

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

/// Conformance: "Server side field validation, typed object".
#[tokio::test]
async fn strict_refuses_unknown_fields() {
    let api = Api::new().await;
    let mut object = deployment("d", 1);
    object["spec"]["foo"] = 1.into();
    let (code, reason, message) = api.post(&format!("{DEPLOYMENTS}?fieldValidation=Strict"), &object).await.error();
    assert_eq!((code, reason.as_str()), (400, "BadRequest"));
    assert_eq!(
        message,
        "Deployment in version \"v1\" cannot be handled as a Deployment: strict decoding error: \
         unknown field \"spec.foo\""
    );
}

#[tokio::test]
async fn warn_drops_them_and_says_so() {
    let api = Api::new().await;
    let mut object = deployment("d", 1);
    object["spec"]["foo"] = 1.into();
    let reply = api.post(DEPLOYMENTS, &object).await;
    assert!(reply.ok()["spec"]["foo"].is_null());
    assert_eq!(reply.warnings(), [r#"299 - "unknown field \"spec.foo\"""#]);
}

#[tokio::test]
async fn ignore_drops_them_silently() {
    let api = Api::new().await;
    let mut object = deployment("d", 1);
    object["spec"]["foo"] = 1.into();
    let reply = api.post(&format!("{DEPLOYMENTS}?fieldValidation=Ignore"), &object).await;
    assert!(reply.ok()["spec"]["foo"].is_null());
    assert!(reply.warnings().is_empty());
}

#[tokio::test]
async fn duplicates_are_unknown_fields_too() {
    let api = Api::new().await;
    let body = r#"{"metadata": {"name": "a"}, "data": {"a": "1", "a": "2"}}"#;
    let post = |validation: &str| {
        let uri = format!("{CONFIG_MAPS}?dryRun=All&fieldValidation={validation}");
        Request::post(uri).header("content-type", "application/json").body(body.into()).unwrap()
    };
    let (_, _, message) = api.send(post("Strict")).await.error();
    assert!(message.ends_with(r#"strict decoding error: duplicate field "data.a""#), "{message}");
    let reply = api.send(post("Warn")).await;
    assert_eq!(reply.ok()["data"]["a"], "2");
    assert_eq!(reply.warnings().len(), 1);
}

/// What a client is warned of is told once, in its own letters, and not at any length.
#[tokio::test]
async fn warnings_are_told_once_and_cut_off() {
    let api = Api::new().await;
    let reply = api.post(CONFIG_MAPS, &json!({"metadata": {"name": "a"}, "größe": 1})).await;
    let warning = reply.headers["warning"].as_bytes();
    assert_eq!(std::str::from_utf8(warning), Ok("299 - \"unknown field \\\"größe\\\"\""));
    let mut object = json!({"metadata": {"name": "b"}});
    for number in 0..200 {
        object[format!("{number}{}", "x".repeat(1000))] = 1.into();
    }
    let warnings = api.post(CONFIG_MAPS, &object).await;
    let sizes: Vec<usize> = warnings.warnings().iter().map(|warning| warning.len()).collect();
    assert_eq!(sizes.len(), 16);
    assert!(sizes.iter().all(|size| *size < 300), "{sizes:?}");
}

#[tokio::test]
async fn an_owner_is_named_once() {
    let api = Api::new().await;
    let owner = json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "1-2"});
    let object = |name: &str| json!({"metadata": {"name": name, "ownerReferences": [owner, owner]}});
    let made = api.post(CONFIG_MAPS, &object("a")).await;
    let warning = "duplicate UID(s) observed: [1-2]";
    assert!(made.warnings()[0].contains(warning), "{:?}", made.warnings());
    assert_eq!(made.ok()["metadata"]["ownerReferences"], json!([owner]));
    let patched = api.patch("merge", &format!("{CONFIG_MAPS}/a"), &object("a")).await;
    assert!(patched.warnings()[0].contains(warning), "{:?}", patched.warnings());
    assert_eq!(patched.ok()["metadata"]["ownerReferences"], json!([owner]));
}

#[tokio::test]
async fn patches_are_validated_too() {
    let api = Api::new().await;
    api.post(DEPLOYMENTS, &deployment("d", 1)).await.ok();
    let patch = json!({"spec": {"foo": 1}});
    let path = format!("{DEPLOYMENTS}/d?fieldValidation=Strict");
    let (code, _, message) = api.patch("merge", &path, &patch).await.error();
    assert_eq!(code, 422);
    assert!(message.contains("strict decoding error: unknown field \"spec.foo\""), "{message}");
    let reply = api.patch("merge", &format!("{DEPLOYMENTS}/d"), &patch).await;
    assert_eq!(reply.warnings().len(), 1);
}

/// A patch is text too: its own duplicates are told, and what a JSON patch has beside its operations.
#[tokio::test]
async fn duplicates_in_patches_are_told() {
    let api = Api::new().await;
    api.post(DEPLOYMENTS, &deployment("d", 1)).await.ok();
    let patch = async |format: &str, validation: &str, body: &str| {
        let uri = format!("{DEPLOYMENTS}/d?fieldValidation={validation}");
        let request = Request::patch(uri).header("content-type", format!("application/{format}-patch+json"));
        api.send(request.body(body.to_owned().into()).unwrap()).await
    };
    let twice = r#"{"spec": {"replicas": 2, "foo": 1, "replicas": 3}}"#;
    let told = r#"duplicate field "spec.replicas", unknown field "spec.foo""#;
    for format in ["merge", "strategic-merge"] {
        let (code, reason, message) = patch(format, "Strict", twice).await.error();
        assert_eq!((code, reason.as_str()), (422, "Invalid"));
        assert!(message.ends_with(&format!("strict decoding error: {told}")), "{message}");
        let warned = patch(format, "Warn", twice).await;
        assert_eq!(warned.warnings().len(), 2, "{:?}", warned.warnings());
        assert_eq!(warned.ok()["spec"]["replicas"], 3);
        assert!(patch(format, "Ignore", twice).await.warnings().is_empty());
    }
    let operations =
        r#"[{"op": "replace", "path": "/spec/replicas", "value": 4, "path": "/spec/replicas", "why": "x"}]"#;
    let (_, _, message) = patch("json", "Strict", operations).await.error();
    let told = r#"json patch duplicate field "[0].path", json patch unknown field "[0].why""#;
    assert!(message.ends_with(&format!("strict decoding error: {told}")), "{message}");
    assert_eq!(patch("json", "Warn", operations).await.ok()["spec"]["replicas"], 4);
}

#[tokio::test]
async fn other_values_are_refused() {
    let api = Api::new().await;
    let reply = api.post(&format!("{CONFIG_MAPS}?fieldValidation=Maybe"), &json!({})).await;
    assert_eq!(reply.code, 422);
}

const CRONS: &str = "/apis/example.com/v1/namespaces/default/crons";

/// Applies YAML strictly, as `kubectl apply --server-side` does.
async fn apply(api: &Api, path: &str, yaml: &str) -> Reply {
    let uri = format!("{path}?fieldManager=test&fieldValidation=Strict");
    let request = Request::patch(uri).header("content-type", "application/apply-patch+yaml");
    api.send(request.body(yaml.to_owned().into()).unwrap()).await
}

async fn crons(schema: Value) -> Api {
    let api = Api::new().await;
    api.define(&definition("crons", "Cron", schema)).await;
    api
}

fn schedule() -> Value {
    let spec =
        json!({"type": "object", "properties": {"schedule": {"type": "string"}, "suspend": {"type": "boolean"}}});
    json!({"type": "object", "properties": {"spec": spec}})
}

fn cron(more: &str) -> String {
    format!("apiVersion: example.com/v1\nkind: Cron\nmetadata:\n  name: a\n{more}")
}

/// Conformance: "Server side field validation, unknown fields CR no validation schema"; "Server side field validation,
/// valid CR with validation schema"; "Server side field validation, unknown fields CR fails validation".
#[tokio::test]
async fn custom_objects_are_held_to_the_fields_of_their_schema() {
    let unknown = cron("spec:\n  schedule: daily\n  unknown: x\n");
    let free = crons(anything()).await;
    assert_eq!(apply(&free, &format!("{CRONS}/a"), &unknown).await.ok()["spec"]["unknown"], "x");
    let api = crons(schedule()).await;
    let (code, _, message) = apply(&api, &format!("{CRONS}/a"), &unknown).await.error();
    assert_eq!(code, 400);
    assert_eq!(
        message,
        "failed to create typed patch object (/a; example.com/v1, Kind=Cron): .spec.unknown: field not declared in schema"
    );
    let valid = cron("spec:\n  schedule: daily\n");
    assert_eq!(apply(&api, &format!("{CRONS}/a"), &valid).await.ok()["spec"], json!({"schedule": "daily"}));
}

/// Conformance: "Server side field validation, CR duplicates".
#[tokio::test]
async fn duplicates_of_custom_objects_are_told() {
    let api = crons(anything()).await;
    let double = cron("spec:\n  unknown: x\n  schedule: daily\n  schedule: weekly\n");
    let (code, _, message) = apply(&api, &format!("{CRONS}/a"), &double).await.error();
    assert_eq!(code, 400);
    assert_eq!(
        message,
        "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n  line 8: key \"schedule\" \
         already set in map"
    );
    let uri = format!("{CRONS}/a?fieldManager=test&fieldValidation=Warn");
    let request = Request::patch(uri).header("content-type", "application/apply-patch+yaml");
    let warned = api.send(request.body(double.clone().into()).unwrap()).await;
    assert_eq!(warned.warnings(), [r#"299 - "line 8: key \"schedule\" already set in map""#]);
    assert_eq!(warned.ok()["spec"], json!({"unknown": "x", "schedule": "weekly"}));
    let post = |validation: &str| {
        let uri = format!("{CRONS}?fieldValidation={validation}&dryRun=All");
        let json = double_json();
        Request::post(uri).header("content-type", "application/json").body(json.into()).unwrap()
    };
    let (code, _, message) = api.send(post("Strict")).await.error();
    assert_eq!(code, 400);
    assert!(message.ends_with(r#"strict decoding error: duplicate field "spec.schedule""#), "{message}");
    assert_eq!(api.send(post("Warn")).await.ok()["spec"]["schedule"], "weekly");
}

fn double_json() -> &'static str {
    r#"{"apiVersion": "example.com/v1", "kind": "Cron", "metadata": {"name": "b"},
        "spec": {"schedule": "daily", "schedule": "weekly"}}"#
}

/// Conformance: "Server side field validation, unknown metadata"; "Server side field validation, typed unknown metadata".
#[tokio::test]
async fn unknown_fields_of_the_metadata_are_told() {
    let template = json!({"type": "object", "x-kubernetes-embedded-resource": true, "properties": {
        "metadata": {"type": "object", "properties": {"name": {"type": "string"}}}, "spec": {"type": "object"}}});
    let spec =
        json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"template": template}});
    let api = crons(json!({"type": "object", "properties": {"spec": spec}})).await;
    let embedded = "apiVersion: foo/v1\n    kind: Sub\n    metadata: {name: sub, unknownSubMeta: x}\n";
    let custom = cron(&format!("  unknownMeta: x\nspec:\n  other: x\n  template:\n    {embedded}"));
    let (code, _, message) = apply(&api, &format!("{CRONS}/a"), &custom).await.error();
    assert_eq!(code, 400);
    for unknown in [".metadata.unknownMeta", ".spec.template.metadata.unknownSubMeta"] {
        assert!(message.contains(&format!("{unknown}: field not declared in schema")), "{message}");
    }
    assert!(!message.contains(".spec.other"), "{message}");
    let typed = json!({"metadata": {"name": "a", "unknownMeta": "x"}});
    let (code, _, message) = api.post(&format!("{CONFIG_MAPS}?fieldValidation=Strict"), &typed).await.error();
    assert_eq!(code, 400);
    assert!(message.ends_with(r#"strict decoding error: unknown field "metadata.unknownMeta""#), "{message}");
}

/// Whatever a client wants to be told: nobody could own what has no place.
#[tokio::test]
async fn an_apply_takes_no_unknown_fields() {
    let api = Api::new().await;
    let map = "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, foo: 1, data: {n: 1}}";
    for validation in ["Strict", "Warn", "Ignore"] {
        let uri = format!("{CONFIG_MAPS}/a?fieldManager=test&fieldValidation={validation}");
        let request = Request::patch(uri).header("content-type", "application/apply-patch+yaml");
        let (code, _, message) = api.send(request.body(map.into()).unwrap()).await.error();
        assert_eq!(code, 400);
        assert_eq!(
            message,
            "failed to create typed patch object (/a; /v1, Kind=ConfigMap): errors:\n  .data.n: expected string, got &value.valueUnstructured{Value:1}\n  \
             .foo: field not declared in schema"
        );
    }
}
