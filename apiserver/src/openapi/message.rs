//! OpenAPI documents as protobuf messages, those of gnostic.
//!
//! A table per message names its fields ([`super::v2`] and [`super::v3`] have them); [`Message::write`] walks the JSON by
//! it. Vendor extensions travel as YAML, which JSON is.

use k8w_kinds::schema::protobuf::Writer;
use serde_json::Value;

/// How a member is written.
pub enum Form {
    Text,
    Bool,
    Double,
    Int,
    Texts,
    /// Any value, as YAML; or several.
    Any,
    Anys,
    Message(&'static Message),
    /// One after the other.
    Each(&'static Form),
    /// A field of this number within a message of its own.
    Within(u32, &'static Form),
    /// Pairs of a name and a value, as fields of this number within a message of their own.
    Named(u32, &'static Form),
    /// A message, or a reference to one, within a message of its own.
    OrReference(&'static Message),
    /// Something, or `true` or `false`, within a message of its own.
    OrBool(&'static Form),
    /// One of a few scalars, within a message of its own. There is no form for anything else.
    Scalar,
    /// By code of its own.
    By(fn(u32, &Value, &mut Writer)),
}

/// A message: its fields by their JSON names, and the number of its vendor extensions.
pub struct Message {
    pub fields: &'static [(&'static str, u32, Form)],
    pub extensions: u32,
}

impl Message {
    pub fn encode(&self, document: &Value) -> Vec<u8> {
        let mut out = Writer::default();
        self.write(document, &mut out);
        out.into_bytes()
    }

    pub fn write(&self, value: &Value, out: &mut Writer) {
        let Some(members) = value.as_object() else { return };
        for (name, number, form) in self.fields {
            if let Some(value) = members.get(*name) {
                form.write(*number, value, out);
            }
        }
        for (name, value) in members.iter().filter(|(name, _)| name.starts_with("x-")) {
            named(self.extensions, name, out, |out| Form::Any.write(2, value, out));
        }
    }
}

impl Form {
    pub fn write(&self, number: u32, value: &Value, out: &mut Writer) {
        match (self, value) {
            (Form::Text, Value::String(text)) => out.bytes(number, text.as_bytes()),
            (Form::Bool, Value::Bool(value)) => out.varint(number, u64::from(*value)),
            (Form::Double, value) => out.fixed64(number, value.as_f64().unwrap_or_default().to_bits()),
            (Form::Int, value) => out.varint(number, value.as_i64().unwrap_or_default() as u64),
            (Form::Texts, value) => {
                let texts = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
                texts.iter().filter_map(Value::as_str).for_each(|text| out.bytes(number, text.as_bytes()));
            }
            (Form::Any, value) => out.message(number, |out| out.bytes(2, format!("{value}\n").as_bytes())),
            (Form::Anys, Value::Array(items)) => items.iter().for_each(|item| Form::Any.write(number, item, out)),
            (Form::Message(message), value) => out.message(number, |out| message.write(value, out)),
            (Form::Each(form), Value::Array(items)) => items.iter().for_each(|item| form.write(number, item, out)),
            (Form::Within(inner, form), value) => out.message(number, |out| form.write(*inner, value, out)),
            (Form::Named(inner, form), Value::Object(members)) => out.message(number, |out| {
                for (name, value) in members {
                    named(*inner, name, out, |out| form.write(2, value, out));
                }
            }),
            (Form::OrReference(message), value) => out.message(number, |out| match value.get("$ref") {
                Some(reference) => out.message(2, |out| Form::Text.write(1, reference, out)),
                None => out.message(1, |out| message.write(value, out)),
            }),
            (Form::OrBool(_), Value::Bool(_)) => out.message(number, |out| Form::Bool.write(2, value, out)),
            (Form::OrBool(form), value) => out.message(number, |out| form.write(1, value, out)),
            (Form::Scalar, Value::Number(_)) => out.message(number, |out| Form::Double.write(1, value, out)),
            (Form::Scalar, Value::Bool(_)) => out.message(number, |out| Form::Bool.write(2, value, out)),
            (Form::Scalar, Value::String(_)) => out.message(number, |out| Form::Text.write(3, value, out)),
            (Form::By(write), value) => write(number, value, out),
            _ => {}
        }
    }
}

/// A pair of a name and what `value` writes.
fn named(number: u32, name: &str, out: &mut Writer, value: impl FnOnce(&mut Writer)) {
    out.message(number, |out| {
        out.bytes(1, name.as_bytes());
        value(out);
    });
}
