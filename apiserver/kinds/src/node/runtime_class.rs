//! RuntimeClass: which handler of a node runs a pod.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::core::pod::resources;
use crate::field::{Field, FieldError};
use crate::kind::{Column, KindDef, Strategy};
use crate::object;
use crate::{names, rules};

pub fn definition() -> KindDef {
    KindDef::builtin("node.k8s.io", "v1", "RuntimeClass", "runtimeclasses", "io.k8s.api.node.v1.RuntimeClass")
        .cluster_scoped()
        .columns(vec![
            Column::name(),
            Column::at("Handler", "string", "handler").describe("The runtime and configuration that nodes use."),
            Column::age(),
        ])
        .strategy(RuntimeClass)
}

/// Labels of nodes that once began with `beta.`.
const DEPRECATED: [&str; 2] = ["kubernetes.io/arch", "kubernetes.io/os"];

struct RuntimeClass;

impl Strategy for RuntimeClass {
    fn default(&self, class: &mut Value) {
        if let Some(Value::Object(overhead)) = object::get_mut(class, &["overhead", "podFixed"]) {
            resources::canonicalize_list(overhead);
        }
    }

    fn validate(&self, class: &Value) -> Vec<FieldError> {
        let root = Field::root(class);
        let mut errors = Vec::new();
        rules::form(&root.get("handler"), names::dns_label, &mut errors);
        // Errors name what the overhead becomes of a pod.
        let (overhead, amounts) = (root.get("overhead"), root.get("overhead").get("podFixed").value());
        for (name, amount) in Field::new(amounts, overhead.path.child("limits")).entries() {
            resources::container_resource_name(name, &amount, &mut errors);
            resources::quantity(name, &amount, &mut errors);
        }
        let scheduling = root.get("scheduling");
        crate::metadata::labels(&scheduling.get("nodeSelector"), &mut errors);
        let tolerations = scheduling.get("tolerations");
        crate::core::pod::tolerations(&tolerations, &mut errors);
        let mut seen = BTreeSet::new();
        for toleration in tolerations.items() {
            if !seen.insert(["key", "operator", "value", "effect"].map(|name| toleration.get(name).text())) {
                errors.push(toleration.duplicate());
            }
        }
        errors
    }

    fn warnings(&self, class: &Value) -> Vec<String> {
        let labels = object::map(class, &["scheduling", "nodeSelector"]).into_iter().flat_map(|labels| labels.keys());
        let deprecated =
            labels.filter_map(|label| label.strip_prefix("beta.").filter(|kept| DEPRECATED.contains(kept)));
        deprecated
            .map(|label| format!("scheduling.nodeSelector: deprecated since v1.14; use {label:?} instead"))
            .collect()
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.validate(new);
        rules::immutable(&Field::root(new).get("handler"), &Field::root(old).get("handler"), &mut errors);
        errors
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::{check, check_update, yaml};

    #[test]
    fn handlers() {
        check(
            "runtimeclasses",
            "{metadata: {name: a}, handler: A}",
            expect![[r#"
                handler: Invalid value: "A": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
            "#]],
        );
        check(
            "runtimeclasses",
            "{metadata: {name: a}, handler: a, overhead: {podFixed: {gpu: 1, cpu: -1}}, scheduling: {tolerations: [{key: k, operator: Exists}, {key: k, operator: Exists}]}}",
            expect![[r#"
                overhead.limits[cpu]: Invalid value: "-1": must be greater than or equal to 0
                overhead.limits[gpu]: Invalid value: "gpu": must be a standard resource type or fully qualified
                overhead.limits[gpu]: Invalid value: "gpu": must be a standard resource for containers
                scheduling.tolerations[1]: Duplicate value: {"key":"k","operator":"Exists"}
            "#]],
        );
        assert_eq!(
            RuntimeClass.warnings(&yaml("{scheduling: {nodeSelector: {beta.kubernetes.io/os: linux, beta.x: y}}}")),
            ["scheduling.nodeSelector: deprecated since v1.14; use \"kubernetes.io/os\" instead"]
        );
        check_update(
            "runtimeclasses",
            "{metadata: {name: a}, handler: a}",
            "{metadata: {name: a}, handler: b}",
            expect![[r#"
                handler: Invalid value: "b": field is immutable
            "#]],
        );
    }
}
