use expect_test::expect;
use serde_json::json;

use super::*;
use crate::CellContext;
use crate::testing::yaml;

const DEFINITION: &str = r#"
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: widgets, kind: Widget}
  conversion: {strategy: None}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {
      size: {type: integer, default: 3}, color: {type: string}}}}}}
    subresources: {status: {}, scale: {specReplicasPath: .spec.size, statusReplicasPath: .status.size}}
    selectableFields: [{jsonPath: .spec.color}]
    additionalPrinterColumns:
    - {name: Size, type: integer, jsonPath: .spec.size}
    - {name: Ready, type: string, jsonPath: '.status.conditions[?(@.type=="Ready")].status', priority: 1}
    - {name: Since, type: date, jsonPath: .status.since}
    - {name: Labels, type: string, jsonPath: .metadata.labels}
  - name: v1beta1
    served: true
    deprecated: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
  - {name: v1alpha1, served: false}
status:
  acceptedNames: {plural: widgets, singular: widget, kind: Widget, listKind: WidgetList, shortNames: [w], categories: [all]}
  conditions: [{type: Established, status: 'True'}]
"#;

#[test]
fn a_served_version_is_a_kind() {
    let kinds = kinds(&yaml(DEFINITION));
    let [v1, v1beta1] = kinds.served.as_slice() else { panic!("two versions are served") };
    assert_eq!((v1.api_version(), v1.group_resource()), ("example.com/v1".into(), "widgets.example.com".into()));
    assert_eq!((&*v1.schema_name, &*v1.list_kind), ("com.example.v1.Widget", "WidgetList"));
    assert_eq!(v1.subresources.iter().map(|sub| sub.name).collect::<Vec<_>>(), ["status", "scale"]);
    assert_eq!((v1.deprecation.as_deref(), v1beta1.subresources.len()), (None, 0));
    assert_eq!(
        v1beta1.deprecation.as_deref(),
        Some("example.com/v1beta1 Widget is deprecated; use example.com/v1 Widget")
    );
    assert!(v1.is_selectable("spec.color") && !v1beta1.is_selectable("spec.color"));
}

#[test]
fn nothing_is_served_before_it_is_established() {
    assert!(kinds(&yaml(&DEFINITION.replace("Established", "Other"))).served.is_empty());
}

#[test]
fn versions_that_only_a_webhook_could_convert_say_so() {
    let kinds = kinds(&yaml(&DEFINITION.replace("strategy: None", "strategy: Webhook")));
    assert_eq!(kinds.served.len(), 1);
    expect![
        "conversion webhook for example.com/v1beta1, Kind=Widget failed: conversion webhooks are not supported yet"
    ]
    .assert_eq(&kinds.unserved[0].reason);
}

#[test]
fn columns_show_what_their_paths_lead_to() {
    let kinds = kinds(&yaml(DEFINITION));
    let object = json!({"metadata": {"name": "a", "labels": {"x": "y"}}, "spec": {"size": 2},
        "status": {"conditions": [{"type": "Ready", "status": "True"}], "since": "2026-01-01T00:00:00Z"}});
    let context = CellContext { now: "2026-01-01T01:00:00Z".parse().unwrap() };
    let row = |kind: &KindDef| {
        let cells = kind.columns.iter().map(|column| format!("{}={}", column.name, column.render(&object, &context)));
        cells.collect::<Vec<_>>().join(" ")
    };
    expect![[r#"Name="a" Size=2 Ready="True" Since="60m" Labels="{\"x\":\"y\"}""#]].assert_eq(&row(&kinds.served[0]));
    expect![[r#"Name="a" Age=null"#]].assert_eq(&row(&kinds.served[1]));
}

#[test]
fn cells_are_what_their_column_calls_them() {
    let cases = [
        ("string", json!(null), json!("<no value>")),
        ("string", json!(1.0), json!("1")),
        ("string", json!(2_500_000.0), json!("2.5e+06")),
        ("string", json!(["a"]), json!("[\"a\"]")),
        ("integer", json!(1.9), json!(1)),
        ("integer", json!("1"), json!(null)),
        ("number", json!(null), json!(null)),
        ("date", json!(""), json!("<unknown>")),
        ("date", json!("now"), json!("<invalid>")),
    ];
    let context = CellContext { now: "2026-01-01T01:00:00Z".parse().unwrap() };
    for (kind, value, expected) in cases {
        let column = column(&json!({"name": "C", "type": kind, "jsonPath": ".c"}));
        assert_eq!(column.render(&json!({"c": value}), &context), expected, "{kind} {value}");
    }
}

#[test]
fn an_object_is_read_under_the_schema_of_today() {
    let kinds = kinds(&yaml(DEFINITION));
    let conversion = kinds.served[0].stored_as.as_ref().unwrap().conversion.clone();
    let mut object = json!({"apiVersion": "example.com/v1beta1", "kind": "Widget", "metadata": {"name": "a"},
        "spec": {"gone": 1}});
    conversion.to_served(&mut object);
    assert_eq!(object["spec"], json!({"size": 3}));
    assert_eq!(object["apiVersion"], "example.com/v1");
}

#[test]
fn any_change_but_of_metadata_and_status_counts() {
    let kinds = kinds(&yaml(DEFINITION));
    let old = json!({"metadata": {"generation": 2}, "spec": {"size": 1}, "status": {"size": 1}});
    let generation = |kind: &KindDef, new: Value| {
        let mut new = new;
        kind.strategy.prepare_for_update(&mut new, &old);
        new["metadata"]["generation"].as_i64()
    };
    let [with_status, without] = kinds.served.as_slice() else { panic!("two versions are served") };
    let new_status = json!({"metadata": {}, "spec": {"size": 1}, "status": {"size": 2}});
    assert_eq!(generation(with_status, new_status.clone()), Some(2));
    assert_eq!(generation(without, new_status), Some(3));
    assert_eq!(generation(with_status, json!({"metadata": {"labels": {"a": "b"}}, "spec": {"size": 2}})), Some(3));
}
