//! CSIStorageCapacity: how much a class can still provide, and where.

use serde_json::Value;

use crate::core::node;
use crate::core::pod::resources;
use crate::field::{Field, FieldError};
use crate::kind::{Column, KindDef, Strategy};
use crate::{names, object, rules};

pub fn definition() -> KindDef {
    let schema = "io.k8s.api.storage.v1.CSIStorageCapacity";
    KindDef::builtin("storage.k8s.io", "v1", "CSIStorageCapacity", "csistoragecapacities", schema)
        .columns(vec![
            Column::name(),
            Column::at("StorageClassName", "string", "storageClassName"),
            Column::at("Capacity", "string", "capacity"),
        ])
        .strategy(CsiStorageCapacity)
}

struct CsiStorageCapacity;

impl Strategy for CsiStorageCapacity {
    fn default(&self, capacity: &mut Value) {
        if let Some(object) = capacity.as_object_mut() {
            resources::canonicalize_field(object, "capacity");
            resources::canonicalize_field(object, "maximumVolumeSize");
        }
    }

    fn validate(&self, capacity: &Value) -> Vec<FieldError> {
        let root = Field::root(capacity);
        let mut errors = Vec::new();
        rules::label_selector(&root.get("nodeTopology"), &mut errors);
        rules::form(&root.get("storageClassName"), names::dns_subdomain, &mut errors);
        resources::quantity("storage", &root.get("capacity"), &mut errors);
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.validate(new);
        let (new, old) = (Field::root(new), Field::root(old));
        for name in ["nodeTopology", "storageClassName"] {
            if !object::same(new.get(name).value(), old.get(name).value()) {
                errors.push(new.get(name).invalid(rules::IMMUTABLE));
            }
        }
        errors
    }

    fn warnings(&self, capacity: &Value) -> Vec<String> {
        let root = Field::root(capacity);
        let topology = root.get("nodeTopology");
        let labels = topology.get("matchLabels");
        let mut warnings = Vec::new();
        for expression in topology.get("matchExpressions").items() {
            warnings.extend(node::key_warning(&expression.get("key")));
        }
        for (key, _) in labels.entries() {
            warnings.extend(node::old_label(key).map(|instead| format!("{}: {instead}", labels.path.child(key))));
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::testing::{check, kind, yaml};

    #[test]
    fn rules() {
        check(
            "csistoragecapacities",
            "{metadata: {name: a, namespace: b}, storageClassName: A, capacity: -1}",
            expect![[r#"
                storageClassName: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
                capacity: Invalid value: "-1": must be greater than or equal to 0
            "#]],
        );
    }

    #[test]
    fn labels_that_have_other_names_now() {
        let (topologies, capacity) = (
            yaml("{allowedTopologies: [{matchLabelExpressions: [{key: a}, {key: beta.kubernetes.io/os}]}]}"),
            yaml(
                "{nodeTopology: {matchLabels: {beta.kubernetes.io/os: x}, matchExpressions: [{key: beta.kubernetes.io/os}]}}",
            ),
        );
        let warnings = |plural: &str, object| kind(plural).strategy.warnings(object).join("\n");
        expect![[r#"allowedTopologies[0].matchLabelExpressions[1].key: deprecated since v1.14; use "kubernetes.io/os" instead"#]]
            .assert_eq(&warnings("storageclasses", &topologies));
        expect![[r#"
            nodeTopology.matchExpressions[0].key: beta.kubernetes.io/os is deprecated since v1.14; use "kubernetes.io/os" instead
            nodeTopology.matchLabels.beta.kubernetes.io/os: deprecated since v1.14; use "kubernetes.io/os" instead"#]]
        .assert_eq(&warnings("csistoragecapacities", &capacity));
    }
}
