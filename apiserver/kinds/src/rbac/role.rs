//! Role: what a namespace's users may do.

use serde_json::Value;

use super::rule;
use crate::field::{Field, FieldError};
use crate::kind::{KindDef, Strategy};
use crate::names;

pub fn definition() -> KindDef {
    KindDef::builtin(rule::GROUP, "v1", "Role", "roles", "io.k8s.api.rbac.v1.Role").strategy(Role)
}

struct Role;

impl Strategy for Role {
    fn validate_name(&self, name: &str) -> Vec<String> {
        names::path_segment(name)
    }

    fn validate(&self, role: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        rule::validate_rules(&Field::root(role).get("rules"), true, &mut errors);
        errors
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }
}
