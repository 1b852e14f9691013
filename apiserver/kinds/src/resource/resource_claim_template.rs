//! ResourceClaimTemplate: the claim that each of many pods gets.

use serde_json::Value;

use super::request;
use crate::field::{Field, FieldError};
use crate::kind::{Column, KindDef, Strategy};
use crate::{object, rules};

pub fn definition() -> KindDef {
    let schema = "io.k8s.api.resource.v1.ResourceClaimTemplate";
    KindDef::builtin(super::GROUP, "v1", "ResourceClaimTemplate", "resourceclaimtemplates", schema)
        .columns(vec![Column::name(), Column::age()])
        .answers_deleted()
        .strategy(ResourceClaimTemplate)
}

struct ResourceClaimTemplate;

impl Strategy for ResourceClaimTemplate {
    fn default(&self, template: &mut Value) {
        request::default(object::get_mut(template, &["spec", "spec"]));
    }

    fn validate(&self, template: &Value) -> Vec<FieldError> {
        let root = Field::root(template);
        let spec = root.get("spec");
        let mut errors = Vec::new();
        let metadata = spec.get("metadata");
        crate::metadata::labels(&metadata.get("labels"), &mut errors);
        crate::metadata::annotations(&metadata.get("annotations"), &mut errors);
        request::validate(&spec.get("spec"), &mut errors);
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let (new, old) = (Field::root(new), Field::root(old));
        let mut errors = Vec::new();
        rules::immutable(&new.get("spec"), &old.get("spec"), &mut errors);
        errors
    }
}
