//! Secret: small sensitive data.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

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
    if serde_json::from_slice::<serde::de::IgnoredAny>(&decoded).is_err() {
        errors.push(FieldError::invalid(&value.path, "<secret contents redacted>", "invalid JSON"));
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::testing::{check, check_default};

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
        check(
            "secrets",
            "{metadata: {name: a, namespace: b}, type: kubernetes.io/dockerconfigjson, data: {.dockerconfigjson: eA==}}",
            expect![[r#"
                data[.dockerconfigjson]: Invalid value: "<secret contents redacted>": invalid JSON
            "#]],
        );
    }
}
