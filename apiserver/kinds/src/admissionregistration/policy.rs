//! What validating and mutating admission policies have in common.

use serde_json::Value;

use super::matching;
use crate::field::{Field, FieldError};
use crate::kind::{CellContext, Column};
use crate::object::{self, text};
use crate::rules;

pub fn default(policy: &mut Value) {
    let Some(spec) = object::ensure(policy, &["spec"]) else { return };
    object::set_default(spec, "failurePolicy", "Fail");
    matching::default_resources(spec.get_mut("matchConstraints"));
}

/// Name, how many of `what` there are, the kind of the parameters, and the age.
pub fn columns(what: &'static str, count: fn(&Value, &CellContext) -> Value) -> Vec<Column> {
    vec![
        Column::name(),
        Column::new(what, "integer", count),
        Column::text("ParamKind", |policy, _| {
            let kind = |field: &str| text(policy, &["spec", "paramKind", field]);
            match kind("kind") {
                "" => "<unset>".into(),
                name => format!("{}/{name}", kind("apiVersion")).into(),
            }
        }),
        Column::age(),
    ]
}

/// Rules of the parts of a spec that both kinds of policies have.
pub fn validate(spec: &Field, errors: &mut Vec<FieldError>) {
    rules::maybe_one_of(&spec.get("failurePolicy"), &["Fail", "Ignore"], errors);
    let kind = spec.get("paramKind");
    if kind.is_set() {
        rules::required(&kind.get("apiVersion"), errors);
        rules::required(&kind.get("kind"), errors);
    }
    let constraints = spec.get("matchConstraints");
    if !constraints.is_set() {
        errors.push(constraints.required(""));
    } else {
        rules::required(&constraints.get("resourceRules"), errors);
        matching::resources(&constraints, errors);
    }
    matching::conditions(&spec.get("matchConditions"), errors);
    let mut seen = Vec::new();
    for variable in spec.get("variables").items() {
        let name = variable.get("name");
        if rules::required(&name, errors) && !is_identifier(name.text()) {
            errors.push(name.invalid("name is not a valid CEL identifier"));
        }
        if seen.contains(&name.text()) {
            errors.push(name.duplicate());
        }
        seen.push(name.text());
        matching::expression(&variable, errors);
    }
}

fn is_identifier(text: &str) -> bool {
    let mut characters = text.chars();
    let first = characters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    first && characters.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

pub fn default_binding(binding: &mut Value) {
    matching::default_resources(object::get_mut(binding, &["spec", "matchResources"]));
}

/// Columns of either kind of binding.
pub fn binding_columns() -> Vec<Column> {
    vec![
        Column::name(),
        Column::at("PolicyName", "string", "spec.policyName"),
        Column::text("ParamRef", |binding, _| {
            let reference = |field: &str| text(binding, &["spec", "paramRef", field]);
            match (reference("namespace"), reference("name")) {
                (_, "") => "<unset>".into(),
                ("", name) => name.into(),
                (namespace, name) => format!("{namespace}/{name}").into(),
            }
        }),
        Column::age(),
    ]
}

/// Rules of the parts of a binding that both kinds have.
pub fn validate_binding(spec: &Field, errors: &mut Vec<FieldError>) {
    rules::required(&spec.get("policyName"), errors);
    let reference = spec.get("paramRef");
    if reference.is_set() {
        let (name, selector) = (reference.get("name"), reference.get("selector"));
        match (name.is_empty(), selector.is_set()) {
            (false, true) => errors.push(name.forbidden("name and selector are mutually exclusive")),
            (true, false) => errors.push(reference.required("one of name or selector must be specified")),
            (true, true) => rules::label_selector(&selector, errors),
            (false, false) => {}
        }
        rules::one_of(&reference.get("parameterNotFoundAction"), &["Allow", "Deny"], errors);
    }
    matching::resources(&spec.get("matchResources"), errors);
}
