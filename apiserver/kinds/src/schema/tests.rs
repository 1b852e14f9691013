//! The proof of the seam: built-in and custom kinds go through the same code, from bytes to an applied object.

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::apply::{self, Manager, Operation};
use super::*;

struct Case {
    schema: Schema,
    api_version: &'static str,
    /// As a client sends it, with an unknown and a duplicate field.
    body: &'static str,
    /// A patch by merge key.
    patch: Value,
    /// What another manager applies to the result.
    config: Value,
}

impl Case {
    fn run(&self, expected: Expect) {
        let manager = |name: &str, operation| Manager {
            name: name.into(),
            operation,
            api_version: self.api_version.into(),
            subresource: String::new(),
            time: "2024-01-01T00:00:00Z".into(),
        };
        let decoded = self.schema.decode(self.body.as_bytes(), Format::Yaml).unwrap();
        let mut created = decoded.value;
        self.schema.default(&mut created);
        apply::track_update(&self.schema, None, &mut created, &manager("creator", Operation::Update), &[]);

        let patched = self.schema.strategic_merge(&created, &self.patch).unwrap();
        let mut patched = self.schema.check(patched).unwrap().value;
        self.schema.default(&mut patched);
        apply::track_update(&self.schema, Some(&created), &mut patched, &manager("patcher", Operation::Update), &[]);

        let applier = manager("applier", Operation::Apply);
        let conflict = apply::apply(&self.schema, Some(&patched), &self.config, &applier, false).unwrap_err();
        let applied = apply::apply(&self.schema, Some(&patched), &self.config, &applier, true).unwrap();
        assert_eq!(self.schema.check(applied.clone()).unwrap().issues, Vec::<String>::new());

        let text = [decoded.issues.join("\n"), conflict.to_string(), format!("{applied:#}")];
        expected.assert_eq(&text.join("\n"));
    }
}

