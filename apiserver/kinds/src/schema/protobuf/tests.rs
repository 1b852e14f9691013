use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::registry;
use crate::schema::Format;

/// Writes messages by hand.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(mut self, number: u8, value: u8) -> Message {
        self.0.extend([number << 3, value]);
        self
    }

    fn bytes(mut self, number: u8, bytes: impl AsRef<[u8]>) -> Message {
        let bytes = bytes.as_ref();
        self.0.extend([number << 3 | 2, u8::try_from(bytes.len()).unwrap()]);
        self.0.extend(bytes);
        self
    }

    fn message(self, number: u8, message: Message) -> Message {
        self.bytes(number, message.0)
    }

    fn body(self, api_version: &str, kind: &str) -> Vec<u8> {
        let type_meta = message().bytes(1, api_version).bytes(2, kind);
        let envelope = message().message(1, type_meta).message(2, self);
        [MAGIC, &envelope.0].concat()
    }
}

fn message() -> Message {
    Message::default()
}

fn decoded(type_name: &str, body: &[u8]) -> Value {
    Schema::builtin(type_name).unwrap().decode(body, Format::Protobuf).unwrap().value
}

/// Go writes every field that is no pointer: empty strings, zero numbers, empty messages.
#[test]
fn zeros_are_absent_unless_they_are_meant() {
    let metadata = message().bytes(1, "web").bytes(2, "").bytes(3, "default").varint(7, 0).bytes(8, "");
    let selector = message().message(1, message().bytes(1, "app").bytes(2, "web"));
    let spec = message().varint(1, 0).message(2, selector).varint(5, 0).varint(7, 0);
    let body = message().message(1, metadata).message(2, spec).message(3, message().varint(1, 0));
    assert_eq!(
        decoded("io.k8s.api.apps.v1.Deployment", &body.body("apps/v1", "Deployment")),
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "default"},
            "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "web"}}}, "status": {}})
    );
}

#[test]
fn special_types_look_as_in_json() {
    let quantity = message().bytes(1, "100m");
    let requests = message().message(2, message().bytes(1, "cpu").message(2, quantity));
    let port = message().varint(1, 1).varint(2, 0).bytes(3, "http");
    let http_get = message().bytes(1, "/").message(2, port);
    let probe = message().message(1, message().message(2, http_get)).varint(2, 5);
    let container = message().bytes(1, "c").message(8, requests).message(10, probe);
    let volume = message().bytes(1, "v").message(2, message().message(2, message().bytes(1, "")));
    let spec = message().message(1, volume).message(2, container);
    let metadata = message().bytes(1, "p").message(8, message().varint(1, 60).varint(2, 0));
    let body = message().message(1, metadata).message(2, spec);
    assert_eq!(
        decoded("io.k8s.api.core.v1.Pod", &body.body("v1", "Pod")),
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "creationTimestamp": "1970-01-01T00:01:00Z"},
        "spec": {
            "volumes": [{"name": "v", "emptyDir": {}}],
            "containers": [{"name": "c", "resources": {"requests": {"cpu": "100m"}},
                "livenessProbe": {"httpGet": {"path": "/", "port": "http"}, "initialDelaySeconds": 5}}],
        }})
    );
}

#[test]
fn bytes_and_lists_in_maps() {
    let secret = message().message(2, message().bytes(1, "key").bytes(2, [0, 255]));
    let secret = decoded("io.k8s.api.core.v1.Secret", &secret.body("v1", "Secret"));
    assert_eq!(secret["data"], json!({"key": "AP8="}));
    let extra = message().bytes(1, "scopes").message(2, message().bytes(1, "a").bytes(1, "b"));
    let review = message().message(2, message().bytes(3, "jane").message(5, extra));
    let review = decoded(
        "io.k8s.api.authorization.v1.SubjectAccessReview",
        &review.body("authorization.k8s.io/v1", "SubjectAccessReview"),
    );
    assert_eq!(review["spec"], json!({"user": "jane", "extra": {"scopes": ["a", "b"]}}));
}

