//! The layering is a test, not a hope: every member's Cargo.toml against the table in ARCHITECTURE.md.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod conformance;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What each crate may import of ours: the same table as in ARCHITECTURE.md.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("k8w-storage", &[]),
    ("k8w-kinds", &[]),
    ("k8w-apiserver", &["k8w-storage", "k8w-kinds"]),
    ("k8w-controllers", &["k8w-kinds"]),
    ("k8w-networking", &["k8w-kinds"]),
    ("k8w-runtime", &["k8w-storage", "k8w-networking", "k8w-kinds"]),
    ("k8w", &["k8w-storage", "k8w-kinds", "k8w-apiserver", "k8w-controllers", "k8w-networking", "k8w-runtime"]),
    ("k8w-fuzz", &["k8w-apiserver", "k8w-kinds", "k8w-networking", "k8w-runtime"]),
    ("k8w-testkit", &[]),
];

/// Dependencies that belong to some crates only. Tests of the workspace may use what they like.
const ONLY_IN: &[(&str, &[&str])] = &[
    ("wasmtime", &["k8w-runtime"]),
    ("kube", &["k8w-controllers", "k8w-runtime", "k8w"]),
    ("tokio", &["k8w-storage", "k8w-apiserver", "k8w-controllers", "k8w-networking", "k8w-runtime", "k8w", "k8w-fuzz"]),
    ("hyper", &["k8w-apiserver", "k8w-fuzz", "k8w-networking", "k8w-runtime"]),
];

/// Folders of the members.
fn members() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let members = text.split("members = [").nth(1).unwrap().split(']').next().unwrap();
    let folders = members.split('"').skip(1).step_by(2).chain(["."]);
    folders.map(|folder| root.join(folder)).collect()
}

/// Names under `[dependencies]` of each member, by the member's name.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    members().iter().map(|folder| read_member(&folder.join("Cargo.toml"))).collect()
}

fn read_member(manifest: &Path) -> (String, BTreeSet<String>) {
    let text = std::fs::read_to_string(manifest).unwrap();
    let section = |name: &str| {
        let start = text.split(&format!("\n[{name}]\n")).nth(1).or_else(|| text.strip_prefix(&format!("[{name}]\n")));
        start.unwrap_or_default().split("\n[").next().unwrap_or_default().to_owned()
    };
    let name =
        section("package").lines().find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"').map(String::from));
    let keys = section("dependencies");
    let keys = keys.lines().filter_map(|line| line.split(['.', '=', ' ']).next()).filter(|key| !key.is_empty());
    (name.unwrap_or_else(|| panic!("{} has no name", manifest.display())), keys.map(String::from).collect())
}

#[test]
fn crates_import_only_what_the_architecture_allows() {
    let table: BTreeMap<&str, &[&str]> = MAY_IMPORT.iter().copied().collect();
    for (member, dependencies) in dependencies() {
        let allowed = table.get(member.as_str()).unwrap_or_else(|| panic!("{member} is not in the table"));
        for dependency in dependencies.iter().filter(|dependency| dependency.starts_with("k8w-")) {
            assert!(allowed.contains(&dependency.as_str()), "{member} must not import {dependency}");
        }
    }
}

#[test]
fn some_dependencies_belong_to_some_crates_only() {
    let all = dependencies();
    for (dependency, crates) in ONLY_IN {
        for (member, dependencies) in &all {
            assert!(
                !dependencies.contains(*dependency) || crates.contains(&member.as_str()),
                "{member} must not depend on {dependency}"
            );
        }
    }
}

#[test]
fn every_dependency_is_used() {
    for folder in members() {
        let mut code = String::new();
        for sources in ["src", "fuzz_targets"].map(|name| folder.join(name)).iter().filter(|path| path.is_dir()) {
            conformance::files(sources, &mut |path| code.push_str(&std::fs::read_to_string(path).unwrap()));
        }
        let words: BTreeSet<&str> = code.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        let (member, dependencies) = read_member(&folder.join("Cargo.toml"));
        let unused = dependencies.iter().filter(|name| !words.contains(name.replace('-', "_").as_str()));
        let unused: Vec<_> = unused.collect();
        assert!(unused.is_empty(), "{member} does not use {unused:?}");
    }
}
