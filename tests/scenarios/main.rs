//! Runs every scenario: a folder with manifests and what is expected of them.
//!
//! A scenario is `tests/scenarios/<case>/`: `manifest.yaml` is applied in a namespace of its own, after the components
//! that `expect.yaml` names are loaded as images; then each expectation comes true, in order, within a bound.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8w_testkit::{Kubectl, TestCluster, eventually, get, guest, shared, trial};
use libtest_mimic::Arguments;
use serde::Deserialize;

/// `expect.yaml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Scenario {
    /// Files relative to the repository, each the image `localhost/<file stem>:latest`. Text (`.wat`) is assembled. What is
    /// in `guests/` is built or fetched by `tests/run guests`.
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

fn main() {
    let arguments = Arguments::from_args();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let folders = std::fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    let trials = folders.map(|folder| {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let scenario = Scenario::read(&folder);
        let components: Option<Vec<PathBuf>> = scenario.components.iter().map(|file| component(file)).collect();
        let lacks_guests = components.is_none();
        let components = components.unwrap_or_default();
        trial(name.clone(), move || run(&name, &folder, &scenario, &components)).with_ignored_flag(lacks_guests)
    });
    libtest_mimic::run(&arguments, trials.collect()).exit();
}

impl Scenario {
    fn read(folder: &Path) -> Scenario {
        let text = std::fs::read_to_string(folder.join("expect.yaml")).unwrap();
        serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
    }
}

/// The file of a component; `None` for a guest that nobody has built.
fn component(path: &Path) -> Option<PathBuf> {
    match path.strip_prefix("guests") {
        Ok(file) => guest(file.to_str().unwrap()),
        Err(_) => Some(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)),
    }
}

fn run(name: &str, folder: &Path, scenario: &Scenario, components: &[PathBuf]) {
    let manifest = std::fs::read_to_string(folder.join("manifest.yaml")).unwrap();
    let cluster = shared(env!("CARGO_BIN_EXE_k8w"));
    let kubectl = cluster.namespace(name);
    for component in components {
        let image = format!("localhost/{}:latest", component.file_stem().unwrap().to_string_lossy());
        if component.extension().is_some_and(|extension| extension == "wat") {
            let mut assembled = tempfile::NamedTempFile::new().unwrap();
            assembled.write_all(&wat::parse_file(component).unwrap()).unwrap();
            cluster.load_image(assembled.path(), &image);
        } else {
            cluster.load_image(component, &image);
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
