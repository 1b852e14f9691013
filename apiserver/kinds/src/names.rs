//! The forms that names may have (RFC 1123, RFC 1035), with Kubernetes' words for what is wrong.

use std::cmp::Reverse;

/// Longest label of a DNS name, in bytes.
pub const DNS_LABEL_MAX_BYTES: usize = 63;
/// Longest DNS name, in bytes.
pub const DNS_SUBDOMAIN_MAX_BYTES: usize = 253;

const SUBDOMAIN: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";

/// `must be no more than 63 bytes`.
pub fn max_length(max: usize) -> String {
    format!("must be no more than {max} bytes")
}

fn regex(text: &str, pattern: &str, examples: &[&str]) -> String {
    let examples: Vec<String> = examples.iter().map(|e| format!("'{e}'")).collect();
    if examples.is_empty() {
        return format!("{text} (regex used for validation is '{pattern}')");
    }
    let (last, first) = examples.split_last().map_or(("", &[][..]), |(l, f)| (l.as_str(), f));
    let mut listed = String::from("e.g. ");
    for example in first {
        listed.push_str(example);
        listed.push_str(",  or ");
    }
    format!("{text} ({listed}{last}, regex used for validation is '{pattern}')")
}

fn is_lower_alnum(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

fn label_form(text: &str) -> bool {
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    is_lower_alnum(*first) && is_lower_alnum(*last) && bytes.iter().all(|b| is_lower_alnum(*b) || *b == b'-')
}

/// A DNS label: `a-z`, `0-9` and `-`, at most 63 bytes (RFC 1123).
pub fn dns_label(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > DNS_LABEL_MAX_BYTES {
        wrong.push(max_length(DNS_LABEL_MAX_BYTES));
    }
    if !label_form(text) {
        if subdomain_form(text) {
            wrong.push("must not contain dots".to_owned());
        } else {
            wrong.push(regex(
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start \
                 and end with an alphanumeric character",
                "[a-z0-9]([-a-z0-9]*[a-z0-9])?",
                &["my-name", "123-abc"],
            ));
        }
    }
    wrong
}

fn subdomain_form(text: &str) -> bool {
    text.split('.').all(label_form)
}

/// Labels joined by dots, at most 253 bytes (RFC 1123).
pub fn dns_subdomain(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > DNS_SUBDOMAIN_MAX_BYTES {
        wrong.push(max_length(DNS_SUBDOMAIN_MAX_BYTES));
    }
    if !subdomain_form(text) {
        wrong.push(regex(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must \
             start and end with an alphanumeric character",
            SUBDOMAIN,
            &["example.com"],
        ));
    }
    wrong
}

/// Labels joined by dots that may have underscores, at most 253 bytes: where resolvers search.
pub fn dns_subdomain_with_underscores(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > DNS_SUBDOMAIN_MAX_BYTES {
        wrong.push(max_length(DNS_SUBDOMAIN_MAX_BYTES));
    }
    let is_label = |label: &str| {
        let bytes = label.strip_prefix('_').unwrap_or(label).as_bytes();
        bytes.first().is_some_and(|b| is_lower_alnum(*b))
            && bytes.last().is_some_and(|b| is_lower_alnum(*b))
            && bytes.iter().all(|b| is_lower_alnum(*b) || matches!(b, b'-' | b'_'))
    };
    if !text.split('.').all(is_label) {
        wrong.push(regex(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must \
             start and end with an alphanumeric character",
            "_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*",
            &["example.com"],
        ));
    }
    wrong
}

/// A DNS label that starts with a letter (RFC 1035): names of Services.
pub fn dns1035_label(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > DNS_LABEL_MAX_BYTES {
        wrong.push(max_length(DNS_LABEL_MAX_BYTES));
    }
    if !label_form(text) || !text.starts_with(|c: char| c.is_ascii_lowercase()) {
        wrong.push(regex(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic \
             character, and end with an alphanumeric character",
            "[a-z]([-a-z0-9]*[a-z0-9])?",
            &["my-name", "abc-123"],
        ));
    }
    wrong
}

/// A subdomain whose first label may be `*`.
pub fn wildcard_dns_subdomain(text: &str) -> Vec<String> {
    let rest = text.strip_prefix("*.");
    if text.len() <= DNS_SUBDOMAIN_MAX_BYTES && rest.is_some_and(subdomain_form) {
        return Vec::new();
    }
    let mut wrong = Vec::new();
    if text.len() > DNS_SUBDOMAIN_MAX_BYTES {
        wrong.push(max_length(DNS_SUBDOMAIN_MAX_BYTES));
    }
    if !rest.is_some_and(subdomain_form) {
        wrong.push(regex(
            "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist \
             of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character",
            &format!("\\*\\.{SUBDOMAIN}"),
            &["*.example.com"],
        ));
    }
    wrong
}

fn qualified_form(text: &str) -> bool {
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    let inner = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() && bytes.iter().all(inner)
}

/// A name with an optional DNS prefix, such as `example.com/name`: keys of labels and annotations, finalizers.
pub fn qualified_name(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let pattern = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
    let words = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
                 alphanumeric character";
    let examples = ["MyName", "my.name", "123-abc"];
    let name = match text.split('/').collect::<Vec<_>>()[..] {
        [name] => name,
        [prefix, name] => {
            if prefix.is_empty() {
                wrong.push("prefix part must be non-empty".to_owned());
            } else {
                wrong.extend(dns_subdomain(prefix).into_iter().map(|w| format!("prefix part {w}")));
            }
            name
        }
        _ => {
            let whole = regex(words, pattern, &examples);
            return vec![format!(
                "a qualified name {whole} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        wrong.push("name part must be non-empty".to_owned());
    } else if name.len() > DNS_LABEL_MAX_BYTES {
        wrong.push(format!("name part {}", max_length(DNS_LABEL_MAX_BYTES)));
    }
    if !qualified_form(name) {
        wrong.push(format!("name part {}", regex(words, pattern, &examples)));
    }
    wrong
}

/// The value of a label: empty, or a name of at most 63 bytes.
pub fn label_value(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > DNS_LABEL_MAX_BYTES {
        wrong.push(max_length(DNS_LABEL_MAX_BYTES));
    }
    if !text.is_empty() && !qualified_form(text) {
        wrong.push(regex(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must \
             start and end with an alphanumeric character",
            "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?",
            &["MyValue", "my_value", "12345"],
        ));
    }
    wrong
}

/// A name that may stand as one segment of a URL path: names of roles and the like.
pub fn path_segment(text: &str) -> Vec<String> {
    match text {
        "." | ".." => vec![format!("may not be '{text}'")],
        _ => ['/', '%'].iter().filter(|c| text.contains(**c)).map(|c| format!("may not contain '{c}'")).collect(),
    }
}

/// An environment variable: any printable ASCII but `=` (relaxed since v1.34).
pub fn env_var(text: &str) -> Vec<String> {
    if text.is_empty() {
        return vec!["environment variable name must not be empty".to_owned()];
    }
    if text.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'=') {
        return Vec::new();
    }
    let words = "a valid environment variable name must consist only of printable ASCII characters other than '='";
    vec![regex(words, "^[ -<>-~]+$", &[])]
}

/// A key of a ConfigMap or Secret.
pub fn config_key(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > DNS_SUBDOMAIN_MAX_BYTES {
        wrong.push(max_length(DNS_SUBDOMAIN_MAX_BYTES));
    }
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if text.is_empty() || !text.bytes().all(inner) {
        wrong.push(regex(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
            "[-._a-zA-Z0-9]+",
            &["key.name", "KEY_NAME", "key-name"],
        ));
    }
    match text {
        "." => wrong.push("must not be '.'".to_owned()),
        ".." => wrong.push("must not be '..'".to_owned()),
        _ if text.starts_with("..") => wrong.push("must not start with '..'".to_owned()),
        _ => {}
    }
    wrong
}

/// The name of a port: at most 15 of `a-z`, `0-9` and `-`, with a letter (RFC 6335).
pub fn port_name(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > 15 {
        wrong.push(max_length(15));
    }
    if text.is_empty() || !text.bytes().all(|b| is_lower_alnum(b) || b == b'-') {
        wrong.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !text.bytes().any(|b| b.is_ascii_lowercase()) {
        wrong.push("must contain at least one letter (a-z)".to_owned());
    }
    if text.contains("--") {
        wrong.push("must not contain consecutive hyphens".to_owned());
    }
    if text.starts_with('-') || text.ends_with('-') {
        wrong.push("must not begin or end with a hyphen".to_owned());
    }
    wrong
}

/// A port that something listens on or connects to: 1 to 65535.
pub fn port_number(port: i64) -> Vec<String> {
    if (1..=65535).contains(&port) { Vec::new() } else { vec!["must be between 1 and 65535, inclusive".to_owned()] }
}

/// Kubernetes' order of versions, the greatest preferred: GA before beta before alpha, newer before older, anything else
/// behind (`k8s.io/apimachinery/pkg/version` `CompareKubeAwareVersionStrings`).
pub fn version_priority(version: &str) -> (u8, u32, u32, Reverse<String>) {
    let parse = || {
        let rest = version.strip_prefix('v')?;
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let major = rest[..digits].parse().ok()?;
        let number = |text: &str| text.parse().ok();
        Some(match &rest[digits..] {
            "" => (3, major, 0),
            stage if stage.starts_with("beta") => (2, major, number(&stage[4..])?),
            stage if stage.starts_with("alpha") => (1, major, number(&stage[5..])?),
            _ => return None,
        })
    };
    let (stage, major, minor) = parse().unwrap_or_default();
    (stage, major, minor, Reverse(version.to_owned()))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn wrong_names_are_explained() {
        expect![[r#"a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"#]]
            .assert_eq(&dns_subdomain("A_b").join("; "));
        expect!["a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"]
            .assert_eq(&dns1035_label("1a").join("; "));
        expect!["must not contain dots"].assert_eq(&dns_label("a.b").join("; "));
        expect!["prefix part must be non-empty; name part must be non-empty; name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"]
            .assert_eq(&qualified_name("/").join("; "));
    }

    #[test]
    fn right_names_pass() {
        assert!(dns_subdomain("a.b-c.1").is_empty());
        assert!(qualified_name("app.kubernetes.io/name").is_empty());
        assert!(label_value("").is_empty());
        assert!(config_key(".hidden").is_empty());
        assert!(port_name("http-1").is_empty());
        assert!(wildcard_dns_subdomain("*.a.b").is_empty());
        assert!(env_var("MY.VAR").is_empty());
    }
}
