//! The address families of a Service and its policy about them (KEP-563), on a cluster whose Services are IPv4.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{is_headless, needs_cluster_ip, same};
use crate::field::{Field, FieldError, FieldPath};
use crate::object::{self, list, text};
use crate::rules;

const V4: &str = "IPv4";
const V6: &str = "IPv6";
const SINGLE: &str = "SingleStack";
const PREFER: &str = "PreferDualStack";
const REQUIRE: &str = "RequireDualStack";

/// The family that the cluster's Services have.
const CONFIGURED: &str = V4;

/// Decides what a Service leaves open, if it can be decided.
pub fn settle(service: &mut Value, old: Option<&Value>) {
    if !needs_cluster_ip(service) || is_settled(service, old) {
        return;
    }
    let headless = text(service, &["spec", "clusterIP"]) == "None";
    let is_free = is_free(service);
    let Some(spec) = object::ensure(service, &["spec"]) else { return };
    if spec.get("ipFamilyPolicy").is_none_or(Value::is_null) {
        let before = old.map(|old| text(old, &["spec", "ipFamilyPolicy"])).filter(|policy| !policy.is_empty());
        let usual = if is_free { REQUIRE } else { SINGLE };
        spec.insert("ipFamilyPolicy".to_owned(), before.unwrap_or(usual).into());
    }
    let single = text(service, &["spec", "ipFamilyPolicy"]) == SINGLE;
    let shortened = |name| !single && old.is_some_and(|old| is_shortened(service, old, name));
    if !fields(&Field::root(service), old).is_empty() || ["clusterIPs", "ipFamilies"].into_iter().any(shortened) {
        return;
    }
    if let Some(old) = old.filter(|_| single) {
        // As nothing but the policy has changed, it is what the client means.
        for name in ["clusterIPs", "ipFamilies"] {
            if same(service, old, name)
                && let Some(Value::Array(both)) = object::get_mut(service, &["spec", name])
            {
                both.truncate(1);
            }
        }
    }
    let mut families: Vec<Value> = list(service, &["spec", "ipFamilies"]).to_vec();
    if !headless {
        let addresses = list(service, &["spec", "clusterIPs"]).iter().skip(families.len());
        let known = addresses.filter_map(Value::as_str).map(family_of).take_while(|family| *family == CONFIGURED);
        families.extend(known.map(Value::from).collect::<Vec<_>>());
        if families.len() < list(service, &["spec", "clusterIPs"]).len() {
            return;
        }
    }
    if families.is_empty() {
        families.push(CONFIGURED.into());
    }
    if is_free && !single && families.len() == 1 {
        families.push(if families[0] == V4 { V6 } else { V4 }.into());
    }
    if let Some(spec) = object::ensure(service, &["spec"]) {
        spec.insert("ipFamilies".to_owned(), families.into());
    }
}

/// A Service that would like both stays as it is, whatever its cluster has become.
fn is_settled(service: &Value, old: Option<&Value>) -> bool {
    let fields = ["ipFamilyPolicy", "clusterIP", "clusterIPs", "ipFamilies"];
    old.is_some_and(|old| {
        text(service, &["spec", "ipFamilyPolicy"]) == PREFER && fields.iter().all(|name| same(service, old, name))
    })
}

/// Whether it has neither an address nor pods: then it may be of families that the cluster does not have.
fn is_free(service: &Value) -> bool {
    let selects = object::map(service, &["spec", "selector"]).is_some_and(|selector| !selector.is_empty());
    text(service, &["spec", "clusterIP"]) == "None" && !selects
}

fn family_of(address: &str) -> &'static str {
    if address.contains(':') { V6 } else { V4 }
}

/// Checks addresses and families, and that the cluster has them. Where the fields contradict each other, nothing is said of
/// the cluster.
pub fn validate(service: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let root = Field::root(service);
    let mut errors = fields(&root, old);
    if !errors.is_empty() || !needs_cluster_ip(service) || is_settled(service, old) {
        return errors;
    }
    let spec = root.get("spec");
    let (policy, families, addresses) = (spec.get("ipFamilyPolicy"), spec.get("ipFamilies"), spec.get("clusterIPs"));
    let both = "must be 'RequireDualStack' or 'PreferDualStack' when multiple";
    let single = policy.text() == SINGLE;
    for (field, name, of, several) in [
        (&addresses, "clusterIPs", "cluster IP", "cluster IPs are specified"),
        (&families, "ipFamilies", "IP family", "IP families are specified"),
    ] {
        if single && field.len() == 2 {
            errors.push(policy.invalid(format!("{both} {several}")));
        } else if !single && old.is_some_and(|old| same(service, old, "clusterIP") && is_shortened(service, old, name))
        {
            errors.push(policy.invalid(format!("must be 'SingleStack' to release the secondary {of}")));
        }
    }
    for address in addresses.items().skip(families.len()).filter(|address| address.text() != "None") {
        let family = family_of(address.text());
        if family != CONFIGURED {
            let shown = addresses.value().cloned().unwrap_or_default();
            let detail = format!("{family} is not configured on this cluster");
            errors.push(FieldError::invalid(&address.path, shown, detail));
        }
    }
    if !errors.is_empty() || is_free(service) {
        return errors;
    }
    if policy.text() == REQUIRE {
        errors.push(policy.invalid("this cluster is not configured for dual-stack services"));
    }
    for family in families.items().filter(|family| family.text() != CONFIGURED) {
        errors.push(family.invalid("not configured on this cluster"));
    }
    errors
}

