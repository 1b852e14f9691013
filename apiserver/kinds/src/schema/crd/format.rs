//! The `format`s of strings that are checked (`k8s.io/kube-openapi/pkg/validation/strfmt`); others are not.

use std::net::Ipv6Addr;
use std::sync::LazyLock;

use regex::Regex;

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

/// `-` does not count where they are written.
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

    pub fn fits(self, text: &str) -> bool {
        match self {
            Format::BsonObjectId => text.len() == 24 && text.bytes().all(|b| b.is_ascii_hexdigit()),
            Format::Byte => matches(&BASE64, text),
            Format::Cidr => is_cidr(text),
            Format::CreditCard => is_credit_card(text),
            Format::Date => is_date(text),
            Format::DateTime => is_date_time(text),
            Format::Duration => is_go_duration(text) || is_duration(text),
            Format::Email => is_email(text),
            Format::HexColor => {
                let digits = text.strip_prefix('#').unwrap_or(text);
                matches!(digits.len(), 3 | 6) && digits.bytes().all(|b| b.is_ascii_hexdigit())
            }
            Format::Hostname => is_hostname(text),
            Format::Ipv4 => is_ipv4(text),
            Format::Ipv6 => text.parse::<Ipv6Addr>().is_ok(),
            Format::Isbn => is_isbn10(text) || is_isbn13(text),
            Format::Isbn10 => is_isbn10(text),
            Format::Isbn13 => is_isbn13(text),
            Format::K8sLongName => names::dns_subdomain(text).is_empty(),
            Format::K8sShortName => names::dns_label(text).is_empty(),
            Format::Mac => is_mac(text),
            Format::RgbColor => is_rgb_color(text),
            Format::Ssn => text.len() == 11 && matches(&SSN, text),
            Format::Uri => is_uri(text),
            Format::Uuid => matches(&UUID, text),
            Format::Uuid3 => uuid_version(text) == Some('3'),
            Format::Uuid4 => uuid_version(text) == Some('4'),
            Format::Uuid5 => uuid_version(text) == Some('5'),
        }
    }
}

/// A constant; a test compiles all of them.
macro_rules! pattern {
    ($name:ident, $pattern:literal) => {
        static $name: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new($pattern).ok());
    };
}

pattern!(BASE64, "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{4})$");
pattern!(
    CREDIT_CARD,
    "^(?:4[0-9]{12}(?:[0-9]{3})?|5[1-5][0-9]{14}|6(?:011|5[0-9][0-9])[0-9]{12}|3[47][0-9]{13}|3(?:0[0-5]|[68][0-9])[0-9]{11}|(?:2131|1800|35[0-9]{3})[0-9]{11})$"
);
pattern!(DURATION, r"([0-9]+)[\t\n\x0C\r ]*([A-Za-zµ]+)");
pattern!(
    HOSTNAME,
    r"^([a-zA-Z0-9\p{S}\p{L}]((-?[a-zA-Z0-9\p{S}\p{L}]{0,62})?)|([a-zA-Z0-9\p{S}\p{L}](([a-zA-Z0-9-\p{S}\p{L}]{0,61}[a-zA-Z0-9\p{S}\p{L}])?)(\.)){1,}([a-zA-Z\p{L}]){2,63})$"
);
pattern!(SSN, "^[0-9]{3}[- ]?[0-9]{2}[- ]?[0-9]{4}$");
pattern!(TIME, "^([0-9]{2}):([0-9]{2}):([0-9]{2})(.[0-9]+)?(z|([+-][0-9]{2}:[0-9]{2}))$");
pattern!(UUID, "(?i-u)^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$");

fn matches(pattern: &Option<Regex>, text: &str) -> bool {
    pattern.as_ref().is_some_and(|pattern| pattern.is_match(text))
}

/// RFC 3339 full-date.
fn is_date(text: &str) -> bool {
    text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok()
}

