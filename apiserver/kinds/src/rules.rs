//! Rules that many kinds share: enumerations, ranges, names as fields, selectors, immutability.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde_json::Value;

use crate::field::{Field, FieldError};
use crate::{addresses, intstr, names};

/// What a number below zero is told.
pub const NOT_NEGATIVE: &str = "must be greater than or equal to 0";
/// What a number below one is told.
pub const POSITIVE: &str = "must be greater than 0";
/// What a change of a fixed field is told.
pub const IMMUTABLE: &str = "field is immutable";

/// What the status of a condition can be.
const STATUSES: [&str; 3] = ["False", "True", "Unknown"];
const MAX_CONDITION_REASON_BYTES: usize = 1024;
const MAX_CONDITION_MESSAGE_BYTES: usize = 32 * 1024;

/// A field that must be set.
pub fn required(field: &Field, errors: &mut Vec<FieldError>) -> bool {
    if field.is_empty() {
        errors.push(field.required(""));
    }
    !field.is_empty()
}

/// A field that must be set to one of some values.
pub fn one_of(field: &Field, supported: &[&str], errors: &mut Vec<FieldError>) {
    if field.is_empty() {
        errors.push(field.required(""));
    } else {
        maybe_one_of(field, supported, errors);
    }
}

/// A field that must be one of some values where it is set.
pub fn maybe_one_of(field: &Field, supported: &[&str], errors: &mut Vec<FieldError>) {
    if !field.is_empty() && !supported.contains(&field.text()) {
        errors.push(field.not_supported(supported));
    }
}

/// A text that must have a form; see [`names`].
pub fn form(field: &Field, form: fn(&str) -> Vec<String>, errors: &mut Vec<FieldError>) {
    errors.extend(form(field.text()).into_iter().map(|wrong| field.invalid(wrong)));
}

/// A text that must have a form where it is set.
pub fn maybe_form(field: &Field, form: fn(&str) -> Vec<String>, errors: &mut Vec<FieldError>) {
    if !field.is_empty() {
        self::form(field, form, errors);
    }
}

/// A name that must be set and have a form.
pub fn name(field: &Field, form: fn(&str) -> Vec<String>, errors: &mut Vec<FieldError>) {
    if required(field, errors) {
        self::form(field, form, errors);
    }
}

/// A number that may not be below zero, where it is set.
pub fn not_negative(field: &Field, errors: &mut Vec<FieldError>) {
    if field.int().is_some_and(|n| n < 0) {
        errors.push(field.invalid(NOT_NEGATIVE));
    }
}

/// A number within bounds, where it is set.
pub fn between(field: &Field, low: i64, high: i64, errors: &mut Vec<FieldError>) {
    if field.int().is_some_and(|n| !(low..=high).contains(&n)) {
        errors.push(field.invalid(format!("must be between {low} and {high}, inclusive")));
    }
}

/// A port number that must be set.
pub fn port(field: &Field, errors: &mut Vec<FieldError>) {
    let number = field.int().unwrap_or_default();
    let wrong = names::port_number(number).into_iter();
    errors.extend(wrong.map(|wrong| FieldError::invalid(&field.path, number, wrong)));
}

/// A port by number or by name.
pub fn port_or_name(field: &Field, errors: &mut Vec<FieldError>) {
    match field.value() {
        Some(Value::String(name)) => {
            errors.extend(names::port_name(name).into_iter().map(|wrong| field.invalid(wrong)));
        }
        _ => port(field, errors),
    }
}

/// A whole number not below zero, or a percentage.
pub fn int_or_percent(field: &Field, errors: &mut Vec<FieldError>) {
    match field.value() {
        Some(value @ Value::String(_)) if intstr::percent(value).is_none() => errors.push(field.invalid(
            "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used \
             for validation is '[0-9]+%')",
        )),
        Some(Value::Number(_)) => not_negative(field, errors),
        _ => {}
    }
}

/// A share of a whole is no more than all of it.
pub fn at_most_all(field: &Field, errors: &mut Vec<FieldError>) {
    if field.value().and_then(intstr::percent).is_some_and(|percent| percent > 100) {
        errors.push(field.invalid("must not be greater than 100%"));
    }
}

