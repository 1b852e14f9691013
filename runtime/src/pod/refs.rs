//! The ConfigMaps and Secrets that a pod refers to, as keys and as contents.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RefKind {
    ConfigMap,
    Secret,
}

/// Names an object of the pod's own namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    pub kind: RefKind,
    pub namespace: String,
    pub name: String,
}

/// What an object holds, decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Data {
    /// `data` and `binaryData`: what a volume shows.
    pub files: BTreeMap<String, Bytes>,
    /// The keys of a ConfigMap's `binaryData`, which no environment has.
    pub binary: BTreeSet<String>,
}

pub type Contents = Arc<Data>;

/// What was found for each reference that was asked for; an absent object is `None`.
pub type Found = HashMap<Reference, Option<Contents>>;

impl Reference {
    pub fn config_map(namespace: &str, name: &str) -> Reference {
        Reference { kind: RefKind::ConfigMap, namespace: namespace.to_owned(), name: name.to_owned() }
    }

    pub fn secret(namespace: &str, name: &str) -> Reference {
        Reference { kind: RefKind::Secret, namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

impl fmt::Display for RefKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RefKind::ConfigMap => "ConfigMap",
            RefKind::Secret => "Secret",
        })
    }
}

impl Data {
    /// What an environment may have.
    pub fn variables(&self) -> impl Iterator<Item = (&String, &Bytes)> {
        self.files.keys().filter_map(|key| Some((key, self.variable(key)?)))
    }

    /// One of them.
    fn variable(&self, key: &str) -> Option<&Bytes> {
        self.files.get(key).filter(|_| !self.binary.contains(key))
    }
}

impl From<BTreeMap<String, Bytes>> for Data {
    fn from(files: BTreeMap<String, Bytes>) -> Data {
        Data { files, binary: BTreeSet::new() }
    }
}

/// What a reference does not have, in the kubelet's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    #[error("{} \"{name}\" not found", kind.to_string().to_lowercase())]
    Object { kind: RefKind, name: String },
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    Key { kind: RefKind, namespace: String, name: String, key: String },
}

/// The contents of a reference; `None` when it is absent and optional.
///
/// # Errors
/// When it is absent and not optional.
pub fn contents(found: &Found, reference: &Reference, optional: bool) -> Result<Option<Contents>, Missing> {
    match found.get(reference).cloned().flatten() {
        Some(contents) => Ok(Some(contents)),
        None if optional => Ok(None),
        None => Err(Missing::Object { kind: reference.kind, name: reference.name.clone() }),
    }
}

/// One variable of a reference; `None` when object or key is absent and optional.
///
/// # Errors
/// When either is absent and not optional.
pub fn key(found: &Found, reference: &Reference, key: &str, optional: bool) -> Result<Option<Bytes>, Missing> {
    let Some(contents) = contents(found, reference, optional)? else { return Ok(None) };
    match contents.variable(key) {
        Some(value) => Ok(Some(value.clone())),
        None if optional => Ok(None),
        None => Err(Missing::Key {
            kind: reference.kind,
            namespace: reference.namespace.clone(),
            name: reference.name.clone(),
            key: key.to_owned(),
        }),
    }
}
