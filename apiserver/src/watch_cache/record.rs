//! One object at one revision, as it is served.

use bytes::{Bytes, BytesMut};
use k8w_kinds::kind::{Conversion, KindDef};
use k8w_kinds::schema::protobuf;
use k8w_storage::datastore::Revision;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// What precedes the spliced-in resource version.
const VERSION_OPEN: &[u8] = b"\"resourceVersion\":\"";
const METADATA_OPEN: &[u8] = b"\"metadata\":{";

/// An object as stored, with the revision it was stored at spliced in as `metadata.resourceVersion`.
///
/// Serving it costs a reference count; everything else that is asked of it is worked out once, when first asked.
#[derive(Debug)]
pub struct Record {
    /// `namespace/name`, or `name` for cluster-scoped kinds.
    key: Bytes,
    namespace_len: usize,
    revision: Revision,
    json: Bytes,
    /// Where in `json` the digits of the resource version start.
    version_at: usize,
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
    metadata_only: OnceLock<Bytes>,
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
    pub fn new(key: Bytes, stored: &[u8], revision: Revision) -> Result<Self, Corrupt> {
        let Some(at) = find(stored, METADATA_OPEN).map(|at| at + METADATA_OPEN.len()) else {
            return Err(Corrupt { key: String::from_utf8_lossy(&key).into() });
        };
        Ok(Self::splice(key, &stored[..at], revision, &stored[at..]))
    }

    /// The same object with another resource version: what a deletion event shows.
    pub fn at_revision(&self, revision: Revision) -> Self {
        let (head, tail) = self.around_version();
        Self::splice(self.key.clone(), head, revision, tail)
    }

    /// What stands before and after the resource version.
    fn around_version(&self) -> (&[u8], &[u8]) {
        let rest = &self.json[self.version_at..];
        let close = rest.iter().position(|byte| *byte == b'"').unwrap_or(0);
        let tail = &rest[close + 1..];
        (&self.json[..self.version_at - VERSION_OPEN.len()], tail.strip_prefix(b",").unwrap_or(tail))
    }

