//! One device of a slice: its attributes, capacities, counters, taints, and where it is.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

use super::names::{many, qualified, unique};
use super::request::EFFECTS;
use crate::core::pod::{node_selector, resources};
use crate::field::{Field, FieldError};
use crate::object::same;
use crate::quantity::Quantity;
use crate::{names, rules};

/// Attributes and capacities of a device.
const MAX_ATTRIBUTES: usize = 32;
const MAX_VALUE_BYTES: usize = 64;
const MAX_TAINTS: usize = 16;
/// Sets of counters that a device draws on, and counters of one of them.
const MAX_CONSUMED_SETS: usize = 2;
pub const MAX_COUNTERS: usize = 32;
const MAX_BINDING_CONDITIONS: usize = 4;
/// Values that a request for a capacity may have.
const MAX_REQUEST_VALUES: usize = 10;

/// A version by <https://semver.org>.
static VERSION: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let number = "(0|[1-9][0-9]*)";
    let pre = "(0|[1-9][0-9]*|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*)";
    let build = "[0-9a-zA-Z-]+";
    let pattern = format!(r"^{number}\.{number}\.{number}(-{pre}(\.{pre})*)?(\+{build}(\.{build})*)?$");
    Regex::new(&pattern).ok()
});

/// Checks a device; `old` is the one of its name before.
pub fn validate(device: &Field, old: Option<&Value>, chooses_nodes: bool, errors: &mut Vec<FieldError>) {
    rules::form(&device.get("name"), names::dns_label, errors);
    let (attributes, capacities) = (device.get("attributes"), device.get("capacity"));
    let count = attributes.len() + capacities.len();
    if count > MAX_ATTRIBUTES {
        let detail = format!("the total number of attributes and capacities must not exceed {MAX_ATTRIBUTES}");
        errors.push(FieldError::invalid(&device.path, count, detail));
    }
    for (name, attribute) in attributes.entries() {
        qualified(name, &attribute, errors);
        self::attribute(&attribute, errors);
    }
    let shared = device.get("allowMultipleAllocations").bool() == Some(true);
    for (name, capacity) in capacities.entries() {
        qualified(name, &capacity, errors);
        let policy = capacity.get("requestPolicy");
        if policy.is_set() && !shared {
            errors.push(policy.forbidden("allowMultipleAllocations must be true"));
        } else if policy.is_set() {
            request_policy(&policy, &capacity.get("value"), errors);
        }
    }
    let taints = device.get("taints");
    if !same(taints.value(), old.and_then(|old| old.get("taints"))) || old.is_none() {
        many(&taints, MAX_TAINTS, errors, |item, errors| taint(&item, errors));
    }
    let consumed = device.get("consumesCounters");
    many(&consumed, MAX_CONSUMED_SETS, errors, |set, errors| {
        rules::name(&set.get("counterSet"), names::dns_label, errors);
        counters(&set.get("counters"), errors);
    });
    unique(&consumed, MAX_CONSUMED_SETS, errors, |set| set.get("counterSet").text().to_owned());
    place(device, chooses_nodes, errors);
    binding_conditions(device, errors);
}

fn attribute(attribute: &Field, errors: &mut Vec<FieldError>) {
    let too_long = |field: &Field, errors: &mut Vec<FieldError>| {
        if field.text().len() > MAX_VALUE_BYTES {
            errors.push(FieldError::too_long(&field.path, MAX_VALUE_BYTES));
        }
    };
    too_long(&attribute.get("string"), errors);
    let version = attribute.get("version");
    if version.is_set() {
        if VERSION.as_ref().is_some_and(|pattern| !pattern.is_match(version.text())) {
            errors.push(version.invalid("must be a string compatible with semver.org spec 2.0.0"));
        }
        too_long(&version, errors);
    }
    let kinds = ["bool", "int", "string", "version"];
    match kinds.into_iter().filter(|kind| attribute.get(kind).is_set()).count() {
        0 => errors.push(FieldError::invalid(&attribute.path, "", "exactly one value must be specified")),
        1 => {}
        _ => errors.push(attribute.invalid("exactly one value must be specified")),
    }
}

