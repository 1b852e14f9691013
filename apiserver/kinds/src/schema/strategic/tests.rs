use expect_test::{Expect, expect};
use serde_json::{Value, json};

use crate::schema::Schema;

fn check(type_name: &str, original: Value, patch: Value, expected: Expect) {
    let schema = Schema::builtin(type_name).expect("a root type");
    let text = match schema.strategic_merge(&original, &patch) {
        Ok(merged) => merged.to_string(),
        Err(error) => format!("error: {error}"),
    };
    expected.assert_eq(&text);
}

fn pod_spec(original: Value, patch: Value, expected: Expect) {
    check("io.k8s.api.core.v1.Pod", json!({ "spec": original }), json!({ "spec": patch }), expected);
}

#[test]
fn lists_of_objects_merge_by_their_key() {
    pod_spec(
        json!({"containers": [{"name": "a", "image": "1", "args": ["x"]}, {"name": "b", "image": "2"}]}),
        json!({"containers": [{"name": "b", "image": "3"}, {"name": "c", "image": "4"}, {"name": "a", "args": ["y"]}]}),
        expect![[
            r#"{"spec":{"containers":[{"image":"3","name":"b"},{"image":"4","name":"c"},{"args":["y"],"image":"1","name":"a"}]}}"#
        ]],
    );
    pod_spec(
        json!({"containers": [{"name": "a", "ports": [{"containerPort": 1}, {"containerPort": 2}]}]}),
        json!({"containers": [{"name": "a", "ports": [{"containerPort": 2, "name": "x"}]}]}),
        expect![[
            r#"{"spec":{"containers":[{"name":"a","ports":[{"containerPort":1},{"containerPort":2,"name":"x"}]}]}}"#
        ]],
    );
}

