//! Rules of the schemas in a definition: structural, with defaults that fit, and what users are warned of.

use std::collections::BTreeSet;

use serde_json::Value;

use super::versions;
use crate::field::{Field, FieldError};
use crate::object::{get, list, text};
use crate::schema::{Broken, Pattern, Schema};

/// What may stand at the root of a schema whose kind has a status subresource, whose own schema is taken out of it; and how
/// Kubernetes calls it.
const AT_ROOT_WITH_STATUS: [(&str, &str); 22] = [
    ("description", "Description"),
    ("type", "Type"),
    ("format", "Format"),
    ("title", "Title"),
    ("maximum", "Maximum"),
    ("exclusiveMaximum", "ExclusiveMaximum"),
    ("minimum", "Minimum"),
    ("exclusiveMinimum", "ExclusiveMinimum"),
    ("maxLength", "MaxLength"),
    ("minLength", "MinLength"),
    ("pattern", "Pattern"),
    ("maxItems", "MaxItems"),
    ("minItems", "MinItems"),
    ("uniqueItems", "UniqueItems"),
    ("multipleOf", "MultipleOf"),
    ("required", "Required"),
    ("items", "Items"),
    ("properties", "Properties"),
    ("externalDocs", "ExternalDocs"),
    ("example", "Example"),
    ("x-kubernetes-preserve-unknown-fields", "XPreserveUnknownFields"),
    ("x-kubernetes-validations", "XValidations"),
];

/// The schemas of all versions that have one.
fn of(versions: &[Value]) -> impl Iterator<Item = &Value> {
    versions.iter().filter_map(|version| get(version, &["schema", "openAPIV3Schema"]))
}

/// What of a definition's schemas is let be, because they were so in `old`. Where unknown fields are dropped or defaults filled
/// in, and where keywords are Kubernetes' own, schemas are structural all the same.
pub fn let_be(spec: &Field, old: Option<&Value>) -> Broken {
    let before = of(old.map(versions).unwrap_or_default()).map(Schema::broken_in_crd);
    let before = before.fold(Broken::default(), Broken::or);
    let preserves = spec.get("preserveUnknownFields").bool() == Some(true);
    let needs = |schema: &Value| Schema::has_defaults_in_crd(schema) || Schema::has_extensions_in_crd(schema);
    let new = spec.value().map(|spec| list(spec, &["versions"])).unwrap_or_default();
    Broken { structure: before.structure && preserves && !of(new).any(needs), ..before }
}

/// Checks `schema`, the parent of `openAPIV3Schema`; `large_patterns` are those of the schemas before.
pub fn validate(
    schema: &Field,
    has_status: bool,
    let_be: Broken,
    large_patterns: &mut Vec<Pattern>,
    errors: &mut Vec<FieldError>,
) {
    let schema = schema.get("openAPIV3Schema");
    let Some(value) = schema.value() else { return };
    if has_status {
        at_root(&schema, errors);
    }
    if get(value, &["nullable"]) == Some(&Value::Bool(true)) {
        errors.push(schema.get("nullable").forbidden("nullable cannot be true at the root"));
    }
    errors.extend(Schema::check_crd(value, let_be, &schema.path, large_patterns));
}

fn at_root(schema: &Field, errors: &mut Vec<FieldError>) {
    let Some(members) = schema.value().and_then(Value::as_object) else { return };
    let is_zero = |value: &Value| value.is_null() || *value == Value::Bool(false) || value.as_str() == Some("");
    let foreign = |name: &str| AT_ROOT_WITH_STATUS.iter().all(|(known, _)| *known != name);
    let mut set = members.iter().filter(|(_, value)| !is_zero(value)).map(|(name, _)| name.as_str());
    let kind = schema.get("type");
    if !matches!(kind.text(), "" | "object") && !set.clone().any(|name| matches!(name, "id" | "$schema" | "$ref")) {
        let detail =
            "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled";
        errors.push(kind.invalid(detail));
    } else if set.any(foreign) {
        let allowed = AT_ROOT_WITH_STATUS.map(|(_, name)| name).join(" ");
        errors.push(schema.invalid(format!(
            "only [{allowed}] fields are allowed at the root of the schema if the status subresource is enabled"
        )));
    }
}

/// Formats that nobody checks, and what k8w does not do. Of a change, only what it adds is told.
pub fn warnings(definition: &Value, old: Option<&Value>) -> Vec<String> {
    let found = Found::of(definition);
    let before = old.map(Found::of).unwrap_or_default();
    let mut warnings: Vec<String> =
        found.formats.difference(&before.formats).map(|f| format!("unrecognized format {f:?}")).collect();
    if found.has_rules && !before.has_rules {
        warnings.push("x-kubernetes-validations: the rules are stored, but k8w does not enforce them yet".to_owned());
    }
    let by_webhook = |definition| text(definition, &["spec", "conversion", "strategy"]) == "Webhook";
    if by_webhook(definition) && !old.is_some_and(by_webhook) {
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
    has_rules: bool,
}

impl<'s> Found<'s> {
    fn of(definition: &'s Value) -> Found<'s> {
        let mut found = Found::default();
        of(versions(definition)).for_each(|schema| found.look(schema));
        found
    }

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