/// Named amounts, of a set or of what is drawn from it.
pub fn counters(counters: &Field, errors: &mut Vec<FieldError>) {
    if counters.is_empty() {
        return errors.push(counters.required(""));
    }
    if counters.len() > MAX_COUNTERS {
        return errors.push(FieldError::too_many(&counters.path, counters.len(), MAX_COUNTERS));
    }
    for (name, counter) in counters.entries() {
        let wrong = names::dns_label(name).into_iter();
        errors.extend(wrong.map(|wrong| FieldError::invalid(&counter.path, name, wrong)));
    }
}

fn taint(taint: &Field, errors: &mut Vec<FieldError>) {
    rules::form(&taint.get("key"), names::qualified_name, errors);
    rules::maybe_form(&taint.get("value"), names::label_value, errors);
    rules::one_of(&taint.get("effect"), &EFFECTS, errors);
}

/// Where a device can be used, if each says so for itself.
fn place(device: &Field, chooses_nodes: bool, errors: &mut Vec<FieldError>) {
    let (node, selector, all) = (device.get("nodeName"), device.get("nodeSelector"), device.get("allNodes"));
    if !chooses_nodes {
        if node.is_set() || selector.is_set() || all.is_set() {
            let detail = "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to \
                          true in the ResourceSlice spec";
            let error = FieldError::invalid(&device.path, "", detail);
            errors.push(FieldError { bad_value: None, ..error });
        }
        return;
    }
    let set = self::chosen(&node, "must not be empty", &selector, &all, errors);
    let detail = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is \
                  set to true in the ResourceSlice spec";
    match set.len() {
        0 => errors.push(FieldError::required(&device.path, detail)),
        1 => {}
        _ => errors.push(FieldError::invalid(&device.path, format!("{{{}}}", set.join(", ")), detail)),
    }
}

/// Which of the ways to say where devices are is taken.
pub fn chosen(
    node: &Field,
    empty: &str,
    selector: &Field,
    all: &Field,
    errors: &mut Vec<FieldError>,
) -> Vec<&'static str> {
    let mut set = Vec::new();
    if node.is_set() && node.is_empty() {
        errors.push(node.invalid(empty));
    } else if node.is_set() {
        set.push("`nodeName`");
        rules::form(node, names::dns_subdomain, errors);
    }
    if selector.is_set() {
        set.push("`nodeSelector`");
        node_selector(selector, errors);
    }
    if all.bool() == Some(true) {
        set.push("`allNodes`");
    } else if all.is_set() {
        errors.push(all.invalid("must be either unset or set to true"));
    }
    set
}

/// What must be true, and what must not, before a pod is bound to the device's node.
pub fn binding_conditions(device: &Field, errors: &mut Vec<FieldError>) {
    let (wanted, failures) = (device.get("bindingConditions"), device.get("bindingFailureConditions"));
    for list in [&wanted, &failures] {
        many(list, MAX_BINDING_CONDITIONS, errors, |item, errors| rules::form(&item, names::qualified_name, errors));
    }
    unique(&wanted, usize::MAX, errors, |item| item.text().to_owned());
    unique(&failures, usize::MAX, errors, |item| item.text().to_owned());
    for failure in failures.items().filter(|failure| wanted.items().any(|item| item.text() == failure.text())) {
        errors.push(failure.invalid("bindingFailureConditions must not overlap with bindingConditions"));
    }
    let lacks = |missing: &Field, detail: &str| {
        FieldError::invalid(&missing.path, missing.value().cloned().unwrap_or_default(), detail)
    };
    if wanted.is_empty() && !failures.is_empty() {
        errors.push(lacks(&wanted, "bindingConditions are required to use bindingFailureConditions"));
    }
    if failures.is_empty() && !wanted.is_empty() {
        errors.push(lacks(&failures, "bindingFailureConditions are required to use bindingConditions"));
    }
}

