//! RoleBinding: a role, given to users of a namespace.

use serde_json::Value;

use super::rule;
use crate::field::FieldError;
use crate::kind::{KindDef, Strategy};
use crate::names;

pub fn definition() -> KindDef {
    KindDef::builtin(rule::GROUP, "v1", "RoleBinding", "rolebindings", "io.k8s.api.rbac.v1.RoleBinding")
        .columns(rule::binding_columns())
        .strategy(RoleBinding)
}

struct RoleBinding;

impl Strategy for RoleBinding {
    fn validate_name(&self, name: &str) -> Vec<String> {
        names::path_segment(name)
    }

    fn default(&self, binding: &mut Value) {
        rule::default_binding(binding);
    }

    fn validate(&self, binding: &Value) -> Vec<FieldError> {
        rule::validate_binding(binding, &["Role", "ClusterRole"], true)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.validate(new);
        rule::validate_binding_update(new, old, &mut errors);
        errors
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }
}
