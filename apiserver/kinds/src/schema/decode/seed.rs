//! The schema-driven seed: a serde visitor that knows which type it is reading.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map as JsonMap, Number, Value};

use super::super::shape::{Field, Node, Object, Shape};
use super::{MAX_DEPTH_LEVELS, MAX_ISSUES, scalar};

/// Whose words tell of a value that lacks its type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Words {
    /// Go's JSON decoder.
    #[default]
    Decoder,
    /// What turns a patched map into an object in Kubernetes (`runtime.DefaultUnstructuredConverter`).
    Converter,
}

/// What a decoding records beside the value.
#[derive(Default)]
pub(super) struct Context {
    pub words: Words,
    pub issues: Vec<String>,
    /// The first type error; serde's own error then only unwinds.
    pub error: Option<String>,
}

impl Context {
    fn issue(&mut self, what: &str, place: &Place<'_>, field: &str) {
        if self.issues.len() < MAX_ISSUES {
            let issue = format!("{what} field {:?}", place.join(Segment::Key(field)).to_string());
            if !self.issues.contains(&issue) {
                self.issues.push(issue);
            }
        }
    }

    fn fail<E: Error>(&mut self, message: impl Into<String>) -> E {
        self.error.get_or_insert_with(|| message.into());
        E::custom("wrong type")
    }
}

/// Where the value being read stands: a chain on the stack, spelled out only when there is something to say.
#[derive(Clone, Copy)]
pub(super) struct Place<'p> {
    parent: Option<&'p Place<'p>>,
    segment: Segment<'p>,
    depth: usize,
}

#[derive(Clone, Copy)]
enum Segment<'p> {
    Root,
    Key(&'p str),
    Field(&'p Field, &'p Object),
    Index(usize),
}

impl<'p> Place<'p> {
    pub fn root() -> Self {
        Place { parent: None, segment: Segment::Root, depth: 0 }
    }

    fn join<'c>(&'c self, segment: Segment<'c>) -> Place<'c> {
        Place { parent: Some(self), segment, depth: self.depth + 1 }
    }

    /// The object whose field leads here, and the fields on the way, as Go's decoder names them.
    fn go_field(&self) -> Option<String> {
        let mut object = None;
        let mut names = Vec::new();
        let mut here = Some(self);
        while let Some(place) = here {
            if let Segment::Field(field, owner) = place.segment {
                object.get_or_insert(owner);
                names.push(&*field.name);
            }
            here = place.parent;
        }
        names.reverse();
        object.map(|o| format!("{}.{}", o.short_name(), names.join(".")))
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(parent) = self.parent else { return Ok(()) };
        parent.fmt(f)?;
        let name = match self.segment {
            Segment::Root => return Ok(()),
            Segment::Index(index) => return write!(f, "[{index}]"),
            Segment::Key(key) => key,
            Segment::Field(field, _) => &field.name,
        };
        let dot = if parent.parent.is_some() { "." } else { "" };
        write!(f, "{dot}{name}")
    }
}

/// Reads one value of a known type.
pub(super) struct Seed<'s, 'p, 'c> {
    shape: &'s Shape,
    place: Place<'p>,
    context: &'c mut Context,
    /// Keep what lacks its type, for validation to report (custom objects).
    lenient: bool,
}

static ANY: Node = Node { shape: Shape::Any, nullable: true, default: None, rules: None };

impl<'s, 'p, 'c> Seed<'s, 'p, 'c> {
    pub fn new(node: &'s Node, place: Place<'p>, context: &'c mut Context, lenient: bool) -> Self {
        // Built-in parts of a custom object are as strict as ever.
        let lenient = lenient && !matches!(node.shape, Shape::Named(_));
        Seed { shape: node.shape.resolve(), place, context, lenient }
    }

