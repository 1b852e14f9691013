//! RuntimeClass: which handler of a node runs a pod.

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
        for (name, amount) in root.get("overhead").get("podFixed").entries() {
            resources::quantity(name, &amount, &mut errors);
        }
        let scheduling = root.get("scheduling");
        crate::metadata::labels(&scheduling.get("nodeSelector"), &mut errors);
        crate::core::pod::tolerations(&scheduling.get("tolerations"), &mut errors);
        errors
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

    use crate::testing::{check, check_update};

    #[test]
    fn handlers() {
        check(
            "runtimeclasses",
            "{metadata: {name: a}, handler: A}",
            expect![[r#"
                handler: Invalid value: "A": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
            "#]],
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
