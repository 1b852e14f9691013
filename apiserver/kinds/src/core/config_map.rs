//! ConfigMap: configuration as text and bytes.

use serde_json::Value;

use super::data;
use crate::field::{Field, FieldError};
use crate::kind::{Column, KindDef, Strategy};
use crate::names;
use crate::object;

pub fn definition() -> KindDef {
    KindDef::builtin("", "v1", "ConfigMap", "configmaps", "io.k8s.api.core.v1.ConfigMap")
        .short_names(&["cm"])
        .columns(vec![
            Column::name(),
            Column::new("Data", "string", |map, _| {
                let entries = ["data", "binaryData"].map(|f| object::map(map, &[f]).map_or(0, |m| m.len()));
                entries.iter().sum::<usize>().into()
            })
            .describe("Number of data items in the ConfigMap."),
            Column::age(),
        ])
        .strategy(ConfigMap)
}

struct ConfigMap;

impl Strategy for ConfigMap {
    fn validate(&self, map: &Value) -> Vec<FieldError> {
        let root = Field::root(map);
        let (data, binary) = (root.get("data"), root.get("binaryData"));
        let mut errors = Vec::new();
        let mut bytes = 0;
        for (these, others, name) in [(&data, &binary, "binaryData"), (&binary, &data, "data")] {
            for (key, value) in these.entries() {
                let wrong = names::config_key(key).into_iter();
                errors.extend(wrong.map(|wrong| FieldError::invalid(&value.path, key, wrong)));
                if others.key(key).is_set() {
                    let detail = format!("duplicate of key present in {name}");
                    errors.push(FieldError::invalid(&value.path, key, detail));
                }
            }
        }
        bytes += data.entries().map(|(_, v)| v.text().len()).sum::<usize>();
        bytes += data::checked_bytes(&binary, &mut errors);
        if bytes > data::MAX_BYTES {
            errors.push(FieldError::too_long(&root.path.key(""), data::MAX_BYTES));
        }
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.validate(new);
        data::check_immutable(new, old, &["data", "binaryData"], &mut errors);
        errors
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::testing::check;

    #[test]
    fn keys_and_sizes() {
        check(
            "configmaps",
            "{metadata: {name: a, namespace: b}, data: {'a b': x, k: y}, binaryData: {k: eA==, l: '?'}}",
            expect![[r#"
                data[a b]: Invalid value: "a b": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')
                data[k]: Invalid value: "k": duplicate of key present in binaryData
                binaryData[k]: Invalid value: "k": duplicate of key present in data
                binaryData[l]: Invalid value: "?": illegal base64 data
            "#]],
        );
    }
}