/// RFC 3339 date-time, in either case, without leap seconds.
fn is_date_time(text: &str) -> bool {
    let lower = text.to_lowercase();
    let mut parts = lower.split('t');
    let (Some(date), Some(time)) = (parts.next(), parts.next()) else { return false };
    let captured = TIME.as_ref().and_then(|pattern| pattern.captures(time));
    let Some(time) = captured.filter(|_| is_date(date)) else { return false };
    &time[1] <= "23" && &time[2] <= "59" && &time[3] <= "59"
}

/// RFC 1123, also with letters of other scripts.
fn is_hostname(text: &str) -> bool {
    matches(&HOSTNAME, text) && text.len() <= 255 && text.split('.').all(|label| label.len() <= 63)
}

/// An address and, in angle brackets, perhaps a name before it (RFC 5322).
fn is_email(text: &str) -> bool {
    let text = text.trim_matches([' ', '\t']);
    let address = match text.strip_suffix('>').and_then(|rest| rest.rsplit_once('<')) {
        Some((name, address)) if !name.contains(['<', '>', '@', ',', ';', ':', '[', ']', '(', ')']) => address,
        Some(_) => return false,
        None => text,
    };
    let Some((local, domain)) = address.rsplit_once('@') else { return false };
    let is_atom = |text: &str| {
        let inside = |c: char| c.is_ascii_alphanumeric() || !c.is_ascii() || "!#$%&'*+-/=?^_`{|}~".contains(c);
        text.split('.').all(|part| !part.is_empty() && part.chars().all(inside))
    };
    let quoted = local.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let literal = domain.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let is_local = quoted.map_or_else(|| is_atom(local), |inside| !inside.contains(['"', '\n', '\r']));
    is_local && literal.map_or_else(|| is_atom(domain), |inside| inside.parse::<std::net::IpAddr>().is_ok())
}

/// Zeros may lead, as in older versions of Go.
fn is_ipv4(text: &str) -> bool {
    let is_part = |part: &str| {
        (1..=16).contains(&part.len())
            && part.bytes().all(|b| b.is_ascii_digit())
            && part.parse::<u64>().is_ok_and(|part| part < 256)
    };
    let is_plain = text.split('.').count() == 4 && text.split('.').all(is_part);
    is_plain || text.contains('.') && text.parse::<Ipv6Addr>().is_ok()
}

fn is_cidr(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else { return false };
    let most = match address.contains(':') {
        true if address.parse::<Ipv6Addr>().is_ok() => 128,
        false if is_ipv4(address) => 32,
        _ => return false,
    };
    length.bytes().all(|b| b.is_ascii_digit()) && length.parse::<u32>().is_ok_and(|length| length <= most)
}

/// Six, eight or twenty octets, one or two in a group.
fn is_mac(text: &str) -> bool {
    let (separator, digits) =
        if text.contains('.') { ('.', 4) } else { (if text.contains('-') { '-' } else { ':' }, 2) };
    let groups: Vec<&str> = text.split(separator).collect();
    let hex = |group: &&str| group.len() == digits && group.bytes().all(|b| b.is_ascii_hexdigit());
    matches!(groups.len() * digits / 2, 6 | 8 | 20) && groups.iter().all(hex)
}

/// The version of a UUID; from the fourth on, its variant must be the RFC's too.
fn uuid_version(text: &str) -> Option<char> {
    let digits: Vec<char> = text.chars().filter(|c| *c != '-').collect();
    let version = *digits.get(12).filter(|_| matches(&UUID, text))?;
    let variant = matches!(digits.get(16)?.to_ascii_lowercase(), '8' | '9' | 'a' | 'b');
    (version == '3' || variant).then_some(version)
}

