use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::*;
use crate::schema::Format;

fn errors(errors: &[FieldError], expected: Expect) {
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    expected.assert_eq(&lines.join("\n"));
}

/// A custom kind whose `spec` has these properties.
fn kind(properties: Value) -> Schema {
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": properties}}});
    Schema::from_crd(&schema).unwrap_or_else(|errors| panic!("{errors:?}"))
}

fn validated(schema: &Schema, spec: Value, expected: Expect) {
    let body = json!({"apiVersion": "x/v1", "kind": "X", "metadata": {"name": "a"}, "spec": spec}).to_string();
    let mut value = schema.decode(body.as_bytes(), Format::Json).unwrap().value;
    schema.default(&mut value);
    errors(&schema.validate(&value, None, &FieldPath::ROOT), expected);
}

#[test]
fn values_are_checked_against_their_rules() {
    let schema = kind(json!({
        "replicas": {"type": "integer", "minimum": 1, "maximum": 5, "exclusiveMaximum": true, "multipleOf": 2},
        "name": {"type": "string", "minLength": 2, "maxLength": 3, "pattern": "^a"},
        "mode": {"type": "string", "enum": ["On", "Off"]},
        "when": {"type": "string", "format": "date-time"},
        "tags": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 2, "x-kubernetes-list-type": "set"},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}, "maxProperties": 1},
        "need": {"type": "object", "required": ["this"], "properties": {"this": {"type": "string"}}},
        "port": {"x-kubernetes-int-or-string": true},
    }));
    validated(
        &schema,
        json!({"replicas": 2, "name": "abc", "mode": "On", "when": "2024-01-01T00:00:00Z", "tags": ["a"], "port": "x"}),
        expect![[""]],
    );
    validated(
        &schema,
        json!({"replicas": 0, "name": "b", "mode": "on", "when": "now", "tags": []}),
        expect![[r#"
            spec.mode: Unsupported value: "on": supported values: "On", "Off"
            spec.name: Invalid value: "b": spec.name in body should be at least 2 chars long
            spec.replicas: Invalid value: 0: spec.replicas in body should be greater than or equal to 1
            spec.tags: Invalid value: 0: spec.tags in body should have at least 1 items
            spec.when: Invalid value: "now": spec.when in body must be of type date-time: "now""#]],
    );
    validated(
        &schema,
        json!({"replicas": 5, "name": "abcd", "tags": ["a", "a", "b"], "labels": {"a": "b", "c": "d"}, "need": {}}),
        expect![[r#"
        spec.labels: Too many: 2: must have at most 1 item
        spec.name: Too long: may not be more than 3 bytes
        spec.need.this: Required value
        spec.replicas: Invalid value: 5: spec.replicas in body should be a multiple of 2
        spec.replicas: Invalid value: 5: spec.replicas in body should be less than 5
        spec.tags: Too many: 3: must have at most 2 items
        spec.tags[1]: Duplicate value: "a""#]],
    );
    validated(
        &schema,
        json!({"replicas": "1", "name": 1, "tags": "a", "labels": {"a": 1}, "need": [], "port": true}),
        expect![[r#"
        spec.labels.a: Invalid value: "integer": spec.labels.a in body must be of type string: "integer"
        spec.name: Invalid value: "integer": spec.name in body must be of type string: "integer"
        spec.need: Invalid value: "array": spec.need in body must be of type object: "array"
        spec.port: Invalid value: "boolean": spec.port in body must be of type integer,string: "boolean"
        spec.replicas: Invalid value: "string": spec.replicas in body must be of type integer: "string"
        spec.tags: Invalid value: "string": spec.tags in body must be of type array: "string""#]],
    );
}

#[test]
fn rules_combine() {
    let schema = kind(json!({
        "a": {"type": "integer", "anyOf": [{"minimum": 10}, {"maximum": 0}]},
        "b": {"type": "integer", "oneOf": [{"minimum": 10}, {"minimum": 20}]},
        "c": {"type": "string", "not": {"enum": ["x"]}},
        "d": {"type": "object", "properties": {"e": {"type": "string"}, "f": {"type": "string"}},
              "oneOf": [{"required": ["e"]}, {"required": ["f"]}]},
        "g": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
    }));
    validated(&schema, json!({"a": 11, "b": 15, "c": "y", "d": {"e": ""}, "g": 1}), expect![[""]]);
    validated(
        &schema,
        json!({"a": 5, "b": 25, "c": "x", "d": {}, "g": "x"}),
        expect![[r#"
            <nil>: Invalid value: "": "spec.a" must validate at least one schema (anyOf)
            spec.a: Invalid value: 5: spec.a in body should be greater than or equal to 10
            <nil>: Invalid value: "": "spec.b" must validate one and only one schema (oneOf). Found 2 valid alternatives
            <nil>: Invalid value: "": "spec.c" must not validate the schema (not)
            <nil>: Invalid value: "": "spec.d" must validate one and only one schema (oneOf). Found none valid
            spec.d.e: Required value"#]],
    );
}

#[test]
fn null_is_a_value_where_the_schema_says_so() {
    let schema = kind(json!({
        "a": {"type": "string", "nullable": true},
        "b": {"type": "string"},
        "c": {"type": "string", "default": "x"},
        "d": {"type": "array", "items": {"type": "string"}},
        "e": {"type": "object", "additionalProperties": {"type": "string"}},
    }));
    let body = r#"{"spec":{"a":null,"b":null,"c":null,"d":[null],"e":{"x":null}}}"#;
    let mut value = schema.decode(body.as_bytes(), Format::Json).unwrap().value;
    schema.default(&mut value);
    assert_eq!(value["spec"], json!({"a": null, "c": "x", "d": [null], "e": {}}));
    errors(
        &schema.validate(&value, None, &FieldPath::ROOT),
        expect![[r#"spec.d[0]: Invalid value: "null": spec.d[0] in body must be of type string: "null""#]],
    );
}

#[test]
fn null_stands_for_the_default_of_an_element() {
    let object = json!({"type": "object", "default": {}, "properties": {"x": {"type": "integer", "default": 1}}});
    let text = json!({"type": "string", "default": "x"});
    let or_null = json!({"type": "string", "default": "x", "nullable": true});
    let list = |item: &Value| json!({"type": "array", "items": item});
    let map = |value: &Value| json!({"type": "object", "additionalProperties": value});
    let schema = kind(json!({"a": list(&text), "b": map(&text), "c": list(&or_null), "d": map(&or_null),
        "e": list(&object), "f": map(&object), "g": list(&list(&text))}));
    let body =
        r#"{"spec":{"a":[null,"y"],"b":{"k":null},"c":[null],"d":{"k":null},"e":[null],"f":{"k":null},"g":[[null]]}}"#;
    let mut value = schema.decode(body.as_bytes(), Format::Json).unwrap().value;
    schema.default(&mut value);
    assert_eq!(
        value["spec"],
        json!({"a": ["x", "y"], "b": {"k": "x"}, "c": [null], "d": {"k": null}, "e": [{"x": 1}], "f": {"k": {"x": 1}},
            "g": [["x"]]})
    );
}

#[test]
fn unknown_fields_are_pruned_unless_kept() {
    let schema = kind(json!({
        "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"a": {"type": "object", "properties": {}}}},
        "any": {"x-kubernetes-preserve-unknown-fields": true},
        "list": {"type": "array", "x-kubernetes-preserve-unknown-fields": true, "items": {"type": "object", "properties": {"a": {"type": "object", "properties": {}}}}},
        "pod": {"type": "object", "x-kubernetes-embedded-resource": true, "properties": {"spec": {"type": "object"}}},
    }));
    let body = r#"{"kind":"X","x":1,"metadata":{"name":"a","foo":1},"spec":{"x":1,"open":{"x":{"y":1},"a":{"x":1}},"any":[{"x":1}],"list":[{"x":{"y":1},"a":{"x":1}}],
        "pod":{"kind":"Pod","metadata":{"labels":{"a":"b"},"bar":1},"spec":{"x":1},"x":1}}}"#;
    let decoded = schema.decode(body.as_bytes(), Format::Json).unwrap();
    expect![[r#"
        {"kind":"X","metadata":{"name":"a"},"spec":{"any":[{"x":1}],"list":[{"a":{},"x":{"y":1}}],"open":{"a":{},"x":{"y":1}},"pod":{"kind":"Pod","metadata":{"labels":{"a":"b"}},"spec":{}}}}
        unknown field "x"
        unknown field "metadata.foo"
        unknown field "spec.x"
        unknown field "spec.open.a.x"
        unknown field "spec.list[0].a.x"
        unknown field "spec.pod.metadata.bar"
        unknown field "spec.pod.spec.x"
        unknown field "spec.pod.x""#]].assert_eq(&format!("{}\n{}", decoded.value, decoded.issues.join("\n")));
    let error = schema.decode(br#"{"metadata":{"labels":{"a":1}}}"#, Format::Json).unwrap_err();
    expect!["json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string"]
        .assert_eq(&error.to_string());
}

#[test]
fn a_schema_has_to_be_structural() {
    let check = |schema: Value, expected: Expect| {
        errors(&Schema::check_crd(&schema, Broken::default(), &FieldPath::ROOT, &mut Vec::new()), expected)
    };
    check(json!({}), expect!["type: Required value: must not be empty at the root"]);
    check(
        json!({"type": "object", "additionalProperties": false, "allOf": [{"properties": {"a": {"minLength": 1}}}],
            "properties": {"metadata": {"type": "object", "description": "x"},
                "b": {"anyOf": [{"type": "string"}, {"type": "integer"}], "x-kubernetes-int-or-string": true},
                "c": {"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": true},
                "d": {"type": "object", "properties": {"e": {"type": "string"}}, "additionalProperties": true,
                    "not": {"x-kubernetes-validations": [{"rule": "true"}]}}}}),
        expect![[r#"
            additionalProperties: Forbidden: must not be used at the root
            properties[a]: Required value: because it is defined in allOf[0].properties[a]
            properties[b].anyOf[0].type: Forbidden: must be empty to be structural
            properties[b].anyOf[1].type: Forbidden: must be empty to be structural
            properties[d].not.x-kubernetes-validations: Forbidden: must be empty to be structural
            properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified
            additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive"#]],
    );
    check(
        json!({"type": "object", "properties": {
            "a": {}, "b": {"type": "array"}, "c": {"type": "array", "items": {}}, "d": {"type": "strin"},
            "metadata": {"type": "object", "properties": {"labels": {"type": "object"}}},
            "kind": {"type": "integer"},
        }}),
        expect![[r#"
            properties[a].type: Required value: must not be empty for specified object fields
            properties[b].items: Required value: must be specified
            properties[c].items.type: Required value: must not be empty for specified array items
            properties[kind].type: Invalid value: "integer": must be string
            properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified
            properties[d].type: Unsupported value: "strin": supported values: "array", "boolean", "integer", "number", "object", "string""#]],
    );
    check(
        json!({"type": "object", "properties": {
            "a": {"type": "string", "pattern": "("},
            "b": {"type": "object", "allOf": [{"type": "object", "properties": {"c": {"description": "x"}}}]},
            "d": {"type": "object", "properties": {}, "additionalProperties": {"type": "string"}},
            "e": {"type": "array", "items": {"type": "object"}, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"]},
            "f": {"type": "array", "uniqueItems": true, "items": {"type": "string"}, "x-kubernetes-list-type": "bag"},
        }}),
        expect![[r#"
            properties[a].pattern: Invalid value: "(": must be a valid regular expression, but isn't: error parsing regexp: missing closing ): `(`
            properties[b].allOf[0].properties[c].description: Forbidden: must be empty to be structural
            properties[b].allOf[0].type: Forbidden: must be empty to be structural
            properties[e].x-kubernetes-list-map-keys: Invalid value: ["k"]: entries must all be names of item properties
            properties[f].uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic
            properties[f].x-kubernetes-list-type: Unsupported value: "bag": supported values: "atomic", "set", "map""#]],
    );
}

/// A schema in the shape of those that operators bring: pods within it, many fields, descriptions, patterns and formats.
fn large(fields: usize) -> Value {
    let description = "What this field is for, when it is set, and what happens when it is not. ".repeat(3);
    let leaf = |i: usize| match i % 5 {
        0 => {
            json!({"type": "string", "description": description, "pattern": format!("^[a-z0-9]{{1,{}}}$", i % 60 + 1)})
        }
        1 => json!({"type": "integer", "format": "int32", "description": description, "default": 1, "minimum": 0}),
        2 => json!({"type": "string", "format": "date-time", "description": description}),
        3 => {
            json!({"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}], "description": description})
        }
        _ => json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
            "items": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}, "value": {"type": "string"}}}}),
    };
    let group = |g: usize| {
        let members: serde_json::Map<_, _> = (0..20).map(|i| (format!("field{i}"), leaf(g * 20 + i))).collect();
        json!({"type": "object", "description": description, "properties": members})
    };
    let groups: serde_json::Map<_, _> = (0..fields / 20).map(|g| (format!("group{g}"), group(g))).collect();
    json!({"type": "object", "properties": {"spec": {"type": "object", "properties": groups}}})
}

#[test]
fn large_schemas_are_built_and_used() {
    let source = large(1_600);
    assert!(source.to_string().len() > 400_000);
    errors(&Schema::check_crd(&source, Broken::default(), &FieldPath::ROOT, &mut Vec::new()), expect![[""]]);
    let schema = Schema::from_crd(&source).unwrap();
    let mut object = json!({"spec": {"group3": {"field0": "A", "field4": [{"name": "a"}, {"name": "a"}]}}});
    schema.default(&mut object);
    errors(
        &schema.validate(&object, None, &FieldPath::ROOT),
        expect![[r#"
            spec.group3.field0: Invalid value: "A": spec.group3.field0 in body should match '^[a-z0-9]{1,1}$'
            spec.group3.field4[1]: Duplicate value: {"name":"a"}"#]],
    );
}

#[test]
fn patterns_are_counted() {
    let properties: serde_json::Map<_, _> = (0..2_001)
        .map(|i| (format!("p{i:04}"), json!({"type": "string", "pattern": format!("^a{{{}}}b{i}$", i % 100 + 1)})))
        .collect();
    let source = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": properties}}});
    errors(
        &Schema::check_crd(&source, Broken::default(), &FieldPath::ROOT, &mut Vec::new()),
        expect![
            "properties[spec].properties[p2000].pattern: Forbidden: a schema may have 2000 different patterns at most"
        ],
    );
}

#[test]
fn what_go_calls_zero_is_as_if_it_were_not_there() {
    let source = json!({"type": "object", "properties": {"a": {"type": "string", "allOf": [{"description": "", "nullable": false, "minLength": 1}]}}});
    errors(&Schema::check_crd(&source, Broken::default(), &FieldPath::ROOT, &mut Vec::new()), expect![[""]]);
}

#[test]
fn keywords_have_to_go_together() {
    let check = |properties: Value, expected: Expect| {
        let schema = json!({"type": "object", "properties": properties});
        errors(&Schema::check_crd(&schema, Broken::default(), &FieldPath::ROOT, &mut Vec::new()), expected);
    };
    check(
        json!({"a": {"type": "null"}, "b": {"type": "array", "items": [{"type": "string"}]}, "c": {"$ref": "x", "id": "y"}}),
        expect![[r#"
            properties[a].type: Unsupported value: "null": supported values: "array", "boolean", "integer", "number", "object", "string"
            properties[a].type: Forbidden: type cannot be set to null, use nullable as an alternative
            properties[b].items: Forbidden: items must be a schema object and not an array
            properties[c].id: Forbidden: id is not supported
            properties[c].$ref: Forbidden: $ref is not supported"#]],
    );
    check(
        json!({
            "a": {"x-kubernetes-preserve-unknown-fields": true, "x-kubernetes-map-type": "bag"},
            "b": {"type": "string", "x-kubernetes-list-type": "set"},
            "c": {"type": "array", "items": {"type": "object"}, "x-kubernetes-list-type": "set"},
            "d": {"type": "array", "items": {"type": "string", "nullable": true}, "x-kubernetes-list-map-keys": ["k"]},
            "e": {"type": "array", "items": {"type": "object", "properties": {"k": {"type": "object", "nullable": true}}},
                "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k", "k"]},
            "f": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "map"},
        }),
        expect![[r#"
            properties[a].type: Required value: must be object if x-kubernetes-map-type is specified
            properties[a].x-kubernetes-map-type: Unsupported value: "bag": supported values: "atomic", "granular"
            properties[b].type: Invalid value: "string": must be array if x-kubernetes-list-type is specified
            properties[c].items.x-kubernetes-map-type: Invalid value: null: must be atomic as item of a list with x-kubernetes-list-type=set
            properties[d].x-kubernetes-list-type: Required value: must be map if x-kubernetes-list-map-keys is non-empty
            properties[e].items.properties[k].type: Invalid value: "object": must be a scalar type if parent array's x-kubernetes-list-type is map
            properties[e].items.properties[k].type: Invalid value: "object": must be a scalar type if parent array's x-kubernetes-list-type is map
            properties[e].x-kubernetes-list-map-keys: Invalid value: ["k","k"]: must not contain duplicate entries
            properties[e].items.properties[k].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property
            properties[e].items.properties[k].nullable: Forbidden: this property is in x-kubernetes-list-map-keys, so it cannot be nullable
            properties[e].items.properties[k].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property
            properties[e].items.properties[k].nullable: Forbidden: this property is in x-kubernetes-list-map-keys, so it cannot be nullable
            properties[f].x-kubernetes-list-map-keys: Required value: must not be empty if x-kubernetes-list-type is map
            properties[f].items.type: Invalid value: "string": must be object if parent array's x-kubernetes-list-type is map"#]],
    );
    check(
        json!({
            "metadata": {"type": "object", "default": {}},
            "pod": {"type": "object", "x-kubernetes-embedded-resource": true, "properties": {"metadata": {"type": "object",
                "properties": {"labels": {"type": "object", "additionalProperties": {"type": "string", "default": "a"}},
                "x": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true}}}}},
        }),
        expect![[r#"
            properties[metadata].default: Forbidden: must not be set in top-level metadata
            properties[pod].properties[metadata].properties[labels].additionalProperties.default: Forbidden: must not be set inside additionalProperties applying to object metadata
            properties[pod].properties[metadata].properties[x].x-kubernetes-embedded-resource: Forbidden: must not be used inside of resource meta"#]],
    );
    check(
        json!({"a": {"type": "object", "properties": {"b": {"type": "string"}}, "x-kubernetes-validations": [
            {"rule": " "}, {"rule": "true", "message": " ", "messageExpression": " "}, {"rule": "true", "message": "a\nb"},
            {"rule": "tr\nue"}, {"rule": "true", "reason": "Odd", "fieldPath": ".c"}, {"rule": "true", "fieldPath": ".b"},
        ]}}),
        expect![[r#"
            properties[a].x-kubernetes-validations[0].rule: Required value: rule is not specified
            properties[a].x-kubernetes-validations[1].message: Invalid value: " ": must be non-empty if specified
            properties[a].x-kubernetes-validations[1].messageExpression: Required value: messageExpression must be non-empty if specified
            properties[a].x-kubernetes-validations[2].message: Invalid value: "a\nb": must not contain line breaks
            properties[a].x-kubernetes-validations[3].message: Required value: message must be specified if rule contains line breaks
            properties[a].x-kubernetes-validations[4].reason: Unsupported value: "Odd": supported values: "FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"
            properties[a].x-kubernetes-validations[4].fieldPath: Invalid value: ".c": must be a valid path"#]],
    );
}

#[test]
fn numbers_have_a_range() {
    let schema = kind(json!({
        "a": {"type": "integer", "format": "int32"}, "b": {"type": "number", "multipleOf": 0.1},
        "c": {"type": "number", "maximum": 1_000_000}, "d": {"type": "integer"}, "e": {"type": "integer", "maximum": 1.5},
        "f": {"type": "number", "format": "float"}, "g": {"type": "integer", "enum": [1, 2]},
    }));
    validated(&schema, json!({"a": 2_147_483_647, "b": 0.3, "c": 1e6, "d": 3.0, "f": 1.5, "g": 1.0}), expect![[""]]);
    validated(
        &schema,
        json!({"a": 2_147_483_648_u32, "b": 0.25, "c": 1_000_000.5, "d": 1.2, "e": 1, "f": 1e39, "g": "x"}),
        expect![[r#"
            <nil>: Invalid value: "": Checked value must be of type integer with format int32 in spec.a
            spec.b: Invalid value: 0.25: spec.b in body should be a multiple of 0.1
            spec.c: Invalid value: 1.0000005e+06: spec.c in body should be less than or equal to 1e+06
            spec.d: Invalid value: "number": spec.d in body must be of type integer: "number"
            <nil>: Invalid value: "": Checked value must be of type integer (default format) in spec.d
            <nil>: Invalid value: "": Maximum boundary value must be of type integer (default format) in spec.e
            <nil>: Invalid value: "": Checked value must be of type number with format float in spec.f
            spec.g: Invalid value: "string": spec.g in body must be of type integer: "string"
            spec.g: Unsupported value: "x": supported values: "1", "2""#]],
    );
}

#[test]
fn what_several_schemas_say_is_told_once() {
    let schema = kind(json!({
        "a": {"type": "string", "allOf": [{"minLength": 2}, {"minLength": 2}, {"maxLength": 9}]},
        "b": {"type": "object", "properties": {"x": {"type": "string"}, "y": {"type": "string"}},
            "oneOf": [{"required": ["x"]}, {"required": ["x", "y"], "properties": {"x": {"maxLength": 1}}}]},
        "c": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"x": {"type": "string"}},
            "not": {"required": ["x"]}, "anyOf": [{"additionalProperties": false}]},
    }));
    validated(
        &schema,
        json!({"a": "x", "b": {"y": ""}, "c": {"x": "", "z": 1}}),
        expect![[r#"
        spec.a: Invalid value: "x": spec.a in body should be at least 2 chars long
        <nil>: Invalid value: "": "spec.a" must validate all the schemas (allOf)
        <nil>: Invalid value: "": "spec.b" must validate one and only one schema (oneOf). Found none valid
        spec.b.x: Required value
        <nil>: Invalid value: "": "spec.c" must validate at least one schema (anyOf)
        spec.c: Invalid value: "x": spec.c.x in body is a forbidden property
        spec.c: Invalid value: "z": spec.c.z in body is a forbidden property
        <nil>: Invalid value: "": "spec.c" must not validate the schema (not)"#]],
    );
}

#[test]
fn formats_stand_for_types() {
    let schema = kind(json!({
        "a": {"type": "string", "format": "datetime"}, "b": {"type": "string", "nullable": true, "enum": ["x"]},
        "c": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}, "d": {"type": "string", "format": "unheard"},
    }));
    validated(
        &schema,
        json!({"a": 1, "b": null, "c": "x", "d": 2}),
        expect![[r#"
        spec.a: Invalid value: "int64": spec.a in body must be of type datetime: "int64"
        spec.b: Unsupported value: null: supported values: "x"
        spec.c: Invalid value: "string": spec.c in body must be of type object: "string"
        spec.d: Invalid value: "integer": spec.d in body must be of type string: "integer""#]],
    );
    validated(
        &schema,
        json!({"a": "now", "b": "x", "c": {"d": 1}, "d": "x"}),
        expect![[r#"spec.a: Invalid value: "now": spec.a in body must be of type datetime: "now""#]],
    );
}

#[test]
fn a_status_is_told_from_within() {
    let schema = json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {"a": {"type": "integer"}}},
        "status": {"type": "object", "properties": {"n": {"type": "integer", "maximum": 1}, "m": {"type": "object",
            "additionalProperties": {"type": "string"}}, "t": {"type": "array", "x-kubernetes-list-type": "set",
            "items": {"type": "string"}}}, "not": {"required": ["x"]}}}});
    let schema = Schema::from_crd(&schema).unwrap();
    let old = json!({"spec": {"a": "wrong"}, "status": {}});
    let new = json!({"spec": {"a": "wrong"}, "status": {"n": 2, "m": {"k": 1}, "t": ["a", "a"]}});
    errors(
        &schema.validate_status(&new, &old),
        expect![[r#"
        status.m.k: Invalid value: "integer": m.k in body must be of type string: "integer"
        status.n: Invalid value: 2: n in body should be less than or equal to 1
        status.t[1]: Duplicate value: "a""#]],
    );
    errors(&schema.validate_status(&new, &new), expect![[""]]);
}

#[test]
fn what_is_as_it_was_is_let_be() {
    let short = json!({"type": "string", "maxLength": 1});
    let item = json!({"type": "object", "required": ["k", "v"], "properties": {"k": {"type": "string"}, "v": short}});
    let of = |kind: &str, items: &Value| json!({"type": "array", "items": items, "x-kubernetes-list-type": kind, "maxItems": 1});
    let mut keyed = of("map", &item);
    keyed["x-kubernetes-list-map-keys"] = json!(["k"]);
    let schema = kind(json!({
        "a": {"type": "object", "required": ["x", "y"], "properties": {"x": short, "y": short}},
        "map": {"type": "object", "additionalProperties": short},
        "atomic": of("atomic", &short), "set": of("set", &short), "keyed": keyed,
        "open": {"type": "object", "required": ["r"], "properties": {"x": short}, "x-kubernetes-preserve-unknown-fields": true},
        "pod": {"type": "object", "x-kubernetes-embedded-resource": true, "minProperties": 5, "properties": {"x": short}},
        "alt": {"type": "object", "properties": {"x": {"type": "string"}, "y": {"type": "string"}},
            "anyOf": [{"properties": {"x": {"maxLength": 1}}}]},
    }));
    let check = |old: Value, new: Value, expected: Expect| {
        let whole = |spec: Value| json!({"apiVersion": "x/v1", "kind": "X", "metadata": {"name": "a"}, "spec": spec});
        errors(&schema.validate(&whole(new), Some(&whole(old)), &FieldPath::ROOT), expected);
    };
    // Of an object, the members that did not change; its own rules where none of them did.
    check(json!({"a": {"x": "aa"}}), json!({"a": {"x": "aa"}, "map": {}}), expect![[""]]);
    check(json!({"a": {"x": "aa"}}), json!({"a": {"x": "aa", "z": "b"}}), expect!["spec.a.y: Required value"]);
    check(json!({"map": {"k": "aa"}}), json!({"map": {"k": "aa", "l": "b"}}), expect![[""]]);
    // A list is compared as a whole, but for items that have keys.
    for list in ["atomic", "set"] {
        check(json!({list: ["aa"]}), json!({list: ["aa"]}), expect![[""]]);
    }
    check(
        json!({"set": ["aa"]}),
        json!({"set": ["aa", "b"]}),
        expect![[r#"
            spec.set[0]: Too long: may not be more than 1 bytes
            spec.set: Too many: 2: must have at most 1 item"#]],
    );
    let (one, two) = (json!({"k": "1", "v": "aa"}), json!({"k": "2"}));
    check(json!({"keyed": [one, two]}), json!({"keyed": [two, one]}), expect![[""]]);
    check(
        json!({"keyed": [one]}),
        json!({"keyed": [two, one]}),
        expect![[r#"
            spec.keyed[0].v: Required value
            spec.keyed: Too many: 2: must have at most 1 item"#]],
    );
    // Of what is not described nobody knows whether it changed.
    check(json!({"open": {"x": "aa"}}), json!({"open": {"x": "aa"}, "map": {}}), expect![[""]]);
    let open = json!({"open": {"x": "aa", "other": 1}});
    check(open.clone(), open, expect!["spec.open.r: Required value"]);
    let pod = json!({"pod": {"apiVersion": "v1", "kind": "Pod", "x": "aa"}});
    check(pod.clone(), pod, expect!["spec.pod: Invalid value: 3: spec.pod in body should have at least 5 properties"]);
    // What alternatives say of members is held against them all the same.
    check(
        json!({"alt": {"x": "aa"}}),
        json!({"alt": {"x": "aa", "y": "b"}}),
        expect![[r#"
            <nil>: Invalid value: "": "spec.alt" must validate at least one schema (anyOf)
            spec.alt.x: Too long: may not be more than 1 bytes"#]],
    );
}

#[test]
fn a_whole_object_is_never_as_it_was() {
    let schema =
        json!({"type": "object", "required": ["spec"], "properties": {"kind": {"type": "string", "enum": ["Y"]}}});
    let schema = Schema::from_crd(&schema).unwrap();
    let object = json!({"apiVersion": "x/v1", "kind": "X", "metadata": {"name": "a"}});
    errors(
        &schema.validate(&object, Some(&object), &FieldPath::ROOT),
        expect![[r#"
            kind: Unsupported value: "X": supported values: "Y"
            spec: Required value"#]],
    );
}

#[test]
fn repetitions_that_were_there_may_stay() {
    let schema = kind(json!({"t": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}}}));
    let object = |tags: &[&str]| json!({"spec": {"t": tags}});
    let check = |old: &[&str], expected: Expect| {
        errors(&schema.validate(&object(&["a", "a"]), Some(&object(old)), &FieldPath::ROOT), expected);
    };
    check(&["a"], expect![[r#"spec.t[1]: Duplicate value: "a""#]]);
    check(&["b", "b"], expect![[""]]);
}
