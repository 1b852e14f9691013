//! Credentials for a registry, from the pull secrets of a pod
//! (<https://kubernetes.io/docs/concepts/containers/images/#config-json>).

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use oci_client::Reference;
use oci_client::secrets::RegistryAuth;
use serde_json::{Map, Value};

use crate::pod::refs::Contents;

/// Keys of the two kinds of pull secret; the older one has the entries at its top.
const CONFIG_JSON: &str = ".dockerconfigjson";
const CONFIG_OLD: &str = ".dockercfg";
/// With padding or without, as the kubelet takes it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The credentials of all entries that name the image, as they are to be tried: those first that name most of its path, and
/// of these the first secret's; anonymous when there are none.
pub fn credentials(secrets: &[Contents], reference: &Reference) -> Vec<RegistryAuth> {
    let entries = secrets.iter().flat_map(entries);
    let found = entries.filter_map(|(pattern, entry)| Some((matches(&pattern, reference)?, auth(&entry)?)));
    let mut found: Vec<(usize, RegistryAuth)> = found.collect();
    found.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
    let mut all: Vec<RegistryAuth> = Vec::new();
    for (_, auth) in found {
        if !all.contains(&auth) {
            all.push(auth);
        }
    }
    if all.is_empty() { vec![RegistryAuth::Anonymous] } else { all }
}

fn entries(secret: &Contents) -> Map<String, Value> {
    let parse = |key: &str| secret.files.get(key).and_then(|bytes| serde_json::from_slice::<Value>(bytes).ok());
    let map = match parse(CONFIG_JSON) {
        Some(mut config) => config["auths"].take(),
        None => parse(CONFIG_OLD).unwrap_or_default(),
    };
    match map {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// How much of the image's name an entry's key matches, if it does: `host`, `host/path`, with or without scheme, and `*` for
/// any part of one label of the host.
fn matches(pattern: &str, reference: &Reference) -> Option<usize> {
    let pattern = pattern.trim_start_matches("https://").trim_start_matches("http://");
    let pattern = pattern.trim_end_matches('/').trim_end_matches("/v1").trim_end_matches("/v2");
    let (host, path) = pattern.split_once('/').unwrap_or((pattern, ""));
    let registry = reference.registry();
    let same_host = host == registry
        || (registry == "docker.io" && host == "index.docker.io")
        || host.contains('*') && matches_host(host, registry);
    let repository = reference.repository();
    let beneath = path.is_empty()
        || repository == path
        || repository.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'));
    (same_host && beneath).then_some(pattern.len())
}

/// Whether a host matches a pattern, label by label.
fn matches_host(pattern: &str, host: &str) -> bool {
    let (patterns, labels) = (pattern.split('.'), host.split('.'));
    patterns.clone().count() == labels.clone().count()
        && patterns.zip(labels).all(|(pattern, label)| matches_label(pattern, label))
}

/// Whether a label matches a pattern, in which `*` stands for whatever is between its neighbours.
fn matches_label(pattern: &str, label: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == label };
    let Some(mut left) = label.strip_prefix(first) else { return false };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    for part in middle.split('*') {
        let Some((_, after)) = left.split_once(part) else { return false };
        left = after;
    }
    left.ends_with(last)
}

fn auth(entry: &Value) -> Option<RegistryAuth> {
    let text = |key: &str| entry[key].as_str().filter(|text| !text.is_empty());
    if let (Some(user), Some(password)) = (text("username"), text("password")) {
        return Some(RegistryAuth::Basic(user.to_owned(), password.to_owned()));
    }
    let decoded = BASE64.decode(text("auth")?).ok()?;
    let decoded = String::from_utf8(decoded).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some(RegistryAuth::Basic(user.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    fn secret(auths: &Value) -> Contents {
        let config = json!({ "auths": auths }).to_string();
        Arc::new(BTreeMap::from([(CONFIG_JSON.to_owned(), config.into())]).into())
    }

    fn find(auths: &Value, image: &str) -> Vec<RegistryAuth> {
        credentials(&[secret(auths)], &image.parse().unwrap())
    }

    fn basic(user: &str) -> RegistryAuth {
        RegistryAuth::Basic(user.to_owned(), "p".to_owned())
    }

    #[test]
    fn the_longest_match_comes_first() {
        let auths = json!({
            "https://registry.example.com/v1/": { "username": "host", "password": "p" },
            "registry.example.com/team": { "auth": BASE64.encode("team:p") },
            "*.wild.example.com": { "username": "wild", "password": "p" },
            "https://index.docker.io/v1/": { "username": "hub", "password": "p" }
        });
        assert_eq!(find(&auths, "registry.example.com/other/app"), [basic("host")]);
        assert_eq!(find(&auths, "registry.example.com/team/app:1"), [basic("team"), basic("host")]);
        assert_eq!(find(&auths, "registry.example.com/teamwork"), [basic("host")]);
        assert_eq!(find(&auths, "a.wild.example.com/x"), [basic("wild")]);
        assert_eq!(find(&auths, "hello"), [basic("hub")]);
        assert_eq!(find(&auths, "elsewhere.example.com/x"), [RegistryAuth::Anonymous]);
    }

    #[test]
    fn of_several_secrets_the_first_comes_first() {
        let of = |user: &str| secret(&json!({ "registry.example.com": { "username": user, "password": "p" } }));
        let image = "registry.example.com/app".parse().unwrap();
        let found = credentials(&[of("expired"), of("good"), of("expired")], &image);
        assert_eq!(found, [basic("expired"), basic("good")]);
    }

    #[test]
    fn hosts_match_label_by_label() {
        for (pattern, host, expected) in [
            ("*.example.com", "a.example.com", true),
            ("*.example.com", "a.b.example.com", false),
            ("*.*.example.com", "a.b.example.com", true),
            ("app*.example.com", "apple.example.com", true),
            ("app*.example.com", "ape.example.com", false),
            ("r.*.com", "r.example.com", true),
            ("*-eu.example.com", "a-eu.example.com", true),
            ("a*b*c.example.com", "a1b2c.example.com", true),
            ("a*b*c.example.com", "a1c2b.example.com", false),
            ("*.example.com:5000", "a.example.com:5000", true),
            ("*.example.com", "a.example.com:5000", false),
        ] {
            assert_eq!(matches_host(pattern, host), expected, "{pattern} {host}");
        }
    }

    #[test]
    fn encoded_credentials_may_lack_their_padding() {
        let auths =
            json!({ "registry.example.com": { "auth": "dGVhbTpw" }, "other.example.com": { "auth": "dGVhbXM6cA" } });
        assert_eq!(find(&auths, "registry.example.com/app"), [basic("team")]);
        assert_eq!(find(&auths, "other.example.com/app"), [basic("teams")]);
    }

    #[test]
    fn broken_secrets_are_anonymous() {
        let secret: Contents = Arc::new(BTreeMap::from([(CONFIG_JSON.to_owned(), "{".into())]).into());
        assert_eq!(credentials(&[secret], &"hello".parse().unwrap()), [RegistryAuth::Anonymous]);
    }
}
