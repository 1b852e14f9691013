//! Rules of the schemas in a definition: structural, with defaults that fit, and what users are warned of.

use std::collections::BTreeSet;

use serde_json::Value;

use super::versions;
use crate::field::{Field, FieldError};
use crate::object::{get, list, text};
use crate::schema::Schema;

/// What may stand at the root of a schema whose kind has a status subresource, whose own schema is taken out of it.
const AT_ROOT_WITH_STATUS: [&str; 22] = [
    "description",
    "type",
    "format",
    "title",
    "maximum",
    "exclusiveMaximum",
    "minimum",
    "exclusiveMinimum",
    "maxLength",
    "minLength",
    "pattern",
    "maxItems",
    "minItems",
    "uniqueItems",
    "multipleOf",
    "required",
    "items",
    "properties",
    "externalDocs",
    "example",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-validations",
];

/// Checks `schema`, the parent of `openAPIV3Schema`.
pub fn validate(schema: &Field, has_status: bool, errors: &mut Vec<FieldError>) {
    let schema = schema.get("openAPIV3Schema");
    let Some(value) = schema.value() else { return };
    let foreign = |(name, value): (&String, &Value)| {
        let is_zero = value.is_null() || *value == Value::Bool(false) || value.as_str() == Some("");
        !is_zero && !AT_ROOT_WITH_STATUS.contains(&name.as_str())
    };
    if has_status && value.as_object().is_some_and(|members| members.iter().any(foreign)) {
        let detail = format!(
            "only {AT_ROOT_WITH_STATUS:?} fields are allowed at the root of the schema if the status subresource is enabled"
        );
        errors.push(schema.invalid(detail.replace("\", \"", " ").replace('"', "")));
    }
    if get(value, &["nullable"]) == Some(&Value::Bool(true)) {
        errors.push(schema.get("nullable").forbidden("nullable cannot be true at the root"));
    }
    errors.extend(Schema::check_crd(value, &schema.path));
}

/// Formats that nobody checks, lists that other parts of Kubernetes cannot handle, and what k8w does not do.
pub fn warnings(definition: &Value) -> Vec<String> {
    let mut found = Found::default();
    for version in versions(definition) {
        if let Some(schema) = get(version, &["schema", "openAPIV3Schema"]) {
            found.look(schema);
        }
    }
    let mut warnings: Vec<String> = found.formats.iter().map(|f| format!("unrecognized format {f:?}")).collect();
    let set = |kind: &str| {
        format!(
            "x-kubernetes-list-type: set for items of type {kind:?} is not supported by server-side apply or CEL \
             validation rules"
        )
    };
    warnings.extend(found.sets.iter().map(|kind| set(kind)));
    if found.has_rules {
        warnings.push("x-kubernetes-validations: the rules are stored, but k8w does not enforce them yet".to_owned());
    }
    if text(definition, &["spec", "conversion", "strategy"]) == "Webhook" {
        warnings.push(
            "spec.conversion: k8w does not call conversion webhooks yet: the storage version alone is served"
                .to_owned(),
        );
    }
    warnings
}

#[derive(Default)]
struct Found<'s> {
    formats: BTreeSet<&'s str>,
    sets: BTreeSet<&'s str>,
    has_rules: bool,
}

impl<'s> Found<'s> {
    fn look(&mut self, schema: &'s Value) {
        let (kind, format) = (text(schema, &["type"]), text(schema, &["format"]));
        let known = match kind {
            "" | "string" => Schema::knows_format(format),
            "integer" => matches!(format, "int32" | "int64"),
            "number" => matches!(format, "float" | "double"),
            _ => false,
        };
        if !format.is_empty() && !known {
            self.formats.insert(format);
        }
        let item = text(schema, &["items", "type"]);
        if text(schema, &["x-kubernetes-list-type"]) == "set" && matches!(item, "object" | "array") {
            self.sets.insert(item);
        }
        self.has_rules |= !list(schema, &["x-kubernetes-validations"]).is_empty();
        let members = get(schema, &["properties"]).and_then(Value::as_object).into_iter().flatten();
        members.for_each(|(_, schema)| self.look(schema));
        for name in ["items", "additionalProperties", "not"] {
            get(schema, &[name]).filter(|schema| schema.is_object()).into_iter().for_each(|schema| self.look(schema));
        }
        for name in ["allOf", "anyOf", "oneOf"] {
            list(schema, &[name]).iter().for_each(|schema| self.look(schema));
        }
    }
}
