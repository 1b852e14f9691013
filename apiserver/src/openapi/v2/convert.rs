//! From OpenAPI v3 to v2: what v2 calls otherwise, and what it has no words for.

use serde_json::{Map, Value, json};

type Members = Map<String, Value>;

/// The whole document.
pub fn document(v3: &Value) -> Value {
    let schemas = v3.pointer("/components/schemas").and_then(Value::as_object).into_iter().flatten();
    let definitions: Members = schemas.map(|(name, schema)| (name.clone(), definition(name, schema))).collect();
    let paths = v3["paths"].as_object().into_iter().flatten();
    let paths: Members = paths.map(|(path, item)| (path.clone(), path_item(item))).collect();
    json!({
        "swagger": "2.0",
        "info": v3["info"],
        "paths": paths,
        "definitions": definitions,
        "securityDefinitions": v3["components"]["securitySchemes"],
        "security": v3["security"],
    })
}

/// A named schema. Of types that hold values of several types v2 says one, or none.
fn definition(name: &str, schema: &Value) -> Value {
    let mut definition = self::schema(schema);
    let Some(members) = definition.as_object_mut() else { return definition };
    if members.remove("oneOf").is_some() && matches!(name.rsplit('.').next(), Some("Quantity" | "IntOrString")) {
        members.insert("type".into(), "string".into());
    }
    definition
}

fn schema(schema: &Value) -> Value {
    let Some(members) = schema.as_object() else { return schema.clone() };
    let mut converted = Members::new();
    for (name, value) in members {
        match (name.as_str(), value) {
            // Defaults are no part of what v2 publishes.
            ("default" | "nullable", _) => {}
            ("$ref", Value::String(reference)) => {
                let reference = reference.replace("#/components/schemas/", "#/definitions/");
                converted.insert(name.clone(), reference.into());
            }
            // v2 lets descriptions stand beside a reference.
            ("allOf", Value::Array(all)) if all.len() == 1 && all[0].get("$ref").is_some() => {
                converted.extend(self::schema(&all[0]).as_object().cloned().unwrap_or_default());
            }
            ("properties", Value::Object(properties)) => {
                let properties: Members =
                    properties.iter().map(|(name, property)| (name.clone(), self::schema(property))).collect();
                converted.insert(name.clone(), properties.into());
            }
            ("items" | "additionalProperties", value) => {
                converted.insert(name.clone(), self::schema(value));
            }
            ("allOf" | "oneOf" | "anyOf", Value::Array(all)) => {
                converted.insert(name.clone(), all.iter().map(self::schema).collect());
            }
            (_, value) => {
                converted.insert(name.clone(), value.clone());
            }
        }
    }
    converted.into()
}

fn path_item(item: &Value) -> Value {
    let convert = |(name, value): (&String, &Value)| match name.as_str() {
        "parameters" => (name.clone(), parameters(value).into()),
        _ => (name.clone(), operation(value)),
    };
    item.as_object().into_iter().flatten().map(convert).collect::<Members>().into()
}

fn operation(v3: &Value) -> Value {
    let mut operation = Members::new();
    for (name, value) in v3.as_object().into_iter().flatten() {
        match name.as_str() {
            "parameters" | "requestBody" | "responses" => {}
            _ => {
                operation.insert(name.clone(), value.clone());
            }
        }
    }
    let mut all = Vec::new();
    if let Some(body) = v3.get("requestBody") {
        let content = body["content"].as_object();
        let types: Vec<&String> = content.into_iter().flatten().map(|(media, _)| media).collect();
        operation.insert("consumes".into(), json!(types));
        let mut parameter = json!({"in": "body", "name": "body",
            "schema": content.and_then(|content| content.values().next()).map(content_schema)});
        if body["required"] == true {
            parameter["required"] = true.into();
        }
        all.push(parameter);
    }
    all.extend(parameters(&v3["parameters"]));
    if !all.is_empty() {
        operation.insert("parameters".into(), all.into());
    }
    let mut produces: Vec<String> = Vec::new();
    let responses = v3["responses"].as_object().into_iter().flatten().map(|(code, response)| {
        let mut converted = json!({"description": response["description"]});
        for (media, content) in response["content"].as_object().into_iter().flatten() {
            if !produces.contains(media) {
                produces.push(media.clone());
            }
            converted["schema"] = content_schema(content);
        }
        (code.clone(), converted)
    });
    let responses: Members = responses.collect();
    operation.insert("produces".into(), produces.into());
    operation.insert("responses".into(), responses.into());
    operation.insert("schemes".into(), json!(["https"]));
    operation.into()
}

fn content_schema(content: &Value) -> Value {
    schema(&content["schema"])
}

/// A parameter's schema is the parameter itself.
fn parameters(parameters: &Value) -> Vec<Value> {
    let flat = |parameter: &Value| {
        let mut parameter = parameter.as_object().cloned().unwrap_or_default();
        if let Some(Value::Object(schema)) = parameter.remove("schema") {
            parameter.extend(schema);
        }
        parameter.into()
    };
    parameters.as_array().into_iter().flatten().map(flat).collect()
}
