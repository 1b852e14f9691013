//! Requests and limits: canonical form, defaults and rules.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{container, totals};
use crate::core::resource_quota;
use crate::field::{Field, FieldError};
use crate::names;
use crate::object;
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

/// What a pod asks for as a whole, where it says something as a whole: what it does not say is what its containers ask for
/// together, or else its limit; a limit of huge pages is that of its containers (KEP-2837).
pub fn pod_level(pod: &mut Value) {
    let Some(resources) = object::map(pod, &["spec", "resources"]) else { return };
    let of = |list: &str| resources.get(list).and_then(Value::as_object).cloned().unwrap_or_default();
    let (mut limits, mut requests) = (of("limits"), of("requests"));
    if limits.is_empty() && requests.is_empty() {
        return;
    }
    for (name, amount) in totals::of_containers(&pod["spec"], "limits") {
        if name.starts_with(HUGE_PAGES) && !requests.contains_key(&name) {
            limits.entry(name).or_insert_with(|| amount.to_string().into());
        }
    }
    if !limits.is_empty() {
        let asked = totals::of_containers(&pod["spec"], "requests").into_iter();
        let asked = asked.filter(|(name, _)| overcommits(name)).map(|(name, amount)| (name, amount.to_string().into()));
        for (name, amount) in asked.chain(limits.clone()).filter(|(name, _)| is_pod_level(name)) {
            requests.entry(name).or_insert(amount);
        }
    }
    for (list, amounts) in [("limits", limits), ("requests", requests)] {
        if !amounts.is_empty()
            && let Some(resources) = object::ensure(pod, &["spec", "resources"])
        {
            resources.insert(list.to_owned(), amounts.into());
        }
    }
}

/// How resources of memory in pages of a given size are named.
pub const HUGE_PAGES: &str = "hugepages-";

/// Resources that a container can ask for, beside huge pages and those of others.
const OF_CONTAINERS: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

/// Resources that count objects.
const COUNTS: [&str; 9] = [
    "configmaps",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
];

/// Whether Kubernetes knows a resource by a name without a domain.
fn is_standard(name: &str) -> bool {
    name == "storage" || resource_quota::is_standard(name)
}

/// Whether a resource is Kubernetes' own: without a domain, or with its.
fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// Whether nodes may promise more of it than they have.
pub fn overcommits(name: &str) -> bool {
    is_native(name) && !name.starts_with(HUGE_PAGES)
}

/// Whether a pod can ask for it as a whole.
fn is_pod_level(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || name.starts_with(HUGE_PAGES)
}

/// Whether a resource is somebody's own: named with a domain that is not Kubernetes'.
pub fn is_extended(name: &str) -> bool {
    !is_native(name) && !name.starts_with("requests.") && names::qualified_name(&format!("requests.{name}")).is_empty()
}

/// Whether a resource comes in whole units.
fn is_integer(name: &str) -> bool {
    COUNTS.contains(&name) || is_extended(name)
}

/// Checks the `resources` of a container.
pub fn validate(resources: &Field, errors: &mut Vec<FieldError>) {
    lists(resources, container_resource_name, errors);
}

/// Checks what a pod's runtime takes beside its containers: Kubernetes takes it for limits.
pub fn validate_overhead(overhead: &Field, errors: &mut Vec<FieldError>) {
    let Some(amounts) = overhead.value() else { return };
    let limits = json!({"limits": amounts});
    validate(&Field::new(Some(&limits), overhead.path), errors);
}

