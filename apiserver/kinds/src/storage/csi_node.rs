//! CSINode: which storage drivers a node has.

use std::collections::BTreeSet;

use serde_json::Value;

use super::driver_name;
use crate::field::{Field, FieldError, FieldPath};
use crate::kind::{Column, KindDef, Strategy};
use crate::object::{self, list};
use crate::{names, rules};

/// What a driver calls a node.
const NODE_ID_MAX_BYTES: usize = 256;

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
            driver_name(&name, &mut errors);
            rules::required(&id, &mut errors);
            if id.text().len() > NODE_ID_MAX_BYTES {
                errors.push(id.invalid(format!("must be {NODE_ID_MAX_BYTES} characters or less")));
            }
            rules::not_negative(&driver.get("allocatable").get("count"), &mut errors);
            if !drivers.insert(name.text()) {
                errors.push(name.duplicate());
            }
            topology_keys(&driver, &mut errors);
        }
        errors
    }

    /// A driver that stays keeps its node id and topology.
    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.validate(new);
        let fixed = |driver: &Value| {
            let mut driver = driver.clone();
            object::remove(&mut driver, "allocatable");
            driver
        };
        let spec = FieldPath::new("spec");
        for before in list(old, &["spec", "drivers"]) {
            let name = object::text(before, &["name"]);
            for now in list(new, &["spec", "drivers"]).iter().filter(|now| object::text(now, &["name"]) == name) {
                if !object::same(Some(&fixed(now)), Some(&fixed(before))) {
                    errors.push(FieldError::invalid(&spec.child("drivers"), fixed(now), rules::IMMUTABLE));
                }
            }
        }
        errors
    }
}

/// Kubernetes tells what is wrong with them of the driver.
fn topology_keys(driver: &Field, errors: &mut Vec<FieldError>) {
    let mut seen = BTreeSet::new();
    for key in driver.get("topologyKeys").items() {
        let key = key.text();
        if key.is_empty() {
            errors.push(FieldError::required(&driver.path, ""));
        }
        if !seen.insert(key) {
            errors.push(FieldError::duplicate(&driver.path, key));
        }
        let wrong = names::qualified_name(key).into_iter();
        errors.extend(wrong.map(|wrong| FieldError::invalid(&driver.path, key, wrong)));
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::testing::{check, check_update};

    #[test]
    fn rules() {
        check_update(
            "csinodes",
            "{metadata: {name: a}, spec: {drivers: [{name: d, nodeID: x}]}}",
            "{metadata: {name: a}, spec: {drivers: [{name: d, nodeID: z}, {name: d}]}}",
            expect![[r#"
                spec.drivers[1].nodeID: Required value
                spec.drivers[1].name: Duplicate value: "d"
                spec.drivers: Invalid value: {"name":"d","nodeID":"z"}: field is immutable
                spec.drivers: Invalid value: {"name":"d","nodeID":""}: field is immutable
            "#]],
        );
    }

    #[test]
    fn drivers() {
        check(
            "csinodes",
            "{metadata: {name: a}, spec: {drivers: [{name: A_, nodeID: x, allocatable: {count: -1}, topologyKeys: [a, a, '']}]}}",
            expect![[r#"
                spec.drivers[0].name: Invalid value: "A_": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
                spec.drivers[0].allocatable.count: Invalid value: -1: must be greater than or equal to 0
                spec.drivers[0]: Duplicate value: "a"
                spec.drivers[0]: Required value
                spec.drivers[0]: Invalid value: "": name part must be non-empty
                spec.drivers[0]: Invalid value: "": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            "#]],
        );
    }
}
