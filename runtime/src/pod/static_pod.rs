//! A pod that a node runs because of a file and not because of the API, and the mirror by which the API shows it (the
//! kubelet's `staticPodPath`).

use std::path::Path;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8w_kinds::core::pod::{mirror, references};
use k8w_kinds::core::taints::NO_EXECUTE;
use k8w_kinds::field::FieldError;
use k8w_kinds::schema::{DecodeError, Format};
use k8w_kinds::{metadata, registry};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Annotations of the kubelet. The value of the first is the static pod's uid, as is that of [`mirror::ANNOTATION`].
const HASH: &str = "kubernetes.io/config.hash";
const SOURCE: &str = "kubernetes.io/config.source";
const SEEN: &str = "kubernetes.io/config.seen";

/// Characters of a uid that is made of a hash.
const UID_CHARS: usize = 32;

/// Why a file is no static pod.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("couldn't parse as pod: {0}")]
    Decode(#[from] DecodeError),
    #[error("couldn't parse as pod: it is a {0:?}")]
    Kind(String),
    #[error("couldn't parse as pod: {0}")]
    Form(#[from] serde_json::Error),
    #[error("invalid pod: {}", list(.0))]
    Invalid(Vec<FieldError>),
    #[error("static pods may not reference {0}")]
    Reference(&'static str),
}

fn list(errors: &[FieldError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Reads a pod from the text of a file, YAML or JSON, as `node` runs it.
///
/// # Errors
/// What keeps it from being a static pod.
pub fn read(file: &Path, text: &[u8], node: &str, now: Timestamp) -> Result<Pod, Error> {
    let Some(kind) = registry::by_kind("", "v1", "Pod") else { return Err(Error::Kind("Pod".to_owned())) };
    let mut value = kind.schema().decode(text, Format::Yaml)?.value;
    let said = |field: &str| value[field].as_str().unwrap_or_default().to_owned();
    if (said("apiVersion").as_str(), said("kind").as_str()) != ("v1", "Pod") {
        return Err(Error::Kind(format!("{} {}", said("apiVersion"), said("kind"))));
    }
    let uid = uid(&value, file, node);
    let metadata = &mut value["metadata"];
    let name = metadata["name"].as_str().unwrap_or_default();
    metadata["name"] = format!("{name}-{node}").into();
    metadata["uid"] = uid.into();
    if metadata["namespace"].as_str().unwrap_or_default().is_empty() {
        metadata["namespace"] = "default".into();
    }
    value["spec"]["nodeName"] = node.into();
    kind.schema().default(&mut value);
    kind.strategy.default(&mut value);
    kind.strategy.prepare_for_create(&mut value);
    let mut errors = metadata::validate(kind, &value);
    errors.extend(kind.strategy.validate(&value));
    if !errors.is_empty() {
        return Err(Error::Invalid(errors));
    }
    if let Some(what) = references::of_the_api(&value).next() {
        return Err(Error::Reference(what));
    }
    let mut pod: Pod = serde_json::from_value(value)?;
    annotate(&mut pod, now);
    if let Some(spec) = &mut pod.spec {
        let tolerates =
            Toleration { operator: Some("Exists".into()), effect: Some(NO_EXECUTE.into()), ..Toleration::default() };
        spec.tolerations.get_or_insert_default().push(tolerates);
    }
    Ok(pod)
}

/// What the file says, or what tells this file's text on this node from any other.
fn uid(pod: &Value, file: &Path, node: &str) -> String {
    if let Some(uid) = pod["metadata"]["uid"].as_str().filter(|uid| !uid.is_empty()) {
        return uid.to_owned();
    }
    let digest = Sha256::digest(format!("host:{node}file:{}{pod}", file.display()));
    let mut uid: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    uid.truncate(UID_CHARS);
    uid
}

fn annotate(pod: &mut Pod, now: Timestamp) {
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    let annotations = pod.metadata.annotations.get_or_insert_default();
    for (key, value) in [(HASH, uid), (SOURCE, "file".to_owned()), (SEEN, now.to_string())] {
        annotations.insert(key.to_owned(), value);
    }
}

/// What shows a static pod in the API: an object of the node's own, which goes with it.
pub fn mirror(pod: &Pod, node: &Node) -> Pod {
    let mut mirror = Pod { status: None, ..pod.clone() };
    let uid = mirror.metadata.uid.take().unwrap_or_default();
    mirror.metadata.annotations.get_or_insert_default().insert(mirror::ANNOTATION.to_owned(), uid);
    let owner = OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: node.metadata.name.clone().unwrap_or_default(),
        uid: node.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: None,
    };
    mirror.metadata.owner_references = Some(vec![owner]);
    mirror
}

/// The uid of the static pod that an object of the API shows, if it is a mirror.
pub fn mirrored(pod: &Pod) -> Option<&str> {
    pod.metadata.annotations.as_ref()?.get(mirror::ANNOTATION).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Pod, String> {
        let now = Timestamp::UNIX_EPOCH;
        super::read(Path::new("/m/web.yaml"), text.as_bytes(), "node-1", now).map_err(|error| error.to_string())
    }

    const WEB: &str = "{apiVersion: v1, kind: Pod, metadata: {name: web}, spec: {containers: [{name: c, image: i}]}}";

    #[test]
    fn a_file_becomes_a_pod_of_its_node() {
        let pod = read(WEB).unwrap();
        let metadata = &pod.metadata;
        assert_eq!((metadata.name.as_deref(), metadata.namespace.as_deref()), (Some("web-node-1"), Some("default")));
        let (annotations, uid) = (metadata.annotations.as_ref().unwrap(), metadata.uid.clone().unwrap());
        assert_eq!(uid.len(), UID_CHARS);
        assert_eq!((&annotations[HASH], annotations[SOURCE].as_str()), (&uid, "file"));
        assert_eq!(annotations[SEEN], "1970-01-01T00:00:00Z");
        let spec = pod.spec.as_ref().unwrap();
        assert_eq!((spec.node_name.as_deref(), spec.restart_policy.as_deref()), (Some("node-1"), Some("Always")));
        assert_eq!(spec.tolerations.as_ref().unwrap()[0].effect.as_deref(), Some(NO_EXECUTE));
        assert_eq!(read(WEB).unwrap().metadata.uid, pod.metadata.uid, "the same text is the same pod");
        assert_ne!(read(&WEB.replace("image: i", "image: j")).unwrap().metadata.uid, pod.metadata.uid);
    }

    #[test]
    fn its_mirror_belongs_to_the_node() {
        let pod = read(WEB).unwrap();
        let node = serde_json::from_str(r#"{"metadata": {"name": "node-1", "uid": "n"}}"#).unwrap();
        let mirror = mirror(&pod, &node);
        assert_eq!(mirrored(&mirror), pod.metadata.uid.as_deref());
        assert_eq!((mirror.metadata.uid, mirrored(&pod)), (None, None));
        let owner = &mirror.metadata.owner_references.unwrap()[0];
        assert_eq!((owner.kind.as_str(), owner.uid.as_str(), owner.controller), ("Node", "n", Some(true)));
    }

    #[test]
    fn what_needs_the_api_is_refused() {
        let with = |spec: &str| read(&WEB.replace("spec: {", &format!("spec: {{{spec}, "))).unwrap_err();
        assert_eq!(with("serviceAccountName: sa"), "static pods may not reference serviceaccounts");
        let volume = |source: &str| with(&format!("volumes: [{{name: v, {source}}}]"));
        assert_eq!(volume("configMap: {name: m}"), "static pods may not reference configmaps");
        assert_eq!(
            volume("projected: {sources: [{serviceAccountToken: {path: t}}]}"),
            "invalid pod: spec.volumes[0].projected.sources[0].serviceAccountToken: Forbidden: must not be specified when \
             serviceAccountName is not set"
        );
        let unnamed = read(&WEB.replace("image: i", "image: ''")).unwrap_err();
        assert_eq!(unnamed, "invalid pod: spec.containers[0].image: Required value");
        let other = read(&WEB.replace("kind: Pod", "kind: Secret")).unwrap_err();
        assert_eq!(other, "couldn't parse as pod: it is a \"v1 Secret\"");
        assert!(read("a: [").unwrap_err().starts_with("couldn't parse as pod: "));
    }
}
