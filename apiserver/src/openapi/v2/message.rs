//! The document as a protobuf message: `openapi.v2.Document` of gnostic's OpenAPIv2.proto.

use super::super::message::{self, Form};
use k8w_kinds::schema::protobuf::Writer;
use serde_json::Value;

use Form::{Any, Anys, Bool, By, Double, Each, Int, Message, Named, OrBool, Text, Texts, Within};

pub static DOCUMENT: message::Message = message::Message {
    fields: &[
        ("swagger", 1, Text),
        ("info", 2, Message(&INFO)),
        ("paths", 8, Named(2, &Message(&PATH_ITEM))),
        ("definitions", 9, Named(1, &Message(&SCHEMA))),
        ("security", 12, Each(&Named(1, &Within(1, &Texts)))),
        ("securityDefinitions", 13, Named(1, &Within(2, &Message(&API_KEY)))),
    ],
    extensions: 16,
};

static INFO: message::Message = message::Message { fields: &[("title", 1, Text), ("version", 2, Text)], extensions: 7 };

static PATH_ITEM: message::Message = message::Message {
    fields: &[
        ("get", 2, Message(&OPERATION)),
        ("put", 3, Message(&OPERATION)),
        ("post", 4, Message(&OPERATION)),
        ("delete", 5, Message(&OPERATION)),
        ("options", 6, Message(&OPERATION)),
        ("head", 7, Message(&OPERATION)),
        ("patch", 8, Message(&OPERATION)),
        ("parameters", 9, Each(&By(parameter))),
    ],
    extensions: 10,
};

static OPERATION: message::Message = message::Message {
    fields: &[
        ("tags", 1, Texts),
        ("description", 3, Text),
        ("operationId", 5, Text),
        ("produces", 6, Texts),
        ("consumes", 7, Texts),
        ("parameters", 8, Each(&By(parameter))),
        ("responses", 9, Named(1, &Within(1, &Message(&RESPONSE)))),
        ("schemes", 10, Texts),
    ],
    extensions: 13,
};

static BODY_PARAMETER: message::Message = message::Message {
    fields: &[
        ("description", 1, Text),
        ("name", 2, Text),
        ("in", 3, Text),
        ("required", 4, Bool),
        ("schema", 5, Message(&SCHEMA)),
    ],
    extensions: 6,
};

static QUERY_PARAMETER: message::Message = message::Message {
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

static PATH_PARAMETER: message::Message = message::Message {
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

static RESPONSE: message::Message = message::Message {
    fields: &[("description", 1, Text), ("schema", 2, Within(1, &Message(&SCHEMA)))],
    extensions: 5,
};

static API_KEY: message::Message = message::Message {
    fields: &[("type", 1, Text), ("name", 2, Text), ("in", 3, Text), ("description", 4, Text)],
    extensions: 5,
};

static SCHEMA: message::Message = message::Message {
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
        ("additionalProperties", 21, OrBool(&Message(&SCHEMA))),
        ("type", 22, Within(1, &Texts)),
        ("items", 23, Within(1, &Message(&SCHEMA))),
        ("allOf", 24, Each(&Message(&SCHEMA))),
        ("properties", 25, Named(1, &Message(&SCHEMA))),
        ("example", 30, Any),
    ],
    extensions: 31,
};

/// `ParametersItem` around `Parameter`, around the message for the place that the parameter is in.
fn parameter(number: u32, parameter: &Value, out: &mut Writer) {
    out.message(number, |out| {
        out.message(1, |out| match parameter["in"].as_str() {
            Some("body") => out.message(1, |out| BODY_PARAMETER.write(parameter, out)),
            Some("path") => out.message(2, |out| out.message(4, |out| PATH_PARAMETER.write(parameter, out))),
            _ => out.message(2, |out| out.message(3, |out| QUERY_PARAMETER.write(parameter, out))),
        });
    });
}