/// Found by the fuzz target `patch_strategic`: an empty item stood in the list.
#[test]
fn directives_go_with_what_carries_them_where_there_is_nothing_to_direct() {
    pod_spec(
        json!({}),
        json!({
            "containers": [{"$patch": "replace"}, {"name": "a"}, {"name": "b", "$patch": "delete"}],
            "securityContext": {"$patch": "replace", "runAsUser": 3},
        }),
        expect![[r#"{"spec":{"containers":[{"name":"a"}]}}"#]],
    );
}

#[test]
fn an_unchanged_item_keeps_its_place() {
    pod_spec(
        json!({"containers": [{"name": "a"}, {"name": "b"}, {"name": "c"}]}),
        json!({"containers": [{"name": "b", "image": "1"}]}),
        expect![[r#"{"spec":{"containers":[{"name":"a"},{"image":"1","name":"b"},{"name":"c"}]}}"#]],
    );
}

#[test]
fn other_lists_are_replaced_and_null_removes() {
    pod_spec(
        json!({"tolerations": [{"key": "a"}], "nodeName": "n", "hostNetwork": true}),
        json!({"tolerations": [{"key": "b"}], "nodeName": null, "priority": null}),
        expect![[r#"{"spec":{"hostNetwork":true,"tolerations":[{"key":"b"}]}}"#]],
    );
}

#[test]
fn scalars_merge_as_a_set() {
    check(
        "io.k8s.api.core.v1.ConfigMap",
        json!({"metadata": {"finalizers": ["a", "b"]}}),
        json!({"metadata": {"finalizers": ["c", "a"]}}),
        expect![[r#"{"metadata":{"finalizers":["c","a","b"]}}"#]],
    );
    check(
        "io.k8s.api.core.v1.ConfigMap",
        json!({"metadata": {"finalizers": ["a", "b", "c"]}}),
        json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["b"], "$setElementOrder/finalizers": ["c", "a"]}}),
        expect![[r#"{"metadata":{"finalizers":["c","a"]}}"#]],
    );
}

#[test]
fn directives_replace_and_delete() {
    pod_spec(
        json!({"securityContext": {"runAsUser": 1, "fsGroup": 2}}),
        json!({"securityContext": {"$patch": "replace", "runAsUser": 3}}),
        expect![[r#"{"spec":{"securityContext":{"runAsUser":3}}}"#]],
    );
    pod_spec(
        json!({"securityContext": {"runAsUser": 1}}),
        json!({"securityContext": {"$patch": "delete"}}),
        expect![[r#"{"spec":{"securityContext":{}}}"#]],
    );
    pod_spec(
        json!({"containers": [{"name": "a"}, {"name": "b"}]}),
        json!({"containers": [{"name": "a", "$patch": "delete"}]}),
        expect![[r#"{"spec":{"containers":[{"name":"b"}]}}"#]],
    );
    pod_spec(
        json!({"containers": [{"name": "a"}, {"name": "b"}]}),
        json!({"containers": [{"name": "c"}, {"$patch": "replace"}]}),
        expect![[r#"{"spec":{"containers":[{"name":"c"}]}}"#]],
    );
    pod_spec(
        json!({"volumes": [{"name": "v", "emptyDir": {}}]}),
        json!({"volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/x"}}]}),
        expect![[r#"{"spec":{"volumes":[{"hostPath":{"path":"/x"},"name":"v"}]}}"#]],
    );
}

#[test]
fn element_order_is_set() {
    pod_spec(
        json!({"containers": [{"name": "a"}, {"name": "b"}, {"name": "server-only"}, {"name": "c"}]}),
        json!({"$setElementOrder/containers": [{"name": "c"}, {"name": "a"}], "containers": [{"name": "c", "image": "1"}]}),
        expect![[
            r#"{"spec":{"containers":[{"name":"b"},{"name":"server-only"},{"image":"1","name":"c"},{"name":"a"}]}}"#
        ]],
    );
    pod_spec(
        json!({}),
        json!({"$setElementOrder/containers": [{"name": "a"}], "containers": [{"name": "a"}]}),
        expect![[r#"{"spec":{"containers":[{"name":"a"}]}}"#]],
    );
}

#[test]
fn what_cannot_be_merged_is_said() {
    pod_spec(
        json!({"containers": [{"name": "a"}]}),
        json!({"containers": [{"image": "x"}]}),
        expect!["error: map: map[image:x] does not contain declared merge key: name"],
    );
    pod_spec(
        json!({"containers": [{"name": "a"}]}),
        json!({"containers": ["x"]}),
        expect!["error: list element types are not identical: [[map[name:a]] [x]]"],
    );
    pod_spec(
        json!({"foo": {}}),
        json!({"foo": {}}),
        expect![[r#"error: unable to find api field in struct PodSpec for the json field "foo""#]],
    );
    pod_spec(
        json!({"affinity": {}}),
        json!({"affinity": {"$patch": "x"}}),
        expect!["error: unknown patch type: x in map: map[]"],
    );
    pod_spec(
        json!({"containers": []}),
        json!({"containers": [{"name": "a", "$patch": "merge"}]}),
        expect!["error: merging lists cannot yet be specified in the patch"],
    );
    pod_spec(
        json!({"affinity": {}}),
        json!({"affinity": {"$retainKeys": ["a"], "b": {}}}),
        expect!["error: invalid patch format of retainKeys"],
    );
    pod_spec(
        json!({"containers": []}),
        json!({"$setElementOrder/containers": [{"name": "b"}], "containers": [{"name": "a"}]}),
        expect![[r#"
            error: The order in patch list:
            [map[name:a]]
             doesn't match $setElementOrder list:
            [map[name:b]]
        "#]],
    );
    check(
        "io.k8s.api.core.v1.Pod",
        json!({}),
        json!([]),
        expect!["error: expected a map[string]interface {}, but received a []interface {}"],
    );
}

proptest::proptest! {
    #[test]
    fn merging_a_list_keeps_every_item_once(old in names(), new in names()) {
        let containers = |names: &[String]| names.iter().map(|n| json!({"name": n})).collect::<Vec<_>>();
        let original = json!({"spec": {"containers": containers(&old)}});
        let patch = json!({"spec": {"containers": containers(&new)}});
        let merged = Schema::builtin("io.k8s.api.core.v1.Pod").unwrap().strategic_merge(&original, &patch).unwrap();
        let merged: Vec<&str> =
            merged["spec"]["containers"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
        let mut expected: Vec<&str> = old.iter().chain(&new).map(String::as_str).collect();
        expected.sort_unstable();
        expected.dedup();
        let mut sorted = merged.clone();
        sorted.sort_unstable();
        proptest::prop_assert_eq!(sorted, expected);
        let patched: Vec<&str> = merged.iter().copied().filter(|m| new.iter().any(|n| n == m)).collect();
        proptest::prop_assert_eq!(patched, new);
    }
}

fn names() -> impl proptest::strategy::Strategy<Value = Vec<String>> {
    use proptest::prelude::*;
    proptest::collection::hash_set("[a-f]", 0..6).prop_map(|names| names.into_iter().collect())
}
