//! CSINode: which storage drivers a node has.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::field::{Field, FieldError};
use crate::kind::{Column, KindDef, Strategy};
use crate::object::{self, list};
use crate::{names, rules};

pub fn definition() -> KindDef {
    KindDef::builtin("storage.k8s.io", "v1", "CSINode", "csinodes", "io.k8s.api.storage.v1.CSINode")
        .cluster_scoped()
        .columns(vec![
            Column::name(),
            Column::new("Drivers", "integer", |node, _| list(node, &["spec", "drivers"]).len().into()),
            Column::age(),
        ])
        .answers_deleted()
        .strategy(CsiNode)
}

struct CsiNode;

impl Strategy for CsiNode {
    fn validate(&self, node: &Value) -> Vec<FieldError> {
        let root = Field::root(node);
        let spec = root.get("spec");
        let mut errors = Vec::new();
        let mut drivers = BTreeSet::new();
        for driver in spec.get("drivers").items() {
            let (name, id) = (driver.get("name"), driver.get("nodeID"));
            rules::name(&name, names::dns_subdomain, &mut errors);
            if !drivers.insert(name.text()) {
                errors.push(name.duplicate());
            }
            rules::required(&id, &mut errors);
            let allocatable = driver.get("allocatable");
            rules::not_negative(&allocatable.get("count"), &mut errors);
            let mut keys = BTreeSet::new();
            for key in driver.get("topologyKeys").items() {
                rules::name(&key, names::qualified_name, &mut errors);
                if !keys.insert(key.text()) {
                    errors.push(key.duplicate());
                }
            }
        }
        errors
    }

    /// A driver that stays keeps its node id and topology.
    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.validate(new);
        let root = Field::root(new);
        let spec = root.get("spec");
        for driver in spec.get("drivers").items() {
            let before = list(old, &["spec", "drivers"])
                .iter()
                .find(|d| object::text(d, &["name"]) == driver.get("name").text());
            let Some(before) = before else { continue };
            for name in ["nodeID", "topologyKeys"] {
                if !object::same(driver.get(name).value(), before.get(name)) {
                    errors.push(driver.get(name).invalid(rules::IMMUTABLE));
                }
            }
        }
        errors
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::testing::check_update;

    #[test]
    fn rules() {
        check_update(
            "csinodes",
            "{metadata: {name: a}, spec: {drivers: [{name: d, nodeID: x}]}}",
            "{metadata: {name: a}, spec: {drivers: [{name: d, nodeID: z}, {name: d}]}}",
            expect![[r#"
                spec.drivers[1].name: Duplicate value: "d"
                spec.drivers[1].nodeID: Required value
                spec.drivers[0].nodeID: Invalid value: "z": field is immutable
                spec.drivers[1].nodeID: Invalid value: "": field is immutable
            "#]],
        );
    }
}
