//! Requests for devices, as claims, their templates and device classes write them.

use serde_json::{Map, Value};

use crate::field::{Field, FieldError};
use crate::{names, object, rules};

/// Requests, constraints and configurations per claim; also the most selectors and tolerations of a request.
const MAX_ITEMS: usize = 32;
/// Alternatives of one request.
const MAX_ALTERNATIVES: usize = 8;

/// Defaults of a ResourceClaimSpec.
pub fn default(spec: Option<&mut Value>) {
    for request in spec.map(|spec| object::list_mut(spec, &["devices", "requests"])).unwrap_or_default() {
        if let Some(exact) = request.get_mut("exactly").and_then(Value::as_object_mut) {
            amount(exact);
        }
        object::list_mut(request, &["firstAvailable"]).iter_mut().filter_map(Value::as_object_mut).for_each(amount);
    }
}

/// One device, unless another number or all are asked for.
fn amount(request: &mut Map<String, Value>) {
    object::set_default_text(request, "allocationMode", "ExactCount");
    let exact = request.get("allocationMode").is_some_and(|mode| mode == "ExactCount");
    if exact && request.get("count").and_then(Value::as_i64).unwrap_or_default() == 0 {
        request.insert("count".to_owned(), 1.into());
    }
}

/// Rules of a ResourceClaimSpec.
pub fn validate(spec: &Field, errors: &mut Vec<FieldError>) {
    let devices = spec.get("devices");
    for name in ["requests", "constraints", "config"] {
        let list = devices.get(name);
        if list.len() > MAX_ITEMS {
            errors.push(FieldError::too_many(&list.path, list.len(), MAX_ITEMS));
        }
    }
    let mut seen = Vec::new();
    for request in devices.get("requests").items() {
        let name = request.get("name");
        unique_name(&name, &mut seen, errors);
        let (exact, alternatives) = (request.get("exactly"), request.get("firstAvailable"));
        match (exact.is_set(), !alternatives.is_empty()) {
            (false, false) => {
                errors.push(FieldError::required(
                    &request.path,
                    "exactly one of `exactly` or `firstAvailable` is required",
                ));
            }
            (true, true) => {
                let shown = request.value().cloned().unwrap_or_default();
                let detail = "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set";
                errors.push(FieldError::invalid(&request.path, shown, detail));
            }
            (true, false) => self::exact(&exact, errors),
            (false, true) => {
                if alternatives.len() > MAX_ALTERNATIVES {
                    errors.push(FieldError::too_many(&alternatives.path, alternatives.len(), MAX_ALTERNATIVES));
                }
                let mut seen = Vec::new();
                for alternative in alternatives.items() {
                    unique_name(&alternative.get("name"), &mut seen, errors);
                    self::exact(&alternative, errors);
                }
            }
        }
    }
    for config in devices.get("config").items() {
        configuration(&config, errors);
    }
}

fn unique_name<'v>(name: &Field<'v, '_>, seen: &mut Vec<&'v str>, errors: &mut Vec<FieldError>) {
    rules::name(name, names::dns_label, errors);
    if seen.contains(&name.text()) {
        errors.push(name.duplicate());
    }
    seen.push(name.text());
}

fn exact(request: &Field, errors: &mut Vec<FieldError>) {
    let class = request.get("deviceClassName");
    rules::name(&class, names::dns_subdomain, errors);
    selectors(&request.get("selectors"), errors);
    let (mode, count) = (request.get("allocationMode"), request.get("count"));
    match mode.text() {
        "ExactCount" if count.int().unwrap_or_default() <= 0 => {
            let shown = count.int().unwrap_or_default();
            errors.push(FieldError::invalid(&count.path, shown, "must be greater than zero"));
        }
        "All" if count.int().unwrap_or_default() != 0 => {
            errors.push(count.invalid("must not be specified when allocationMode is 'All'"));
        }
        "ExactCount" | "All" => {}
        _ => errors.push(mode.not_supported(&["All", "ExactCount"])),
    }
    for toleration in request.get("tolerations").items() {
        rules::maybe_form(&toleration.get("key"), names::qualified_name, errors);
        rules::one_of(&toleration.get("operator"), &["Equal", "Exists"], errors);
        rules::maybe_one_of(&toleration.get("effect"), &["NoExecute", "NoSchedule"], errors);
    }
}

/// Expressions that a device must satisfy.
pub fn selectors(selectors: &Field, errors: &mut Vec<FieldError>) {
    if selectors.len() > MAX_ITEMS {
        errors.push(FieldError::too_many(&selectors.path, selectors.len(), MAX_ITEMS));
    }
    for selector in selectors.items() {
        let cel = selector.get("cel");
        if !cel.is_set() {
            errors.push(cel.required(""));
        } else {
            rules::required(&cel.get("expression"), errors);
        }
    }
}

/// What a driver is told.
pub fn configuration(config: &Field, errors: &mut Vec<FieldError>) {
    let opaque = config.get("opaque");
    if !opaque.is_set() {
        errors.push(opaque.required(""));
        return;
    }
    rules::name(&opaque.get("driver"), names::dns_subdomain, errors);
    let parameters = opaque.get("parameters");
    match parameters.value() {
        None => errors.push(parameters.required("")),
        Some(Value::Object(_)) => {}
        Some(_) => errors.push(parameters.invalid("must be a valid JSON object")),
    }
}
