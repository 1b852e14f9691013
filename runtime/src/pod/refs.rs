//! The ConfigMaps and Secrets that a pod refers to, as keys and as contents.

use std::collections::{BTreeMap, HashMap};
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

/// `data` and `binaryData` of an object, decoded.
pub type Contents = Arc<BTreeMap<String, Bytes>>;

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

/// One key of a reference; `None` when object or key is absent and optional.
///
/// # Errors
/// When either is absent and not optional.
pub fn key(found: &Found, reference: &Reference, key: &str, optional: bool) -> Result<Option<Bytes>, Missing> {
    let Some(contents) = contents(found, reference, optional)? else { return Ok(None) };
    match contents.get(key) {
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
