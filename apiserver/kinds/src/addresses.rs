//! IP addresses and ranges of them in fields: which spellings are taken (KEP-4858), and Kubernetes' words for what is wrong.
//!
//! What was stored when more was taken may be written again: rules get what was there before.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

use crate::field::{Field, FieldError};

const NO_ADDRESS: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
const NO_RANGE: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
const BITS_BEYOND: &str = "must not have bits set beyond the prefix length";

/// The address that a text stands for, however it is spelled, and what is wrong with the spelling.
pub fn read(text: &str) -> (Option<IpAddr>, Option<&'static str>) {
    match text.parse::<IpAddr>() {
        Ok(address) if is_mapped(address) => (Some(address), Some("must not be an IPv4-mapped IPv6 address")),
        Ok(address) => (Some(address), None),
        Err(_) => match without_leading_zeros(text).parse() {
            Ok(address) => (Some(address), Some("must not have leading 0s")),
            Err(_) => (None, Some(NO_ADDRESS)),
        },
    }
}

/// The same of a range. Bits beyond its prefix are not part of it.
pub fn read_range(text: &str) -> (Option<IpNet>, Option<&'static str>) {
    let Some((address, bits)) = text.split_once('/') else { return (None, Some(NO_RANGE)) };
    let is_number = !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit());
    let (Some(ip), wrong) = read(address) else { return (None, Some(NO_RANGE)) };
    let prefix = bits.parse().ok().filter(|_| is_number).and_then(|bits| IpNet::new(ip, bits).ok());
    let Some(range) = prefix else { return (None, Some(NO_RANGE)) };
    let has_zeros = bits.len() > 1 && bits.starts_with('0');
    let wrong = match wrong {
        _ if has_zeros => Some("must not have leading 0s in IP or prefix length"),
        Some(_) if is_mapped(ip) => Some("must not have an IPv4-mapped IPv6 address"),
        Some(_) => Some("must not have leading 0s in IP or prefix length"),
        None if range.addr() != range.network() => Some(BITS_BEYOND),
        None => None,
    };
    (Some(range.trunc()), wrong)
}

/// An address of either family. `before` are those that need not be spelled well.
pub fn address(field: &Field, before: &[&str], errors: &mut Vec<FieldError>) -> Option<IpAddr> {
    let (address, wrong) = read(field.text());
    errors.extend(wrong.filter(|_| !before.contains(&field.text())).map(|wrong| field.invalid(wrong)));
    address
}

/// A range of either family. `before` are those that need not be spelled well.
pub fn range(field: &Field, before: &[&str], errors: &mut Vec<FieldError>) -> Option<IpNet> {
    let (range, wrong) = read_range(field.text());
    errors.extend(wrong.filter(|_| !before.contains(&field.text())).map(|wrong| field.invalid(wrong)));
    range
}

/// What is wrong with an address that must be spelled in the one way that is canonical.
pub fn canonical(text: &str) -> Vec<String> {
    match read(text) {
        (_, Some(wrong)) => vec![wrong.to_owned()],
        (Some(address), None) if address.to_string() != text => {
            vec![format!("must be in canonical form ({:?})", address.to_string())]
        }
        _ => Vec::new(),
    }
}

/// A range that must be spelled in the one way that is canonical.
pub fn canonical_range(field: &Field, errors: &mut Vec<FieldError>) {
    match read_range(field.text()) {
        (_, Some(wrong)) => errors.push(field.invalid(wrong)),
        (Some(range), None) if range.to_string() != field.text() => {
            errors.push(field.invalid(format!("must be in canonical form ({:?})", range.to_string())));
        }
        _ => {}
    }
}

/// What the writer of an address is told whose spelling is taken, and not the usual one.
pub fn warning(field: &Field) -> Option<String> {
    let (path, text) = (field.path, field.text());
    let (address, wrong) = read(text);
    let address = address?;
    let usual = match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or_else(|| v6.to_string(), |v4| v4.to_string()),
        IpAddr::V4(v4) => v4.to_string(),
    };
    if wrong.is_some() {
        return Some(format!(
            "{path}: non-standard IP address {text:?} will be considered invalid in a future Kubernetes release: use {usual:?}"
        ));
    }
    let canonical = || format!("{path}: IPv6 address {text:?} should be in RFC 5952 canonical format ({usual:?})");
    (address.is_ipv6() && usual != text).then(canonical)
}

