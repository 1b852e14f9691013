//! StorageClass: how volumes for claims are made.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::core::node;
use crate::field::{Field, FieldError};
use crate::kind::{Column, KindDef, Strategy};
use crate::object::{self, get, text};
use crate::{names, rules};

/// All parameters of a class together, in bytes.
pub const PARAMETERS_MAX_BYTES: usize = 256 * 1024;
/// How many parameters a class may have.
pub const PARAMETERS_MAX_ITEMS: usize = 512;

pub fn definition() -> KindDef {
    let schema = "io.k8s.api.storage.v1.StorageClass";
    KindDef::builtin("storage.k8s.io", "v1", "StorageClass", "storageclasses", schema)
        .cluster_scoped()
        .short_names(&["sc"])
        .columns(vec![
            Column { format: "name".into(), ..Column::text("Name", |class, _| name(class).into()) },
            Column::at("Provisioner", "string", "provisioner"),
            Column::text("ReclaimPolicy", |class, _| or(text(class, &["reclaimPolicy"]), "Delete").into()),
            Column::text("VolumeBindingMode", |class, _| or(text(class, &["volumeBindingMode"]), "Immediate").into()),
            Column::new("AllowVolumeExpansion", "string", |class, _| {
                get(class, &["allowVolumeExpansion"]).and_then(Value::as_bool).unwrap_or_default().into()
            }),
            Column::age(),
        ])
        .answers_deleted()
        .strategy(StorageClass)
}

fn or<'v>(text: &'v str, default: &'v str) -> &'v str {
    if text.is_empty() { default } else { text }
}

fn name(class: &Value) -> String {
    let default = |key: &str| text(class, &["metadata", "annotations", key]) == "true";
    let name = text(class, &["metadata", "name"]);
    let keys = ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
    if keys.into_iter().any(default) { format!("{name} (default)") } else { name.to_owned() }
}

/// Checks the parameters of a class: names, and bounds on how much they are.
pub fn parameters(parameters: &Field, errors: &mut Vec<FieldError>) {
    if parameters.len() > PARAMETERS_MAX_ITEMS {
        errors.push(FieldError::too_long(&parameters.path, PARAMETERS_MAX_ITEMS));
        return;
    }
    let mut bytes = 0;
    for (name, value) in parameters.entries() {
        if name.is_empty() {
            errors.push(FieldError::invalid(&parameters.path, name, "field can not be empty."));
        }
        bytes += name.len() + value.text().len();
    }
    if bytes > PARAMETERS_MAX_BYTES {
        errors.push(FieldError::too_long(&parameters.path, PARAMETERS_MAX_BYTES));
    }
}

struct StorageClass;

impl Strategy for StorageClass {
    fn default(&self, class: &mut Value) {
        if let Some(class) = class.as_object_mut() {
            object::set_default(class, "reclaimPolicy", "Delete");
            object::set_default(class, "volumeBindingMode", "Immediate");
        }
    }

    fn validate(&self, class: &Value) -> Vec<FieldError> {
        let root = Field::root(class);
        let mut errors = Vec::new();
        super::provisioner(&root.get("provisioner"), &mut errors);
        parameters(&root.get("parameters"), &mut errors);
        rules::maybe_one_of(&root.get("reclaimPolicy"), &["Delete", "Retain"], &mut errors);
        rules::one_of(&root.get("volumeBindingMode"), &["Immediate", "WaitForFirstConsumer"], &mut errors);
        topologies(&root.get("allowedTopologies"), &mut errors);
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.validate(new);
        let (new, old) = (Field::root(new), Field::root(old));
        for name in ["parameters", "provisioner"] {
            if !object::same(new.get(name).value(), old.get(name).value()) {
                errors.push(new.get(name).forbidden(format!("updates to {name} are forbidden.")));
            }
        }
        if new.get("reclaimPolicy").text() != old.get("reclaimPolicy").text() {
            errors.push(new.get("reclaimPolicy").forbidden("updates to reclaimPolicy are forbidden."));
        }
        rules::immutable(&new.get("volumeBindingMode"), &old.get("volumeBindingMode"), &mut errors);
        errors
    }

    fn warnings(&self, class: &Value) -> Vec<String> {
        let mut warnings = Vec::new();
        for term in Field::root(class).get("allowedTopologies").items() {
            for expression in term.get("matchLabelExpressions").items() {
                let key = expression.get("key");
                warnings.extend(node::old_label(key.text()).map(|instead| format!("{}: {instead}", key.path)));
            }
        }
        warnings
    }
}

/// Where volumes may be: terms, of which none says the same as another.
fn topologies(topologies: &Field, errors: &mut Vec<FieldError>) {
    let mut terms = Vec::new();
    for term in topologies.items() {
        let expressions = term.get("matchLabelExpressions");
        let mut chosen = BTreeMap::new();
        for expression in expressions.items() {
            let (key, values) = (expression.get("key"), expression.get("values"));
            rules::required(&values, errors);
            let mut seen = BTreeSet::new();
            for value in values.items() {
                if !seen.insert(value.text()) {
                    errors.push(value.duplicate());
                }
            }
            rules::form(&key, names::qualified_name, errors);
            if chosen.insert(key.text(), seen).is_some() {
                errors.push(key.duplicate());
            }
        }
        if chosen.is_empty() || terms.contains(&chosen) {
            errors.push(FieldError::duplicate(&expressions.path, ""));
        }
        terms.push(chosen);
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::testing::{check, check_row, check_update};

    #[test]
    fn rules() {
        check(
            "storageclasses",
            "{metadata: {name: a}, reclaimPolicy: Odd}",
            expect![[r#"
            provisioner: Required value
            reclaimPolicy: Unsupported value: "Odd": supported values: "Delete", "Retain"
        "#]],
        );
        check(
            "storageclasses",
            "{metadata: {name: a}, provisioner: A.b/c_, allowedTopologies: [{matchLabelExpressions: [{key: z, values: [x, y, x]}]},
              {matchLabelExpressions: [{key: z, values: [y, x]}, {key: z, values: [y, x]}]}, {}]}",
            expect![[r#"
                provisioner: Invalid value: "a.b/c_": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
                allowedTopologies[0].matchLabelExpressions[0].values[2]: Duplicate value: "x"
                allowedTopologies[1].matchLabelExpressions[1].key: Duplicate value: "z"
                allowedTopologies[1].matchLabelExpressions: Duplicate value: ""
                allowedTopologies[2].matchLabelExpressions: Duplicate value: ""
            "#]],
        );
        check_update(
            "storageclasses",
            "{metadata: {name: a}, provisioner: a.b/c}",
            "{metadata: {name: a}, provisioner: a.b/d, reclaimPolicy: Retain}",
            expect![[r#"
                provisioner: Forbidden: updates to provisioner are forbidden.
                reclaimPolicy: Forbidden: updates to reclaimPolicy are forbidden.
            "#]],
        );
        check_row(
            "storageclasses",
            "{metadata: {name: a, annotations: {storageclass.kubernetes.io/is-default-class: 'true'}}, provisioner: a.b/c}",
            expect![
                "Name=a (default) | Provisioner=a.b/c | ReclaimPolicy=Delete | VolumeBindingMode=Immediate | AllowVolumeExpansion=false | Age=<unknown>"
            ],
        );
    }
}