    /// The same object in another kind's spelling.
    pub fn converted(&self, conversion: &dyn Conversion) -> Result<Self, Corrupt> {
        let mut object = self.value();
        if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
            metadata.remove("resourceVersion");
        }
        conversion.to_served(&mut object);
        Record::new(self.key.clone(), &encode(&object), self.revision)
    }

    fn splice(key: Bytes, head: &[u8], revision: Revision, tail: &[u8]) -> Self {
        let digits = revision.to_string();
        let mut json = BytesMut::with_capacity(head.len() + VERSION_OPEN.len() + digits.len() + 2 + tail.len());
        json.extend_from_slice(head);
        json.extend_from_slice(VERSION_OPEN);
        let version_at = json.len();
        json.extend_from_slice(digits.as_bytes());
        json.extend_from_slice(if tail.first() == Some(&b'}') { b"\"" } else { b"\"," });
        json.extend_from_slice(tail);
        let namespace_len = key.iter().position(|byte| *byte == b'/').unwrap_or(0);
        Record {
            key,
            namespace_len,
            revision,
            json: json.freeze(),
            version_at,
            labels: OnceLock::new(),
            fields: OnceLock::new(),
            encodings: OnceLock::new(),
        }
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

    /// The object as JSON.
    pub fn json(&self) -> &Bytes {
        &self.json
    }

    /// The object without a resource version: what was not stored has none.
    pub fn without_version(&self) -> Bytes {
        let (head, tail) = self.around_version();
        [head, tail].concat().into()
    }

    /// The object, parsed anew; null if what was stored is not JSON.
    pub fn value(&self) -> Value {
        serde_json::from_slice(&self.json).unwrap_or_default()
    }

    pub fn labels(&self) -> &BTreeMap<String, String> {
        #[derive(Default, Deserialize)]
        struct Head {
            #[serde(default)]
            metadata: Metadata,
        }
        #[derive(Default, Deserialize)]
        struct Metadata {
            #[serde(default)]
            labels: Option<BTreeMap<String, String>>,
        }
        self.labels.get_or_init(|| {
            serde_json::from_slice::<Head>(&self.json).ok().and_then(|head| head.metadata.labels).unwrap_or_default()
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

    /// The object as it appears in lists of built-in kinds: without `apiVersion` and `kind`. To be written after a `{`.
    pub fn list_item(&self) -> &[u8] {
        &self.json[self.version_at - VERSION_OPEN.len() - METADATA_OPEN.len()..]
    }

    fn encodings(&self) -> &Encodings {
        self.encodings.get_or_init(Box::default)
    }

    /// The object's own protobuf message, without an envelope; empty for custom kinds, which have none.
    pub fn protobuf(&self, def: &KindDef) -> &Bytes {
        let message = || def.schema().to_protobuf(&self.value()).unwrap_or_default().into();
        self.encodings().protobuf.get_or_init(message)
    }

    /// The object as `meta.k8s.io/v1` PartialObjectMetadata.
    pub fn metadata_only(&self) -> &Bytes {
        self.encodings().metadata_only.get_or_init(|| {
            let partial = serde_json::json!({
                "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": self.metadata(),
            });
            serde_json::to_vec(&partial).unwrap_or_default().into()
        })
    }

    /// The protobuf message of the same, without an envelope.
    pub fn metadata_only_protobuf(&self) -> &Bytes {
        let message = || protobuf::metadata_only(&self.metadata()).into();
        self.encodings().metadata_only_protobuf.get_or_init(message)
    }

    fn metadata(&self) -> Value {
        self.value().get_mut("metadata").map(Value::take).unwrap_or_default()
    }
}

/// Where `needle` starts in the beginning of `haystack`: only `apiVersion` and `kind` precede it.
fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    const HEAD_BYTES: usize = 1024;
    haystack[..haystack.len().min(HEAD_BYTES)].windows(needle.len()).position(|window| window == needle)
}

/// Encodes an object for the store: as JSON that starts with `apiVersion`, `kind` and `metadata`, so that the resource
/// version (which must not be in it) can be spliced in without parsing.
pub fn encode(object: &Value) -> Vec<u8> {
    const FIRST: [&str; 3] = ["apiVersion", "kind", "metadata"];
    let mut out = Vec::with_capacity(1024);
    let Some(fields) = object.as_object() else { return out };
    let first = FIRST.iter().filter_map(|name| fields.get_key_value(*name));
    let rest = fields.iter().filter(|(name, _)| !FIRST.contains(&name.as_str()));
    for (name, value) in first.chain(rest) {
        out.push(if out.is_empty() { b'{' } else { b',' });
        // Writing JSON to memory cannot fail: keys are strings, and there is no IO.
        let _ = serde_json::to_writer(&mut out, name);
        out.push(b':');
        let _ = serde_json::to_writer(&mut out, value);
    }
    out.push(b'}');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn record(object: &Value, revision: Revision) -> Record {
        Record::new(Bytes::from_static(b"default/x"), &encode(object), revision).unwrap()
    }

    #[test]
    fn a_record_knows_its_names_and_labels() {
        let record = record(&json!({"metadata": {"name": "x", "labels": {"a": "b"}}, "data": {}}), 7);
        assert_eq!((record.namespace(), record.name(), record.revision()), ("default", "x", 7));
        assert_eq!(record.labels().get("a").map(String::as_str), Some("b"));
    }

    #[test]
    fn an_object_without_metadata_is_refused() {
        assert!(Record::new(Bytes::from_static(b"x"), b"{}", 1).is_err());
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
                expected["metadata"]["resourceVersion"] = json!(later.to_string());
                prop_assert_eq!(record.at_revision(later).value(), expected.clone());
                expected["metadata"].as_object_mut().unwrap().remove("resourceVersion");
                prop_assert_eq!(serde_json::from_slice::<Value>(&record.without_version()).unwrap(), expected);
            }
        }
    }
}
