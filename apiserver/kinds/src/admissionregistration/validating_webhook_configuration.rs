//! ValidatingWebhookConfiguration: who may refuse what is written.

use serde_json::Value;

use super::webhook;
use crate::field::FieldError;
use crate::kind::{KindDef, Shape, Strategy};

pub fn definition() -> KindDef {
    let schema = "io.k8s.api.admissionregistration.v1.ValidatingWebhookConfiguration";
    webhook::row("ValidatingWebhookConfiguration", "validatingwebhookconfigurations", schema)
        .strategy(ValidatingWebhookConfiguration)
}

struct ValidatingWebhookConfiguration;

impl Strategy for ValidatingWebhookConfiguration {
    fn shape(&self) -> Shape {
        Shape::SPEC
    }

    fn default(&self, configuration: &mut Value) {
        webhook::default(configuration, false);
    }

    fn validate(&self, configuration: &Value) -> Vec<FieldError> {
        webhook::validate(configuration)
    }
}