/// Whether a list is the beginning of what it was.
fn is_shortened(service: &Value, old: &Value, name: &str) -> bool {
    let (new, old) = (list(service, &["spec", name]), list(old, &["spec", name]));
    !new.is_empty() && new.len() < old.len() && old.starts_with(new)
}

/// Whether the fields go together, on whatever cluster.
fn fields(service: &Field, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = service.get("spec");
    if spec.get("type").text() == "ExternalName" {
        return errors;
    }
    let (first, addresses, families) = (spec.get("clusterIP"), spec.get("clusterIPs"), spec.get("ipFamilies"));
    let shown = || addresses.value().cloned().unwrap_or_default();
    let primary = addresses.items().next().map(|address| address.text());
    let mut refuse = |detail: &str| errors.push(FieldError::invalid(&addresses.path, shown(), detail));
    match primary {
        None if !first.is_empty() => errors.push(addresses.required("")),
        Some(_) if first.is_empty() => refuse("must be empty when `clusterIP` is not specified"),
        Some(primary) if primary != first.text() => refuse("first value must match `clusterIP`"),
        _ => {}
    }
    let mut seen = BTreeSet::new();
    for family in families.items() {
        if !matches!(family.text(), V4 | V6) {
            errors.push(family.not_supported(&[V4, V6]));
        }
        if !seen.insert(family.text()) {
            errors.push(family.duplicate());
        }
    }
    rules::maybe_one_of(&spec.get("ipFamilyPolicy"), &[PREFER, REQUIRE, SINGLE], &mut errors);
    let before = old.map(|old| list(old, &["spec", "clusterIPs"])).unwrap_or_default();
    if !well_formed(&addresses, before, &mut errors) {
        return errors;
    }
    let kinds: Vec<&str> = addresses.items().map(|address| family_of(address.text())).collect();
    if kinds.len() > 1 && (kinds.len() > 2 || kinds[0] == kinds[1]) {
        let detail = "may specify no more than one IP for each IP family";
        errors.push(FieldError::invalid(&addresses.path, shown(), detail));
    }
    if !service.value().is_some_and(is_headless) {
        for (index, (address, family)) in addresses.items().zip(families.items()).enumerate() {
            if matches!(family.text(), V4 | V6) && family.text() != family_of(address.text()) {
                let detail = format!("expected an {} value as indicated by `ipFamilies[{index}]`", family.text());
                errors.push(address.invalid(detail));
            }
        }
    }
    errors
}

/// Whether every address is one; what it was before may stay.
fn well_formed(addresses: &Field, before: &[Value], errors: &mut Vec<FieldError>) -> bool {
    let shown = || addresses.value().cloned().unwrap_or_else(|| json!([]));
    let known = errors.len();
    for (index, address) in addresses.items().enumerate() {
        if index == 0 && address.text() == "None" {
            if addresses.len() > 1 {
                errors.push(FieldError::invalid(&addresses.path, shown(), "'None' must be the first and only value"));
            }
        } else if !address.value().is_some_and(|address| before.contains(address)) {
            rules::ip(&address, errors);
        }
    }
    let well_formed = errors.len() == known;
    if addresses.len() > 2 {
        errors.push(FieldError::invalid(&addresses.path, shown(), "may only hold up to 2 values"));
    }
    well_formed
}

/// What may not change about addresses and families, unless a Service has been or becomes another's name.
pub fn validate_update(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    if !needs_cluster_ip(new) || !needs_cluster_ip(old) {
        return;
    }
    let spec = FieldPath::new("spec");
    let (headless, was_headless) = (is_headless(new), is_headless(old));
    let of = |service: &Value, name: &str| list(service, &["spec", name]).to_vec();
    let addresses = of(new, "clusterIPs");
    let shown = |name: &str| object::get(new, &["spec", name]).cloned().unwrap_or_default();
    let (all, single) = (shown("clusterIPs"), text(new, &["spec", "ipFamilyPolicy"]) == SINGLE);
    let release = |name: &str| {
        let detail = format!("must be set to 'SingleStack' when releasing the secondary {name}");
        FieldError::invalid(&spec.child("ipFamilyPolicy"), shown("ipFamilyPolicy"), detail)
    };
    if !(headless && was_headless) {
        let (path, before) = (spec.child("clusterIPs"), of(old, "clusterIPs"));
        if before.len() > addresses.len() && addresses.is_empty() {
            errors.push(FieldError::invalid(&path.index(0), all.clone(), "primary clusterIP can not be unset"));
        }
        // Where as many are left as there were, each is compared; else the first, which is the Service's own.
        let compared = if before.len() == addresses.len() { before.len() } else { 1 };
        for (index, (is, was)) in addresses.iter().zip(&before).take(compared).enumerate() {
            if is != was {
                errors.push(FieldError::invalid(&path.index(index), all.clone(), "may not change once set"));
            }
        }
        if before.len() > addresses.len() && addresses.len() == 1 && !single {
            errors.push(release("clusterIP"));
        }
    }
    if headless || was_headless {
        return;
    }
    let (path, families, before) = (spec.child("ipFamilies"), of(new, "ipFamilies"), of(old, "ipFamilies"));
    let first = path.index(0);
    if before.len() == families.len() {
        for _ in families.iter().zip(&before).filter(|(is, was)| is != was) {
            errors.push(FieldError::invalid(&first, shown("ipFamilies"), "may not change once set"));
        }
        return;
    }
    if let (Some(is), Some(was)) = (families.first(), before.first())
        && is != was
    {
        // Kubernetes shows the addresses here.
        errors.push(FieldError::invalid(&first, all, "may not change once set"));
    }
    if before.len() > families.len() && families.len() == 1 && !single {
        errors.push(release("ipFamily"));
    }
}
