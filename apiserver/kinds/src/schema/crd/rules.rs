//! Value validation: what a value must satisfy beyond having its type.

use serde_json::Value;

use super::format::Format;
use super::pattern::Pattern;

/// The validation keywords of one schema, or of one inside of `allOf`, `anyOf`, `oneOf` or `not`.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    /// Inside of the combining keywords, and of an object of whose members nothing is known.
    pub kind: Option<Kind>,
    /// `x-kubernetes-embedded-resource`: the value is a whole object of some kind.
    pub embedded: bool,
    pub enumeration: Vec<Value>,
    /// As it was written, where it means anything for the type.
    pub format: Option<Box<str>>,
    /// What strings are checked against.
    pub text_format: Option<Format>,
    pub numeric: Numeric,
    pub minimum: Option<Limit>,
    pub maximum: Option<Limit>,
    pub multiple_of: Option<f64>,
    pub min_length: Option<u64>,
    pub max_length: Option<u64>,
    pub pattern: Option<Pattern>,
    pub min_items: Option<u64>,
    pub max_items: Option<u64>,
    pub unique_items: bool,
    pub min_properties: Option<u64>,
    pub max_properties: Option<u64>,
    pub required: Vec<Box<str>>,
    /// Rules for members and items, only inside of the combining keywords.
    pub properties: Vec<(Box<str>, Rules)>,
    pub items: Option<Box<Rules>>,
    pub additional: Option<Box<Rules>>,
    /// `additionalProperties: false`: no members but these.
    pub known: Option<Vec<Box<str>>>,
    pub all_of: Vec<Rules>,
    pub any_of: Vec<Rules>,
    pub one_of: Vec<Rules>,
    pub not: Option<Box<Rules>>,
}

/// `type` where it is not the shape's to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Integer,
    Object,
    String,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Integer => "integer",
            Kind::Object => "object",
            Kind::String => "string",
        }
    }
}

/// What numbers a schema takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Numeric {
    /// The type says nothing about numbers.
    #[default]
    Any,
    Integer,
    Int32,
    Int64,
    Number,
    Float,
    Double,
}

impl Numeric {
    fn of(kind: Option<&str>, format: &str) -> Numeric {
        match (kind, format) {
            (Some("integer"), "int32") => Numeric::Int32,
            (Some("integer"), "int64") => Numeric::Int64,
            (Some("integer"), _) => Numeric::Integer,
            (Some("number"), "float") => Numeric::Float,
            (Some("number"), "double") => Numeric::Double,
            (Some("number"), _) => Numeric::Number,
            _ => Numeric::Any,
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    pub value: f64,
    pub exclusive: bool,
}

impl Rules {
    /// The rules of a node, whose members and items have nodes of their own.
    pub fn of(source: &Value) -> Rules {
        Rules { properties: Vec::new(), items: None, additional: None, kind: None, ..Rules::nested(source) }
    }

    /// The rules of a whole schema, where no nodes stand below.
    pub fn nested(source: &Value) -> Rules {
        let flag = |name: &str| source.get(name).and_then(Value::as_bool).unwrap_or(false);
        let count = |name: &str| source.get(name).and_then(Value::as_u64);
        let text = |name: &str| source.get(name).and_then(Value::as_str);
        let list = |name: &str| source.get(name).and_then(Value::as_array).into_iter().flatten();
        let limit = |name: &str, exclusive: &str| {
            let value = source.get(name)?.as_f64()?;
            Some(Limit { value, exclusive: flag(exclusive) })
        };
        let one = |name: &str| source.get(name).filter(|s| s.is_object()).map(|s| Box::new(Rules::nested(s)));
        let many = |name: &str| list(name).map(Rules::nested).collect();
        let properties = || source.get("properties").and_then(Value::as_object).into_iter().flatten();
        let known = || properties().map(|(name, _)| name.as_str().into()).collect();
        let int_or_string = flag("x-kubernetes-int-or-string");
        let kind = text("type").filter(|kind| !kind.is_empty() && !int_or_string);
        let format = text("format").unwrap_or_default();
        let numeric = Numeric::of(kind, format);
        let is_text = matches!(kind, None | Some("string"));
        let means_something = match numeric {
            Numeric::Int32 | Numeric::Int64 | Numeric::Float | Numeric::Double => true,
            _ => is_text && super::knows_format(format),
        };
        Rules {
            kind: match text("type") {
                Some("integer") => Some(Kind::Integer),
                Some("string") => Some(Kind::String),
                _ => None,
            },
            embedded: flag("x-kubernetes-embedded-resource"),
            enumeration: list("enum").cloned().collect(),
            format: means_something.then(|| format.into()),
            text_format: Some(format).filter(|_| is_text).and_then(Format::named),
            numeric,
            minimum: limit("minimum", "exclusiveMinimum"),
            maximum: limit("maximum", "exclusiveMaximum"),
            multiple_of: source.get("multipleOf").and_then(Value::as_f64),
            min_length: count("minLength"),
            max_length: count("maxLength"),
            pattern: text("pattern").map(Pattern::new),
            min_items: count("minItems"),
            max_items: count("maxItems"),
            unique_items: flag("uniqueItems"),
            min_properties: count("minProperties"),
            max_properties: count("maxProperties"),
            required: list("required").filter_map(Value::as_str).map(Into::into).collect(),
            properties: properties().map(|(name, s)| (name.as_str().into(), Rules::nested(s))).collect(),
            items: one("items"),
            additional: one("additionalProperties"),
            known: (source.get("additionalProperties") == Some(&Value::Bool(false))).then(known),
            all_of: many("allOf"),
            any_of: many("anyOf"),
            one_of: many("oneOf"),
            not: one("not"),
        }
    }

    pub fn is_empty(&self) -> bool {
        let counts = [
            self.min_length,
            self.max_length,
            self.min_items,
            self.max_items,
            self.min_properties,
            self.max_properties,
        ];
        !self.embedded
            && self.kind.is_none()
            && self.enumeration.is_empty()
            && self.format.is_none()
            && self.minimum.is_none()
            && self.maximum.is_none()
            && self.multiple_of.is_none()
            && self.pattern.is_none()
            && counts.iter().all(Option::is_none)
            && !self.unique_items
            && self.known.is_none()
            && self.required.is_empty()
            && self.all_of.is_empty()
            && self.any_of.is_empty()
            && self.one_of.is_empty()
            && self.not.is_none()
    }
}
