//! Requests and limits: canonical form, defaults and rules.

use serde_json::{Map, Value};

use crate::field::{Field, FieldError};
use crate::names;
use crate::quantity::Quantity;

/// Writes every quantity of a `resources` object in its canonical form, so that `1000m` reads `1`.
pub fn canonicalize(resources: &mut Map<String, Value>) {
    for field in ["limits", "requests"] {
        if let Some(Value::Object(list)) = resources.get_mut(field) {
            canonicalize_list(list);
        }
    }
}

/// Writes every quantity of a resource list in its canonical form, rounded up to thousandths.
pub fn canonicalize_list(list: &mut Map<String, Value>) {
    for quantity in list.values_mut() {
        if let Some(parsed) = parse(quantity) {
            *quantity = parsed.round_up_to_milli().to_string().into();
        }
    }
}

/// Writes the quantity `field` of `object` in its canonical form.
pub fn canonicalize_field(object: &mut Map<String, Value>, field: &str) {
    if let Some(quantity) = object.get_mut(field)
        && let Some(parsed) = parse(quantity)
    {
        *quantity = parsed.to_string().into();
    }
}

/// The quantity that a value stands for: a text, or a bare number.
pub fn parse(value: &Value) -> Option<Quantity> {
    match value {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.to_string().parse().ok(),
        _ => None,
    }
}

/// A request that is not given is the limit.
pub fn requests_from_limits(container: &mut Map<String, Value>) {
    let Some(resources) = container.get_mut("resources").and_then(Value::as_object_mut) else { return };
    let Some(limits) = resources.get("limits").and_then(Value::as_object).cloned() else { return };
    let requests = resources.entry("requests").or_insert_with(|| Value::Object(Map::new()));
    if requests.is_null() {
        *requests = Value::Object(Map::new());
    }
    let Some(requests) = requests.as_object_mut() else { return };
    for (name, limit) in limits {
        requests.entry(name).or_insert(limit);
    }
}

/// Whether nodes may promise more of it than they have.
fn overcommits(name: &str) -> bool {
    matches!(name, "cpu" | "memory" | "ephemeral-storage")
}

/// Whether a resource is somebody's own: named with a domain that is not Kubernetes'.
pub fn is_extended(name: &str) -> bool {
    name.split_once('/').is_some_and(|(domain, _)| !domain.ends_with("kubernetes.io"))
}

/// Resources that come in whole units: everything but the native ones.
fn is_integer(name: &str) -> bool {
    name.starts_with("hugepages-") || !(overcommits(name) || name == "storage")
}

/// Checks the `resources` of a container.
pub fn validate(resources: &Field, errors: &mut Vec<FieldError>) {
    let (limits, requests) = (resources.get("limits"), resources.get("requests"));
    for list in [&limits, &requests] {
        for (name, quantity) in list.entries() {
            container_resource_name(name, &quantity, errors);
            self::quantity(name, &quantity, errors);
        }
    }
    for (name, request) in requests.entries() {
        let limit = limits.key(name);
        let (Some(asked), at_most) = (request.value().and_then(parse), limit.value().and_then(parse)) else { continue };
        match at_most {
            Some(at_most) if asked != at_most && !overcommits(name) => {
                let detail = format!("must be equal to {name} limit of {at_most}");
                errors.push(FieldError::invalid(&requests.path, asked.to_string(), detail));
            }
            Some(at_most) if asked > at_most => {
                let detail = format!("must be less than or equal to {name} limit of {at_most}");
                errors.push(FieldError::invalid(&requests.path, asked.to_string(), detail));
            }
            None if !overcommits(name) => {
                errors.push(limits.required("Limit must be set for non overcommitable resources"));
            }
            _ => {}
        }
    }
}

/// Checks the name of what a container can ask for.
pub fn container_resource_name(name: &str, field: &Field, errors: &mut Vec<FieldError>) {
    errors.extend(names::qualified_name(name).into_iter().map(|wrong| FieldError::invalid(&field.path, name, wrong)));
    if !name.contains('/') && !overcommits(name) && !name.starts_with("hugepages-") {
        errors.push(FieldError::invalid(&field.path, name, "must be a standard resource for containers"));
    }
}

/// Checks one amount: readable, not negative, and whole where the resource comes in units.
pub fn quantity(name: &str, field: &Field, errors: &mut Vec<FieldError>) {
    let Some(value) = field.value() else { return };
    match parse(value) {
        None => errors.push(field.invalid(crate::quantity::QuantityError::Format.to_string())),
        Some(amount) if amount.is_negative() => {
            errors.push(FieldError::invalid(&field.path, amount.to_string(), "must be greater than or equal to 0"));
        }
        Some(amount) if is_integer(name) && !amount.is_whole() => {
            errors.push(FieldError::invalid(&field.path, amount.to_string(), "must be an integer"));
        }
        Some(_) => {}
    }
}
