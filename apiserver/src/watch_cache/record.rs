//! One object at one revision, as it is served.

use crate::json::object_length;
use bytes::Bytes;
use k8w_kinds::json;
use k8w_kinds::kind::{Conversion, KindDef};
use k8w_kinds::schema::protobuf;
use k8w_storage::datastore::Revision;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::OnceLock;

/// About how much room the type of PartialObjectMetadata takes.
pub(super) const PARTIAL_TYPE_BYTES: usize = 80;
/// About how much room a resource version takes.
pub(super) const VERSION_BYTES: usize = 40;
const METADATA_OPEN: &[u8] = b"\"metadata\":{";

/// An object as stored, and the revision it was stored at, which is written into it as `metadata.resourceVersion` when it
/// is served.
///
/// The bytes are the datastore's own, so that an object is in memory once; serving it as JSON is one copy of them.
/// Everything else that is asked of it again and again is worked out once, when first asked.
#[derive(Debug)]
pub struct Record {
    /// `namespace/name`, or `name` for cluster-scoped kinds.
    key: Bytes,
    namespace_len: usize,
    revision: Revision,
    stored: Bytes,
    /// Where in `stored` the members of `metadata` start.
    metadata_at: usize,
    labels: OnceLock<BTreeMap<String, String>>,
    /// The kind's selectable fields, in the order of `KindDef::selectable_fields`.
    fields: OnceLock<Vec<String>>,
    /// Apart, because most records are never asked for any.
    encodings: OnceLock<Box<Encodings>>,
}

/// What the object looks like beside JSON, shared by all who read and watch it.
#[derive(Debug, Default)]
struct Encodings {
    protobuf: OnceLock<Bytes>,
    metadata_only_protobuf: OnceLock<Bytes>,
}

/// What is stored does not look like an object of ours.
#[derive(Debug, thiserror::Error)]
#[error("the stored value of {key} is not an object")]
pub struct Corrupt {
    key: String,
}

impl Record {
    /// `stored` is the object without a resource version, its `metadata` before anything but `apiVersion` and `kind`.
    pub fn new(key: Bytes, stored: Bytes, revision: Revision) -> Result<Self, Corrupt> {
        let Some(at) = find(&stored, METADATA_OPEN) else {
            return Err(Corrupt { key: String::from_utf8_lossy(&key).into() });
        };
        Ok(Self::of(key, stored, at + METADATA_OPEN.len(), revision))
    }

    /// The same object with another resource version: what a deletion event shows.
    pub fn at_revision(&self, revision: Revision) -> Self {
        Self::of(self.key.clone(), self.stored.clone(), self.metadata_at, revision)
    }

    fn of(key: Bytes, stored: Bytes, metadata_at: usize, revision: Revision) -> Self {
        let namespace_len = key.iter().position(|byte| *byte == b'/').unwrap_or(0);
        let (labels, fields, encodings) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        Record { key, namespace_len, revision, stored, metadata_at, labels, fields, encodings }
    }

    /// The same object in another kind's spelling.
    pub fn converted(&self, conversion: &dyn Conversion) -> Result<Self, Corrupt> {
        let mut object: Value = serde_json::from_slice(&self.stored).unwrap_or_default();
        conversion.to_served(&mut object);
        let encoded = encode(&object);
        let served = if *encoded == *self.stored { self.stored.clone() } else { encoded.into() };
        Record::new(self.key.clone(), served, self.revision)
    }

    /// `namespace/name`, or `name` for cluster-scoped kinds.
    pub fn key(&self) -> &Bytes {
        &self.key
    }

    /// Empty for cluster-scoped kinds.
    pub fn namespace(&self) -> &str {
        std::str::from_utf8(&self.key[..self.namespace_len]).unwrap_or_default()
    }

    pub fn name(&self) -> &str {
        let start = if self.namespace_len == 0 { 0 } else { self.namespace_len + 1 };
        std::str::from_utf8(&self.key[start..]).unwrap_or_default()
    }

    /// What `metadata.resourceVersion` says.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The object as it is stored: without a resource version.
    pub fn stored(&self) -> &Bytes {
        &self.stored
    }

