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
        expect![[r#"
            metadata: {}
            spec:
              conversion:
                strategy: Webhook
                webhook:
                  clientConfig:
                    service:
                      name: a
                      namespace: ""
                      port: 443
              group: ""
              names:
                kind: WidGet
                listKind: WidGetList
                plural: ""
                singular: widget
              scope: ""
            status:
              acceptedNames:
                kind: ""
                plural: ""
        "#]],
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
        expect![[r#"
            metadata.name: Invalid value: "x": must be spec.names.plural+"."+spec.group
            spec.group: Invalid value: "Example": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            spec.scope: Unsupported value: "Global": supported values: "Cluster", "Namespaced"
            spec.versions[0].schema.openAPIV3Schema: Required value
            spec.versions[0].deprecationWarning: Invalid value: "gone": can only be set for deprecated versions
            spec.versions[1].schema.openAPIV3Schema.type: Invalid value: "string": must be object at the root
            spec.versions[1].subresources.scale.specReplicasPath: Invalid value: "status.x": must be a simple json path starting with .
            spec.versions[1].subresources.scale.statusReplicasPath: Invalid value: ".spec.x": should be a json path under .status
            spec.versions[1].additionalPrinterColumns[0].name: Required value
            spec.versions[1].additionalPrinterColumns[0].type: Invalid value: "any": must be one of boolean,date,integer,number,string
            spec.versions[1].additionalPrinterColumns[0].format: Invalid value: "none": must be one of byte,date,date-time,double,float,int32,int64,password
            spec.versions[1].additionalPrinterColumns[0].JSONPath: Invalid value: "x": must be a simple json path starting with .
            spec.versions[1].selectableFields[0].jsonPath: Invalid value: ".spec.x": is an invalid path: does not refer to a valid field
            spec.versions[1].selectableFields[1].jsonPath: Invalid value: ".metadata.name": is an invalid path: does not refer to a valid field
            spec.versions[2].name: Invalid value: "v_": a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')
            spec.versions: Invalid value: [{"deprecationWarning":"gone","name":"v1","served":false,"storage":false},{"additionalPrinterColumns":[{"format":"none","jsonPath":"x","name":"","type":"any"}],"name":"v1","schema":{"openAPIV3Schema":{"type":"string"}},"selectableFields":[{"jsonPath":".spec.x"},{"jsonPath":".metadata.name"}],"served":false,"storage":true,"subresources":{"scale":{"specReplicasPath":"status.x","statusReplicasPath":".spec.x"}}},{"name":"v_","schema":{"openAPIV3Schema":{"type":"object"}},"served":false,"storage":true}]: must contain unique version names
            spec.versions: Invalid value: [{"deprecationWarning":"gone","name":"v1","served":false,"storage":false},{"additionalPrinterColumns":[{"format":"none","jsonPath":"x","name":"","type":"any"}],"name":"v1","schema":{"openAPIV3Schema":{"type":"string"}},"selectableFields":[{"jsonPath":".spec.x"},{"jsonPath":".metadata.name"}],"served":false,"storage":true,"subresources":{"scale":{"specReplicasPath":"status.x","statusReplicasPath":".spec.x"}}},{"name":"v_","schema":{"openAPIV3Schema":{"type":"object"}},"served":false,"storage":true}]: must have exactly one version marked as storage version
            spec.names.singular: Required value
            spec.names.plural: Invalid value: "W": a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')
            spec.names.shortNames[0]: Invalid value: "A": a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')
            spec.names.listKind: Invalid value: 1: kind and listKind may not be the same
            spec.names.categories[0]: Invalid value: "b_": a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')
            spec.conversion.strategy: Invalid value: "Webhook": must be None if spec.preserveUnknownFields is true
            spec.conversion.webhookClientConfig: Required value: required when strategy is set to Webhook
            spec.conversion.conversionReviewVersions[1]: Invalid value: "v3": duplicate version
            spec.conversion.conversionReviewVersions: Invalid value: ["v3","v3"]: must include at least one of v1, v1beta1
            spec.preserveUnknownFields: Invalid value: true: cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead
        "#]],
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
        expect![[r#"
            spec.validation.openAPIV3Schema.properties[spec].properties[a].type: Required value: must not be empty for specified object fields
        "#]],
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
        expect![[r#"
            spec.validation.openAPIV3Schema: Invalid value: {"minProperties":1,"nullable":true,"properties":{"metadata":{"properties":{"name":{"default":"a","type":"string"}},"type":"object"},"spec":{"properties":{"b":{"default":1,"type":"string"},"c":{"default":{"x":1},"properties":{},"type":"object"},"d":{"default":0,"minimum":1,"type":"integer"}},"type":"object"}},"type":"object"}: only [Description Type Format Title Maximum ExclusiveMaximum Minimum ExclusiveMinimum MaxLength MinLength Pattern MaxItems MinItems UniqueItems MultipleOf Required Items Properties ExternalDocs Example XPreserveUnknownFields XValidations] fields are allowed at the root of the schema if the status subresource is enabled
            spec.validation.openAPIV3Schema.nullable: Forbidden: nullable cannot be true at the root
            spec.validation.openAPIV3Schema.properties[spec].properties[b].default: Invalid value: "integer":  in body must be of type string: "integer"
            spec.validation.openAPIV3Schema.properties[spec].properties[c].default: Invalid value: {"x":1}: must not have unknown fields
            spec.validation.openAPIV3Schema.properties[spec].properties[d].default: Invalid value: 0:  in body should be greater than or equal to 1
            spec.validation.openAPIV3Schema.properties[metadata].properties[name].default: Forbidden: must not be set in top-level metadata
        "#]],
    );
}

#[test]
fn kubernetes_own_groups_need_an_approval() {
    let own = WIDGETS.replace("example.com", "example.k8s.io");
    check(
        "customresourcedefinitions",
        &own,
        expect![[r#"
        metadata.annotations[api-approved.kubernetes.io]: Required value: protected groups must have approval annotation "api-approved.kubernetes.io", see https://github.com/kubernetes/enhancements/pull/1111
    "#]],
    );
    let annotated =
        |value: &str| own.replacen("}", &format!(", annotations: {{api-approved.kubernetes.io: {value}}}}}"), 1);
    check(
        "customresourcedefinitions",
        &annotated("maybe"),
        expect![[r#"
        metadata.annotations[api-approved.kubernetes.io]: Invalid value: "maybe": protected groups must have approval annotation "api-approved.kubernetes.io" with either a URL or a reason starting with "unapproved", see https://github.com/kubernetes/enhancements/pull/1111
    "#]],
    );
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
        expect![[r#"
            spec.scope: Invalid value: "Cluster": field is immutable
            spec.names.kind: Invalid value: "Gadget": field is immutable
        "#]],
    );
    check_update(
        "customresourcedefinitions",
        &old,
        &old.replace("name: v1", "name: v2"),
        expect![[r#"
        status.storedVersions[0]: Invalid value: "v1": missing from spec.versions; v1 was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in v1 and removes v1 from status.storedVersions
    "#]],
    );
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
    reconciled(
        &[WIDGETS, &other],
        expect![[r#"
        NamesAccepted=True NoConflicts: no conflicts found
        Established=True InitialNamesAccepted: the initial names have been accepted
        {"kind":"Widget","listKind":"WidgetList","plural":"widgets","shortNames":["w"],"singular":"widget"}
        NamesAccepted=False ShortNamesConflict: "w" is already in use
        Established=False NotAccepted: not all names are accepted
        {"kind":"Wonder","listKind":"WonderList","plural":"wonders","singular":"wonder"}
    "#]],
    );
    let group = WIDGETS.replace("example.com", "apps").replace("widgets", "deployments");
    reconciled(
        &[&group],
        expect![[r#"
        NamesAccepted=False PluralConflict: "deployments" is already in use
        Established=False NotAccepted: not all names are accepted
        {"kind":"Widget","listKind":"WidgetList","shortNames":["w"],"singular":"widget"}
    "#]],
    );
    reconciled(
        &[&WIDGETS.replace("example.com", "example.k8s.io")],
        expect![[r#"
        NamesAccepted=True NoConflicts: no conflicts found
        Established=True InitialNamesAccepted: the initial names have been accepted
        KubernetesAPIApprovalPolicyConformant=False MissingAnnotation: protected groups must have approval annotation "api-approved.kubernetes.io", see https://github.com/kubernetes/enhancements/pull/1111
        {"kind":"Widget","listKind":"WidgetList","plural":"widgets","shortNames":["w"],"singular":"widget"}
    "#]],
    );
}

#[test]
fn users_are_warned_of_what_has_no_effect() {
    let definition = yaml(
        "{spec: {conversion: {strategy: Webhook}, versions: [{schema: {openAPIV3Schema: {type: object, properties: {
          a: {type: string, format: colour}, b: {type: integer, format: int32}, c: {type: array, x-kubernetes-list-type: set,
          items: {type: object}}, d: {type: object, x-kubernetes-validations: [{rule: 'true'}]}}}}}]}}",
    );
    expect![[r#"
        unrecognized format "colour"
        x-kubernetes-validations: the rules are stored, but k8w does not enforce them yet
        spec.conversion: k8w does not call conversion webhooks yet: the storage version alone is served"#]]
    .assert_eq(&CustomResourceDefinition.warnings(&definition).join("\n"));
    assert!(CustomResourceDefinition.update_warnings(&definition, &definition).is_empty());
}

/// A definition with two versions that have these parts beside their schemas.
fn versions(v1: &str, v2: &str) -> String {
    format!(
        "{{metadata: {{name: widgets.example.com}}, spec: {{group: example.com, scope: Cluster, names: {{plural: widgets, kind: Widget}},
          versions: [{{name: v1, storage: true, {v1}}}, {{name: v2, {v2}}}]}}}}"
    )
}

#[test]
fn fields_are_selectable_by_what_they_are() {
    let schema = |more: &str| {
        format!("schema: {{openAPIV3Schema: {{type: object, properties: {{{more} spec: {{type: object, properties: {{a: {{type: string}},
          m: {{type: object, additionalProperties: {{type: string}}}}}}}}}}}}}}")
    };
    let paths = |paths: &[&str]| {
        let paths: Vec<String> = paths.iter().map(|path| format!("{{jsonPath: \"{path}\"}}")).collect();
        format!("selectableFields: [{}]", paths.join(", "))
    };
    let (one, other) = (schema(""), schema("x: {type: string},"));
    let fields =
        paths(&[".spec.a", ".spec.a", ".spec.m", ".spec.m.k", ".spec['a']", "spec", ".spec.b", ".metadata.name", ""]);
    check(
        "customresourcedefinitions",
        &versions(&format!("{one}, {fields}"), &other),
        expect![[r#"
        spec.versions[0].selectableFields[1].jsonPath: Duplicate value: ".spec.a"
        spec.versions[0].selectableFields[2].jsonPath: Invalid value: ".spec.m": must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.
        spec.versions[0].selectableFields[4].jsonPath: Invalid value: ".spec['a']": is an invalid path: array notation is not allowed
        spec.versions[0].selectableFields[5].jsonPath: Invalid value: "spec": is an invalid path: expected [ or . but got: spec
        spec.versions[0].selectableFields[6].jsonPath: Invalid value: ".spec.b": is an invalid path: does not refer to a valid field
        spec.versions[0].selectableFields[7].jsonPath: Invalid value: ".metadata.name": is an invalid path: does not refer to a valid field
        spec.versions[0].selectableFields[8].jsonPath: Required value
    "#]],
    );
    // What both have alike is told at another place, and needs a schema that both have alike.
    check(
        "customresourcedefinitions",
        &versions(&format!("{one}, {}", paths(&[".spec.b"])), &format!("{one}, {}", paths(&[".spec.b"]))),
        expect![[r#"
            spec.selectableFields[0].jsonPath: Invalid value: ".spec.b": is an invalid path: does not refer to a valid field
        "#]],
    );
    check(
        "customresourcedefinitions",
        &versions(&format!("{one}, {}", paths(&[".spec.a"])), &format!("{other}, {}", paths(&[".spec.a"]))),
        expect![[r#"
            spec.selectableFields: Invalid value: "": may only be set when validations.schema is included
        "#]],
    );
    check(
        "customresourcedefinitions",
        &versions(&format!("{one}, {}", paths(&[".spec.a"])), &one),
        expect![[r#"
        spec.versions[0].selectableFields: Invalid value: "": may only be set when `version.schema.openAPIV3Schema` is not included
    "#]],
    );
}

#[test]
fn the_root_of_a_schema_with_a_status_is_plain() {
    let schema = |root: &str| format!("schema: {{openAPIV3Schema: {{{root}}}}}, subresources: {{status: {{}}}}");
    let plain = "schema: {openAPIV3Schema: {type: object}}";
    check(
        "customresourcedefinitions",
        &versions(&schema("type: array, items: {type: string}"), plain),
        expect![[r#"
        spec.versions[0].schema.openAPIV3Schema.type: Invalid value: "array": only "object" is allowed as the type at the root of the schema if the status subresource is enabled
        spec.versions[0].schema.openAPIV3Schema.type: Invalid value: "array": must be object at the root
    "#]],
    );
    check(
        "customresourcedefinitions",
        &versions(&schema("type: object, maxProperties: 1"), plain),
        expect![[r#"
        spec.versions[0].schema.openAPIV3Schema: Invalid value: {"maxProperties":1,"type":"object"}: only [Description Type Format Title Maximum ExclusiveMaximum Minimum ExclusiveMinimum MaxLength MinLength Pattern MaxItems MinItems UniqueItems MultipleOf Required Items Properties ExternalDocs Example XPreserveUnknownFields XValidations] fields are allowed at the root of the schema if the status subresource is enabled
    "#]],
    );
    // Only the version that has a status.
    check(
        "customresourcedefinitions",
        &versions(&schema("type: object"), "schema: {openAPIV3Schema: {type: object, maxProperties: 1}}"),
        expect![[""]],
    );
}

#[test]
fn conversion_webhooks_are_checked() {
    let converted = |config: &str| {
        WIDGETS.replace("  versions:", &format!(
            "  conversion: {{strategy: Webhook, webhook: {{conversionReviewVersions: [v1], clientConfig: {{{config}}}}}}}\n  versions:"
        ))
    };
    check(
        "customresourcedefinitions",
        &converted("url: 'http://a?b'"),
        expect![[r#"
        spec.conversion.webhookClientConfig.url: Invalid value: "http": 'https' is the only allowed URL scheme; desired format: https://host[/path]
        spec.conversion.webhookClientConfig.url: Invalid value: "b": query parameters are not permitted in the URL
    "#]],
    );
    check(
        "customresourcedefinitions",
        &converted("service: {name: a, path: x, port: 0}"),
        expect![[r#"
        spec.conversion.webhookClientConfig.service.name: Required value
        spec.conversion.webhookClientConfig.service.port: Invalid value: 0: port is not valid: must be between 1 and 65535, inclusive
        spec.conversion.webhookClientConfig.service.path: Invalid value: "x": must start with a '/'
        spec.conversion.webhookClientConfig.service.path: Invalid value: "x": segment[0] may not be empty
    "#]],
    );
    // A bundle may be put in later; once it is right, it must stay so.
    let bundle = |bundle: &str| converted(&format!("url: 'https://a', caBundle: {bundle}"));
    check("customresourcedefinitions", &bundle("YQ=="), expect![[""]]);
    let established = "\nstatus: {storedVersions: [v1], conditions: [{type: Established, status: 'True'}]}";
    let old = format!("{}{established}", converted("url: 'https://a'"));
    check_update(
        "customresourcedefinitions",
        &old,
        &format!("{}{established}", bundle("YQ==")),
        expect![[r#"
        spec.conversion.webhookClientConfig.caBundle: Invalid value: "YQ==": unable to load root certificates: unable to parse bytes as PEM block
    "#]],
    );
    reconciled(
        &[&bundle("YQ==")],
        expect![[r#"
        NamesAccepted=True NoConflicts: no conflicts found
        Established=False InvalidCABundle: The conversion webhook CABundle is invalid
        {"kind":"Widget","listKind":"WidgetList","plural":"widgets","shortNames":["w"],"singular":"widget"}
    "#]],
    );
}

#[test]
fn what_a_deprecated_version_warns_of_is_printed() {
    let with = |deprecated: &str| WIDGETS.replace("    served: true", &format!("    served: true\n    {deprecated}"));
    check(
        "customresourcedefinitions",
        &with("deprecationWarning: old"),
        expect![[r#"
        spec.versions[0].deprecationWarning: Invalid value: "old": can only be set for deprecated versions
    "#]],
    );
    check(
        "customresourcedefinitions",
        &with("deprecated: true\n    deprecationWarning: \"é\\u00a0\""),
        expect![[r#"
        spec.versions[0].deprecationWarning: Invalid value: "é ": must only contain printable UTF-8 characters; non-printable character found at index 2
    "#]],
    );
    check(
        "customresourcedefinitions",
        &with("deprecated: true\n    deprecationWarning: ''"),
        expect![[r#"
        spec.versions[0].deprecationWarning: Invalid value: "": must not be an empty string
    "#]],
    );
}

#[test]
fn what_was_broken_before_the_rule_may_stay() {
    // A schema's member `x`, and what a definition that had none such is told.
    let cases = [
        (
            "{type: strin}",
            expect![[r#"
            spec.validation.openAPIV3Schema.properties[x].type: Unsupported value: "strin": supported values: "array", "boolean", "integer", "number", "object", "string"
        "#]],
        ),
        (
            "{type: object, properties: {}, default: {a: 1}}",
            expect![[r#"
            spec.validation.openAPIV3Schema.properties[x].default: Invalid value: {"a":1}: must not have unknown fields
        "#]],
        ),
        (
            "{type: array, x-kubernetes-list-type: set, items: {type: object}}",
            expect![[r#"
            spec.validation.openAPIV3Schema.properties[x].items.x-kubernetes-map-type: Invalid value: null: must be atomic as item of a list with x-kubernetes-list-type=set
        "#]],
        ),
        (
            "{type: array, x-kubernetes-list-type: map, x-kubernetes-list-map-keys: [k], items: {type: object, properties: {k: {type: string}}}}",
            expect![[r#"
            spec.validation.openAPIV3Schema.properties[x].items.properties[k].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property
        "#]],
        ),
        (
            "{type: array, x-kubernetes-list-type: set, items: {type: string, nullable: true}}",
            expect![[r#"
            spec.validation.openAPIV3Schema.properties[x].items.nullable: Forbidden: cannot be nullable when x-kubernetes-list-type is set
        "#]],
        ),
    ];
    let with = |more: &str| {
        WIDGETS.replace("{type: object}", &format!("{{type: object, properties: {{{more}}}}}"))
            + "status: {storedVersions: [v1]}"
    };
    let plain = with("y: {type: string}");
    for (member, told) in cases {
        let broken = with(&format!("x: {member}"));
        check_update("customresourcedefinitions", &plain, &broken, told);
        let more = with(&format!("x: {member}, y: {{type: string}}"));
        check_update("customresourcedefinitions", &broken, &more, expect![[""]]);
    }
}

#[test]
fn a_schema_may_be_missing_where_one_was() {
    let none = WIDGETS.replace("schema: {openAPIV3Schema: {type: object}}", "") + "status: {storedVersions: [v1]}";
    let with = WIDGETS.to_owned() + "status: {storedVersions: [v1]}";
    check_update(
        "customresourcedefinitions",
        &with,
        &none,
        expect![[r#"
        spec.versions[0].schema.openAPIV3Schema: Required value
    "#]],
    );
    check_update(
        "customresourcedefinitions",
        &none,
        &none,
        expect![[r#"
        spec.versions[0].schema.openAPIV3Schema: Required value: because otherwise all fields are pruned
    "#]],
    );
    let unserved = none.replace("served: true", "served: false");
    check_update("customresourcedefinitions", &none, &unserved, expect![[""]]);
    let preserves = |definition: &str| definition.replace("scope:", "preserveUnknownFields: true\n  scope:");
    check_update("customresourcedefinitions", &preserves(&none), &preserves(&none), expect![[""]]);
    // Where everything is kept, a schema need not say what there is, unless it has what needs that.
    let schema = |more: &str| preserves(&with.replace("type: object", &format!("properties: {{a: {{{more}}}}}")));
    check_update("customresourcedefinitions", &schema(""), &schema("minLength: 1"), expect![[""]]);
    check_update(
        "customresourcedefinitions",
        &schema(""),
        &schema("x-kubernetes-int-or-string: true"),
        expect![[r#"
        spec.validation.openAPIV3Schema.type: Required value: must not be empty at the root
    "#]],
    );
}
