//! MutatingAdmissionPolicyBinding: where a policy holds, and with which parameters.

use serde_json::Value;

use super::policy;
use crate::field::{Field, FieldError};
use crate::kind::{KindDef, Shape, Strategy};

pub fn definition() -> KindDef {
    let schema = "io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicyBinding";
    let (kind, plural) = ("MutatingAdmissionPolicyBinding", "mutatingadmissionpolicybindings");
    super::row(kind, plural, schema).columns(policy::binding_columns()).strategy(MutatingAdmissionPolicyBinding)
}

struct MutatingAdmissionPolicyBinding;

impl Strategy for MutatingAdmissionPolicyBinding {
    fn shape(&self) -> Shape {
        Shape::SPEC
    }

    fn default(&self, binding: &mut Value) {
        policy::default_binding(binding);
    }

    fn validate(&self, binding: &Value) -> Vec<FieldError> {
        let root = Field::root(binding);
        let mut errors = Vec::new();
        policy::validate_binding(&root.get("spec"), &mut errors);
        errors
    }
}
