//! What validating and mutating admission policies have in common.

use serde_json::Value;

use super::matching;
use crate::field::{Field, FieldError};
use crate::kind::{CellContext, Column};
use crate::object::{self, text};
use crate::{names, rules};

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
pub fn validate(spec: &Field, mutating: bool, errors: &mut Vec<FieldError>) {
    rules::one_of(&spec.get("failurePolicy"), &["Fail", "Ignore"], errors);
    let kind = spec.get("paramKind");
    if kind.is_set() {
        param_kind(&kind, errors);
    }
    let constraints = spec.get("matchConstraints");
    if constraints.is_set() {
        matching::resources(&constraints, errors);
        rules::required(&constraints.get("resourceRules"), errors);
        if mutating {
            matching::mutable_operations(&constraints, errors);
        }
    } else {
        errors.push(constraints.required(""));
    }
    matching::conditions(&spec.get("matchConditions"), errors);
    for variable in spec.get("variables").items() {
        let name = variable.get("name");
        if name.text().trim().is_empty() {
            errors.push(name.required("name is not specified"));
        } else if !is_identifier(name.text()) {
            errors.push(name.invalid("name is not a valid CEL identifier"));
        }
        matching::expression(&variable.get("expression"), "expression is not specified", errors);
    }
}

fn param_kind(reference: &Field, errors: &mut Vec<FieldError>) {
    let (api_version, kind) = (reference.get("apiVersion"), reference.get("kind"));
    if rules::required(&api_version, errors) {
        group_version(&api_version, errors);
    }
    let wrong = names::dns1035_label(&kind.text().to_lowercase());
    if rules::required(&kind, errors) && !wrong.is_empty() {
        errors.push(kind.invalid(format!("may have mixed case, but should otherwise match: {}", wrong.join(","))));
    }
}

fn group_version(field: &Field, errors: &mut Vec<FieldError>) {
    let text = field.text();
    let (group, version) = match text.split('/').collect::<Vec<_>>()[..] {
        [version] => ("", version),
        ["", ""] => ("", ""),
        [group, version] => (group, version),
        _ => return errors.push(field.invalid(format!("unexpected GroupVersion string: {text}"))),
    };
    let wrong = names::dns_subdomain(group);
    if !group.is_empty() && !wrong.is_empty() {
        errors.push(FieldError::invalid(&field.path, group, wrong.join(",")));
    }
    let wrong = names::dns1035_label(version);
    if version.is_empty() {
        errors.push(field.invalid("version must be specified"));
    } else if !wrong.is_empty() {
        errors.push(FieldError::invalid(&field.path, version, wrong.join(",")));
    }
}

/// What looks like an identifier of CEL and is none.
const RESERVED: [&str; 21] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "false",
    "for",
    "function",
    "if",
    "import",
    "in",
    "let",
    "loop",
    "namespace",
    "null",
    "package",
    "return",
    "true",
    "var",
    "void",
    "while",
];

fn is_identifier(text: &str) -> bool {
    let mut characters = text.chars();
    let first = characters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    first && characters.all(|c| c.is_ascii_alphanumeric() || c == '_') && !RESERVED.contains(&text)
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

/// Rules of the parts of a binding that both kinds have, but for where it holds.
pub fn validate_binding(spec: &Field, errors: &mut Vec<FieldError>) {
    rules::name(&spec.get("policyName"), names::dns_subdomain, errors);
    let reference = spec.get("paramRef");
    if !reference.is_set() {
        return;
    }
    let (name, selector) = (reference.get("name"), reference.get("selector"));
    let both = !name.is_empty() && selector.is_set();
    rules::maybe_form(&name, names::path_segment, errors);
    if both {
        errors.push(name.forbidden("name and selector are mutually exclusive"));
    }
    rules::label_selector(&selector, errors);
    if both {
        errors.push(selector.forbidden("name and selector are mutually exclusive"));
    }
    if name.is_empty() && !selector.is_set() {
        errors.push(reference.required("one of name or selector must be specified"));
    }
    rules::one_of(&reference.get("parameterNotFoundAction"), &["Allow", "Deny"], errors);
}
