use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::*;

const DEPLOYMENT: &str = "io.k8s.api.apps.v1.Deployment";

fn manager(name: &str, operation: Operation) -> Manager {
    Manager {
        name: name.into(),
        operation,
        api_version: "apps/v1".into(),
        subresource: String::new(),
        time: "2024-01-01T00:00:00Z".into(),
    }
}

fn schema() -> Schema {
    Schema::builtin(DEPLOYMENT).unwrap()
}

/// A line per manager, then the object without them.
fn show(object: &Value) -> String {
    let mut text = String::new();
    let entries = object.pointer("/metadata/managedFields").and_then(Value::as_array);
    for entry in entries.into_iter().flatten() {
        let field = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default();
        text += &format!("{} {} {}: {}\n", field("operation"), field("manager"), field("time"), entry["fieldsV1"]);
    }
    let mut object = object.clone();
    Managers::default().write(&mut object);
    text + &object.to_string()
}

fn updated(live: Option<&Value>, mut new: Value, name: &str) -> Value {
    track_update(&schema(), live, &mut new, &manager(name, Operation::Update), &[]);
    new
}

fn applied(live: Option<&Value>, config: Value, name: &str) -> Result<Value, ApplyError> {
    apply(&schema(), live, &config, &manager(name, Operation::Apply), false)
}

fn check(result: Result<Value, ApplyError>, expected: Expect) {
    expected.assert_eq(&result.map_or_else(|error| format!("error: {error}"), |object| show(&object)));
}

fn deployment(spec: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}, "spec": spec})
}

fn containers(containers: Value) -> Value {
    deployment(json!({"template": {"spec": {"containers": containers}}}))
}

