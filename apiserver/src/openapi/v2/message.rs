//! The document as a protobuf message: `openapi.v2.Document` of gnostic's OpenAPIv2.proto.
//!
//! A table per message names its fields; [`write`] walks the JSON by it. Vendor extensions travel as YAML, which JSON is.

use k8w_kinds::schema::protobuf::Writer;
use serde_json::{Map, Value};

/// How a member is written.
enum Form {
    Text,
    Bool,
    Double,
    Int,
    Message(&'static Message),
    /// A list of messages.
    Messages(&'static Message),
    /// The schema of a list's items, within a message of its own.
    Items,
    Texts,
    /// Any value, as YAML; or several.
    Any,
    Anys,
    /// Pairs of a name and a message, within a message of their own.
    Named(&'static Message),
    /// A text or a list of them, within a message of their own.
    TypeItem,
    /// A schema (or `true`), within a message of its own.
    OrBool,
    Parameters,
    /// A response's schema, which could be a file.
    SchemaItem,
    /// Status codes, each with a response.
    Responses,
    Paths,
    SecurityDefinitions,
    Security,
}

/// A message: its fields by their JSON names, and the number of its vendor extensions.
struct Message {
    fields: &'static [(&'static str, u32, Form)],
    extensions: u32,
}

use Form::*;

static DOCUMENT: Message = Message {
    fields: &[
        ("swagger", 1, Text),
        ("info", 2, Message(&INFO)),
        ("paths", 8, Paths),
        ("definitions", 9, Named(&SCHEMA)),
        ("security", 12, Security),
        ("securityDefinitions", 13, SecurityDefinitions),
    ],
    extensions: 16,
};

static INFO: Message = Message { fields: &[("title", 1, Text), ("version", 2, Text)], extensions: 7 };

static PATH_ITEM: Message = Message {
    fields: &[
        ("get", 2, Message(&OPERATION)),
        ("put", 3, Message(&OPERATION)),
        ("post", 4, Message(&OPERATION)),
        ("delete", 5, Message(&OPERATION)),
        ("options", 6, Message(&OPERATION)),
        ("head", 7, Message(&OPERATION)),
        ("patch", 8, Message(&OPERATION)),
        ("parameters", 9, Parameters),
    ],
    extensions: 10,
};

static OPERATION: Message = Message {
    fields: &[
        ("tags", 1, Texts),
        ("description", 3, Text),
        ("operationId", 5, Text),
        ("produces", 6, Texts),
        ("consumes", 7, Texts),
        ("parameters", 8, Parameters),
        ("responses", 9, Responses),
        ("schemes", 10, Texts),
    ],
    extensions: 13,
};

static BODY_PARAMETER: Message = Message {
    fields: &[
        ("description", 1, Text),
        ("name", 2, Text),
        ("in", 3, Text),
        ("required", 4, Bool),
        ("schema", 5, Message(&SCHEMA)),
    ],
    extensions: 6,
};

static QUERY_PARAMETER: Message = Message {
    fields: &[
        ("required", 1, Bool),
        ("in", 2, Text),
        ("description", 3, Text),
        ("name", 4, Text),
        ("type", 6, Text),
        ("format", 7, Text),
        ("uniqueItems", 20, Bool),
    ],
    extensions: 23,
};

static PATH_PARAMETER: Message = Message {
    fields: &[
        ("required", 1, Bool),
        ("in", 2, Text),
        ("description", 3, Text),
        ("name", 4, Text),
        ("type", 5, Text),
        ("format", 6, Text),
        ("uniqueItems", 19, Bool),
    ],
    extensions: 22,
};

static RESPONSE: Message = Message { fields: &[("description", 1, Text), ("schema", 2, SchemaItem)], extensions: 5 };

static API_KEY: Message = Message {
    fields: &[("type", 1, Text), ("name", 2, Text), ("in", 3, Text), ("description", 4, Text)],
    extensions: 5,
};

static SCHEMA: Message = Message {
    fields: &[
        ("$ref", 1, Text),
        ("format", 2, Text),
        ("title", 3, Text),
        ("description", 4, Text),
        ("multipleOf", 6, Double),
        ("maximum", 7, Double),
        ("exclusiveMaximum", 8, Bool),
        ("minimum", 9, Double),
        ("exclusiveMinimum", 10, Bool),
        ("maxLength", 11, Int),
        ("minLength", 12, Int),
        ("pattern", 13, Text),
        ("maxItems", 14, Int),
        ("minItems", 15, Int),
        ("uniqueItems", 16, Bool),
        ("maxProperties", 17, Int),
        ("minProperties", 18, Int),
        ("required", 19, Texts),
        ("enum", 20, Anys),
        ("additionalProperties", 21, OrBool),
        ("type", 22, TypeItem),
        ("items", 23, Items),
        ("allOf", 24, Messages(&SCHEMA)),
        ("properties", 25, Named(&SCHEMA)),
        ("example", 30, Any),
    ],
    extensions: 31,
};

pub fn encode(document: &Value) -> Vec<u8> {
    let mut out = Writer::default();
    write(&DOCUMENT, document, &mut out);
    out.into_bytes()
}

fn write(message: &Message, value: &Value, out: &mut Writer) {
    let Some(members) = value.as_object() else { return };
    for (name, number, form) in message.fields {
        if let Some(value) = members.get(*name) {
            field(*number, form, value, out);
        }
    }
    for (name, value) in members.iter().filter(|(name, _)| name.starts_with("x-")) {
        named(message.extensions, name, out, |out| any(2, value, out));
    }
}

fn field(number: u32, form: &Form, value: &Value, out: &mut Writer) {
    match (form, value) {
        (Text, Value::String(text)) => out.bytes(number, text.as_bytes()),
        (Bool, Value::Bool(value)) => out.varint(number, u64::from(*value)),
        (Double, value) => out.fixed64(number, value.as_f64().unwrap_or_default().to_bits()),
        (Int, value) => out.varint(number, value.as_i64().unwrap_or_default() as u64),
        (Texts, value) => texts(number, value, out),
        (Message(message), value) => out.message(number, |out| write(message, value, out)),
        (Messages(message), Value::Array(items)) => {
            items.iter().for_each(|item| out.message(number, |out| write(message, item, out)));
        }
        (Any, value) => any(number, value, out),
        (Anys, Value::Array(items)) => items.iter().for_each(|item| any(number, item, out)),
        (Named(message), Value::Object(members)) => out.message(number, |out| {
            for (name, value) in members {
                named(1, name, out, |out| out.message(2, |out| write(message, value, out)));
            }
        }),
        (TypeItem, value) => out.message(number, |out| texts(1, value, out)),
        (OrBool, Value::Bool(value)) => out.message(number, |out| out.varint(2, u64::from(*value))),
        (OrBool, value) => out.message(number, |out| out.message(1, |out| write(&SCHEMA, value, out))),
        (Parameters, Value::Array(items)) => items.iter().for_each(|item| parameter(number, item, out)),
        (Items | SchemaItem, value) => out.message(number, |out| out.message(1, |out| write(&SCHEMA, value, out))),
        (Responses, Value::Object(codes)) => out.message(number, |out| {
            for (code, response) in codes {
                named(1, code, out, |out| {
                    out.message(2, |out| out.message(1, |out| write(&RESPONSE, response, out)));
                });
            }
        }),
        (Paths, Value::Object(paths)) => out.message(number, |out| {
            for (path, item) in paths {
                named(2, path, out, |out| out.message(2, |out| write(&PATH_ITEM, item, out)));
            }
        }),
        (SecurityDefinitions, Value::Object(definitions)) => out.message(number, |out| {
            for (name, definition) in definitions {
                named(1, name, out, |out| {
                    out.message(2, |out| out.message(2, |out| write(&API_KEY, definition, out)));
                });
            }
        }),
        (Security, Value::Array(requirements)) => requirements.iter().for_each(|requirement| {
            out.message(number, |out| requirement_of(requirement.as_object(), out));
        }),
        _ => {}
    }
}

/// A pair of a name and what `value` writes.
fn named(number: u32, name: &str, out: &mut Writer, value: impl FnOnce(&mut Writer)) {
    out.message(number, |out| {
        out.bytes(1, name.as_bytes());
        value(out);
    });
}

fn any(number: u32, value: &Value, out: &mut Writer) {
    out.message(number, |out| out.bytes(2, format!("{value}\n").as_bytes()));
}

fn texts(number: u32, value: &Value, out: &mut Writer) {
    let items = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
    items.iter().filter_map(Value::as_str).for_each(|text| out.bytes(number, text.as_bytes()));
}

/// `ParametersItem` around `Parameter`, around the message for the place that the parameter is in.
fn parameter(number: u32, parameter: &Value, out: &mut Writer) {
    out.message(number, |out| {
        out.message(1, |out| match parameter["in"].as_str() {
            Some("body") => out.message(1, |out| write(&BODY_PARAMETER, parameter, out)),
            Some("path") => out.message(2, |out| out.message(4, |out| write(&PATH_PARAMETER, parameter, out))),
            _ => out.message(2, |out| out.message(3, |out| write(&QUERY_PARAMETER, parameter, out))),
        });
    });
}

fn requirement_of(names: Option<&Map<String, Value>>, out: &mut Writer) {
    for (name, scopes) in names.into_iter().flatten() {
        named(1, name, out, |out| out.message(2, |out| texts(1, scopes, out)));
    }
}