/// The same of a range.
pub fn range_warnings(field: &Field) -> Vec<String> {
    let (path, text) = (field.path, field.text());
    let (Some(range), wrong) = read_range(text) else { return Vec::new() };
    let mut warnings = Vec::new();
    let address = text.split_once('/').and_then(|(address, _)| read(address).0);
    if let Some(address) = address.filter(|address| *address != range.addr()) {
        let one = format!("{address}/{}", range.max_prefix_len());
        warnings.push(format!(
            "{path}: CIDR value {text:?} is ambiguous in this context (should be {:?} or {one:?}?)",
            range.to_string()
        ));
    }
    if wrong.is_some_and(|wrong| wrong != BITS_BEYOND) {
        warnings.push(format!(
            "{path}: non-standard CIDR value {text:?} will be considered invalid in a future Kubernetes release: use {:?}",
            range.to_string()
        ));
    }
    if warnings.is_empty() && range.addr().is_ipv6() && range.to_string() != text {
        warnings.push(format!(
            "{path}: IPv6 CIDR value {text:?} should be in RFC 5952 canonical format ({:?})",
            range.to_string()
        ));
    }
    warnings
}

fn is_mapped(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if Ipv6Addr::to_ipv4_mapped(&v6).is_some())
}

/// The text with the numbers of its IPv4 address as they would be without leading zeros.
fn without_leading_zeros(text: &str) -> String {
    let (v6, v4) = text.rsplit_once(':').map_or(("", text), |(v6, v4)| (v6, v4));
    let number = |part: &str| match part.trim_start_matches('0') {
        "" if !part.is_empty() => "0".to_owned(),
        rest => rest.to_owned(),
    };
    let v4 = v4.split('.').map(number).collect::<Vec<_>>();
    match (v4.len(), v6) {
        (4, "") if !text.contains(':') => v4.join("."),
        (4, v6) => format!("{v6}:{}", v4.join(".")),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::field::FieldPath;

    #[test]
    fn addresses_are_spelled_in_few_ways() {
        for (text, wrong) in [
            ("10.9.8.7", None),
            ("2001:DB8:0::1", None),
            ("010.9.8.007", Some("must not have leading 0s")),
            ("::ffff:1.2.3.04", Some("must not have leading 0s")),
            ("::ffff:1.2.3.4", Some("must not be an IPv4-mapped IPv6 address")),
            ("10.9.8", Some(NO_ADDRESS)),
            ("10.9.8.256", Some(NO_ADDRESS)),
            ("fe80::1%eth0", Some(NO_ADDRESS)),
            ("", Some(NO_ADDRESS)),
        ] {
            assert_eq!(read(text).1, wrong, "{text}");
        }
        assert_eq!(canonical("2001:DB8:0::1"), [r#"must be in canonical form ("2001:db8::1")"#]);
        assert_eq!(canonical("2001:db8::1"), [""; 0]);
    }

    #[test]
    fn ranges_are_spelled_in_few_ways() {
        let zeros = Some("must not have leading 0s in IP or prefix length");
        for (text, wrong) in [
            ("10.0.0.0/8", None),
            ("2001:db8::/64", None),
            ("010.0.0.0/8", zeros),
            ("10.0.0.0/08", zeros),
            ("::ffff:10.0.0.0/104", Some("must not have an IPv4-mapped IPv6 address")),
            ("10.0.0.1/8", Some(BITS_BEYOND)),
            ("10.0.0.0/33", Some(NO_RANGE)),
            ("10.0.0.0/+8", Some(NO_RANGE)),
            ("10.0.0.0", Some(NO_RANGE)),
        ] {
            assert_eq!(read_range(text).1, wrong, "{text}");
        }
        assert_eq!(read_range("10.0.0.1/8").0, "10.0.0.0/8".parse().ok());
    }

    #[test]
    fn unusual_spellings_are_told() {
        let of = |text: &str| {
            let value = Value::from(text);
            let field = Field::new(Some(&value), FieldPath::new("ip"));
            if text.contains('/') { range_warnings(&field) } else { warning(&field).into_iter().collect() }
        };
        for (text, told) in [
            ("10.0.0.1", ""),
            ("2001:DB8::1", r#"ip: IPv6 address "2001:DB8::1" should be in RFC 5952 canonical format ("2001:db8::1")"#),
            (
                "::ffff:10.0.0.1",
                r#"ip: non-standard IP address "::ffff:10.0.0.1" will be considered invalid in a future Kubernetes release: use "10.0.0.1""#,
            ),
            ("10.0.0.0/8", ""),
            (
                "10.0.0.1/8",
                r#"ip: CIDR value "10.0.0.1/8" is ambiguous in this context (should be "10.0.0.0/8" or "10.0.0.1/32"?)"#,
            ),
            (
                "010.0.0.0/8",
                r#"ip: non-standard CIDR value "010.0.0.0/8" will be considered invalid in a future Kubernetes release: use "10.0.0.0/8""#,
            ),
            (
                "2001:DB8::/64",
                r#"ip: IPv6 CIDR value "2001:DB8::/64" should be in RFC 5952 canonical format ("2001:db8::/64")"#,
            ),
        ] {
            assert_eq!(of(text).join("; "), told, "{text}");
        }
    }
}