#[test]
fn a_create_owns_what_it_sets() {
    let mut object = deployment(json!({
        "replicas": 1,
        "selector": {"matchLabels": {"app": "a"}},
        "template": {
            "metadata": {"labels": {"app": "a"}},
            "spec": {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}], "securityContext": {"runAsUser": 1}}]}
        }
    }));
    schema().default(&mut object);
    check(
        Ok(updated(None, object, "kubectl-create")),
        expect![[r#"
        Update kubectl-create 2024-01-01T00:00:00Z: {"f:spec":{"f:replicas":{},"f:selector":{},"f:template":{"f:metadata":{"f:labels":{".":{},"f:app":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:image":{},"f:name":{},"f:ports":{".":{},"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":{".":{},"f:containerPort":{},"f:protocol":{}}},"f:resources":{},"f:securityContext":{".":{},"f:runAsUser":{}}}}}}}}
        {"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"a"},"spec":{"replicas":1,"selector":{"matchLabels":{"app":"a"}},"strategy":{},"template":{"metadata":{"labels":{"app":"a"}},"spec":{"containers":[{"image":"i","name":"c","ports":[{"containerPort":80,"protocol":"TCP"}],"resources":{},"securityContext":{"runAsUser":1}}]}}},"status":{}}"#]],
    );
}

#[test]
fn an_update_takes_what_it_changes() {
    let first = updated(None, deployment(json!({"replicas": 1, "paused": true, "minReadySeconds": 1})), "first");
    let mut next = first.clone();
    next["spec"] = json!({"replicas": 2, "minReadySeconds": 1});
    check(
        Ok(updated(Some(&first), next.clone(), "second")),
        expect![[r#"
        Update first 2024-01-01T00:00:00Z: {"f:spec":{"f:minReadySeconds":{}}}
        Update second 2024-01-01T00:00:00Z: {"f:spec":{"f:replicas":{}}}
        {"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"a"},"spec":{"minReadySeconds":1,"replicas":2}}"#]],
    );
    // Nothing changes, so nothing is noted.
    assert_eq!(updated(Some(&first), first.clone(), "third"), first);
}

#[test]
fn ownership_can_be_reset_and_is_not_lost_by_clients_that_do_not_know_it() {
    let first = updated(None, deployment(json!({"replicas": 1})), "first");
    let ignorant = deployment(json!({"replicas": 1}));
    assert_eq!(updated(Some(&first), ignorant, "second"), first);
    let mut reset = deployment(json!({"replicas": 2}));
    reset["metadata"]["managedFields"] = json!([{}]);
    check(
        Ok(updated(Some(&first), reset, "second")),
        expect![[r#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"a"},"spec":{"replicas":2}}"#]],
    );
}

#[test]
fn only_so_many_updaters_are_told_apart() {
    let mut object = updated(None, deployment(json!({"replicas": 0})), "m0");
    for i in 1..=11 {
        let mut next = object.clone();
        next["metadata"]["labels"][format!("l{i:02}")] = "x".into();
        let who = Manager { time: format!("2024-01-01T00:00:{i:02}Z"), ..manager(&format!("m{i}"), Operation::Update) };
        track_update(&schema(), Some(&object), &mut next, &who, &[]);
        object = next;
    }
    let names: Vec<&str> = object["metadata"]["managedFields"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["manager"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["ancient-changes", "m3", "m4", "m5", "m6", "m7", "m8", "m9", "m10", "m11"]);
}

#[test]
fn an_apply_creates_owns_and_removes() {
    let created = applied(
        None,
        containers(json!([{"name": "c", "image": "1", "env": [{"name": "A", "value": "1"}]}])),
        "kubectl",
    );
    let created = created.unwrap();
    check(
        Ok(created.clone()),
        expect![[r#"
        Apply kubectl 2024-01-01T00:00:00Z: {"f:spec":{"f:template":{"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:env":{"k:{\"name\":\"A\"}":{".":{},"f:name":{},"f:value":{}}},"f:image":{},"f:name":{}}}}}}}
        {"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"a"},"spec":{"strategy":{},"template":{"metadata":{},"spec":{"containers":[{"env":[{"name":"A","value":"1"}],"image":"1","name":"c"}]}}},"status":{}}"#]],
    );
    let next = applied(Some(&created), containers(json!([{"name": "c", "image": "2"}])), "kubectl");
    check(
        next,
        expect![[r#"
        Apply kubectl 2024-01-01T00:00:00Z: {"f:spec":{"f:template":{"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:image":{},"f:name":{}}}}}}}
        {"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"a"},"spec":{"strategy":{},"template":{"metadata":{},"spec":{"containers":[{"image":"2","name":"c"}]}}},"status":{}}"#]],
    );
}

#[test]
fn equal_values_are_shared_and_others_conflict() {
    let live = updated(None, deployment(json!({"replicas": 1, "paused": true})), "kubectl-client-side-apply");
    check(
        applied(Some(&live), deployment(json!({"replicas": 1})), "b"),
        expect![[r#"
        Apply b 2024-01-01T00:00:00Z: {"f:spec":{"f:replicas":{}}}
        Update kubectl-client-side-apply 2024-01-01T00:00:00Z: {"f:spec":{"f:paused":{},"f:replicas":{}}}
        {"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"a"},"spec":{"paused":true,"replicas":1}}"#]],
    );
    check(
        applied(Some(&live), deployment(json!({"replicas": 2})), "b"),
        expect![[
            r#"error: Apply failed with 1 conflict: conflict with "kubectl-client-side-apply" using apps/v1: .spec.replicas"#
        ]],
    );
    check(
        applied(Some(&live), deployment(json!({"replicas": 2, "paused": false})), "b"),
        expect![[r#"
        error: Apply failed with 2 conflicts: conflicts with "kubectl-client-side-apply" using apps/v1:
        - .spec.paused
        - .spec.replicas"#]],
    );
    let forced =
        apply(&schema(), Some(&live), &deployment(json!({"replicas": 2})), &manager("b", Operation::Apply), true);
    check(
        forced,
        expect![[r#"
        Apply b 2024-01-01T00:00:00Z: {"f:spec":{"f:replicas":{}}}
        Update kubectl-client-side-apply 2024-01-01T00:00:00Z: {"f:spec":{"f:paused":{}}}
        {"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"a"},"spec":{"paused":true,"replicas":2}}"#]],
    );
}

#[test]
fn conflicts_name_every_manager() {
    let live = applied(None, deployment(json!({"replicas": 1})), "a").unwrap();
    let mut next = live.clone();
    next["spec"]["paused"] = true.into();
    let live = updated(Some(&live), next, "b");
    check(
        applied(Some(&live), deployment(json!({"replicas": 2, "paused": false})), "c"),
        expect![[r#"
        error: Apply failed with 2 conflicts: conflicts with "a":
        - .spec.replicas
        conflicts with "b" using apps/v1:
        - .spec.paused"#]],
    );
}

#[test]
fn what_another_applier_owns_stays() {
    let live = applied(None, deployment(json!({"replicas": 1, "paused": true})), "a").unwrap();
    let live = applied(Some(&live), deployment(json!({"replicas": 1})), "b").unwrap();
    check(
        applied(Some(&live), deployment(json!({})), "a"),
        expect![[r#"
            Apply a 2024-01-01T00:00:00Z: {"f:spec":{}}
            Apply b 2024-01-01T00:00:00Z: {"f:spec":{"f:replicas":{}}}
            {"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"a"},"spec":{"replicas":1,"strategy":{},"template":{"metadata":{},"spec":{}}},"status":{}}"#]],
    );
}

#[test]
fn an_empty_struct_keeps_what_nobody_owns_in_it() {
    let config = || deployment(json!({"replicas": 1, "strategy": {}}));
    let mut live = applied(None, config(), "a").unwrap();
    live["spec"]["strategy"] = json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%"}});
    assert_eq!(applied(Some(&live), config(), "a"), Ok(live.clone()));
    check(
        applied(Some(&live), deployment(json!({"replicas": 1})), "a"),
        expect![[r#"
        Apply a 2024-01-01T00:00:00Z: {"f:spec":{"f:replicas":{}}}
        {"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"a"},"spec":{"replicas":1,"template":{"metadata":{},"spec":{}}},"status":{}}"#]],
    );
    let filled = deployment(json!({"replicas": 1, "strategy": {"type": "Recreate"}}));
    let live = applied(Some(&live), filled, "a").unwrap();
    check(
        applied(Some(&live), config(), "a"),
        expect![[r#"
        Apply a 2024-01-01T00:00:00Z: {"f:spec":{"f:replicas":{},"f:strategy":{}}}
        {"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"a"},"spec":{"replicas":1,"strategy":{"rollingUpdate":{"maxSurge":"25%"}},"template":{"metadata":{},"spec":{}}},"status":{}}"#]],
    );
}

#[test]
fn items_of_lists_with_keys_are_owned_one_by_one() {
    let live =
        applied(None, containers(json!([{"name": "a", "image": "1"}, {"name": "b", "image": "1"}])), "a").unwrap();
    let live = applied(Some(&live), containers(json!([{"name": "c", "image": "1"}, {"name": "b"}])), "b").unwrap();
    check(
        Ok(live.clone()),
        expect![[r#"
        Apply a 2024-01-01T00:00:00Z: {"f:spec":{"f:template":{"f:spec":{"f:containers":{"k:{\"name\":\"a\"}":{".":{},"f:image":{},"f:name":{}},"k:{\"name\":\"b\"}":{".":{},"f:image":{},"f:name":{}}}}}}}
        Apply b 2024-01-01T00:00:00Z: {"f:spec":{"f:template":{"f:spec":{"f:containers":{"k:{\"name\":\"b\"}":{".":{},"f:name":{}},"k:{\"name\":\"c\"}":{".":{},"f:image":{},"f:name":{}}}}}}}
        {"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"a"},"spec":{"strategy":{},"template":{"metadata":{},"spec":{"containers":[{"image":"1","name":"a"},{"image":"1","name":"c"},{"image":"1","name":"b"}]}}},"status":{}}"#]],
    );
    check(
        applied(Some(&live), containers(json!([{"name": "a", "image": "1"}])), "a"),
        expect![[r#"
        Apply a 2024-01-01T00:00:00Z: {"f:spec":{"f:template":{"f:spec":{"f:containers":{"k:{\"name\":\"a\"}":{".":{},"f:image":{},"f:name":{}}}}}}}
        Apply b 2024-01-01T00:00:00Z: {"f:spec":{"f:template":{"f:spec":{"f:containers":{"k:{\"name\":\"b\"}":{".":{},"f:name":{}},"k:{\"name\":\"c\"}":{".":{},"f:image":{},"f:name":{}}}}}}}
        {"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"a"},"spec":{"strategy":{},"template":{"metadata":{},"spec":{"containers":[{"image":"1","name":"a"},{"image":"1","name":"c"},{"name":"b"}]}}},"status":{}}"#]],
    );
}

#[test]
fn objects_from_before_ownership_conflict_with_their_past() {
    let live = deployment(json!({"replicas": 1}));
    check(
        applied(Some(&live), deployment(json!({"replicas": 2})), "a"),
        expect![[
            r#"error: Apply failed with 1 conflict: conflict with "before-first-apply" using apps/v1: .spec.replicas"#
        ]],
    );
    check(
        applied(Some(&live), deployment(json!({"replicas": 1})), "a"),
        expect![[r#"
        Apply a 2024-01-01T00:00:00Z: {"f:spec":{"f:replicas":{}}}
        Update before-first-apply 2024-01-01T00:00:00Z: {"f:spec":{"f:replicas":{}}}
        {"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"a"},"spec":{"replicas":1}}"#]],
    );
}

#[test]
fn kubectl_takes_over_from_its_client_side_apply() {
    let mut object = deployment(json!({"replicas": 1, "paused": true}));
    let last = object.to_string();
    object["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/last-applied-configuration": last});
    let mut live = updated(None, object, "kubectl-client-side-apply");
    check(
        applied(Some(&live), deployment(json!({"replicas": 2})), "other"),
        expect![[
            r#"error: Apply failed with 1 conflict: conflict with "kubectl-client-side-apply" using apps/v1: .spec.replicas"#
        ]],
    );
    check(
        applied(Some(&live), deployment(json!({"replicas": 2})), "kubectl"),
        expect![[r#"
        Apply kubectl 2024-01-01T00:00:00Z: {"f:spec":{"f:replicas":{}}}
        Update kubectl-client-side-apply 2024-01-01T00:00:00Z: {"f:metadata":{"f:annotations":{".":{},"f:kubectl.kubernetes.io/last-applied-configuration":{}}},"f:spec":{"f:paused":{}}}
        {"apiVersion":"apps/v1","kind":"Deployment","metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{\"apiVersion\":\"apps/v1\",\"kind\":\"Deployment\",\"metadata\":{\"name\":\"a\"},\"spec\":{\"replicas\":2}}\n"},"name":"a"},"spec":{"paused":true,"replicas":2}}"#]],
    );
    // What has changed since is not the client's any more.
    let before = live.clone();
    live["spec"]["replicas"] = 5.into();
    let live = updated(Some(&before), live, "scaler");
    check(
        applied(Some(&live), deployment(json!({"replicas": 2, "paused": false})), "kubectl"),
        expect![[r#"error: Apply failed with 1 conflict: conflict with "scaler" using apps/v1: .spec.replicas"#]],
    );
}

#[test]
fn a_configuration_has_to_fit_the_schema() {
    check(
        applied(None, deployment(json!({"foo": 1})), "a"),
        expect![
            "error: failed to create typed patch object (/a; apps/v1, Kind=Deployment): .spec.foo: field not declared in schema"
        ],
    );
    check(
        applied(None, deployment(json!({"replicas": "x", "paused": 1})), "a"),
        expect![[r#"
            error: failed to create typed patch object (/a; apps/v1, Kind=Deployment): errors:
              .spec.paused: expected boolean, got &{1}
              .spec.replicas: expected numeric (int or float), got string"#]],
    );
    check(
        applied(None, containers(json!([{"name": "a"}, {"name": "a"}, {"image": "x"}])), "a"),
        expect![[
            r#"error: failed to create typed patch object (/a; apps/v1, Kind=Deployment): .spec.template.spec.containers: duplicate entries for key [name="a"]"#
        ]],
    );
    let mut config = deployment(json!({}));
    config["metadata"]["managedFields"] = json!([]);
    check(applied(None, config, "a"), expect!["error: metadata.managedFields must be nil"]);
}

#[test]
fn fields_v1_is_read_and_written_alike() {
    let text = r#"{"f:spec":{"f:containers":{"k:{\"name\":\"a\"}":{".":{},"f:image":{}}},"f:finalizers":{"v:\"x\"":{}},"i:1":{}}}"#;
    let fields: Value = serde_json::from_str(text).unwrap();
    let set = FieldSet::from_fields_v1(&fields);
    assert_eq!(set.to_fields_v1().to_string(), text);
    let mut paths = Vec::new();
    set.for_each(&mut |path| paths.push(path.iter().map(PathElement::to_string).collect::<String>()));
    assert_eq!(
        paths,
        [
            r#".spec.containers[name="a"]"#,
            r#".spec.containers[name="a"].image"#,
            r#".spec.finalizers[="x"]"#,
            ".spec[1]"
        ]
    );
    assert_eq!(FieldSet::from_fields_v1(&json!({"x:y": {}, "k:nonsense": {}, "f": {}})), FieldSet::default());
}

mod properties;