#[test]
fn a_pod() {
    Case {
        schema: Schema::builtin("io.k8s.api.core.v1.Pod").unwrap(),
        api_version: "v1",
        body: "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {imagePullSecret: x, containers: \
               [{name: a, image: x, image: v, ports: [{containerPort: 80}]}, {name: b, image: z}]}}",
        patch: json!({"spec": {"containers": [{"name": "b", "image": "zz"}]}}),
        config: json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"},
                       "spec": {"containers": [{"name": "b", "image": "zzz", "env": [{"name": "E"}]}]}}),
    }
    .run(expect![[r#"
        unknown field "spec.imagePullSecret"
        duplicate field "spec.containers[0].image"
        Apply failed with 1 conflict: conflict with "patcher" using v1: .spec.containers[name="b"].image
        {
          "apiVersion": "v1",
          "kind": "Pod",
          "metadata": {
            "managedFields": [
              {
                "apiVersion": "v1",
                "fieldsType": "FieldsV1",
                "fieldsV1": {
                  "f:spec": {
                    "f:containers": {
                      "k:{\"name\":\"b\"}": {
                        ".": {},
                        "f:env": {
                          "k:{\"name\":\"E\"}": {
                            ".": {},
                            "f:name": {}
                          }
                        },
                        "f:image": {},
                        "f:name": {}
                      }
                    }
                  }
                },
                "manager": "applier",
                "operation": "Apply",
                "time": "2024-01-01T00:00:00Z"
              },
              {
                "apiVersion": "v1",
                "fieldsType": "FieldsV1",
                "fieldsV1": {
                  "f:spec": {
                    "f:containers": {
                      "k:{\"name\":\"a\"}": {
                        ".": {},
                        "f:image": {},
                        "f:name": {},
                        "f:ports": {
                          ".": {},
                          "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {
                            ".": {},
                            "f:containerPort": {},
                            "f:protocol": {}
                          }
                        },
                        "f:resources": {}
                      },
                      "k:{\"name\":\"b\"}": {
                        ".": {},
                        "f:name": {},
                        "f:resources": {}
                      }
                    }
                  }
                },
                "manager": "creator",
                "operation": "Update",
                "time": "2024-01-01T00:00:00Z"
              }
            ],
            "name": "a"
          },
          "spec": {
            "containers": [
              {
                "image": "v",
                "name": "a",
                "ports": [
                  {
                    "containerPort": 80,
                    "protocol": "TCP"
                  }
                ],
                "resources": {}
              },
              {
                "env": [
                  {
                    "name": "E"
                  }
                ],
                "image": "zzz",
                "name": "b",
                "resources": {}
              }
            ]
          },
          "status": {}
        }"#]]);
}

#[test]
fn a_deployment() {
    Case {
        schema: Schema::builtin("io.k8s.api.apps.v1.Deployment").unwrap(),
        api_version: "apps/v1",
        body: "{apiVersion: apps/v1, kind: Deployment, metadata: {name: a, labels: {a: b, a: c}}, spec: {replica: 1, replicas: 1, \
               selector: {matchLabels: {app: a}}, template: {metadata: {labels: {app: a}}, spec: {containers: [{name: a, image: x}]}}}}",
        patch: json!({"spec": {"replicas": 2, "template": {"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}}}}),
        config: json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}, "spec": {"replicas": 3}}),
    }
    .run(expect![[r#"
        duplicate field "metadata.labels.a"
        unknown field "spec.replica"
        Apply failed with 1 conflict: conflict with "patcher" using apps/v1: .spec.replicas
        {
          "apiVersion": "apps/v1",
          "kind": "Deployment",
          "metadata": {
            "labels": {
              "a": "c"
            },
            "managedFields": [
              {
                "apiVersion": "apps/v1",
                "fieldsType": "FieldsV1",
                "fieldsV1": {
                  "f:spec": {
                    "f:replicas": {}
                  }
                },
                "manager": "applier",
                "operation": "Apply",
                "time": "2024-01-01T00:00:00Z"
              },
              {
                "apiVersion": "apps/v1",
                "fieldsType": "FieldsV1",
                "fieldsV1": {
                  "f:metadata": {
                    "f:labels": {
                      ".": {},
                      "f:a": {}
                    }
                  },
                  "f:spec": {
                    "f:selector": {},
                    "f:template": {
                      "f:metadata": {
                        "f:labels": {
                          ".": {},
                          "f:app": {}
                        }
                      },
                      "f:spec": {
                        "f:containers": {
                          "k:{\"name\":\"a\"}": {
                            ".": {},
                            "f:image": {},
                            "f:name": {},
                            "f:resources": {}
                          }
                        }
                      }
                    }
                  }
                },
                "manager": "creator",
                "operation": "Update",
                "time": "2024-01-01T00:00:00Z"
              },
              {
                "apiVersion": "apps/v1",
                "fieldsType": "FieldsV1",
                "fieldsV1": {
                  "f:spec": {
                    "f:template": {
                      "f:spec": {
                        "f:volumes": {
                          ".": {},
                          "k:{\"name\":\"v\"}": {
                            ".": {},
                            "f:emptyDir": {},
                            "f:name": {}
                          }
                        }
                      }
                    }
                  }
                },
                "manager": "patcher",
                "operation": "Update",
                "time": "2024-01-01T00:00:00Z"
              }
            ],
            "name": "a"
          },
          "spec": {
            "replicas": 3,
            "selector": {
              "matchLabels": {
                "app": "a"
              }
            },
            "strategy": {},
            "template": {
              "metadata": {
                "labels": {
                  "app": "a"
                }
              },
              "spec": {
                "containers": [
                  {
                    "image": "x",
                    "name": "a",
                    "resources": {}
                  }
                ],
                "volumes": [
                  {
                    "emptyDir": {},
                    "name": "v"
                  }
                ]
              }
            }
          },
          "status": {}
        }"#]]);
}

#[test]
fn a_custom_kind() {
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "size": {"type": "integer", "minimum": 0},
        "color": {"type": "string", "default": "red"},
        "parts": {
            "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
            "items": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}, "weight": {"type": "integer", "default": 1}}},
        },
    }}}});
    Case {
        schema: Schema::from_crd(&schema).unwrap(),
        api_version: "example.com/v1",
        body: "{apiVersion: example.com/v1, kind: Widget, metadata: {name: a}, spec: {size: 1, size: 2, shape: round, parts: [{name: a}]}}",
        patch: json!({"spec": {"size": 3}}),
        config: json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "a"},
                       "spec": {"size": 4, "parts": [{"name": "b", "weight": 2}]}}),
    }
    .run(expect![[r#"
        duplicate field "spec.size"
        unknown field "spec.shape"
        Apply failed with 1 conflict: conflict with "patcher" using example.com/v1: .spec.size
        {
          "apiVersion": "example.com/v1",
          "kind": "Widget",
          "metadata": {
            "managedFields": [
              {
                "apiVersion": "example.com/v1",
                "fieldsType": "FieldsV1",
                "fieldsV1": {
                  "f:spec": {
                    "f:parts": {
                      "k:{\"name\":\"b\"}": {
                        ".": {},
                        "f:name": {},
                        "f:weight": {}
                      }
                    },
                    "f:size": {}
                  }
                },
                "manager": "applier",
                "operation": "Apply",
                "time": "2024-01-01T00:00:00Z"
              },
              {
                "apiVersion": "example.com/v1",
                "fieldsType": "FieldsV1",
                "fieldsV1": {
                  "f:spec": {
                    ".": {},
                    "f:color": {},
                    "f:parts": {
                      ".": {},
                      "k:{\"name\":\"a\"}": {
                        ".": {},
                        "f:name": {},
                        "f:weight": {}
                      }
                    }
                  }
                },
                "manager": "creator",
                "operation": "Update",
                "time": "2024-01-01T00:00:00Z"
              }
            ],
            "name": "a"
          },
          "spec": {
            "color": "red",
            "parts": [
              {
                "name": "a",
                "weight": 1
              },
              {
                "name": "b",
                "weight": 2
              }
            ],
            "size": 4
          }
        }"#]]);
}

#[test]
fn openapi_is_published_from_the_same_facts() {
    let components = openapi::components(&["io.k8s.api.core.v1.Pod", "io.k8s.api.apps.v1.DeploymentList", "unknown"]);
    for name in ["api.core.v1.Pod", "api.core.v1.Container", "api.apps.v1.Deployment", "api.apps.v1.DeploymentList"] {
        assert!(components.contains_key(&format!("io.k8s.{name}")), "{name}");
    }
    let mut ports = components["io.k8s.api.core.v1.Container"]["properties"]["ports"].clone();
    ports.as_object_mut().unwrap().remove("description");
    expect![[r##"{"items":{"$ref":"#/components/schemas/io.k8s.api.core.v1.ContainerPort"},"type":"array","x-kubernetes-list-map-keys":["containerPort","protocol"],"x-kubernetes-list-type":"map","x-kubernetes-patch-merge-key":"containerPort","x-kubernetes-patch-strategy":"merge"}"##]].assert_eq(&ports.to_string());
}

fn custom_kind(schema: &Value) -> openapi::CustomKind<'_> {
    openapi::CustomKind {
        group: "example.com",
        version: "v1",
        kind: "Widget",
        list_kind: "WidgetList",
        selectable_fields: vec!["spec.color"],
        schema,
    }
}

#[test]
fn openapi_of_a_custom_kind_says_what_its_keywords_mean() {
    let either = |more: Value| {
        let mut schema = json!({"x-kubernetes-int-or-string": true});
        schema.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        schema
    };
    let known = json!([{"type": "integer"}, {"type": "string"}]);
    let schema = json!({"type": "object", "properties": {
        "a": either(json!({})), "b": either(json!({"anyOf": known})), "c": either(json!({"allOf": [{"anyOf": known}]})),
        "d": either(json!({"anyOf": [{"minimum": 1}]}))}});
    let components = openapi::custom_components(openapi::Edition::V3, &custom_kind(&schema));
    let properties = &components["com.example.v1.Widget"]["properties"];
    let shown = ["a", "b", "c", "d"].map(|name| format!("{name} {}", properties[name])).join("\n");
    expect![[r#"
        a {"anyOf":[{"type":"integer"},{"type":"string"}],"x-kubernetes-int-or-string":true}
        b {"anyOf":[{"type":"integer"},{"type":"string"}],"x-kubernetes-int-or-string":true}
        c {"allOf":[{"anyOf":[{"type":"integer"},{"type":"string"}]}],"x-kubernetes-int-or-string":true}
        d {"allOf":[{"anyOf":[{"type":"integer"},{"type":"string"}]}],"anyOf":[{"minimum":1}],"x-kubernetes-int-or-string":true}"#]]
    .assert_eq(&shown);
    for name in ["Widget", "WidgetList"] {
        let fields = &components[&format!("com.example.v1.{name}")]["x-kubernetes-selectable-fields"];
        assert_eq!(fields, &json!([{"fieldPath": "spec.color"}]));
    }
    let nothing = Value::Null;
    let components = openapi::custom_components(openapi::Edition::V3, &custom_kind(&nothing));
    assert_eq!(components["com.example.v1.Widget"].get("properties"), None);
}

#[test]
fn openapi_of_a_custom_kind_is_complete() {
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "pod": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true},
    }}}});
    let published = custom_kind(&schema);
    let components = openapi::custom_components(openapi::Edition::V3, &published);
    let names: Vec<&String> = components.keys().collect();
    let fields =
        |schema: &Value| schema["properties"].as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    let widget = &components["com.example.v1.Widget"];
    let pod = &widget["properties"]["spec"]["properties"]["pod"];
    let text = format!(
        "{names:?}\n{}\n{}\n{}\n{}",
        fields(widget),
        fields(pod),
        widget["x-kubernetes-group-version-kind"],
        components["com.example.v1.WidgetList"]["properties"]["items"]["items"],
    );
    expect![[r##"
        ["com.example.v1.Widget", "com.example.v1.WidgetList", "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1", "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta", "io.k8s.apimachinery.pkg.apis.meta.v1.ManagedFieldsEntry", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta", "io.k8s.apimachinery.pkg.apis.meta.v1.OwnerReference", "io.k8s.apimachinery.pkg.apis.meta.v1.ShardInfo", "io.k8s.apimachinery.pkg.apis.meta.v1.Time"]
        apiVersion kind metadata spec
        apiVersion kind metadata
        [{"group":"example.com","kind":"Widget","version":"v1"}]
        {"$ref":"#/components/schemas/com.example.v1.Widget"}"##]].assert_eq(&text);
}