/// Digits, of which the last makes a weighted sum come out even (ISO 2108).
fn isbn_digits(text: &str) -> Vec<u32> {
    let symbols = text.chars().filter(|c| !matches!(c, '-' | ' ' | '\t' | '\n' | '\r' | '\x0c'));
    symbols.map(|c| if c == 'X' { 10 } else { c.to_digit(10).unwrap_or(99) }).collect()
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

/// ISO/IEC 7812: the numbers that issuers give, with Luhn's check digit, whatever stands between the digits.
fn is_credit_card(text: &str) -> bool {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let numbers: Vec<u32> = digits.chars().filter_map(|c| c.to_digit(10)).collect();
    let doubled = |(i, d): (usize, &u32)| if i % 2 == 1 { d * 2 / 10 + d * 2 % 10 } else { *d };
    matches(&CREDIT_CARD, &digits) && numbers.iter().rev().enumerate().map(doubled).sum::<u32>() % 10 == 0
}

/// `rgb(0,128,255)`, without leading zeros.
fn is_rgb_color(text: &str) -> bool {
    let inside = text.strip_prefix("rgb(").and_then(|rest| rest.strip_suffix(')'));
    let blank = |c: char| matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0c');
    let parts: Vec<&str> = inside.unwrap_or_default().split(',').map(|part| part.trim_matches(blank)).collect();
    let is_part = |part: &&str| {
        part.bytes().all(|b| b.is_ascii_digit())
            && (!part.starts_with('0') || *part == "0")
            && part.parse::<u8>().is_ok()
    };
    parts.len() == 3 && parts.iter().all(is_part)
}

/// What stands in the first line of a request (RFC 9112, section 3.2), as Go reads it: a URI with a scheme, or a path.
fn is_uri(text: &str) -> bool {
    if text == "*" {
        return true;
    }
    if text.is_empty() || text.contains(|c: char| c.is_ascii_control()) {
        return false;
    }
    let scheme = text.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '+' | '-' | '.'));
    let (has_scheme, rest) = match scheme.filter(|at| text[*at..].starts_with(':')) {
        Some(0) => return false,
        Some(at) if text.starts_with(|c: char| c.is_ascii_alphabetic()) => (true, &text[at + 1..]),
        _ => (false, text),
    };
    let path = match rest.strip_prefix("//").filter(|_| has_scheme) {
        Some(below) => {
            let (authority, path) = below.split_at(below.find(['/', '?']).unwrap_or(below.len()));
            if !is_authority(authority) {
                return false;
            }
            path
        }
        None if rest.starts_with('/') => rest,
        // `mailto:a@b`
        None => return has_scheme,
    };
    is_escaped(path.split('?').next().unwrap_or_default())
}

fn is_authority(authority: &str) -> bool {
    let (user, host) = authority.rsplit_once('@').map_or(("", authority), |(user, host)| (user, host));
    let in_user = |c: char| c.is_ascii_alphanumeric() || "-._:~!$&'()*+,;=%@".contains(c);
    let bare = match host.strip_prefix('[') {
        Some(inside) => match inside.rsplit_once(']') {
            Some((_, port)) => port,
            None => return false,
        },
        None => host,
    };
    let port = bare.rsplit_once(':').map_or("", |(_, port)| port);
    let in_host = |c: char| !c.is_ascii() || c.is_ascii_alphanumeric() || "!$&'()*+,;=:[]<>\"-_.~%".contains(c);
    user.chars().all(in_user)
        && is_escaped(user)
        && port.bytes().all(|b| b.is_ascii_digit())
        && host.chars().all(in_host)
        && is_escaped(host)
}

/// Every `%` is followed by two digits.
fn is_escaped(text: &str) -> bool {
    let hex = |rest: &str| rest.len() >= 2 && rest.bytes().take(2).all(|b| b.is_ascii_hexdigit());
    text.split('%').skip(1).all(hex)
}

/// Go's durations: `1h30m`.
fn is_go_duration(text: &str) -> bool {
    let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    if rest == "0" {
        return true;
    }
    let mut any = false;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let digits = &rest[..number];
        if digits.matches('.').count() > 1 || !digits.contains(|c: char| c.is_ascii_digit()) {
            return false;
        }
        rest = &rest[number..];
        let unit = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        if !["ns", "us", "µs", "μs", "ms", "s", "m", "h"].contains(&&rest[..unit]) {
            return false;
        }
        rest = &rest[unit..];
        any = true;
    }
    any
}

