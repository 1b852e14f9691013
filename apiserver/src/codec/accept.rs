//! What a client accepts, and which of it an endpoint can give.
//!
//! The rules are those of `k8s.io/apiserver` `pkg/endpoints/handlers/negotiation`: clauses in the order of their weights,
//! and for each the first of our formats that suits it.

use super::{META_V1BETA1, META_VERSION};
use crate::status::Status;
use k8w_kinds::schema::Format;

/// Every format that answers are written in, in the order in which a wildcard picks them.
const WRITTEN: [(Format, &str); 3] =
    [(Format::Json, "json"), (Format::Yaml, "yaml"), (Format::Protobuf, "vnd.kubernetes.protobuf")];
/// How 406 lists them.
const WRITTEN_NAMES: [&str; 3] = ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
/// How 406 lists what a watch can be written in.
const STREAMED_NAMES: [&str; 2] = ["application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch"];

/// What an object in the answer is shown as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Object,
    /// `meta.k8s.io` Table.
    Table,
    /// `meta.k8s.io` PartialObjectMetadata.
    Metadata,
    /// `meta.k8s.io` PartialObjectMetadataList.
    MetadataList,
}

/// What an endpoint can give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// Objects of a built-in kind: in every format and shape.
    BuiltIn,
    /// Custom objects, which have no protobuf form.
    Custom,
    /// What is no stored object, such as a review: in every format, as it is.
    Fixed,
}

impl Offer {
    /// Tables have no protobuf form either.
    fn gives(self, format: Format, shape: Shape) -> bool {
        match shape {
            Shape::Object => self != Offer::Custom || format != Format::Protobuf,
            Shape::Table => self != Offer::Fixed && format != Format::Protobuf,
            Shape::Metadata | Shape::MetadataList => self != Offer::Fixed,
        }
    }
}

/// What the client gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accept {
    pub format: Format,
    pub shape: Shape,
    /// The group and version of a shape that is not the object's own.
    pub meta_version: &'static str,
    /// Whether JSON is to be indented.
    pub pretty: bool,
}

impl Accept {
    pub const JSON: Accept = Accept::whole(Format::Json);
    const PROTOBUF: Accept = Accept::whole(Format::Protobuf);

    const fn whole(format: Format) -> Accept {
        Accept { format, shape: Shape::Object, meta_version: META_VERSION, pretty: false }
    }

    /// The first acceptable clause of an `Accept` header, in the order of its weights.
    ///
    /// # Errors
    /// 406 when nothing in it is ours to give.
    pub fn parse(header: Option<&str>, offer: Offer) -> Result<Self, Status> {
        match header.unwrap_or_default() {
            "" | "*/*" | "application/json" => Ok(Accept::JSON),
            // What Go clients send.
            "application/vnd.kubernetes.protobuf" | "application/vnd.kubernetes.protobuf,application/json"
                if offer != Offer::Custom =>
            {
                Ok(Accept::PROTOBUF)
            }
            header => {
                let mut clauses: Vec<Clause> = header.split(',').filter_map(Clause::parse).collect();
                clauses.sort_by(|a, b| b.weight.total_cmp(&a.weight).then(a.wildcards.cmp(&b.wildcards)));
                let given = clauses.iter().find_map(|clause| clause.given(offer));
                given.ok_or_else(|| Status::not_acceptable(&WRITTEN_NAMES))
            }
        }
    }

    /// The same for an answer that is a stream of events.
    ///
    /// # Errors
    /// 406 also when the best that we have for the client cannot be streamed.
    pub fn parse_stream(header: Option<&str>, offer: Offer) -> Result<Self, Status> {
        match Accept::parse(header, offer) {
            Ok(accept) if accept.format != Format::Yaml => Ok(accept),
            _ => Err(Status::not_acceptable(&STREAMED_NAMES)),
        }
    }

    /// What an error is written in. Whoever accepts nothing of ours is told so in JSON.
    pub fn for_error(header: Option<&str>) -> Format {
        Accept::parse(header, Offer::Fixed).map_or(Format::Json, |accept| accept.format)
    }
}

/// One clause such as `application/json;as=Table;v=v1;g=meta.k8s.io;q=0.9`.
struct Clause<'h> {
    subtype: &'h str,
    /// How many of type and subtype are left open: between equal weights the more specific one goes first.
    wildcards: u8,
    weight: f32,
    stream: bool,
    /// `None` for one that is not ours.
    shape: Option<Shape>,
    meta_version: &'static str,
    pretty: bool,
}

impl<'h> Clause<'h> {
    fn parse(text: &'h str) -> Option<Clause<'h>> {
        let mut parts = text.split(';').map(str::trim);
        let (type_, subtype) = parts.next()?.split_once('/')?;
        let wildcards = match (type_, subtype) {
            ("*", "*") => 2,
            ("application", "*") => 1,
            ("application", _) => 0,
            _ => return None,
        };
        let (mut as_, mut group, mut version) = (None, "", "");
        let mut clause = Clause {
            subtype,
            wildcards,
            weight: 1.0,
            stream: false,
            shape: Some(Shape::Object),
            meta_version: META_VERSION,
            pretty: false,
        };
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            match name {
                "as" => as_ = Some(value),
                "g" => group = value,
                "v" => version = value,
                "q" => clause.weight = value.parse().unwrap_or(1.0),
                "pretty" => clause.pretty = value == "1",
                "stream" if value == "watch" => clause.stream = true,
                "stream" if !value.is_empty() => return None,
                _ => {}
            }
        }
        if let Some(kind) = as_ {
            clause.shape = match kind {
                _ if group != "meta.k8s.io" || !matches!(version, "v1" | "v1beta1") => None,
                "Table" => Some(Shape::Table),
                "PartialObjectMetadata" => Some(Shape::Metadata),
                "PartialObjectMetadataList" => Some(Shape::MetadataList),
                _ => None,
            };
            if version == "v1beta1" {
                clause.meta_version = META_V1BETA1;
            }
        }
        (clause.weight > 0.0).then_some(clause)
    }

