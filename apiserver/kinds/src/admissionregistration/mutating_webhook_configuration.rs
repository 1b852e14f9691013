//! MutatingWebhookConfiguration: who may change what is written.

use serde_json::Value;

use super::webhook;
use crate::field::FieldError;
use crate::kind::{KindDef, Shape, Strategy};

pub fn definition() -> KindDef {
    let schema = "io.k8s.api.admissionregistration.v1.MutatingWebhookConfiguration";
    webhook::row("MutatingWebhookConfiguration", "mutatingwebhookconfigurations", schema)
        .strategy(MutatingWebhookConfiguration)
}

struct MutatingWebhookConfiguration;

impl Strategy for MutatingWebhookConfiguration {
    fn shape(&self) -> Shape {
        Shape::SPEC
    }

    fn default(&self, configuration: &mut Value) {
        webhook::default(configuration, true);
    }

    fn validate(&self, configuration: &Value) -> Vec<FieldError> {
        webhook::validate(configuration)
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::testing::{check, check_default, check_row};

    #[test]
    fn rules() {
        check(
            "mutatingwebhookconfigurations",
            r#"
            metadata: {name: a}
            webhooks:
            - name: short.name
              admissionReviewVersions: [v2]
              sideEffects: Some
              timeoutSeconds: 31
              clientConfig: {url: "http://x"}
              rules: [{apiGroups: ["*", apps], apiVersions: [v1], resources: ["*/*", pods], operations: [LIST]}]
            - name: a.b.c
              admissionReviewVersions: [v1]
              clientConfig: {service: {namespace: n, path: x, port: 0}}
            "#,
            expect![[r#"
                webhooks[0].name: Invalid value: "short.name": should be a domain with at least three segments separated by dots
                webhooks[0].rules[0].operations[0]: Unsupported value: "LIST": supported values: "*", "CONNECT", "CREATE", "DELETE", "UPDATE"
                webhooks[0].rules[0].apiGroups: Invalid value: ["*","apps"]: if '*' is present, must not specify other API groups
                webhooks[0].rules[0].resources: Invalid value: ["*/*","pods"]: if '*/*' is present, must not specify other resources
                webhooks[0].sideEffects: Unsupported value: "Some": supported values: "None", "NoneOnDryRun"
                webhooks[0].timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds
                webhooks[0].clientConfig.url: Invalid value: "http": 'https' is the only allowed URL scheme; desired format: https://host[/path]
                webhooks[0].admissionReviewVersions: Invalid value: ["v2"]: must include at least one of v1, v1beta1
                webhooks[1].sideEffects: Required value: must specify one of None, NoneOnDryRun
                webhooks[1].clientConfig.service.namespace: Required value
                webhooks[1].clientConfig.service.port: Invalid value: 0: port is not valid: must be between 1 and 65535, inclusive
                webhooks[1].clientConfig.service.path: Invalid value: "x": must start with a '/'
                webhooks[1].clientConfig.service.path: Invalid value: "x": segment[0] may not be empty
            "#]],
        );
    }

    #[test]
    fn defaults() {
        check_default(
            "mutatingwebhookconfigurations",
            "{metadata: {name: a}, webhooks: [{name: a.b.c, clientConfig: {service: {name: a, namespace: b}}, rules: [{}]}]}",
            expect![[r#"
                metadata:
                  name: a
                webhooks:
                - clientConfig:
                    service:
                      name: a
                      namespace: b
                      port: 443
                  failurePolicy: Fail
                  matchPolicy: Equivalent
                  name: a.b.c
                  namespaceSelector: {}
                  objectSelector: {}
                  reinvocationPolicy: Never
                  rules:
                  - scope: "*"
                  timeoutSeconds: 10
            "#]],
        );
        check_row(
            "mutatingwebhookconfigurations",
            "{metadata: {name: a}, webhooks: [{}, {}]}",
            expect!["Name=a | Webhooks=2 | Age=<unknown>"],
        );
    }

    #[test]
    fn resources() {
        let with = |resources: &str| {
            format!("{{metadata: {{name: a}}, webhooks: [{{name: a.b.c, admissionReviewVersions: [v1, v1], sideEffects: None, clientConfig: {{url: 'https://a'}},
              rules: [{{apiGroups: [a], apiVersions: ['', '*'], resources: {resources}, operations: ['*', CREATE]}}]}}]}}")
        };
        for (resources, expected) in [
            (
                "['pods/*', 'pods/log', '*/scale', 'a/scale', '']",
                expect![[r#"
                webhooks[0].rules[0].operations: Invalid value: ["*","CREATE"]: if '*' is present, must not specify other operations
                webhooks[0].rules[0].apiVersions: Invalid value: ["","*"]: if '*' is present, must not specify other API versions
                webhooks[0].rules[0].apiVersions[0]: Required value
                webhooks[0].rules[0].resources[1]: Invalid value: "pods/log": if 'pods/*' is present, must not specify pods/log
                webhooks[0].rules[0].resources[3]: Invalid value: "a/scale": if '*/scale' is present, must not specify a/scale
                webhooks[0].rules[0].resources[4]: Required value
                webhooks[0].admissionReviewVersions[1]: Invalid value: "v1": duplicate version
            "#]],
            ),
            (
                "['*', pods]",
                expect![[r#"
                webhooks[0].rules[0].operations: Invalid value: ["*","CREATE"]: if '*' is present, must not specify other operations
                webhooks[0].rules[0].apiVersions: Invalid value: ["","*"]: if '*' is present, must not specify other API versions
                webhooks[0].rules[0].apiVersions[0]: Required value
                webhooks[0].rules[0].resources: Invalid value: ["*","pods"]: if '*' is present, must not specify other resources without subresources
                webhooks[0].admissionReviewVersions[1]: Invalid value: "v1": duplicate version
            "#]],
            ),
            (
                "[]",
                expect![[r#"
                webhooks[0].rules[0].operations: Invalid value: ["*","CREATE"]: if '*' is present, must not specify other operations
                webhooks[0].rules[0].apiVersions: Invalid value: ["","*"]: if '*' is present, must not specify other API versions
                webhooks[0].rules[0].apiVersions[0]: Required value
                webhooks[0].rules[0].resources: Required value
                webhooks[0].admissionReviewVersions[1]: Invalid value: "v1": duplicate version
            "#]],
            ),
        ] {
            check("mutatingwebhookconfigurations", &with(resources), expected);
        }
    }
}
