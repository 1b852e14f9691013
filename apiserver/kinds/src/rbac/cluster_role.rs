//! ClusterRole: what users may do in all namespaces, and outside of them.

use serde_json::Value;

use super::rule;
use crate::field::{Field, FieldError};
use crate::kind::{KindDef, Strategy};
use crate::{names, rules};

pub fn definition() -> KindDef {
    KindDef::builtin(rule::GROUP, "v1", "ClusterRole", "clusterroles", "io.k8s.api.rbac.v1.ClusterRole")
        .cluster_scoped()
        .strategy(ClusterRole)
}

struct ClusterRole;

impl Strategy for ClusterRole {
    fn validate_name(&self, name: &str) -> Vec<String> {
        names::path_segment(name)
    }

    fn validate(&self, role: &Value) -> Vec<FieldError> {
        let root = Field::root(role);
        let mut errors = Vec::new();
        rule::validate_rules(&root.get("rules"), false, &mut errors);
        let aggregation = root.get("aggregationRule");
        let selectors = aggregation.get("clusterRoleSelectors");
        if aggregation.is_set() && selectors.is_empty() {
            errors.push(selectors.required("at least one clusterRoleSelector required if aggregationRule is non-nil"));
        }
        for selector in selectors.items() {
            rules::label_selector(&selector, &mut errors);
        }
        errors
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }
}
