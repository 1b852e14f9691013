//! Comparisons with what Kubernetes itself publishes, where a copy of it is at hand.
//!
//! `K8W_REFERENCE_DATA` names the folder: `fixtures/<group>.<version>.<Kind>.json` with every field filled, and
//! `openapi-v3/*.json`. Without it these tests say that they were skipped.

use std::path::PathBuf;

use serde_json::Value;

use super::decode::Format;
use super::{Schema, roots};

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
