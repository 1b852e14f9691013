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
        if controller.text().len() > CONTROLLER_MAX_BYTES {
            errors.push(FieldError::too_long(&controller.path, CONTROLLER_MAX_BYTES));
        }
        rules::domain_path(&controller, &mut errors);
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
}

/// A reference to an object of any kind.
pub fn validate_reference(reference: &Field, errors: &mut Vec<FieldError>) {
    let group = reference.get("apiGroup");
    if group.is_set() {
        rules::form(&group, names::dns_subdomain, errors);
    }
    for name in ["kind", "name"] {
        let field = reference.get(name);
        if field.is_empty() {
            errors.push(field.required(format!("{name} is required")));
        } else {
            rules::form(&field, names::path_segment, errors);
        }
    }
}

fn validate_parameters(parameters: &Field, errors: &mut Vec<FieldError>) {
    validate_reference(parameters, errors);
    let (scope, namespace) = (parameters.get("scope"), parameters.get("namespace"));
    match scope.text() {
        "Namespace" if !namespace.is_set() => {
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
        check(
            "ingressclasses",
            "{metadata: {name: a}, spec: {parameters: {apiGroup: '', name: '..', scope: Namespace, namespace: ''}}}",
            expect![[r#"
                spec.controller: Required value
                spec.parameters.apiGroup: Invalid value: "": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
                spec.parameters.kind: Required value: kind is required
                spec.parameters.name: Invalid value: "..": may not be '..'
                spec.parameters.namespace: Invalid value: "": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
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