#[test]
fn what_is_no_message_is_refused() {
    let schema = Schema::builtin("io.k8s.api.core.v1.ConfigMap").unwrap();
    let refused = |body: &[u8]| schema.decode(body, Format::Protobuf).unwrap_err().to_string();
    assert_eq!(refused(b"{}"), "the body does not begin like Kubernetes' protobuf encoding");
    assert_eq!(refused(b"k8s\0\x0a\x05x"), "proto: unexpected end of the body");
    assert_eq!(refused(b"k8s\0\x0f"), "proto: illegal field or wire type");
    let wrong = message().varint(2, 1).body("v1", "ConfigMap");
    assert_eq!(refused(&wrong), "proto: wrong wire type for field data");
}

/// A field without a number could not be sent; a number without a field would be lost.
#[test]
fn every_field_of_every_kind_has_its_number() {
    fn names(tags: &Tags) -> Vec<String> {
        let fields = tags.iter().flat_map(|(_, tag)| match tag {
            tags::Tag::Field { name, .. } => vec![name.to_string()],
            tags::Tag::Inline(part) => names(Tags::of(part)),
        });
        fields.collect()
    }
    fn check(shape: &super::super::shape::Shape, seen: &mut Vec<String>, missing: &mut Vec<String>) {
        use super::super::shape::Shape;
        match shape.resolve() {
            Shape::List(list) => check(&list.item.shape, seen, missing),
            Shape::Map(map) => check(&map.value.shape, seen, missing),
            Shape::Object(object) if !seen.contains(&object.name.to_string()) => {
                seen.push(object.name.to_string());
                let numbered = names(Tags::of(&object.name));
                for field in &object.fields {
                    if !numbered.contains(&field.name.to_string()) && !matches!(&*field.name, "apiVersion" | "kind") {
                        missing.push(format!("{}.{}", object.name, field.name));
                    }
                    check(&field.node.shape, seen, missing);
                }
            }
            _ => {}
        }
    }
    let (mut seen, mut missing) = (Vec::new(), Vec::new());
    for kind in registry::all() {
        check(&kind.schema().0.node.shape, &mut seen, &mut missing);
    }
    assert_eq!(missing, Vec::<String>::new());
}

/// A schema's fields may hold something else than a schema, which has a place of its own in the message.
#[test]
fn definitions_of_custom_kinds_come_back_as_they_were() {
    let schema = json!({
        "type": "object", "default": {"a": [1, null]}, "enum": ["x", 1], "maximum": 1.5, "minLength": 0, "$ref": "r",
        "x-kubernetes-preserve-unknown-fields": true,
        "additionalProperties": {"type": "string"}, "additionalItems": false,
        "items": [{"type": "string"}, {"items": {"additionalProperties": true}}],
        "dependencies": {"a": ["b", "c"], "d": {"type": "integer"}},
        "properties": {"p": {"not": {"pattern": "."}}},
    });
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "a"},
        "spec": {"group": "g", "versions": [{"name": "v1", "schema": {"openAPIV3Schema": schema}}]},
    });
    let type_name = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition";
    let message = Schema::builtin(type_name).unwrap().to_protobuf(&definition).unwrap();
    let body = envelope("apiextensions.k8s.io/v1", "CustomResourceDefinition", &message);
    assert_eq!(decoded(type_name, &body), definition);
}

proptest! {
    #[test]
    fn no_body_panics(body: Vec<u8>) {
        let schema = Schema::builtin("io.k8s.api.core.v1.Pod").unwrap();
        let _ = schema.decode(&[MAGIC, &body].concat(), Format::Protobuf);
        let raw = message().bytes(2, &body[..body.len().min(120)]);
        let _ = schema.decode(&[MAGIC, &raw.0].concat(), Format::Protobuf);
    }
}
