use expect_test::{Expect, expect};
use serde_json::Value;

use super::*;
use crate::testing::{check, check_default, check_update, yaml};

const WIDGETS: &str = "
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: widgets, kind: Widget, shortNames: [w]}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object}}
";

#[test]
fn names_follow_from_the_kind() {
    check_default(
        "customresourcedefinitions",
        "{spec: {names: {kind: WidGet}, conversion: {strategy: Webhook, webhook: {clientConfig: {service: {name: a}}}}}}",
        expect![[""]],
    );
}

#[test]
fn a_good_definition_is_accepted() {
    check("customresourcedefinitions", WIDGETS, expect![[""]]);
}

#[test]
fn definitions_are_checked() {
    check(
        "customresourcedefinitions",
        "
metadata: {name: x}
spec:
  group: Example
  scope: Global
  preserveUnknownFields: true
  names: {plural: W, kind: 1, listKind: 1, shortNames: [A], categories: [b_]}
  conversion: {strategy: Webhook, webhook: {conversionReviewVersions: [v3, v3]}}
  versions:
  - {name: v1, deprecationWarning: gone}
  - name: v1
    storage: true
    schema: {openAPIV3Schema: {type: string}}
    subresources: {scale: {specReplicasPath: status.x, statusReplicasPath: .spec.x}}
    additionalPrinterColumns: [{type: any, format: none, jsonPath: x}]
    selectableFields: [{jsonPath: .spec.x}, {jsonPath: .metadata.name}]
  - {name: 'v_', storage: true, schema: {openAPIV3Schema: {type: object}}}
",
        expect![[""]],
    );
}

#[test]
fn what_all_versions_share_is_told_once() {
    check(
        "customresourcedefinitions",
        "
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Cluster
  names: {plural: widgets, kind: Widget}
  versions:
  - name: v1
    storage: true
    schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {
      a: {}, b: {type: string, default: 1}, c: {type: object, default: {x: 1}}, d: {type: integer, default: 0, minimum: 1}}}}}}
",
        expect![[""]],
    );
    check(
        "customresourcedefinitions",
        "
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Cluster
  names: {plural: widgets, kind: Widget}
  versions:
  - name: v1
    storage: true
    subresources: {status: {}}
    schema: {openAPIV3Schema: {type: object, nullable: true, minProperties: 1, properties: {
      spec: {type: object, properties: {b: {type: string, default: 1}, c: {type: object, properties: {}, default: {x: 1}},
      d: {type: integer, default: 0, minimum: 1}}}, metadata: {type: object, properties: {name: {type: string, default: a}}}}}}
",
        expect![[""]],
    );
}

#[test]
fn kubernetes_own_groups_need_an_approval() {
    let own = WIDGETS.replace("example.com", "example.k8s.io");
    check("customresourcedefinitions", &own, expect![[""]]);
    let annotated =
        |value: &str| own.replacen("}", &format!(", annotations: {{api-approved.kubernetes.io: {value}}}}}"), 1);
    check("customresourcedefinitions", &annotated("maybe"), expect![[""]]);
    check("customresourcedefinitions", &annotated("https://example.com/1"), expect![[""]]);
}

#[test]
fn what_is_stored_binds_the_definition() {
    let established = "\nstatus: {storedVersions: [v1], conditions: [{type: Established, status: 'True'}]}";
    let old = format!("{WIDGETS}{established}");
    check_update(
        "customresourcedefinitions",
        &old,
        &old.replace("Namespaced", "Cluster").replace("Widget", "Gadget"),
        expect![[""]],
    );
    check_update("customresourcedefinitions", &old, &old.replace("name: v1", "name: v2"), expect![[""]]);
}

fn reconciled(definitions: &[&str], expected: Expect) {
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    let mut all: Vec<Value> = definitions.iter().map(|text| yaml(text)).collect();
    let mut shown = String::new();
    for i in 0..all.len() {
        CustomResourceDefinition.default(&mut all[i]);
        if let Some(new) = status::reconcile(&all[i], all.iter(), now) {
            all[i] = new;
        }
        assert_eq!(status::reconcile(&all[i], all.iter(), now), None, "it settles");
        for condition in list(&all[i], &["status", "conditions"]) {
            let field = |name| text(condition, &[name]);
            shown.push_str(&format!(
                "{}={} {}: {}\n",
                field("type"),
                field("status"),
                field("reason"),
                field("message")
            ));
        }
        shown.push_str(&format!("{}\n", all[i]["status"]["acceptedNames"]));
    }
    expected.assert_eq(&shown);
}

#[test]
fn names_are_given_to_who_comes_first() {
    let other = WIDGETS.replace("widgets", "wonders").replace("kind: Widget", "kind: Wonder");
    reconciled(&[WIDGETS, &other], expect![[""]]);
    let group = WIDGETS.replace("example.com", "apps").replace("widgets", "deployments");
    reconciled(&[&group], expect![[""]]);
    reconciled(&[&WIDGETS.replace("example.com", "example.k8s.io")], expect![[""]]);
}

#[test]
fn users_are_warned_of_what_has_no_effect() {
    let definition = yaml(
        "{spec: {conversion: {strategy: Webhook}, versions: [{schema: {openAPIV3Schema: {type: object, properties: {
          a: {type: string, format: colour}, b: {type: integer, format: int32}, c: {type: array, x-kubernetes-list-type: set,
          items: {type: object}}, d: {type: object, x-kubernetes-validations: [{rule: 'true'}]}}}}}]}}",
    );
    expect![[""]].assert_eq(&CustomResourceDefinition.warnings(&definition).join("\n"));
}