    /// The same place read as any JSON, when a custom object's value lacks its type.
    fn into_any(self) -> Seed<'static, 'p, 'c> {
        Seed { shape: &ANY.shape, place: self.place, context: self.context, lenient: true }
    }

    fn takes_anything(&self) -> bool {
        matches!(self.shape, Shape::Any)
    }

    fn mismatch<E: Error>(self, found: &str) -> E {
        if self.context.words == Words::Converter
            && let Some(message) = scalar::not_restored(self.shape, found)
        {
            return self.context.fail(message);
        }
        let target = scalar::go_target(self.shape, self.place.go_field());
        self.context.fail(format!("json: cannot unmarshal {found} into Go {target}"))
    }

    fn scalar<E: Error>(self, value: Value) -> Result<Value, E> {
        if self.takes_anything() {
            return Ok(value);
        }
        let Shape::Scalar(kind) = self.shape else {
            if self.lenient {
                return Ok(value);
            }
            return Err(self.mismatch(scalar::go_kind(&value).as_ref()));
        };
        match scalar::read(*kind, value, self.lenient) {
            Ok(value) => Ok(value),
            Err(scalar::Misfit::Type(found)) => Err(self.mismatch(&found)),
            Err(scalar::Misfit::Content(message)) => Err(self.context.fail(message)),
        }
    }

    fn deeper<E: Error>(&mut self) -> Result<(), E> {
        if self.place.depth >= MAX_DEPTH_LEVELS { Err(self.context.fail("exceeded max depth")) } else { Ok(()) }
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_, '_, '_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_, '_, '_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        self.scalar(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        self.scalar(Value::Number(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        self.scalar(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        self.scalar(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        self.visit_string(value.to_owned())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        self.scalar(Value::String(value))
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<Value, A::Error> {
        self.deeper()?;
        let item = match self.shape {
            Shape::List(list) => &list.item,
            Shape::Any => &ANY,
            _ if self.lenient => return self.into_any().visit_seq(items),
            _ => return Err(self.mismatch("array")),
        };
        let mut list = Vec::with_capacity(items.size_hint().unwrap_or(0).min(1024));
        loop {
            let place = self.place.join(Segment::Index(list.len()));
            let Some(value) = items.next_element_seed(Seed::new(item, place, self.context, self.lenient))? else {
                break;
            };
            list.push(if value.is_null() { self.null(item) } else { value });
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, entries: A) -> Result<Value, A::Error> {
        self.deeper()?;
        match self.shape {
            Shape::Object(object) => self.visit_object(object, entries),
            Shape::Map(map) => self.visit_entries(&map.value, entries),
            Shape::Any => self.visit_entries(&ANY, entries),
            _ if self.lenient => self.into_any().visit_map(entries),
            _ => Err(self.mismatch("object")),
        }
    }
}

impl<'s> Seed<'s, '_, '_> {
    /// What null means as an item or map value: the type's zero value, as in Go.
    fn null(&self, node: &Node) -> Value {
        if node.nullable || self.lenient { Value::Null } else { scalar::zero(node.shape.resolve()) }
    }

    fn visit_entries<'de, A: MapAccess<'de>>(self, value: &Node, mut entries: A) -> Result<Value, A::Error> {
        let mut map = JsonMap::new();
        while let Some(key) = entries.next_key::<String>()? {
            if map.contains_key(&key) {
                self.context.issue("duplicate", &self.place, &key);
            }
            let place = self.place.join(Segment::Key(&key));
            let read = entries.next_value_seed(Seed::new(value, place, self.context, self.lenient))?;
            match read {
                // A default takes its place later.
                Value::Null if self.lenient && !value.nullable && value.default.is_none() => map.remove(&key),
                Value::Null => map.insert(key, self.null(value)),
                read => map.insert(key, read),
            };
        }
        Ok(Value::Object(map))
    }

    fn visit_object<'de, A: MapAccess<'de>>(self, object: &'s Object, mut entries: A) -> Result<Value, A::Error> {
        let mut map = JsonMap::new();
        let mut seen = Seen::default();
        while let Some(key) = entries.next_key_seed(KeySeed(object))? {
            match key {
                Key::Known(index) => {
                    let field = &object.fields[index];
                    if seen.again(index) {
                        self.context.issue("duplicate", &self.place, &field.name);
                    }
                    let place = self.place.join(Segment::Field(field, object));
                    let read = entries.next_value_seed(Seed::new(&field.node, place, self.context, self.lenient))?;
                    let null = read.is_null() && !field.node.nullable;
                    if null || !self.lenient && left_out(field, &read) {
                        map.remove(&*field.name);
                    } else {
                        map.insert((*field.name).to_owned(), read);
                    }
                }
                Key::Unknown(key) if object.keep_unknown => {
                    if map.contains_key(&key) {
                        self.context.issue("duplicate", &self.place, &key);
                    }
                    let place = self.place.join(Segment::Key(&key));
                    let read = entries.next_value_seed(Seed::new(&ANY, place, self.context, self.lenient))?;
                    map.insert(key, read);
                }
                Key::Unknown(key) => {
                    self.context.issue("unknown", &self.place, &key);
                    entries.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Value::Object(map))
    }
}

/// Whether Go leaves the field out when it writes the object: optional lists and maps of the built-in types are
/// `omitempty`, so that an empty one is the same as none.
fn left_out(field: &Field, value: &Value) -> bool {
    !field.required
        && match value {
            Value::Array(items) => items.is_empty(),
            Value::Object(entries) => entries.is_empty() && matches!(field.node.shape.resolve(), Shape::Map(_)),
            _ => false,
        }
}

/// Which fields of an object were met already.
#[derive(Default)]
struct Seen {
    first: u64,
    rest: Vec<usize>,
}

impl Seen {
    fn again(&mut self, index: usize) -> bool {
        if index < 64 {
            let bit = 1 << index;
            let again = self.first & bit != 0;
            self.first |= bit;
            return again;
        }
        let again = self.rest.contains(&index);
        if !again {
            self.rest.push(index);
        }
        again
    }
}

enum Key {
    /// Index of the field.
    Known(usize),
    Unknown(String),
}

/// Looks a field name up without copying it.
struct KeySeed<'s>(&'s Object);

impl<'de> DeserializeSeed<'de> for KeySeed<'_> {
    type Value = Key;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Key, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeySeed<'_> {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a field name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Key, E> {
        Ok(self.0.position(name).map_or_else(|| Key::Unknown(name.to_owned()), Key::Known))
    }
}