/// How much of a capacity one request may take.
fn request_policy(policy: &Field, capacity: &Field, errors: &mut Vec<FieldError>) {
    let (values, range) = (policy.get("validValues"), policy.get("validRange"));
    if !values.is_empty() && range.is_set() {
        let detail =
            "exactly one policy can be specified, cannot specify \"validValues\" and \"validRange\" at the same time";
        return errors.push(policy.forbidden(detail));
    }
    let which = match (values.is_empty(), range.is_set()) {
        (false, _) => "validValues",
        (true, true) => "validRange",
        (true, false) => return,
    };
    let default = policy.get("default");
    let (Some(usual), Some(capacity)) = (amount(&default), amount(capacity)) else {
        return errors.push(default.required(format!("required when {which} is defined")));
    };
    if which == "validValues" {
        request_values(&values, usual, capacity, errors)
    } else {
        request_range(&range, usual, capacity, errors)
    }
}

fn amount(field: &Field) -> Option<Quantity> {
    field.value().and_then(resources::parse)
}

fn request_values(values: &Field, usual: Quantity, capacity: Quantity, errors: &mut Vec<FieldError>) {
    let mut before: Option<Quantity> = None;
    for value in values.items() {
        let now = amount(&value);
        if before > now {
            errors.push(value.invalid("values must be sorted in ascending order"));
        }
        before = now;
    }
    many(values, MAX_REQUEST_VALUES, errors, |value, errors| {
        if amount(&value).is_some_and(|amount| amount > capacity) {
            errors.push(value.invalid(format!("option is larger than capacity value: {capacity}")));
        }
    });
    unique(values, MAX_REQUEST_VALUES, errors, |value| amount(value).unwrap_or(Quantity::ZERO).value().to_string());
    if values.items().all(|value| amount(&value) != Some(usual)) {
        let detail = "default value is not valid according to the requestPolicy";
        errors.push(FieldError::invalid(&values.path, usual.to_string(), detail));
    }
}

fn request_range(range: &Field, usual: Quantity, capacity: Quantity, errors: &mut Vec<FieldError>) {
    let (min_field, max_field, step_field) = (range.get("min"), range.get("max"), range.get("step"));
    let Some(min) = amount(&min_field) else {
        return errors.push(min_field.required("required when validRange is defined"));
    };
    let wrong =
        |field: &Field, shown: Quantity, detail: String| FieldError::invalid(&field.path, shown.to_string(), detail);
    if min > capacity {
        errors.push(wrong(&min_field, min, format!("min is larger than capacity value: {capacity}")));
    }
    if usual < min {
        errors.push(wrong(&min_field, usual, format!("default is less than min: {min}")));
    }
    let max = amount(&max_field);
    if let Some(max) = max {
        if min > max {
            errors.push(wrong(&max_field, min, format!("min is larger than max: {max}")));
        }
        if max > capacity {
            errors.push(wrong(&max_field, max, format!("max is larger than capacity value: {capacity}")));
        }
        if usual > max {
            errors.push(wrong(&max_field, usual, format!("default is more than max: {max}")));
        }
    }
    let Some(step) = amount(&step_field) else { return };
    let first = min + step;
    if first > capacity {
        let detail = format!("one step {first} is larger than capacity value: {capacity}");
        errors.push(wrong(&step_field, step, detail));
    }
    for value in [Some(usual), max].into_iter().flatten() {
        let above = value.value().saturating_sub(min.value());
        // No step leads anywhere but to the least.
        if above.checked_rem(step.value()).unwrap_or(above) != 0 {
            let detail = format!("value is not a multiple of a given step ({step}) from ({min})");
            errors.push(wrong(&step_field, value, detail));
        }
    }
}
