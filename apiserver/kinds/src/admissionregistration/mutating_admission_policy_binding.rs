//! MutatingAdmissionPolicyBinding: where a policy holds, and with which parameters.

use serde_json::Value;

use super::{matching, policy};
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
        let spec = root.get("spec");
        policy::validate_binding(&spec, &mut errors);
        let resources = spec.get("matchResources");
        matching::resources(&resources, &mut errors);
        matching::mutable_operations(&resources, &mut errors);
        errors
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::testing::check;

    #[test]
    fn rules() {
        check(
            "mutatingadmissionpolicybindings",
            "{metadata: {name: a}, spec: {policyName: A_b, paramRef: {}, matchResources: {resourceRules: [
              {apiGroups: [''], apiVersions: [v1], resources: [pods], operations: [DELETE]}]}}}",
            expect![[r#"
                spec.policyName: Invalid value: "A_b": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
                spec.paramRef: Required value: one of name or selector must be specified
                spec.paramRef.parameterNotFoundAction: Required value
                spec.matchResources.resourceRules.operations: Unsupported value: "DELETE": supported values: "*", "CONNECT", "CREATE", "UPDATE"
            "#]],
        );
    }
}
