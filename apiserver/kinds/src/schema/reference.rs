//! Comparisons with what Kubernetes itself publishes, where a copy of it is at hand.
//!
//! `K8W_REFERENCE_DATA` names the folder: `fixtures/<group>.<version>.<Kind>.{json,yaml,pb}` with every field filled, and
//! `openapi-v3/*.json`. Without it these tests say that they were skipped.

use std::path::PathBuf;

use serde_json::Value;

use super::decode::Format;
use super::{Schema, openapi, protobuf, roots};

fn folder(name: &str) -> Option<Vec<PathBuf>> {
    let Ok(data) = std::env::var("K8W_REFERENCE_DATA") else {
        eprintln!("skipped: K8W_REFERENCE_DATA is not set");
        return None;
    };
    let entries = std::fs::read_dir(PathBuf::from(data).join(name)).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
    paths.sort();
    Some(paths)
}

/// Fixtures of types that are no objects of the API: each with the reason why it has no schema here.
const NOT_OBJECTS: [(&str, &str); 18] = [
    ("admission.k8s.io.v1.AdmissionReview", "sent to webhooks, never to the API server"),
    ("apidiscovery.k8s.io.v2.APIGroupDiscovery", "only answered, as JSON"),
    ("core.v1.CreateOptions", "query parameters"),
    ("core.v1.GetOptions", "query parameters"),
    ("core.v1.ListOptions", "query parameters"),
    ("core.v1.NodeProxyOptions", "query parameters"),
    ("core.v1.PatchOptions", "query parameters"),
    ("core.v1.PodAttachOptions", "query parameters"),
    ("core.v1.PodExecOptions", "query parameters"),
    ("core.v1.PodLogOptions", "query parameters"),
    ("core.v1.PodPortForwardOptions", "query parameters"),
    ("core.v1.PodProxyOptions", "query parameters"),
    ("core.v1.PodStatusResult", "no resource has it"),
    ("core.v1.RangeAllocation", "an internal of kube-apiserver's store"),
    ("core.v1.SerializedReference", "no resource has it"),
    ("core.v1.ServiceProxyOptions", "query parameters"),
    ("core.v1.UpdateOptions", "query parameters"),
    ("core.v1.WatchEvent", "only answered: see watch_frame"),
];

/// The root type of a fixture, by the group, version and kind in its file name.
fn root_type(stem: &str) -> Option<&'static str> {
    let mut parts = stem.rsplitn(3, '.');
    let (kind, version, group) = (parts.next()?, parts.next()?, parts.next()?);
    let group = group.split('.').next()?;
    let name = format!("io.k8s.api.{group}.{version}.{kind}");
    let meta = format!("io.k8s.apimachinery.pkg.apis.meta.v1.{kind}");
    roots::names().find(|n| *n == name || *n == meta)
}

#[test]
fn every_fixture_is_the_same_as_json_yaml_and_protobuf() {
    let Some(paths) = folder("fixtures") else { return };
    let mut read = 0;
    for path in paths.iter().filter(|path| path.extension().is_some_and(|e| e == "json")) {
        let stem = path.file_stem().unwrap().to_str().unwrap();
        let Some(name) = root_type(stem) else {
            assert!(NOT_OBJECTS.iter().any(|(name, _)| *name == stem), "{stem} has no schema");
            continue;
        };
        let schema = Schema::builtin(name).unwrap();
        let decode = |bytes: &[u8], format| {
            let decoded = schema.decode(bytes, format).unwrap_or_else(|e| panic!("{stem} {format:?}: {e}"));
            assert_eq!(decoded.issues, Vec::<String>::new(), "{stem} {format:?}");
            decoded.value
        };
        let fixture = |extension: &str| std::fs::read(path.with_extension(extension)).unwrap();
        let json: Value = serde_json::from_slice(&fixture("json")).unwrap();
        for (extension, format) in [("json", Format::Json), ("yaml", Format::Yaml), ("pb", Format::Protobuf)] {
            assert_eq!(decode(&fixture(extension), format), json, "{stem}.{extension}");
        }
        let yaml = serde_saphyr::to_string(&json).unwrap();
        assert_eq!(decode(yaml.as_bytes(), Format::Yaml), json, "{stem}: {yaml}");
        let text = |field: &str| json[field].as_str().unwrap();
        let message = schema.to_protobuf(&json).unwrap();
        let body = protobuf::envelope(text("apiVersion"), text("kind"), &message);
        assert_eq!(decode(&body, Format::Protobuf), json, "{stem}");
        let theirs = fixture("pb");
        assert!(body == theirs, "{stem}: protobuf differs\n ours:   {body:02x?}\n theirs: {theirs:02x?}");
        read += 1;
    }
    assert!(read > 60, "only {read} fixtures were read");
}

/// The document without what is free to differ: descriptions, and the order of `required`.
fn comparable(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let kept = members.iter().filter(|(name, value)| *name != "description" || !value.is_string());
            let mut kept: serde_json::Map<_, _> = kept.map(|(name, value)| (name.clone(), comparable(value))).collect();
            if let Some(Value::Array(required)) = kept.get_mut("required") {
                required.sort_by_key(Value::to_string);
            }
            Value::Object(kept)
        }
        Value::Array(items) => Value::Array(items.iter().map(comparable).collect()),
        other => other.clone(),
    }
}

#[test]
fn published_schemas_are_those_of_kubernetes() {
    let Some(paths) = folder("openapi-v3") else { return };
    let (mut compared, mut differing) = (0, Vec::new());
    for path in paths {
        let document: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let Some(theirs) = document.pointer("/components/schemas").and_then(Value::as_object) else { continue };
        let names: Vec<&str> = theirs.keys().map(String::as_str).collect();
        let ours = openapi::components(&names);
        for (name, schema) in theirs {
            let (ours, theirs) = (ours.get(name).map(comparable).unwrap_or_default(), comparable(schema));
            compared += 1;
            if ours != theirs {
                differing.push(format!("{name}\n  ours:   {ours}\n  theirs: {theirs}"));
            }
        }
    }
    assert!(compared > 600, "only {compared} schemas were compared");
    assert!(differing.is_empty(), "{} of {compared} differ:\n{}", differing.len(), differing.join("\n"));
}