/// Units of durations in words; the last of each may go on (`3 days`).
const UNITS: [&[&str]; 8] = [
    &["ns", "nano"],
    &["us", "µs", "micro"],
    &["ms", "milli"],
    &["s", "sec"],
    &["m", "min"],
    &["h", "hr", "hour"],
    &["d", "day"],
    &["w", "wk", "week"],
];

/// A number with a unit in words, whatever stands around it.
fn is_duration(text: &str) -> bool {
    let mut any = false;
    for found in DURATION.iter().flat_map(|pattern| pattern.captures_iter(text)) {
        if found[1].parse::<i64>().is_err() {
            return false;
        }
        let unit = found[2].to_lowercase();
        let fits = |names: &&&[&str]| {
            names.contains(&unit.as_str()) || names.last().is_some_and(|last| unit.starts_with(last))
        };
        any |= UNITS.iter().any(|names| fits(&names));
    }
    any
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_those_of_kubernetes() {
        let cases = [
            ("byte", "YQ==", true),
            ("byte", "", false),
            ("byte", "YQ", false),
            ("cidr", "010.0.0.0/08", true),
            ("cidr", "10.0.0.0/33", false),
            ("cidr", "fd00::/64", true),
            ("creditcard", "4111-1111-1111-1111", true),
            ("creditcard", "0000000000000000", false),
            ("date", "2024-02-29", true),
            ("date", "2023-02-29", false),
            ("date-time", "2024-01-01T00:00:00Z", true),
            ("datetime", "2024-01-01t00:00:00.5+01:00", true),
            ("date-time", "2024-01-01T00:00:60Z", false),
            ("date-time", "2024-01-01 00:00:00Z", false),
            ("date-time", "2024-01-01T24:00:00Z", false),
            ("duration", "1h30m", true),
            ("duration", "1.5h", true),
            ("duration", "3 days", true),
            ("duration", "in 2 weeks", true),
            ("duration", "3 moons", false),
            ("duration", "", false),
            ("email", "a.b+c@example.com", true),
            ("email", "A <a@b>", true),
            ("email", "a..b@c", false),
            ("email", "a", false),
            ("hostname", "a-b.example.com", true),
            ("hostname", "a_b", false),
            ("hostname", "a.b.1", false),
            ("ipv4", "010.1.1.1", true),
            ("ipv4", "::ffff:1.2.3.4", true),
            ("ipv4", "1.2.3", false),
            ("ipv6", "fd00::1", true),
            ("ipv6", "1.2.3.4", false),
            ("isbn", "0-321-75104-3", true),
            ("isbn13", "978-0321751041", true),
            ("isbn10", "080442957x", false),
            ("mac", "01:23:45:67:89:ab", true),
            ("mac", "0123.4567.89ab", true),
            ("mac", "01:23", false),
            ("rgbcolor", "rgb(0, 10,255)", true),
            ("rgbcolor", "rgb(00,0,0)", false),
            ("ssn", "111-11-1111", true),
            ("ssn", "111111111", false),
            ("uri", "https://u@example.com:80/a b?c", true),
            ("uri", "mailto:a@b", true),
            ("uri", "/a", true),
            ("uri", "a", false),
            ("uri", "https://a b/", false),
            ("uri", "/%zz", false),
            ("uuid", "00000000-0000-0000-0000-000000000000", true),
            ("uuid", "00000000000000000000-000000000000", true),
            ("uuid4", "00000000-0000-4000-0000-000000000000", false),
            ("uuid4", "00000000-0000-4000-8000-000000000000", true),
            ("k8s-short-name", "a-", false),
            ("k8s-long-name", "a.b", true),
            ("bsonobjectid", "507f1f77bcf86cd799439011", true),
            ("hexcolor", "#fff", true),
        ];
        for (format, text, fits) in cases {
            assert_eq!(Format::named(format).map(|format| format.fits(text)), Some(fits), "{format} {text}");
        }
        let all = [&*BASE64, &*CREDIT_CARD, &*DURATION, &*HOSTNAME, &*SSN, &*TIME, &*UUID];
        assert!(all.into_iter().all(Option::is_some));
    }
}
