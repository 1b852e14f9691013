//! Comparisons with what Kubernetes itself publishes, where a copy of it is at hand.
//!
//! `K8W_REFERENCE_DATA` names the folder: `fixtures/<group>.<version>.<Kind>.json` with every field filled, and
//! `openapi-v3/*.json`. Without it these tests say that they were skipped.

use std::path::PathBuf;

use serde_json::Value;

use super::decode::Format;
use super::{Schema, openapi, roots};

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

/// The root type of a fixture, by the group, version and kind in its file name.
fn root_type(stem: &str) -> Option<&'static str> {
    let mut parts = stem.rsplitn(3, '.');
    let (kind, version, group) = (parts.next()?, parts.next()?, parts.next()?);
    let group = group.split('.').next()?;
    let package = match group {
        "apiextensions" => "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions".to_owned(),
        "apiregistration" => "io.k8s.kube-aggregator.pkg.apis.apiregistration".to_owned(),
        group => format!("io.k8s.api.{group}"),
    };
    let name = format!("{package}.{version}.{kind}");
    roots::names().find(|n| *n == name)
}

#[test]
fn every_field_of_every_kind_is_known_and_kept() {
    let Some(paths) = folder("fixtures") else { return };
    let mut read = 0;
    for path in paths {
        let stem = path.file_stem().unwrap().to_str().unwrap();
        let format = match path.extension().and_then(|e| e.to_str()) {
            Some("json") => Format::Json,
            Some("yaml") => Format::Yaml,
            _ => continue,
        };
        let Some(name) = root_type(stem) else { continue };
        let body = std::fs::read(&path).unwrap();
        let decoded = Schema::builtin(name).unwrap().decode(&body, format).unwrap_or_else(|e| panic!("{stem}: {e}"));
        assert_eq!(decoded.issues, Vec::<String>::new(), "{stem}");
        if format == Format::Json {
            let original: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(decoded.value, original, "{stem}");
        }
        read += 1;
    }
    assert!(read > 100, "only {read} fixtures were read");
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