/// A field that may not change. Returns whether it did not.
pub fn immutable(new: &Field, old: &Field, errors: &mut Vec<FieldError>) -> bool {
    let same = crate::object::same(new.value(), old.value());
    if !same {
        let shown = FieldError::invalid(&new.path, Value::Null, IMMUTABLE);
        errors.push(FieldError { bad_value: new.value().cloned(), ..shown });
    }
    same
}

/// A list of `metav1.Condition` (`k8s.io/apimachinery` `pkg/apis/meta/v1/validation`).
pub fn conditions(conditions: &Field, errors: &mut Vec<FieldError>) {
    let mut seen = BTreeSet::new();
    for condition in conditions.items() {
        let (kind, reason, message) = (condition.get("type"), condition.get("reason"), condition.get("message"));
        if !seen.insert(kind.text().to_owned()) {
            errors.push(kind.duplicate());
        }
        form(&kind, names::qualified_name, errors);
        let status = condition.get("status");
        if !STATUSES.contains(&status.text()) {
            errors.push(status.not_supported(&STATUSES));
        }
        if condition.get("observedGeneration").int().is_some_and(|generation| generation < 0) {
            errors.push(condition.get("observedGeneration").invalid("must be greater than or equal to zero"));
        }
        let time = condition.get("lastTransitionTime");
        if time.is_empty() {
            errors.push(time.required(""));
        }
        if reason.is_empty() {
            errors.push(reason.required(""));
        } else {
            form(&reason, condition_reason, errors);
        }
        for (text, bytes) in [(&reason, MAX_CONDITION_REASON_BYTES), (&message, MAX_CONDITION_MESSAGE_BYTES)] {
            if text.text().len() > bytes {
                errors.push(FieldError::too_long(&text.path, bytes));
            }
        }
    }
}

fn condition_reason(reason: &str) -> Vec<String> {
    let first = reason.starts_with(|c: char| c.is_ascii_alphabetic());
    let last = reason.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    let all = reason.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | ',' | ':'));
    let wrong = "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric \
                 characters or '_,:', and must end with an alphanumeric character or '_' (e.g. 'my_name',  or 'MY_NAME',  or \
                 'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex used for validation is \
                 '[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')";
    if first && last && all { Vec::new() } else { vec![wrong.to_owned()] }
}

/// A `metav1.LabelSelector`.
pub fn label_selector(selector: &Field, errors: &mut Vec<FieldError>) {
    crate::metadata::labels(&selector.get("matchLabels"), errors);
    for expression in selector.get("matchExpressions").items() {
        selector_operator(&expression, errors);
        form(&expression.get("key"), names::qualified_name, errors);
        for value in expression.get("values").items() {
            form(&value, names::label_value, errors);
        }
    }
}

