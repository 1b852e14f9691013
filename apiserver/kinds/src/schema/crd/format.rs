//! The `format`s of strings that are checked (`k8s.io/kube-openapi/pkg/validation/strfmt`); others are not.

use std::net::{Ipv4Addr, Ipv6Addr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::names;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    BsonObjectId,
    Byte,
    Cidr,
    CreditCard,
    Date,
    DateTime,
    Duration,
    Email,
    HexColor,
    Hostname,
    Ipv4,
    Ipv6,
    Isbn,
    Isbn10,
    Isbn13,
    K8sLongName,
    K8sShortName,
    Mac,
    RgbColor,
    Ssn,
    Uri,
    Uuid,
    Uuid3,
    Uuid4,
    Uuid5,
}

/// As they are told; `-` does not count where they are written.
const NAMES: [(&str, Format); 25] = [
    ("bsonobjectid", Format::BsonObjectId),
    ("byte", Format::Byte),
    ("cidr", Format::Cidr),
    ("creditcard", Format::CreditCard),
    ("date", Format::Date),
    ("date-time", Format::DateTime),
    ("duration", Format::Duration),
    ("email", Format::Email),
    ("hexcolor", Format::HexColor),
    ("hostname", Format::Hostname),
    ("ipv4", Format::Ipv4),
    ("ipv6", Format::Ipv6),
    ("isbn", Format::Isbn),
    ("isbn10", Format::Isbn10),
    ("isbn13", Format::Isbn13),
    ("k8s-long-name", Format::K8sLongName),
    ("k8s-short-name", Format::K8sShortName),
    ("mac", Format::Mac),
    ("rgbcolor", Format::RgbColor),
    ("ssn", Format::Ssn),
    ("uri", Format::Uri),
    ("uuid", Format::Uuid),
    ("uuid3", Format::Uuid3),
    ("uuid4", Format::Uuid4),
    ("uuid5", Format::Uuid5),
];

/// Whether a `format` of strings means anything. Any text is a password.
pub(in crate::schema) fn is_known(name: &str) -> bool {
    name == "password" || Format::named(name).is_some()
}

impl Format {
    pub fn named(name: &str) -> Option<Format> {
        let letters = |text: &str| text.replace('-', "");
        let name = letters(name);
        NAMES.iter().find(|(known, _)| letters(known) == name).map(|(_, format)| *format)
    }

    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(_, format)| *format == self).map_or("", |(name, _)| name)
    }

    pub fn fits(self, text: &str) -> bool {
        match self {
            Format::BsonObjectId => text.len() == 24 && text.bytes().all(|b| b.is_ascii_hexdigit()),
            Format::Byte => BASE64.decode(text).is_ok(),
            Format::Cidr => text.contains('/') && text.parse::<ipnet::IpNet>().is_ok(),
            Format::CreditCard => is_credit_card(text),
            Format::Date => is_date(text),
            Format::DateTime => text.as_bytes().get(10) == Some(&b'T') && text.parse::<jiff::Timestamp>().is_ok(),
            Format::Duration => is_duration(text),
            Format::Email => text.split_once('@').is_some_and(|(name, host)| !name.is_empty() && is_hostname(host)),
            Format::HexColor => {
                let digits = text.strip_prefix('#').unwrap_or(text);
                matches!(digits.len(), 3 | 6) && digits.bytes().all(|b| b.is_ascii_hexdigit())
            }
            Format::Hostname => is_hostname(text),
            Format::Ipv4 => text.parse::<Ipv4Addr>().is_ok(),
            Format::Ipv6 => text.parse::<Ipv6Addr>().is_ok(),
            Format::Isbn => is_isbn10(text) || is_isbn13(text),
            Format::Isbn10 => is_isbn10(text),
            Format::Isbn13 => is_isbn13(text),
            Format::K8sLongName => names::dns_subdomain(text).is_empty(),
            Format::K8sShortName => names::dns_label(text).is_empty(),
            Format::Mac => is_mac(text),
            Format::RgbColor => is_rgb_color(text),
            Format::Ssn => is_ssn(text),
            Format::Uri => is_uri(text),
            Format::Uuid => is_uuid(text),
            Format::Uuid3 => uuid_version(text) == Some('3'),
            Format::Uuid4 => uuid_version(text) == Some('4'),
            Format::Uuid5 => uuid_version(text) == Some('5'),
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

/// The version of a UUID; from the fourth on, its variant must be the RFC's too.
fn uuid_version(text: &str) -> Option<char> {
    let digits: Vec<char> = text.chars().filter(|c| *c != '-').collect();
    let version = *digits.get(12).filter(|_| is_uuid(text))?;
    let variant = matches!(digits.get(16)?.to_ascii_lowercase(), '8' | '9' | 'a' | 'b');
    (version == '3' || variant).then_some(version)
}

/// Digits, of which the last makes a weighted sum come out even (ISO 2108).
fn isbn_digits(text: &str) -> Vec<u32> {
    let symbols = text.chars().filter(|c| !matches!(c, '-' | ' '));
    symbols.map(|c| if matches!(c, 'x' | 'X') { 10 } else { c.to_digit(10).unwrap_or(99) }).collect()
}

fn is_isbn10(text: &str) -> bool {
    let digits = isbn_digits(text);
    let valid = digits.iter().enumerate().all(|(i, d)| *d < 10 || (i == 9 && *d == 10));
    digits.len() == 10 && valid && digits.iter().zip(1..).map(|(d, weight)| d * weight).sum::<u32>() % 11 == 0
}

fn is_isbn13(text: &str) -> bool {
    let digits = isbn_digits(text);
    let weighted = digits.iter().zip([1, 3].into_iter().cycle()).map(|(d, weight)| d * weight);
    digits.len() == 13 && digits.iter().all(|d| *d < 10) && weighted.sum::<u32>() % 10 == 0
}

/// ISO/IEC 7812: 13 to 16 digits with Luhn's check digit, whatever stands between them.
fn is_credit_card(text: &str) -> bool {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(10)).collect();
    let doubled = |(i, d): (usize, &u32)| if i % 2 == 1 { d * 2 / 10 + d * 2 % 10 } else { *d };
    (13..=16).contains(&digits.len()) && digits.iter().rev().enumerate().map(doubled).sum::<u32>() % 10 == 0
}

/// `rgb(0,128,255)`.
fn is_rgb_color(text: &str) -> bool {
    let inside = text.strip_prefix("rgb(").and_then(|rest| rest.strip_suffix(')'));
    let parts: Vec<&str> = inside.unwrap_or_default().split(',').map(str::trim).collect();
    parts.len() == 3 && parts.iter().all(|part| part.parse::<u8>().is_ok())
}

/// `123-45-6789`, or with spaces or nothing between.
fn is_ssn(text: &str) -> bool {
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let (mut groups, mut left) = ([3, 2, 4].into_iter().peekable(), text);
    while let Some(length) = groups.next() {
        let Some((group, rest)) = left.split_at_checked(length) else { return false };
        if !group.bytes().all(|b| b.is_ascii_digit()) {
            return false;
        }
        left = if groups.peek().is_some() { rest.strip_prefix(['-', ' ']).unwrap_or(rest) } else { rest };
    }
    digits == 9 && left.is_empty()
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
