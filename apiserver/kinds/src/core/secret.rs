//! Secret: small sensitive data.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use x509_parser::pem::Pem;

use super::{data, service_account_token};
use crate::field::{Field, FieldError};
use crate::kind::{Column, KindDef, SelectableField, Strategy};
use crate::names;
use crate::object;
use crate::rules;

pub fn definition() -> KindDef {
    KindDef::builtin("", "v1", "Secret", "secrets", "io.k8s.api.core.v1.Secret")
        .columns(vec![
            Column::name(),
            Column::at("Type", "string", "type").describe("Used to facilitate programmatic handling of secret data."),
            Column::new("Data", "string", |secret, _| object::map(secret, &["data"]).map_or(0, |m| m.len()).into())
                .describe("Number of data items in the Secret."),
            Column::age(),
        ])
        .selectable(vec![SelectableField::at("type")])
        .strategy(Secret)
}

struct Secret;

impl Strategy for Secret {
    /// `stringData` is a way to write `data`; it is never stored.
    fn default(&self, secret: &mut Value) {
        let Some(object) = secret.as_object_mut() else { return };
        object::set_default_text(object, "type", "Opaque");
        let Some(Value::Object(texts)) = object.remove("stringData") else { return };
        let Some(data) = object::ensure(secret, &["data"]) else { return };
        for (key, text) in texts {
            data.insert(key, STANDARD.encode(text.as_str().unwrap_or_default()).into());
        }
    }

    fn validate(&self, secret: &Value) -> Vec<FieldError> {
        let root = Field::root(secret);
        let data = root.get("data");
        let mut errors = Vec::new();
        for (key, value) in data.entries() {
            let wrong = names::config_key(key).into_iter();
            errors.extend(wrong.map(|wrong| FieldError::invalid(&value.path, key, wrong)));
        }
        if data::checked_bytes(&data, &mut errors) > data::MAX_BYTES {
            errors.push(FieldError::too_long(&data.path, data::MAX_BYTES));
        }
        type_rules(&root, &data, &mut errors);
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.validate(new);
        rules::immutable(&Field::root(new).get("type"), &Field::root(old).get("type"), &mut errors);
        data::check_immutable(new, old, &["data"], &mut errors);
        errors
    }

    fn warnings(&self, secret: &Value) -> Vec<String> {
        if object::text(secret, &["type"]) != "kubernetes.io/tls" {
            return Vec::new();
        }
        let of = |key: &str| STANDARD.decode(object::text(secret, &["data", key])).unwrap_or_default();
        let wrong = wrong_certificate(&of("tls.crt")).or_else(|| wrong_key(&of("tls.key")));
        wrong.map(|wrong| vec![format!("tls: {wrong}")]).unwrap_or_default()
    }
}

/// What the PEM blocks of a text hold.
fn labels(pem: &[u8]) -> Vec<String> {
    Pem::iter_from_buffer(pem).map_while(Result::ok).map(|block| block.label).collect()
}

/// What Go says of a text that is to hold a certificate.
fn wrong_certificate(pem: &[u8]) -> Option<String> {
    let labels = labels(pem);
    if labels.iter().any(|label| label == "CERTIFICATE") {
        return None;
    }
    Some(match &labels[..] {
        [] => "failed to find any PEM data in certificate input".to_owned(),
        [only] if only.ends_with("PRIVATE KEY") => {
            "failed to find certificate PEM data in certificate input, but did find a \
                                                    private key; PEM inputs may have been switched"
                .to_owned()
        }
        others => format!(
            "failed to find \"CERTIFICATE\" PEM block in certificate input after skipping PEM blocks of the following types: [{}]",
            others.join(" ")
        ),
    })
}

/// What Go says of a text that is to hold a private key.
fn wrong_key(pem: &[u8]) -> Option<String> {
    let labels = labels(pem);
    if labels.iter().any(|label| label == "PRIVATE KEY" || label.ends_with(" PRIVATE KEY")) {
        return None;
    }
    Some(match &labels[..] {
        [] => "failed to find any PEM data in key input".to_owned(),
        [only] if only == "CERTIFICATE" => {
            "found a certificate rather than a key in the PEM for the private key".to_owned()
        }
        others => format!(
            "failed to find PEM block with type ending in \"PRIVATE KEY\" in key input after skipping PEM blocks of the \
             following types: [{}]",
            others.join(" ")
        ),
    })
}

