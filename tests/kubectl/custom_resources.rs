//! Custom kinds, as a user of kubectl meets them.

use crate::{Sandbox, sandbox};

/// A group and a category of its own for each test, so that tests do not meet.
fn definition(group: &str) -> String {
    let category = group.split('.').next().unwrap();
    format!(
        r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {{name: crontabs.{group}}}
spec:
  group: {group}
  scope: Namespaced
  names: {{plural: crontabs, singular: crontab, kind: CronTab, shortNames: [ct], categories: [{category}]}}
  versions:
  - name: v1
    served: true
    storage: true
    subresources:
      status: {{}}
      scale: {{specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas}}
    additionalPrinterColumns:
    - {{name: Spec, type: string, jsonPath: .spec.cronSpec}}
    - {{name: Replicas, type: integer, jsonPath: .spec.replicas}}
    - {{name: Age, type: date, jsonPath: .metadata.creationTimestamp}}
    schema:
      openAPIV3Schema:
        type: object
        description: CronTab runs something again and again.
        required: [spec]
        properties:
          spec:
            type: object
            description: What is run, and when.
            required: [cronSpec]
            properties:
              cronSpec: {{type: string, description: The times., pattern: '^(\S+ ){{4}}\S+$'}}
              replicas: {{type: integer, minimum: 1, default: 1}}
          status:
            type: object
            properties: {{replicas: {{type: integer}}}}
"#
    )
}

fn crontab(group: &str) -> String {
    format!("apiVersion: {group}/v1\nkind: CronTab\nmetadata: {{name: mine}}\nspec: {{cronSpec: '* * * * */5'}}\n")
}

fn defined(group: &str) -> Sandbox {
    let t = sandbox();
    t.kubectl.apply(&definition(group));
    t.kubectl.ok(&["wait", "--for=condition=Established", &format!("crd/crontabs.{group}"), "--timeout=30s"]);
    t
}

#[test]
fn a_custom_kind_is_used_like_any_other() {
    let t = defined("one.example.com");
    let manifest = crontab("one.example.com");
    assert_eq!(t.kubectl.apply(&manifest), "crontab.one.example.com/mine created\n");
    assert_eq!(t.kubectl.apply(&manifest), "crontab.one.example.com/mine unchanged\n");
    let table = t.kubectl.ok(&["get", "crontabs.one.example.com"]);
    let mut lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    assert_eq!(lines.next().as_deref(), Some("NAME SPEC REPLICAS AGE"));
    assert!(lines.next().is_some_and(|line| line.starts_with("mine * * * * */5 1 ")), "{table}");
    t.kubectl.ok(&["scale", "crontabs.one.example.com/mine", "--replicas=3"]);
    let replicas = ["get", "crontab.v1.one.example.com", "mine", "-o", "jsonpath={.spec.replicas}"];
    assert_eq!(t.kubectl.ok(&replicas), "3");
    t.kubectl.ok(&["patch", "crontabs.one.example.com/mine", "--type=merge", "-p", r#"{"spec":{"replicas":4}}"#]);
    assert_eq!(t.kubectl.ok(&replicas), "4");
    t.kubectl.ok(&["label", "crontabs.one.example.com/mine", "a=b"]);
    t.kubectl.ok_with_input(&["apply", "--server-side", "--force-conflicts", "-f", "-"], &manifest);
    assert_eq!(t.kubectl.ok(&["get", "one", "-o", "name"]), "crontab.one.example.com/mine\n");
    t.kubectl.ok(&["delete", "crontabs.one.example.com/mine", "--timeout=30s"]);
    t.kubectl.ok(&["delete", "crd", "crontabs.one.example.com", "--timeout=30s"]);
    let gone = t.kubectl.fails(&["get", "crontabs.one.example.com"]);
    assert!(gone.contains("the server doesn't have a resource type"), "{gone}");
}

#[test]
fn kubectl_validates_and_explains() {
    let t = defined("two.example.com");
    let bad = crontab("two.example.com").replace("cronSpec: '* * * * */5'", "cronSpec: '* * * * */5', extra: 1");
    let refused = t.kubectl.fails_with_input(&["apply", "-f", "-"], &bad);
    assert!(refused.contains(r#"strict decoding error: unknown field "spec.extra""#), "{refused}");
    let lacking = crontab("two.example.com").replace("cronSpec: '* * * * */5'", "replicas: 1");
    let refused = t.kubectl.fails_with_input(&["apply", "-f", "-"], &lacking);
    assert!(refused.contains("spec.cronSpec: Required value"), "{refused}");
    let wrong = crontab("two.example.com").replace("* * * * */5", "never");
    let refused = t.kubectl.fails_with_input(&["create", "-f", "-"], &wrong);
    assert!(refused.contains("spec.cronSpec in body should match"), "{refused}");
    let explained = t.kubectl.ok(&["explain", "crontabs.two.example.com.spec"]);
    assert!(explained.contains("What is run, and when.") && explained.contains("cronSpec"), "{explained}");
    t.kubectl.ok(&["delete", "crd", "crontabs.two.example.com", "--timeout=30s"]);
}

#[test]
fn a_namespace_takes_its_custom_objects_along() {
    let t = defined("three.example.com");
    t.kubectl.apply(&crontab("three.example.com"));
    t.kubectl.ok(&["delete", "namespace", &t.namespace, "--timeout=60s"]);
    let left = t.kubectl.ok(&["get", "crontabs.three.example.com", "--all-namespaces", "-o", "name"]);
    assert_eq!(left, "");
    t.kubectl.ok(&["delete", "crd", "crontabs.three.example.com", "--timeout=30s"]);
}

#[test]
fn every_group_and_version_has_an_api_service() {
    let t = sandbox();
    let services = t.kubectl.ok(&["get", "apiservices"]);
    let row = services.lines().find(|line| line.starts_with("v1.apps ")).unwrap_or_default();
    assert_eq!(row.split_whitespace().take(3).collect::<Vec<_>>(), ["v1.apps", "Local", "True"]);
    t.kubectl.ok(&["wait", "--for=condition=Available", "apiservice/v1.batch", "--timeout=30s"]);
}
