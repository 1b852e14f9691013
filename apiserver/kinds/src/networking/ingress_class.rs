//! IngressClass: which controller serves an Ingress.

use serde_json::Value;

use crate::field::{Field, FieldError};
use crate::kind::{Column, KindDef, Shape, Strategy};
use crate::object::{self, get, text};
use crate::{names, rules};

const CONTROLLER_MAX_BYTES: usize = 250;

pub fn definition() -> KindDef {
    let schema = "io.k8s.api.networking.v1.IngressClass";
    KindDef::builtin("networking.k8s.io", "v1", "IngressClass", "ingressclasses", schema)
        .cluster_scoped()
        .columns(vec![
            Column::name(),
            Column::at("Controller", "string", "spec.controller")
                .describe("Controller that is responsible for handling this class"),
            Column::text("Parameters", |class, _| parameters(class).into())
                .describe("A reference to a resource with additional parameters"),
            Column::age(),
        ])
        .strategy(IngressClass)
}

fn parameters(class: &Value) -> String {
    let Some(parameters) = get(class, &["spec", "parameters"]) else { return "<none>".to_owned() };
    let (kind, name) = (text(parameters, &["kind"]), text(parameters, &["name"]));
    match text(parameters, &["apiGroup"]) {
        "" => format!("{kind}/{name}"),
        group => format!("{kind}.{group}/{name}"),
    }
}

struct IngressClass;

impl Strategy for IngressClass {
    fn shape(&self) -> Shape {
        Shape::SPEC
    }

    fn default(&self, class: &mut Value) {
        if let Some(Value::Object(parameters)) = object::get_mut(class, &["spec", "parameters"]) {
            object::set_default(parameters, "scope", "Cluster");
        }
    }

    fn validate(&self, class: &Value) -> Vec<FieldError> {
        let root = Field::root(class);
        let spec = root.get("spec");
        let mut errors = Vec::new();
        let controller = spec.get("controller");
        if rules::required(&controller, &mut errors) {
            if controller.text().len() > CONTROLLER_MAX_BYTES {
                errors.push(FieldError::too_long(&controller.path, CONTROLLER_MAX_BYTES));
            }
            rules::domain_path(&controller, &mut errors);
        }
        let parameters = spec.get("parameters");
        if parameters.is_set() {
            validate_parameters(&parameters, &mut errors);
        }
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let (new_root, old_root) = (Field::root(new), Field::root(old));
        let mut errors = self.validate(new);
        let (new, old) = (new_root.get("spec"), old_root.get("spec"));
        rules::immutable(&new.get("controller"), &old.get("controller"), &mut errors);
        errors
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }
}

fn validate_parameters(parameters: &Field, errors: &mut Vec<FieldError>) {
    rules::maybe_form(&parameters.get("apiGroup"), names::dns_subdomain, errors);
    for name in ["kind", "name"] {
        let field = parameters.get(name);
        if rules::required(&field, errors) {
            rules::form(&field, names::path_segment, errors);
        }
    }
    let (scope, namespace) = (parameters.get("scope"), parameters.get("namespace"));
    match scope.text() {
        "Namespace" if namespace.is_empty() => {
            errors.push(namespace.required("`parameters.scope` is set to 'Namespace'"));
        }
        "Namespace" => rules::form(&namespace, names::dns_label, errors),
        "Cluster" if namespace.is_set() => {
            errors.push(namespace.forbidden("`parameters.scope` is set to 'Cluster'"));
        }
        "Cluster" => {}
        _ => errors.push(scope.not_supported(&["Cluster", "Namespace"])),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::testing::{check, check_row, check_update};

    #[test]
    fn controllers() {
        check(
            "ingressclasses",
            "{metadata: {name: a}, spec: {controller: x, parameters: {kind: k, name: n, namespace: o}}}",
            expect![[r#"
                spec.controller: Invalid value: "x": must be a domain-prefixed path (such as "acme.io/foo")
                spec.parameters.namespace: Forbidden: `parameters.scope` is set to 'Cluster'
            "#]],
        );
        check_update(
            "ingressclasses",
            "{metadata: {name: a}, spec: {controller: x.y/z}}",
            "{metadata: {name: a}, spec: {controller: x.y/a}}",
            expect![[r#"
                spec.controller: Invalid value: "x.y/a": field is immutable
            "#]],
        );
        check_row(
            "ingressclasses",
            "{metadata: {name: a}, spec: {controller: x.y/z, parameters: {apiGroup: g, kind: K, name: n}}}",
            expect!["Name=a | Controller=x.y/z | Parameters=K.g/ | Age=<unknown>"],
        );
    }
}