    /// The object as JSON, made anew.
    pub fn json(&self) -> Bytes {
        let mut json = Vec::with_capacity(self.stored.len() + VERSION_BYTES);
        self.write(&mut json);
        json.into()
    }

    /// Writes the object as JSON.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.stored[..self.metadata_at]);
        self.write_from_version(out, &self.stored[self.metadata_at..]);
    }

    /// Writes the object as it appears in lists of built-in kinds: without `apiVersion` and `kind`.
    pub fn write_list_item(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        out.extend_from_slice(METADATA_OPEN);
        self.write_from_version(out, &self.stored[self.metadata_at..]);
    }

    /// Writes the object as PartialObjectMetadata of a version of `meta.k8s.io`.
    pub fn write_metadata_only(&self, out: &mut Vec<u8>, api_version: &str) {
        // Writing to memory cannot fail.
        let _ = write!(out, r#"{{"apiVersion":"{api_version}","kind":"PartialObjectMetadata","metadata":{{"#);
        self.write_from_version(out, self.stored_metadata().get(1..).unwrap_or(b"}"));
        out.push(b'}');
    }

    /// Writes the resource version, and `rest`, which begins with the other members of `metadata`.
    fn write_from_version(&self, out: &mut Vec<u8>, rest: &[u8]) {
        let end = if rest.first() == Some(&b'}') { "\"" } else { "\"," };
        // Writing to memory cannot fail.
        let _ = write!(out, "\"resourceVersion\":\"{}{end}", self.revision);
        out.extend_from_slice(rest);
    }

    /// `metadata` as stored, from brace to brace; empty if what was stored is not JSON.
    fn stored_metadata(&self) -> &[u8] {
        let metadata = &self.stored[self.metadata_at - 1..];
        object_length(metadata).map_or(&[], |length| &metadata[..length])
    }

    /// Reads `metadata` without what follows it.
    fn metadata_reader(&self) -> serde_json::Deserializer<serde_json::de::SliceRead<'_>> {
        serde_json::Deserializer::from_slice(&self.stored[self.metadata_at - 1..])
    }

    /// The object, parsed anew; null if what was stored is not JSON.
    pub fn value(&self) -> Value {
        let mut value: Value = serde_json::from_slice(&self.stored).unwrap_or_default();
        if let Some(metadata) = value.get_mut("metadata") {
            self.set_version(metadata);
        }
        value
    }

    fn set_version(&self, metadata: &mut Value) {
        if let Value::Object(metadata) = metadata {
            metadata.insert("resourceVersion".into(), self.revision.to_string().into());
        }
    }

    pub fn labels(&self) -> &BTreeMap<String, String> {
        #[derive(Default, Deserialize)]
        struct Metadata {
            #[serde(default)]
            labels: Option<BTreeMap<String, String>>,
        }
        self.labels.get_or_init(|| {
            Metadata::deserialize(&mut self.metadata_reader())
                .ok()
                .and_then(|metadata| metadata.labels)
                .unwrap_or_default()
        })
    }

    /// The value that field selectors compare; `None` for a field that the kind does not let them name.
    pub fn field(&self, def: &KindDef, path: &str) -> Option<&str> {
        match path {
            "metadata.name" => return Some(self.name()),
            "metadata.namespace" if def.namespaced => return Some(self.namespace()),
            _ => {}
        }
        let index = def.selectable_fields.iter().position(|field| field.path == path)?;
        let fields = self.fields.get_or_init(|| {
            let value = self.value();
            def.selectable_fields.iter().map(|field| field.value(&value)).collect()
        });
        fields.get(index).map(String::as_str)
    }

    fn encodings(&self) -> &Encodings {
        self.encodings.get_or_init(Box::default)
    }

    /// The object's own protobuf message, without an envelope; empty for custom kinds, which have none.
    pub fn protobuf(&self, def: &KindDef) -> &Bytes {
        let message = || def.schema().to_protobuf(&self.value()).unwrap_or_default().into();
        self.encodings().protobuf.get_or_init(message)
    }

    /// The protobuf message of `meta.k8s.io/v1` PartialObjectMetadata, without an envelope.
    pub fn metadata_only_protobuf(&self) -> &Bytes {
        let message = || {
            let mut metadata = serde_json::from_slice(self.stored_metadata()).unwrap_or_default();
            self.set_version(&mut metadata);
            protobuf::metadata_only(&metadata).into()
        };
        self.encodings().metadata_only_protobuf.get_or_init(message)
    }
}