/// What a Secret of a known type must hold.
fn type_rules(root: &Field, data: &Field, errors: &mut Vec<FieldError>) {
    let require = |key: &str, errors: &mut Vec<FieldError>| {
        if !data.key(key).is_set() {
            errors.push(data.key(key).required(""));
        }
    };
    match root.get("type").text() {
        service_account_token::SECRET_TYPE => {
            let metadata = root.get("metadata");
            let annotations = metadata.get("annotations");
            let account = annotations.key(service_account_token::ACCOUNT_NAME);
            if account.is_empty() {
                errors.push(account.required(""));
            }
        }
        "kubernetes.io/dockercfg" => json(data, ".dockercfg", errors),
        "kubernetes.io/dockerconfigjson" => json(data, ".dockerconfigjson", errors),
        "kubernetes.io/basic-auth" if !data.key("username").is_set() && !data.key("password").is_set() => {
            require("username", errors);
            require("password", errors);
        }
        "kubernetes.io/ssh-auth" if data.key("ssh-privatekey").is_empty() => {
            errors.push(data.key("ssh-privatekey").required(""));
        }
        "kubernetes.io/tls" => {
            require("tls.crt", errors);
            require("tls.key", errors);
        }
        _ => {}
    }
}

fn json(data: &Field, key: &str, errors: &mut Vec<FieldError>) {
    let value = data.key(key);
    if !value.is_set() {
        errors.push(value.required(""));
        return;
    }
    let decoded = STANDARD.decode(value.text()).unwrap_or_default();
    let wrong = match serde_json::from_slice::<Value>(&decoded) {
        Ok(Value::Object(_) | Value::Null) => return,
        Ok(other) => {
            let found = match other {
                Value::Array(_) => "array",
                Value::String(_) => "string",
                Value::Bool(_) => "bool",
                _ => "number",
            };
            format!("json: cannot unmarshal {found} into Go value of type map[string]interface {{}}")
        }
        Err(error) if error.is_eof() => "unexpected end of JSON input".to_owned(),
        Err(_) => match std::str::from_utf8(&decoded).ok().and_then(|text| text.trim_start().chars().next()) {
            Some(first) if !"{[\"-0123456789tfn".contains(first) => {
                format!("invalid character {first:?} looking for beginning of value")
            }
            _ => "invalid JSON".to_owned(),
        },
    };
    errors.push(FieldError::invalid(&value.path, "<secret contents redacted>", wrong));
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::{check, check_default, kind, yaml};

    #[test]
    fn string_data_becomes_data() {
        check_default(
            "secrets",
            "{data: {b: eA==}, stringData: {a: text}}",
            expect![[r#"
                data:
                  a: dGV4dA==
                  b: eA==
                metadata: {}
                type: Opaque
            "#]],
        );
    }

    #[test]
    fn types_ask_for_their_keys() {
        check(
            "secrets",
            "{metadata: {name: a, namespace: b}, type: kubernetes.io/tls, data: {tls.crt: eA==}}",
            expect![[r#"
                data[tls.key]: Required value
            "#]],
        );
        let of = |text: &str| {
            let data = format!("{{.dockerconfigjson: {}}}", STANDARD.encode(text));
            let secret = yaml(&format!("{{type: kubernetes.io/dockerconfigjson, data: {data}}}"));
            let errors = kind("secrets").strategy.validate(&secret);
            errors.iter().map(|error| format!("{text}: {}\n", error.detail)).collect::<String>()
        };
        expect![[r#"
            x: invalid character 'x' looking for beginning of value
            : 
            {"a": : unexpected end of JSON input
            []: json: cannot unmarshal array into Go value of type map[string]interface {}
            {x}: invalid JSON
        "#]]
        .assert_eq(&["x", "", "{\"a\": ", "[]", "{x}", "{}", "null"].map(of).concat());
    }

    #[test]
    fn what_is_no_pair_is_said() {
        let block = |label: &str| format!("-----BEGIN {label}-----\neA==\n-----END {label}-----\n");
        let of = |certificate: &str, key: &str| {
            let data = format!("{{tls.crt: {}, tls.key: {}}}", STANDARD.encode(certificate), STANDARD.encode(key));
            let secret = yaml(&format!("{{type: kubernetes.io/tls, data: {data}}}"));
            kind("secrets").strategy.warnings(&secret).into_iter().map(|warning| warning + "\n").collect::<String>()
        };
        let (certificate, key) = (block("CERTIFICATE"), block("EC PRIVATE KEY"));
        assert_eq!(of(&certificate, &key), "");
        let rows = [
            ("x", &*key),
            (&key, &certificate),
            (&certificate, "x"),
            (&certificate, &certificate),
            (&block("A"), &key),
        ];
        expect![[r#"
            tls: failed to find any PEM data in certificate input
            tls: failed to find certificate PEM data in certificate input, but did find a private key; PEM inputs may have been switched
            tls: failed to find any PEM data in key input
            tls: found a certificate rather than a key in the PEM for the private key
            tls: failed to find "CERTIFICATE" PEM block in certificate input after skipping PEM blocks of the following types: [A]
        "#]]
        .assert_eq(&rows.map(|(certificate, key)| of(certificate, key)).concat());
    }
}