/// The operator of a selector's requirement, and that it has values where it needs some.
pub fn selector_operator(requirement: &Field, errors: &mut Vec<FieldError>) {
    let (operator, values) = (requirement.get("operator"), requirement.get("values"));
    match operator.text() {
        "In" | "NotIn" if values.is_empty() => {
            errors.push(values.required("must be specified when `operator` is 'In' or 'NotIn'"));
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            errors.push(values.forbidden("may not be specified when `operator` is 'Exists' or 'DoesNotExist'"));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        _ => errors.push(operator.invalid("not a valid selector operator")),
    }
}

/// The address, if every reader takes it for the same one, or the words for what is wrong. It need not be in its
/// canonical form: [`ip_warning`] speaks of that.
pub fn ip(field: &Field, errors: &mut Vec<FieldError>) -> Option<IpAddr> {
    let known = errors.len();
    addresses::address(field, &[], errors).filter(|_| errors.len() == known)
}

/// A range of addresses that every reader takes for the same one.
pub fn cidr(field: &Field, errors: &mut Vec<FieldError>) -> Option<IpNet> {
    let known = errors.len();
    addresses::range(field, &[], errors).filter(|_| errors.len() == known)
}

/// What is said of an address that is not written as everybody writes it (RFC 5952).
pub fn ip_warning(field: &Field) -> Option<String> {
    addresses::warning(field)
}

/// What is said of a range that is not written as everybody writes it.
pub fn cidr_warning(field: &Field) -> Option<String> {
    addresses::range_warnings(field).into_iter().next()
}

/// Addresses that endpoints and external addresses may not be: they mean something on every node.
pub fn not_special(field: &Field, address: IpAddr, errors: &mut Vec<FieldError>) {
    let (unspecified, loopback, link_local, multicast) = match address {
        IpAddr::V4(ip) => (ip == Ipv4Addr::UNSPECIFIED, ip.is_loopback(), ip.is_link_local(), v4_local_multicast(ip)),
        IpAddr::V6(ip) => (ip == Ipv6Addr::UNSPECIFIED, ip.is_loopback(), v6_link_local(ip), v6_local_multicast(ip)),
    };
    if unspecified {
        errors.push(field.invalid(format!("may not be unspecified ({address})")));
    }
    if loopback {
        errors.push(field.invalid("may not be in the loopback range (127.0.0.0/8, ::1/128)"));
    }
    if link_local {
        errors.push(field.invalid("may not be in the link-local range (169.254.0.0/16, fe80::/10)"));
    }
    if multicast {
        errors.push(field.invalid("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"));
    }
}

fn v4_local_multicast(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    (a, b, c) == (224, 0, 0)
}

fn v6_link_local(ip: Ipv6Addr) -> bool {
    ip.segments()[0] & 0xffc0 == 0xfe80
}

fn v6_local_multicast(ip: Ipv6Addr) -> bool {
    ip.segments()[0] & 0xff0f == 0xff02
}

/// A domain, a slash and a path, such as `k8w.dev/ingress`.
pub fn domain_path(field: &Field, errors: &mut Vec<FieldError>) {
    match field.text().split_once('/') {
        Some((domain, path)) if !domain.is_empty() && !path.is_empty() => {
            errors.extend(
                names::dns_subdomain(domain).into_iter().map(|wrong| FieldError::invalid(&field.path, domain, wrong)),
            );
            let inner = |c: char| c.is_ascii_alphanumeric() || "/-._~%!$&'()*+,;=:".contains(c);
            if !path.chars().all(inner) {
                let wrong = "Invalid path (regex used for validation is '^[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+$')";
                errors.push(FieldError::invalid(&field.path, path, wrong));
            }
        }
        _ if field.is_empty() => errors.push(field.required("")),
        _ => errors.push(field.invalid("must be a domain-prefixed path (such as \"acme.io/foo\")")),
    }
}

/// A domain, and a path that may be `NAMESPACE.NAME`.
const SIGNER_NAME_MAX_BYTES: usize = 2 * names::DNS_SUBDOMAIN_MAX_BYTES + names::DNS_LABEL_MAX_BYTES + 2;

/// `DOMAIN/PATH`, of a domain with a dot in it: who signs certificates.
pub fn signer_name(signer: &Field, errors: &mut Vec<FieldError>) {
    if !required(signer, errors) {
        return;
    }
    let Some((domain, path)) = signer.text().split_once('/').filter(|(_, path)| !path.contains('/')) else {
        let detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        return errors.push(signer.invalid(detail));
    };
    let invalid = |part: &str, detail: String| FieldError::invalid(&signer.path, part, detail);
    let labels = |part: &str, wrong_in: fn(&str) -> Vec<String>| {
        let wrong = part.split('.').map(|label| (label, wrong_in(label))).find(|(_, all)| !all.is_empty());
        let (label, all) = wrong.unwrap_or_default();
        let errors = all.into_iter().map(|wrong| invalid(part, format!("validating label {label:?}: {wrong}")));
        errors.collect::<Vec<_>>()
    };
    if domain.len() > names::DNS_SUBDOMAIN_MAX_BYTES {
        errors.push(FieldError::too_long(&signer.path, names::DNS_SUBDOMAIN_MAX_BYTES));
    }
    errors.extend(labels(domain, names::dns_label));
    if !domain.contains('.') {
        errors.push(invalid(domain, "should be a domain with at least two segments separated by dots".to_owned()));
    }
    errors.extend(labels(path, names::dns_subdomain));
    if signer.text().len() > SIGNER_NAME_MAX_BYTES {
        errors.push(FieldError::too_long(&signer.path, SIGNER_NAME_MAX_BYTES));
    }
}

/// A path that stays below where it starts.
pub fn path_below(field: &Field, errors: &mut Vec<FieldError>) {
    if field.text().starts_with('/') {
        errors.push(field.invalid("must be a relative path"));
    }
    no_parent_steps(field, errors);
}

/// A path without `..`.
pub fn no_parent_steps(field: &Field, errors: &mut Vec<FieldError>) {
    if field.text().split('/').any(|step| step == "..") {
        errors.push(field.invalid("must not contain '..'"));
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;
    use crate::field::FieldPath;

    #[test]
    fn conditions_are_those_that_clients_can_read() {
        let value = json!([
            {"type": "Ready", "status": "True", "reason": "Works", "lastTransitionTime": "2026-01-01T00:00:00Z"},
            {"type": "Ready", "status": "Maybe", "reason": "not a reason", "observedGeneration": -1},
        ]);
        let mut errors = Vec::new();
        conditions(&Field::new(Some(&value), FieldPath::new("conditions")), &mut errors);
        let lines: String = errors.iter().map(|error| format!("{}: {}\n", error.field, error.body())).collect();
        expect![[r#"
            conditions[1].type: Duplicate value: "Ready"
            conditions[1].status: Unsupported value: "Maybe": supported values: "False", "True", "Unknown"
            conditions[1].observedGeneration: Invalid value: -1: must be greater than or equal to zero
            conditions[1].lastTransitionTime: Required value
            conditions[1].reason: Invalid value: "not a reason": a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric characters or '_,:', and must end with an alphanumeric character or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex used for validation is '[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')
        "#]].assert_eq(&lines);
    }

    #[test]
    fn addresses_read_alike_everywhere() {
        let check = |text: &str, rule: &dyn Fn(&Field, &mut Vec<FieldError>), warning: fn(&Field) -> Option<String>| {
            let value = json!(text);
            let field = Field::new(Some(&value), FieldPath::new("f"));
            let mut errors = Vec::new();
            rule(&field, &mut errors);
            let mut lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
            lines.extend(warning(&field));
            lines.into_iter().map(|line| line + "\n").collect::<String>()
        };
        let ips = ["10.9.8.7", "010.9.8.7", "::ffff:10.9.8.7", "FE80::A", "10.9.8"];
        let lines: String = ips.map(|text| check(text, &|f, e| _ = ip(f, e), ip_warning)).concat();
        expect![[r#"
            f: Invalid value: "010.9.8.7": must not have leading 0s
            f: non-standard IP address "010.9.8.7" will be considered invalid in a future Kubernetes release: use "10.9.8.7"
            f: Invalid value: "::ffff:10.9.8.7": must not be an IPv4-mapped IPv6 address
            f: non-standard IP address "::ffff:10.9.8.7" will be considered invalid in a future Kubernetes release: use "10.9.8.7"
            f: IPv6 address "FE80::A" should be in RFC 5952 canonical format ("fe80::a")
            f: Invalid value: "10.9.8": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
        "#]]
        .assert_eq(&lines);
        let ranges = ["10.9.8.0/24", "10.9.8.7/24", "10.9.08.0/24", "10.9.8.0/024", "2001:DB8::/64", "10.9.8.0"];
        let lines: String = ranges.map(|text| check(text, &|f, e| _ = cidr(f, e), cidr_warning)).concat();
        expect![[r#"
            f: Invalid value: "10.9.8.7/24": must not have bits set beyond the prefix length
            f: CIDR value "10.9.8.7/24" is ambiguous in this context (should be "10.9.8.0/24" or "10.9.8.7/32"?)
            f: Invalid value: "10.9.08.0/24": must not have leading 0s in IP or prefix length
            f: non-standard CIDR value "10.9.08.0/24" will be considered invalid in a future Kubernetes release: use "10.9.8.0/24"
            f: Invalid value: "10.9.8.0/024": must not have leading 0s in IP or prefix length
            f: non-standard CIDR value "10.9.8.0/024" will be considered invalid in a future Kubernetes release: use "10.9.8.0/24"
            f: IPv6 CIDR value "2001:DB8::/64" should be in RFC 5952 canonical format ("2001:db8::/64")
            f: Invalid value: "10.9.8.0": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)
        "#]]
        .assert_eq(&lines);
    }
}
