//! Requests for devices, as claims, their templates and device classes write them.

use serde_json::{Map, Value};

use super::names::{driver, fully_qualified, many, unique};
use crate::field::{Field, FieldError};
use crate::{names, object, rules};

/// Requests, constraints and configurations per claim; also the most selectors of a request.
pub const MAX_ITEMS: usize = 32;
/// Alternatives of one request.
const MAX_ALTERNATIVES: usize = 8;
const MAX_EXPRESSION_BYTES: usize = 10 * 1024;
const MAX_PARAMETERS_BYTES: usize = 10 * 1024;
/// What a taint does.
pub const EFFECTS: [&str; 3] = ["NoExecute", "NoSchedule", "None"];

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
    for toleration in request.get_mut("tolerations").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(toleration) = toleration.as_object_mut() {
            object::set_default_text(toleration, "operator", "Equal");
        }
    }
}

/// Rules of a ResourceClaimSpec.
pub fn validate(spec: &Field, errors: &mut Vec<FieldError>) {
    let devices = spec.get("devices");
    let names = RequestNames::of(&devices);
    let requests = devices.get("requests");
    many(&requests, MAX_ITEMS, errors, |item, errors| request(&item, errors));
    unique(&requests, MAX_ITEMS, errors, |item| item.get("name").text().to_owned());
    many(&devices.get("constraints"), MAX_ITEMS, errors, |item, errors| constraint(&item, &names, errors));
    many(&devices.get("config"), MAX_ITEMS, errors, |item, errors| {
        names.references(&item.get("requests"), errors);
        configuration(&item, errors);
    });
}

/// The requests of a claim, which other parts of it name: `request`, or `request/alternative`.
pub struct RequestNames(Vec<(String, Vec<String>)>);

impl RequestNames {
    /// Of a claim's `devices`.
    pub fn of(devices: &Field) -> RequestNames {
        let name = |field: &Field| field.get("name").text().to_owned();
        let requests = devices.get("requests");
        let all = requests.items().map(|request| {
            let alternatives = request.get("firstAvailable");
            (name(&request), alternatives.items().map(|alternative| name(&alternative)).collect())
        });
        RequestNames(all.collect())
    }

    fn has(&self, request: &str, alternative: Option<&str>) -> bool {
        let known = self.0.iter().find(|(name, _)| name == request);
        known.is_some_and(|(_, all)| alternative.is_none_or(|wanted| all.iter().any(|name| name == wanted)))
    }

    pub fn reference(&self, field: &Field, errors: &mut Vec<FieldError>) {
        let detail =
            "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
        let segments: Vec<&str> = field.text().split('/').collect();
        if segments.len() > 2 {
            return errors.push(field.invalid(detail));
        }
        for segment in &segments {
            let wrong = names::dns_label(segment).into_iter();
            errors.extend(wrong.map(|wrong| FieldError::invalid(&field.path, *segment, wrong)));
        }
        if !self.has(segments[0], segments.get(1).copied()) {
            errors.push(field.invalid(detail));
        }
    }

    /// A set of them.
    pub fn references(&self, list: &Field, errors: &mut Vec<FieldError>) {
        many(list, MAX_ITEMS, errors, |item, errors| self.reference(&item, errors));
        unique(list, MAX_ITEMS, errors, |item| item.text().to_owned());
    }
}

fn request(request: &Field, errors: &mut Vec<FieldError>) {
    rules::form(&request.get("name"), names::dns_label, errors);
    let (exact, alternatives) = (request.get("exactly"), request.get("firstAvailable"));
    let detail = "exactly one of `exactly` or `firstAvailable` is required";
    match (exact.is_set(), !alternatives.is_empty()) {
        (false, false) => errors.push(FieldError::required(&request.path, detail)),
        (true, true) => {
            let error = FieldError::invalid(&request.path, "", format!("{detail}, but multiple fields are set"));
            errors.push(FieldError { bad_value: None, ..error });
        }
        (true, false) => self::exact(&exact, errors),
        (false, true) => {
            many(&alternatives, MAX_ALTERNATIVES, errors, |alternative, errors| {
                rules::form(&alternative.get("name"), names::dns_label, errors);
                self::exact(&alternative, errors);
            });
            unique(&alternatives, MAX_ALTERNATIVES, errors, |item| item.get("name").text().to_owned());
        }
    }
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
    request.get("tolerations").items().for_each(|item| toleration(&item, errors));
}

fn toleration(toleration: &Field, errors: &mut Vec<FieldError>) {
    rules::maybe_form(&toleration.get("key"), names::qualified_name, errors);
    let (operator, value) = (toleration.get("operator"), toleration.get("value"));
    match operator.text() {
        "Exists" if !value.is_empty() => errors.push(value.invalid("must be empty for operator `Exists`")),
        "Exists" => {}
        "Equal" => rules::form(&value, names::label_value, errors),
        "" => errors.push(operator.required("")),
        _ => errors.push(operator.not_supported(&["Equal", "Exists"])),
    }
    rules::maybe_one_of(&toleration.get("effect"), &EFFECTS, errors);
}

fn constraint(constraint: &Field, names: &RequestNames, errors: &mut Vec<FieldError>) {
    names.references(&constraint.get("requests"), errors);
    let (same, distinct) = (constraint.get("matchAttribute"), constraint.get("distinctAttribute"));
    if same.is_set() {
        fully_qualified(&same, errors);
    } else if distinct.is_set() {
        fully_qualified(&distinct, errors);
    } else {
        let detail =
            "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set";
        errors.push(FieldError::required(&constraint.path, detail));
    }
}

/// Expressions that a device must satisfy.
pub fn selectors(selectors: &Field, errors: &mut Vec<FieldError>) {
    many(selectors, MAX_ITEMS, errors, |selector, errors| {
        let cel = selector.get("cel");
        let expression = cel.get("expression");
        if !cel.is_set() {
            errors.push(cel.required(""));
        } else if expression.text().len() > MAX_EXPRESSION_BYTES {
            errors.push(FieldError::too_long(&expression.path, MAX_EXPRESSION_BYTES));
        } else {
            rules::required(&expression, errors);
        }
    });
}

/// What a driver is told.
pub fn configuration(config: &Field, errors: &mut Vec<FieldError>) {
    let opaque = config.get("opaque");
    if !opaque.is_set() {
        return errors.push(opaque.required(""));
    }
    driver(&opaque.get("driver"), errors);
    raw_object(&opaque.get("parameters"), MAX_PARAMETERS_BYTES, errors);
}

/// An object that only its driver understands.
pub fn raw_object(field: &Field, max_bytes: usize, errors: &mut Vec<FieldError>) {
    match field.value() {
        None => errors.push(field.required("")),
        Some(value) if value.to_string().len() > max_bytes => {
            errors.push(FieldError::too_long(&field.path, max_bytes));
        }
        Some(Value::Object(_)) => {}
        Some(_) => errors.push(FieldError::invalid(&field.path, "<value omitted>", "must be a valid JSON object")),
    }
}
