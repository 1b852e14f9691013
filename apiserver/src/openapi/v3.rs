//! The document of a group and version as a protobuf message: `openapi.v3.Document` of gnostic's OpenAPIv3.proto.

use super::message::{self, Form};

use Form::{Any, Anys, Bool, Double, Each, Int, Message, Named, OrBool, OrReference, Scalar, Text, Texts, Within};

/// How the message is answered, and how it is asked for.
pub const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v3.v1.0+protobuf";
pub const PROTOBUF_ASKED: &str = "application/com.github.proto-openapi.spec.v3@v1.0+protobuf";

pub static DOCUMENT: message::Message = message::Message {
    fields: &[
        ("openapi", 1, Text),
        ("info", 2, Message(&INFO)),
        ("paths", 4, Named(1, &Message(&PATH_ITEM))),
        ("components", 5, Message(&COMPONENTS)),
        ("security", 6, Each(&Named(1, &Within(1, &Texts)))),
    ],
    extensions: 9,
};

static INFO: message::Message = message::Message { fields: &[("title", 1, Text), ("version", 6, Text)], extensions: 7 };

static COMPONENTS: message::Message = message::Message {
    fields: &[
        ("schemas", 1, Named(1, &OrReference(&SCHEMA))),
        ("securitySchemes", 7, Named(1, &OrReference(&SECURITY_SCHEME))),
    ],
    extensions: 10,
};

static PATH_ITEM: message::Message = message::Message {
    fields: &[
        ("get", 4, Message(&OPERATION)),
        ("put", 5, Message(&OPERATION)),
        ("post", 6, Message(&OPERATION)),
        ("delete", 7, Message(&OPERATION)),
        ("options", 8, Message(&OPERATION)),
        ("head", 9, Message(&OPERATION)),
        ("patch", 10, Message(&OPERATION)),
        ("parameters", 13, Each(&OrReference(&PARAMETER))),
    ],
    extensions: 14,
};

static OPERATION: message::Message = message::Message {
    fields: &[
        ("tags", 1, Texts),
        ("description", 3, Text),
        ("operationId", 5, Text),
        ("parameters", 6, Each(&OrReference(&PARAMETER))),
        ("requestBody", 7, OrReference(&REQUEST_BODY)),
        ("responses", 8, Named(2, &OrReference(&RESPONSE))),
    ],
    extensions: 13,
};

static PARAMETER: message::Message = message::Message {
    fields: &[
        ("name", 1, Text),
        ("in", 2, Text),
        ("description", 3, Text),
        ("required", 4, Bool),
        ("schema", 10, OrReference(&SCHEMA)),
    ],
    extensions: 14,
};

static REQUEST_BODY: message::Message = message::Message {
    fields: &[("description", 1, Text), ("content", 2, Named(1, &Message(&MEDIA_TYPE))), ("required", 3, Bool)],
    extensions: 4,
};

static RESPONSE: message::Message = message::Message {
    fields: &[("description", 1, Text), ("content", 3, Named(1, &Message(&MEDIA_TYPE)))],
    extensions: 5,
};

static MEDIA_TYPE: message::Message =
    message::Message { fields: &[("schema", 1, OrReference(&SCHEMA))], extensions: 5 };

static SECURITY_SCHEME: message::Message = message::Message {
    fields: &[("type", 1, Text), ("description", 2, Text), ("name", 3, Text), ("in", 4, Text)],
    extensions: 9,
};

static SCHEMA: message::Message = message::Message {
    fields: &[
        ("nullable", 1, Bool),
        ("example", 7, Any),
        ("title", 9, Text),
        ("multipleOf", 10, Double),
        ("maximum", 11, Double),
        ("exclusiveMaximum", 12, Bool),
        ("minimum", 13, Double),
        ("exclusiveMinimum", 14, Bool),
        ("maxLength", 15, Int),
        ("minLength", 16, Int),
        ("pattern", 17, Text),
        ("maxItems", 18, Int),
        ("minItems", 19, Int),
        ("uniqueItems", 20, Bool),
        ("maxProperties", 21, Int),
        ("minProperties", 22, Int),
        ("required", 23, Texts),
        ("enum", 24, Anys),
        ("type", 25, Text),
        ("allOf", 26, Each(&OrReference(&SCHEMA))),
        ("oneOf", 27, Each(&OrReference(&SCHEMA))),
        ("anyOf", 28, Each(&OrReference(&SCHEMA))),
        ("not", 29, Message(&SCHEMA)),
        ("items", 30, Within(1, &OrReference(&SCHEMA))),
        ("properties", 31, Named(1, &OrReference(&SCHEMA))),
        ("additionalProperties", 32, OrBool(&OrReference(&SCHEMA))),
        ("default", 33, Scalar),
        ("description", 34, Text),
        ("format", 35, Text),
    ],
    extensions: 36,
};

#[cfg(test)]
pub fn has_schema_field(name: &str) -> bool {
    SCHEMA.fields.iter().any(|(field, ..)| *field == name)
}