/// Checks the `resources` of a pod as a whole, and its containers' against them. `claims` are those of the pod.
pub fn validate_pod_level(spec: &Field, claims: &BTreeSet<&str>, errors: &mut Vec<FieldError>) {
    let resources = spec.get("resources");
    let Some(containers) = spec.value().filter(|_| resources.is_set()) else { return };
    if spec.get("os").get("name").text() == "windows" {
        errors.push(FieldError::forbidden(&resources.path, "may not be set for a windows pod"));
        return;
    }
    let own = resources.get("claims");
    if own.is_set() {
        errors.push(own.forbidden("claims may not be set for Resources at pod-level"));
    }
    lists(&resources, pod_resource_name, errors);
    container::claims(&own, claims, errors);
    let amount = |field: &Field| field.value().and_then(parse);
    let (limits, requests) = (resources.get("limits"), resources.get("requests"));
    for (name, together) in totals::of_containers(containers, "requests") {
        let request = requests.key(&name);
        if let Some(own) = amount(&request).filter(|own| *own < together) {
            let detail = format!("must be greater than or equal to aggregate container requests of {together}");
            errors.push(FieldError::invalid(&request.path, own.to_string(), detail));
        }
    }
    for (name, together) in totals::of_containers(containers, "limits") {
        let limit = limits.key(&name);
        if let Some(own) = amount(&limit).filter(|own| name.starts_with(HUGE_PAGES) && *own < together) {
            let detail = format!("must be greater than or equal to aggregate container limits of {together}");
            errors.push(FieldError::invalid(&limit.path, own.to_string(), detail));
        }
    }
    // Kubernetes names these fields beneath the pod's resources.
    let path = resources.path.child("containers");
    for (index, container) in spec.get("containers").items().enumerate() {
        for (name, limit) in container.get("resources").get("limits").entries() {
            let (Some(own), Some(most)) = (amount(&limit), amount(&limits.key(name))) else { continue };
            if own > most {
                let detail = format!("must be less than or equal to pod limits of {most}");
                errors.push(FieldError::invalid(&path.index(index).key(name).child("limits"), own.to_string(), detail));
            }
        }
    }
}

/// Checks limits and requests, each by itself and against each other.
fn lists(resources: &Field, check_name: fn(&str, &Field, &mut Vec<FieldError>), errors: &mut Vec<FieldError>) {
    let (limits, requests) = (resources.get("limits"), resources.get("requests"));
    for list in [&limits, &requests] {
        for (name, quantity) in list.entries() {
            check_name(name, &quantity, errors);
            self::quantity(name, &quantity, errors);
            if name.starts_with(HUGE_PAGES) {
                huge_pages(name, &quantity, errors);
            }
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
    let any = |is: fn(&str) -> bool| [&limits, &requests].iter().any(|list| list.entries().any(|(name, _)| is(name)));
    if any(|name| name.starts_with(HUGE_PAGES)) && !any(|name| matches!(name, "cpu" | "memory")) {
        errors.push(FieldError::forbidden(&resources.path, "HugePages require cpu or memory"));
    }
}

/// Checks the form of a resource's name, and that one without a domain is known. Whether more can be said of it.
pub fn resource_name(name: &str, field: &Field, errors: &mut Vec<FieldError>) -> bool {
    let wrong = names::qualified_name(name);
    let well_formed = wrong.is_empty();
    errors.extend(wrong.into_iter().map(|wrong| FieldError::invalid(&field.path, name, wrong)));
    if well_formed && !name.contains('/') && !is_standard(name) {
        errors.push(FieldError::invalid(&field.path, name, "must be a standard resource type or fully qualified"));
    }
    well_formed
}

/// Checks the name of what a container can ask for.
pub fn container_resource_name(name: &str, field: &Field, errors: &mut Vec<FieldError>) {
    resource_name(name, field, errors);
    let detail = if !name.contains('/') {
        let known = OF_CONTAINERS.contains(&name) || name.starts_with(HUGE_PAGES);
        (!known).then_some("must be a standard resource for containers")
    } else {
        let known = is_native(name) || is_extended(name);
        (!known).then_some("doesn't follow extended resource name standard")
    };
    errors.extend(detail.map(|detail| FieldError::invalid(&field.path, name, detail)));
}

/// Checks the name of what a pod can ask for as a whole.
fn pod_resource_name(name: &str, field: &Field, errors: &mut Vec<FieldError>) {
    let known = errors.len();
    if resource_name(name, field, errors) && errors.len() == known && !is_pod_level(name) {
        errors.push(FieldError::not_supported(&field.path, name, &["cpu", "hugepages-", "memory"]));
    }
}

/// Checks that an amount is made of pages.
fn huge_pages(name: &str, field: &Field, errors: &mut Vec<FieldError>) {
    let Some(amount) = field.value().and_then(parse) else { return };
    let page = name.strip_prefix(HUGE_PAGES).and_then(|size| size.parse::<Quantity>().ok());
    let page = page.filter(|page| page.is_whole() && page.value() > 0);
    if page.is_none_or(|page| amount.value() % page.value() != 0) {
        let detail = format!("{amount} is not positive integer multiple of {name}");
        errors.push(FieldError::invalid(&field.path, amount.to_string(), detail));
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