/// Where `needle` starts in the beginning of `haystack`: only `apiVersion` and `kind` precede it.
fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    const HEAD_BYTES: usize = 1024;
    haystack[..haystack.len().min(HEAD_BYTES)].windows(needle.len()).position(|window| window == needle)
}

/// Encodes an object for the store: as JSON that starts with `apiVersion`, `kind` and `metadata`, so that the resource
/// version (which must not be in it) can be spliced in without parsing.
///
/// What is returned lives as long as the object: it has no room to spare.
pub fn encode(object: &Value) -> Box<[u8]> {
    const FIRST: [&str; 3] = ["apiVersion", "kind", "metadata"];
    let mut out = Vec::with_capacity(1024);
    let Some(fields) = object.as_object() else { return out.into() };
    let first = FIRST.iter().filter_map(|name| fields.get_key_value(*name));
    let rest = fields.iter().filter(|(name, _)| !FIRST.contains(&name.as_str()));
    for (name, value) in first.chain(rest) {
        out.push(if out.is_empty() { b'{' } else { b',' });
        json::write(&mut out, name);
        out.push(b':');
        json::write(&mut out, value);
    }
    out.push(b'}');
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn parsed(json: &[u8]) -> Value {
        serde_json::from_slice(json).unwrap()
    }

    fn record(object: &Value, revision: Revision) -> Record {
        Record::new(Bytes::from_static(b"default/x"), encode(object).into(), revision).unwrap()
    }

    #[test]
    fn a_record_knows_its_names_and_labels() {
        let record = record(&json!({"metadata": {"name": "x", "labels": {"a": "b"}}, "data": {}}), 7);
        assert_eq!((record.namespace(), record.name(), record.revision()), ("default", "x", 7));
        assert_eq!(record.labels().get("a").map(String::as_str), Some("b"));
    }

    #[test]
    fn an_object_without_metadata_is_refused() {
        assert!(Record::new(Bytes::from_static(b"x"), Bytes::from_static(b"{}"), 1).is_err());
    }

    proptest! {
        #[test]
        fn splicing_sets_the_resource_version_and_nothing_else(
            revision: u64, later: u64, labels in proptest::collection::btree_map("[a-z\"{}:]{1,9}", ".*", 0..3), text in ".*",
        ) {
            let object = json!({
                "apiVersion": "v1", "kind": "ConfigMap", "data": {"metadata": text, "\"metadata\":{": text},
                "metadata": {"name": "x", "labels": labels},
            });
            for metadata in [object["metadata"].clone(), json!({})] {
                let mut expected = object.clone();
                expected["metadata"] = metadata;
                let record = record(&expected, revision);
                expected["metadata"]["resourceVersion"] = json!(revision.to_string());
                prop_assert_eq!(record.value(), expected.clone());
                prop_assert_eq!(parsed(&record.json()), expected.clone());
                let (mut item, mut partial) = (Vec::new(), Vec::new());
                record.write_list_item(&mut item);
                prop_assert_eq!(&parsed(&item)["metadata"], &expected["metadata"]);
                prop_assert!(parsed(&item).get("kind").is_none());
                record.write_metadata_only(&mut partial, "meta.k8s.io/v1");
                prop_assert_eq!(parsed(&partial), json!({
                    "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": expected["metadata"],
                }));
                expected["metadata"]["resourceVersion"] = json!(later.to_string());
                prop_assert_eq!(record.at_revision(later).value(), expected.clone());
                expected["metadata"].as_object_mut().unwrap().remove("resourceVersion");
                prop_assert_eq!(parsed(record.stored()), expected);
            }
        }
    }
}
