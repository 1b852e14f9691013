//! ValidatingAdmissionPolicyBinding: where a policy holds, with which parameters, and what a violation leads to.

use serde_json::Value;

use super::{matching, policy};
use crate::field::{Field, FieldError};
use crate::kind::{KindDef, Shape, Strategy};

const ACTIONS: [&str; 3] = ["Audit", "Deny", "Warn"];

pub fn definition() -> KindDef {
    let schema = "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicyBinding";
    let (kind, plural) = ("ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings");
    super::row(kind, plural, schema).columns(policy::binding_columns()).strategy(ValidatingAdmissionPolicyBinding)
}

struct ValidatingAdmissionPolicyBinding;

impl Strategy for ValidatingAdmissionPolicyBinding {
    fn shape(&self) -> Shape {
        Shape::SPEC
    }

    fn default(&self, binding: &mut Value) {
        policy::default_binding(binding);
    }

    fn validate(&self, binding: &Value) -> Vec<FieldError> {
        let root = Field::root(binding);
        let spec = root.get("spec");
        let mut errors = Vec::new();
        policy::validate_binding(&spec, &mut errors);
        let resources = spec.get("matchResources");
        // Kubernetes' own spelling.
        let resources = Field::new(resources.value(), spec.path.child("matchResouces"));
        matching::resources(&resources, &mut errors);
        let actions = spec.get("validationActions");
        let mut seen = Vec::new();
        for action in actions.items() {
            if !ACTIONS.contains(&action.text()) {
                errors.push(action.not_supported(&ACTIONS));
            }
            if seen.contains(&action.text()) {
                errors.push(action.duplicate());
            }
            seen.push(action.text());
        }
        if seen.contains(&"Deny") && seen.contains(&"Warn") {
            let detail = "must not contain both Deny and Warn (repeating the same validation failure information in the \
                          API response and headers serves no purpose)";
            errors.push(actions.invalid(detail));
        }
        if seen.is_empty() {
            errors.push(actions.required("at least one validation action is required"));
        }
        errors
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::testing::{check, check_row};

    #[test]
    fn rules() {
        check(
            "validatingadmissionpolicybindings",
            "{metadata: {name: a}, spec: {paramRef: {name: x, selector: {}}, validationActions: [Deny, Warn, Odd]}}",
            expect![[r#"
                spec.policyName: Required value
                spec.paramRef.name: Forbidden: name and selector are mutually exclusive
                spec.paramRef.selector: Forbidden: name and selector are mutually exclusive
                spec.paramRef.parameterNotFoundAction: Required value
                spec.validationActions[2]: Unsupported value: "Odd": supported values: "Audit", "Deny", "Warn"
                spec.validationActions: Invalid value: ["Deny","Warn","Odd"]: must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)
            "#]],
        );
        check_row(
            "validatingadmissionpolicybindings",
            "{metadata: {name: a}, spec: {policyName: p, paramRef: {name: x, namespace: y}}}",
            expect!["Name=a | PolicyName=p | ParamRef=x | Age=<unknown>"],
        );
    }
}
