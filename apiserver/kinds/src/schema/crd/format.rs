//! The `format`s of strings that are checked (`k8s.io/kube-openapi/pkg/validation/strfmt`); others are not.

use std::net::{Ipv4Addr, Ipv6Addr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Byte,
    Cidr,
    Date,
    DateTime,
    Duration,
    Email,
    Hostname,
    Ipv4,
    Ipv6,
    Mac,
    Uri,
    Uuid,
}

const NAMES: [(&str, Format); 13] = [
    ("byte", Format::Byte),
    ("cidr", Format::Cidr),
    ("date", Format::Date),
    ("date-time", Format::DateTime),
    ("datetime", Format::DateTime),
    ("duration", Format::Duration),
    ("email", Format::Email),
    ("hostname", Format::Hostname),
    ("ipv4", Format::Ipv4),
    ("ipv6", Format::Ipv6),
    ("mac", Format::Mac),
    ("uri", Format::Uri),
    ("uuid", Format::Uuid),
];

impl Format {
    pub fn named(name: &str) -> Option<Format> {
        NAMES.iter().find(|(n, _)| *n == name).map(|(_, format)| *format)
    }

    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(_, format)| *format == self).map_or("", |(name, _)| name)
    }

    pub fn fits(self, text: &str) -> bool {
        match self {
            Format::Byte => BASE64.decode(text).is_ok(),
            Format::Cidr => text.contains('/') && text.parse::<ipnet::IpNet>().is_ok(),
            Format::Date => is_date(text),
            Format::DateTime => text.as_bytes().get(10) == Some(&b'T') && text.parse::<jiff::Timestamp>().is_ok(),
            Format::Duration => is_duration(text),
            Format::Email => text.split_once('@').is_some_and(|(name, host)| !name.is_empty() && is_hostname(host)),
            Format::Hostname => is_hostname(text),
            Format::Ipv4 => text.parse::<Ipv4Addr>().is_ok(),
            Format::Ipv6 => text.parse::<Ipv6Addr>().is_ok(),
            Format::Mac => is_mac(text),
            Format::Uri => is_uri(text),
            Format::Uuid => is_uuid(text),
        }
    }
}

/// RFC 3339 full-date.
fn is_date(text: &str) -> bool {
    text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok()
}

/// RFC 1123.
fn is_hostname(text: &str) -> bool {
    let is_label = |label: &str| {
        let inside = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        (1..=63).contains(&label.len()) && label.bytes().all(inside) && !label.starts_with('-') && !label.ends_with('-')
    };
    text.len() <= 255 && text.trim_end_matches('.').split('.').all(is_label)
}

fn is_mac(text: &str) -> bool {
    let separator = if text.contains('-') { '-' } else { ':' };
    let parts: Vec<&str> = text.split(separator).collect();
    matches!(parts.len(), 6 | 8) && parts.iter().all(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// RFC 4122, with or without dashes.
fn is_uuid(text: &str) -> bool {
    let dashes: Vec<usize> = text.match_indices('-').map(|(i, _)| i).collect();
    let hex = text.bytes().filter(|b| *b != b'-').all(|b| b.is_ascii_hexdigit());
    hex && matches!((text.len(), dashes.as_slice()), (32, []) | (36, [8, 13, 18, 23]))
}

fn is_uri(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else { return text.starts_with('/') };
    let valid = |b: u8| b.is_ascii_alphanumeric() || b"+-.".contains(&b);
    scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(valid)
        && !rest.is_empty()
        && !text.contains(|c: char| c.is_control() || c == ' ')
}

/// Go's durations (`1h30m`), and a number with a unit in words (`3 days`).
fn is_duration(text: &str) -> bool {
    let go_units = ["ns", "us", "µs", "ms", "s", "m", "h"];
    let words = ["second", "sec", "minute", "min", "hour", "hr", "day", "week", "millisecond", "d", "w"];
    let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    if rest == "0" {
        return true;
    }
    let mut any = false;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        if number == 0 || rest[..number].parse::<f64>().is_err() {
            return false;
        }
        rest = rest[number..].trim_start();
        let unit = rest.find(|c: char| c.is_ascii_digit() || c == ' ').unwrap_or(rest.len());
        let name = &rest[..unit];
        if !go_units.contains(&name) && !words.contains(&name.trim_end_matches('s')) {
            return false;
        }
        rest = rest[unit..].trim_start();
        any = true;
    }
    any
}
