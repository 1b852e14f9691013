//! Which conformance requirement is proved by which test: tests say in a comment `Conformance: "…"; "…".` what they are
//! for, and what nothing proves yet is in `conformance_exceptions.txt`. That list can only shrink.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const MARK: &str = "Conformance: ";

/// Folders that have tests.
const FOLDERS: [&str; 7] = ["apiserver", "controllers", "networking", "runtime", "src", "storage", "tests"];

/// One requirement: its name, and the file of the conformance suite that it is in.
#[derive(serde::Deserialize)]
struct Requirement {
    testname: String,
    file: String,
}

/// What follows the mark in every block of comment lines of a file, as one line each.
fn marked(text: &str) -> Vec<String> {
    let mut blocks: Vec<String> = vec![String::new()];
    for line in text.lines().map(str::trim_start) {
        match line.strip_prefix("//").or_else(|| line.strip_prefix('#')) {
            Some(comment) => {
                let comment = comment.trim_start_matches(['/', '!']).trim();
                if let Some(block) = blocks.last_mut() {
                    block.push_str(comment);
                    block.push(' ');
                }
            }
            None => blocks.push(String::new()),
        }
    }
    blocks.iter().filter_map(|block| block.split_once(MARK)).map(|(_, names)| names.to_owned()).collect()
}

/// Visits all files of code beneath a folder.
pub fn files(folder: &Path, visit: &mut impl FnMut(&Path)) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, visit);
        } else if path.extension().is_some_and(|extension| ["py", "rs", "yaml"].iter().any(|known| extension == *known))
        {
            visit(&path);
        }
    }
}

/// The names that tests give, and what they call by a name that no requirement has.
fn named(known: &BTreeSet<&str>) -> (BTreeSet<String>, Vec<String>) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    // Some names begin like others.
    let mut longest_first: Vec<&str> = known.iter().copied().collect();
    longest_first.sort_by_key(|name| std::cmp::Reverse(name.len()));
    let (mut named, mut unknown) = (BTreeSet::new(), Vec::new());
    for folder in FOLDERS {
        files(&root.join(folder), &mut |path| {
            if path == root.join(file!()) {
                return;
            }
            for mut text in marked(&std::fs::read_to_string(path).unwrap()) {
                for name in &longest_first {
                    // Comments are broken where a name has two spaces.
                    let quoted = format!("\"{}\"", name.split_whitespace().collect::<Vec<_>>().join(" "));
                    let found = text.split_whitespace().collect::<Vec<_>>().join(" ");
                    if found.contains(&quoted) {
                        text = found.replace(&quoted, "");
                        named.insert((*name).to_owned());
                    }
                }
                if text.contains('"') {
                    unknown.push(format!("{}: {text}", path.display()));
                }
            }
        });
    }
    (named, unknown)
}

/// The entries of the list: names of requirements, or files of the suite for all that is in them.
fn exceptions() -> Vec<&'static str> {
    let lines = include_str!("conformance_exceptions.txt").lines().map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

#[test]
fn every_requirement_has_a_test_or_is_a_written_exception() {
    let Ok(data) = std::env::var("K8W_REFERENCE_DATA") else {
        eprintln!("skipped: K8W_REFERENCE_DATA is not set");
        return;
    };
    let text = std::fs::read_to_string(Path::new(&data).join("conformance.yaml")).unwrap();
    let requirements: Vec<Requirement> = serde_saphyr::from_str(&text).unwrap();
    let mut by_name: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for requirement in &requirements {
        by_name.entry(&requirement.testname).or_default().push(&requirement.file);
    }
    let (named, unknown) = named(&by_name.keys().copied().collect());
    assert!(unknown.is_empty(), "no requirement has these names:\n{}", unknown.join("\n"));

    let exceptions = exceptions();
    let excepted = |name: &str| exceptions.iter().any(|entry| *entry == name || by_name[name].contains(entry));
    let missing: Vec<&&str> = by_name.keys().filter(|name| !named.contains(**name) && !excepted(name)).collect();
    assert!(missing.is_empty(), "no test names these, and no exception:\n{missing:#?}");
    let stale: Vec<&&str> = exceptions
        .iter()
        .filter(|entry| {
            let mut covered = by_name.iter().filter(|(name, files)| *name == *entry || files.contains(entry));
            let unknown = covered.clone().next().is_none();
            unknown || covered.any(|(name, _)| named.contains(*name))
        })
        .collect();
    assert!(stale.is_empty(), "these are tested now, or were never asked for; take them off the list:\n{stale:#?}");
    let open: Vec<&&str> = by_name.keys().filter(|name| !named.contains(**name)).collect();
    println!("{} requirements are named by tests; these are not yet: {open:#?}", named.len());
}