    fn given(&self, offer: Offer) -> Option<Accept> {
        let shape = self.shape?;
        let suits = |format: Format, name: &str| {
            (self.wildcards > 0 || self.subtype.eq_ignore_ascii_case(name))
                && !(self.stream && format == Format::Yaml)
                && offer.gives(format, shape)
        };
        let format = WRITTEN.iter().find(|(format, name)| suits(*format, name)).map(|(format, _)| *format)?;
        Some(Accept { format, shape, meta_version: self.meta_version, pretty: self.pretty })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(header: Option<&str>, offer: Offer) -> Result<(Format, Shape), u16> {
        Accept::parse(header, offer).map(|accept| (accept.format, accept.shape)).map_err(|status| status.code)
    }

    #[test]
    fn the_first_acceptable_clause_wins() {
        const METADATA: &str = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,\
            application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";
        const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,\
            application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        use Format::{Json, Protobuf, Yaml};
        use Shape::{Metadata, MetadataList, Object, Table};
        let cases = [
            (None, Ok((Json, Object))),
            (Some("application/yaml"), Ok((Yaml, Object))),
            (Some(TABLE), Ok((Json, Table))),
            (Some(METADATA), Ok((Protobuf, Metadata))),
            (Some("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"), Ok((Json, MetadataList))),
            (Some("application/vnd.kubernetes.protobuf,application/json"), Ok((Protobuf, Object))),
            (Some("application/vnd.kubernetes.protobuf, */*"), Ok((Protobuf, Object))),
            (Some("application/vnd.kubernetes.protobuf;stream=watch"), Ok((Protobuf, Object))),
            (Some("application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io"), Err(406)),
            (Some("application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io,*/*"), Ok((Json, Object))),
            (Some("application/json;q=0.5, application/yaml"), Ok((Yaml, Object))),
            (Some("*/*, application/yaml"), Ok((Yaml, Object))),
            (Some("application/json;q=0, application/*;q=0.1"), Ok((Json, Object))),
            (Some("text/html, */*"), Ok((Json, Object))),
            (Some("text/html"), Err(406)),
            (Some("application/cbor"), Err(406)),
            (Some("application/cbor, application/json;q=0.9"), Ok((Json, Object))),
            (Some("application/json;as=Nonsense"), Err(406)),
            (Some("application/json;stream=nonsense"), Err(406)),
        ];
        for (header, expected) in cases {
            assert_eq!(parse(header, Offer::BuiltIn), expected, "{header:?}");
        }
    }

    #[test]
    fn shapes_have_two_spellings() {
        let parse = |header| Accept::parse(Some(header), Offer::BuiltIn).unwrap();
        let old = parse("application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json");
        assert_eq!((old.shape, old.meta_version), (Shape::Table, META_V1BETA1));
        let new = parse("application/json;pretty=1;as=Table;v=v1;g=meta.k8s.io");
        assert_eq!((new.shape, new.meta_version, new.pretty), (Shape::Table, META_VERSION, true));
    }

    #[test]
    fn not_everything_can_be_had_in_every_form() {
        const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
        const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";
        assert_eq!(parse(Some(PROTOBUF), Offer::Custom), Err(406));
        assert_eq!(parse(Some(&format!("{PROTOBUF}, */*")), Offer::Custom), Ok((Format::Json, Shape::Object)));
        let metadata = format!("{PROTOBUF};as=PartialObjectMetadata;g=meta.k8s.io;v=v1");
        assert_eq!(parse(Some(&metadata), Offer::Custom), Ok((Format::Protobuf, Shape::Metadata)));
        assert_eq!(parse(Some(PROTOBUF), Offer::Fixed), Ok((Format::Protobuf, Shape::Object)));
        assert_eq!(parse(Some(TABLE), Offer::Fixed), Err(406));
    }

    #[test]
    fn what_is_acceptable_is_said() {
        let message = |result: Result<Accept, Status>| result.unwrap_err().message;
        assert_eq!(
            message(Accept::parse(Some("application/cbor"), Offer::BuiltIn)),
            "only the following media types are accepted: application/json, application/yaml, \
             application/vnd.kubernetes.protobuf"
        );
        assert_eq!(
            message(Accept::parse_stream(Some("application/yaml"), Offer::BuiltIn)),
            "only the following media types are accepted: application/json;stream=watch, \
             application/vnd.kubernetes.protobuf;stream=watch"
        );
    }

    proptest! {
        #[test]
        fn any_header_has_an_answer(text in ".*") {
            let _ = Accept::parse(Some(&text), Offer::BuiltIn);
        }
    }
}
