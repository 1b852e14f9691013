//! Runs every scenario: a folder with manifests and what is expected of them.
//!
//! A scenario is `tests/scenarios/<case>/`: `manifest.yaml` is applied in a namespace of its own, after the components
//! that `expect.yaml` names are loaded as images; then each expectation comes true, in order, within a bound.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::env;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8w_testkit::{Kubectl, TestCluster, eventually, get, shared, trial};
use libtest_mimic::Arguments;
use serde::Deserialize;

/// `expect.yaml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Scenario {
    /// Files relative to the repository, each the image `localhost/<file stem>:latest`. Text (`.wat`) is assembled. What is
    /// in `guests/` lies in the folder that `K8W_TEST_GUESTS` names: `tests/run guests` builds or fetches it.
    #[serde(default)]
    components: Vec<PathBuf>,
    /// `apply` must be refused with this, and nothing else happens.
    refused: Option<String>,
    #[serde(default)]
    expect: Vec<Expectation>,
}

/// One thing that comes true.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expectation {
    /// A kubectl command line, split at spaces. `NAMESPACE` stands for the scenario's own, here and below.
    kubectl: Option<String>,
    /// `host/path`, asked of the ingress.
    http: Option<String>,
    /// The answer's status; 200 when not given.
    status: Option<u16>,
    /// The whole answer, without white space at its end.
    equals: Option<String>,
    /// Parts of the answer.
    #[serde(default)]
    contains: Vec<String>,
}

/// Names the folder of guests.
const GUESTS: &str = "K8W_TEST_GUESTS";

fn main() {
    let arguments = Arguments::from_args();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let folders = std::fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    let trials = folders.map(|folder| {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let scenario = Scenario::read(&folder);
        let lacks_guests =
            scenario.components.iter().any(|file| file.starts_with("guests")) && env::var_os(GUESTS).is_none();
        if lacks_guests {
            eprintln!("{name} is skipped: {GUESTS} names no folder of guests (`tests/run guests` builds them)");
        }
        trial(name.clone(), move || run(&name, &folder, &scenario)).with_ignored_flag(lacks_guests)
    });
    libtest_mimic::run(&arguments, trials.collect()).exit();
}

impl Scenario {
    fn read(folder: &Path) -> Scenario {
        let text = std::fs::read_to_string(folder.join("expect.yaml")).unwrap();
        serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
    }
}

fn component(path: &Path) -> PathBuf {
    match path.strip_prefix("guests") {
        Ok(guest) => Path::new(&env::var_os(GUESTS).unwrap()).join(guest),
        Err(_) => Path::new(env!("CARGO_MANIFEST_DIR")).join(path),
    }
}

fn run(name: &str, folder: &Path, scenario: &Scenario) {
    let manifest = std::fs::read_to_string(folder.join("manifest.yaml")).unwrap();
    let cluster = shared(env!("CARGO_BIN_EXE_k8w"));
    let kubectl = cluster.namespace(name);
    for component in &scenario.components {
        let image = format!("localhost/{}:latest", component.file_stem().unwrap().to_string_lossy());
        let file = self::component(component);
        if component.extension().is_some_and(|extension| extension == "wat") {
            let mut assembled = tempfile::NamedTempFile::new().unwrap();
            assembled.write_all(&wat::parse_file(&file).unwrap()).unwrap();
            cluster.load_image(assembled.path(), &image);
        } else {
            cluster.load_image(&file, &image);
        }
    }
    let applied = kubectl.run_with_input(&["apply", "-f", "-"], &manifest.replace("NAMESPACE", name));
    match &scenario.refused {
        Some(refusal) => assert!(!applied.success && applied.stderr.contains(refusal.as_str()), "{applied:?}"),
        None => assert!(applied.success, "{}", applied.stderr),
    }
    for expectation in &scenario.expect {
        eventually(&format!("{name}: {}", expectation.describe()), || expectation.look(&cluster, &kubectl, name));
    }
    // Not waited for: the namespace's end has tests of its own.
    kubectl.ok(&["delete", "namespace", name, "--wait=false"]);
}

impl Expectation {
    fn describe(&self) -> String {
        let what = self.kubectl.iter().chain(&self.http).next().cloned().unwrap_or_default();
        format!("`{what}` answers {:?} {:?}", self.equals, self.contains)
    }

    fn look(&self, cluster: &Arc<TestCluster>, kubectl: &Kubectl, namespace: &str) -> Result<(), String> {
        let answer = match (&self.kubectl, &self.http) {
            (Some(line), None) => {
                let line = line.replace("NAMESPACE", namespace);
                let outcome = kubectl.run(&line.split(' ').collect::<Vec<_>>());
                if !outcome.success {
                    return Err(outcome.stderr);
                }
                outcome.stdout
            }
            (None, Some(url)) => {
                let url = url.replace("NAMESPACE", namespace);
                let (host, path) = url.split_once('/').unwrap_or((&url, ""));
                let answer = get(cluster.ingress_http(), host, &format!("/{path}"))?;
                if answer.status != self.status.unwrap_or(200) {
                    return Err(format!("{answer:?}"));
                }
                answer.body
            }
            _ => panic!("an expectation has either `kubectl` or `http`"),
        };
        let equal = self.equals.as_ref().is_none_or(|expected| answer.trim_end() == expected);
        if equal && self.contains.iter().all(|part| answer.contains(part.as_str())) { Ok(()) } else { Err(answer) }
    }
}
