use expect_test::{Expect, expect};

use super::*;

fn check(type_name: &str, body: &str, format: Format, expected: Expect) {
    let schema = Schema::builtin(type_name).expect("a root type");
    let text = match schema.decode(body.as_bytes(), format) {
        Ok(decoded) => format!("{}\n{}", decoded.value, decoded.issues.join("\n")),
        Err(error) => error.to_string(),
    };
    expected.assert_eq(text.trim_end());
}

fn pod(body: &str, expected: Expect) {
    check("io.k8s.api.core.v1.Pod", body, Format::Json, expected);
}

#[test]
fn unknown_and_duplicate_fields_are_recorded_in_document_order() {
    pod(
        r#"{"kind":"Pod","apiVersion":"v1","Kind":"x","metadata":{"name":"a","labels":{"a":"b","a":"c"},"foo":{"bar":1}},
            "spec":{"containers":[{"name":"a","name":"b","imag":"x","ports":[{"containerPort":80,"x":null}]}],"nodeName":null}}"#,
        expect![[r#"
            {"apiVersion":"v1","kind":"Pod","metadata":{"labels":{"a":"c"},"name":"a"},"spec":{"containers":[{"name":"b","ports":[{"containerPort":80}]}]}}
            unknown field "Kind"
            duplicate field "metadata.labels.a"
            unknown field "metadata.foo"
            duplicate field "spec.containers[0].name"
            unknown field "spec.containers[0].imag"
            unknown field "spec.containers[0].ports[0].x""#]],
    );
}

#[test]
fn values_of_the_wrong_type_are_refused_in_go_s_words() {
    let deployment = |body, expected| check("io.k8s.api.apps.v1.Deployment", body, Format::Json, expected);
    deployment(
        r#"{"spec":{"replicas":"3"}}"#,
        expect!["json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32"],
    );
    deployment(
        r#"{"spec":{"replicas":99999999999}}"#,
        expect![
            "json: cannot unmarshal number 99999999999 into Go struct field DeploymentSpec.spec.replicas of type int32"
        ],
    );
    deployment(
        r#"{"spec":{"replicas":1.5}}"#,
        expect!["json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32"],
    );
    deployment(
        r#"{"spec":{"template":{"spec":{"containers":[{"image":["x"]}]}}}}"#,
        expect![
            "json: cannot unmarshal array into Go struct field Container.spec.template.spec.containers.image of type string"
        ],
    );
    deployment(
        r#"{"spec":{"template":{"spec":{"containers":{"name":"x"}}}}}"#,
        expect![
            "json: cannot unmarshal object into Go struct field PodSpec.spec.template.spec.containers of type []v1.Container"
        ],
    );
    deployment(
        r#"{"spec":{"template":{"spec":"x"}}}"#,
        expect![
            "json: cannot unmarshal string into Go struct field PodTemplateSpec.spec.template.spec of type v1.PodSpec"
        ],
    );
    deployment(
        r#"{"metadata":{"labels":{"a":1}}}"#,
        expect!["json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string"],
    );
    deployment(
        r#"{"metadata":{"creationTimestamp":"yesterday"}}"#,
        expect![[r#"parsing time "\"yesterday\"" as "2006-01-02T15:04:05Z07:00": cannot parse "yesterday" as "2006""#]],
    );
    deployment("[]", expect!["json: cannot unmarshal array into Go value of type v1.Deployment"]);
    deployment(
        r#"{"spec":{"template":{"spec":{"containers":[{"resources":{"limits":{"cpu":"x"}}}]}}}}"#,
        expect!["quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"],
    );
    check(
        "io.k8s.api.core.v1.Secret",
        r#"{"data":{"a":"b!"}}"#,
        Format::Json,
        expect!["illegal base64 data at input byte 1"],
    );
}

#[test]
fn syntax_errors_read_as_go_s() {
    pod("", expect!["unexpected end of JSON input"]);
    pod("{", expect!["unexpected end of JSON input"]);
    pod(r#"{"a":1"#, expect!["unexpected end of JSON input"]);
    pod(r#"{"kind":x}"#, expect!["invalid character 'x' looking for beginning of value"]);
    pod(r#"{kind:1}"#, expect!["invalid character 'k' looking for beginning of object key string"]);
    pod(r#"{"kind":"a" "b"}"#, expect![[r#"invalid character '"' after object key:value pair"#]]);
    pod(r#"{} x"#, expect!["invalid character 'x' after top-level value"]);
}

#[test]
fn scalars_take_their_stored_form() {
    pod(
        r#"{"metadata":{"creationTimestamp":"2024-05-01T02:00:00.9+02:00","annotations":{"a":null}},
            "spec":{"tolerations":[null],"containers":[{"resources":{"limits":{"cpu":0.5,"memory":"1.5Gi"},"requests":{"cpu":2}},
            "readinessProbe":{"httpGet":{"port":"http"}},"livenessProbe":{"httpGet":{"port":80}}}]}}"#,
        expect![[
            r#"{"metadata":{"annotations":{"a":""},"creationTimestamp":"2024-05-01T00:00:00Z"},"spec":{"containers":[{"livenessProbe":{"httpGet":{"port":80}},"readinessProbe":{"httpGet":{"port":"http"}},"resources":{"limits":{"cpu":"500m","memory":"1536Mi"},"requests":{"cpu":"2"}}}],"tolerations":[{}]}}"#
        ]],
    );
    check(
        "io.k8s.api.coordination.v1.Lease",
        r#"{"spec":{"renewTime":"2024-05-01T00:00:00Z","acquireTime":"2024-05-01T00:00:00.1234567Z"}}"#,
        Format::Json,
        expect![[
            r#"{"spec":{"acquireTime":"2024-05-01T00:00:00.123456Z","renewTime":"2024-05-01T00:00:00.000000Z"}}"#
        ]],
    );
}

#[test]
fn yaml_follows_the_same_rules() {
    let yaml = |body, expected| check("io.k8s.api.core.v1.ConfigMap", body, Format::Yaml, expected);
    yaml(
        "kind: ConfigMap\nmetadata: {name: a, labels: &l {a: b}, annotations: *l}\ndata:\n  a: |\n    x\n  a: y\ndatas: 1\n",
        expect!["json: cannot unmarshal bool into Go struct field ConfigMap.data of type string"],
    );
    yaml(
        "data:\n  a: 1\n",
        expect!["json: cannot unmarshal number into Go struct field ConfigMap.data of type string"],
    );
    yaml(
        "data:\n  a: yes\n",
        expect!["json: cannot unmarshal bool into Go struct field ConfigMap.data of type string"],
    );
    yaml("data: {a: \"1\", 2: b}\nimmutable: true\n", expect![[r#"{"data":{"2":"b","a":"1"},"immutable":true}"#]]);
    yaml(
        "data:\n a: b\n  c: d\n",
        expect![
            "error converting YAML to JSON: yaml: mapping values are not allowed in this context at line 3, column 4"
        ],
    );
    for several in
        ["data: {a: b}\n---\n", "# c\n%YAML 1.1\n---\ndata:\n  a: b\n...\nx: y\n", "---\ndata: {a: b}\n--- [\n"]
    {
        yaml(several, expect![[r#"{"data":{"a":"b"}}"#]]);
    }
}

#[test]
fn depth_and_size_are_bounded() {
    let schema =
        Schema::builtin("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition").unwrap();
    let deep = |levels: usize| {
        let (open, close) = (r#"{"properties":{"a":"#.repeat(levels), "}}".repeat(levels));
        format!(r#"{{"spec":{{"versions":[{{"schema":{{"openAPIV3Schema":{open}{{}}{close}}}}}]}}}}"#)
    };
    assert!(schema.decode(deep(40).as_bytes(), Format::Json).is_ok());
    assert!(schema.decode(deep(20).as_bytes(), Format::Yaml).is_ok());
    for format in [Format::Json, Format::Yaml] {
        assert!(schema.decode(deep(100).as_bytes(), format).is_err());
        assert!(schema.decode(deep(100_000).as_bytes(), format).is_err());
    }
    let unknown = |levels: usize| format!(r#"{{"neverHeardOf":{}"]["{}}}"#, "[".repeat(levels), "]".repeat(levels));
    assert!(schema.decode(unknown(9_999).as_bytes(), Format::Json).is_ok());
    let refused = schema.decode(unknown(10_000).as_bytes(), Format::Json);
    assert_eq!(refused, Err(DecodeError::Syntax("exceeded max depth".into())));
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n\
                d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n";
    assert!(schema.decode(bomb.as_bytes(), Format::Yaml).is_err());
    assert_eq!(schema.decode(&vec![b' '; MAX_BODY_BYTES + 1], Format::Json), Err(DecodeError::TooLarge));
}

#[test]
fn a_parsed_value_follows_the_same_rules() {
    let schema = Schema::builtin("io.k8s.api.core.v1.ConfigMap").unwrap();
    let decoded = schema.check(serde_json::json!({"data": {"a": "b"}, "dat": 1, "metadata": null})).unwrap();
    assert_eq!(decoded.value.to_string(), r#"{"data":{"a":"b"}}"#);
    assert_eq!(decoded.issues, [r#"unknown field "dat""#]);
    assert!(schema.check(serde_json::json!({"data": {"a": 1}})).is_err());
}

proptest::proptest! {
    #[test]
    fn no_input_panics(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200), text in ".{0,200}") {
        let schema = Schema::builtin("io.k8s.api.core.v1.Pod").unwrap();
        for format in [Format::Json, Format::Yaml] {
            let _ = schema.decode(&bytes, format);
            let _ = schema.decode(text.as_bytes(), format);
        }
    }
}
