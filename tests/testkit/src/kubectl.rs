//! The real kubectl, unmodified.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::de::DeserializeOwned;

use crate::outcome::Outcome;

/// kubectl for one cluster, and perhaps one namespace.
#[derive(Clone)]
pub struct Kubectl {
    program: String,
    kubeconfig: PathBuf,
    cache: PathBuf,
    namespace: Option<String>,
}

impl Kubectl {
    /// `kubectl` from the PATH, or what `K8W_TEST_KUBECTL` names.
    pub fn new(kubeconfig: &Path, cache: &Path) -> Self {
        let program = std::env::var("K8W_TEST_KUBECTL").unwrap_or_else(|_| "kubectl".into());
        Self { program, kubeconfig: kubeconfig.into(), cache: cache.into(), namespace: None }
    }

    pub fn in_namespace(&self, namespace: &str) -> Self {
        Self { namespace: Some(namespace.into()), ..self.clone() }
    }

    /// kubectl without arguments, and with nothing of the developer's own: neither variables nor `~/.kube`.
    pub fn bare(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", &self.cache);
        command
    }

    /// The command, ready to be run or added to.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.bare();
        command.arg("--kubeconfig").arg(&self.kubeconfig).arg("--cache-dir").arg(&self.cache);
        if let Some(namespace) = &self.namespace {
            command.args(["--namespace", namespace]);
        }
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Outcome {
        self.run_with_input(arguments, "")
    }

    /// Runs with `input` on standard input.
    pub fn run_with_input(&self, arguments: &[&str], input: &str) -> Outcome {
        Outcome::of(&mut self.command(arguments), input.as_bytes())
    }

    /// Standard output of a command that must succeed.
    pub fn ok(&self, arguments: &[&str]) -> String {
        self.ok_with_input(arguments, "")
    }

    /// Standard output of a command that must succeed with `input` on standard input.
    pub fn ok_with_input(&self, arguments: &[&str], input: &str) -> String {
        self.run_with_input(arguments, input).ok(&format!("kubectl {arguments:?}"))
    }

    /// What a command that must succeed prints as JSON.
    pub fn json<T: DeserializeOwned>(&self, arguments: &[&str]) -> T {
        let printed = self.ok(arguments);
        serde_json::from_str(&printed).unwrap_or_else(|error| panic!("kubectl {arguments:?}: {error}:\n{printed}"))
    }

    /// Standard error of a command that must fail.
    pub fn fails(&self, arguments: &[&str]) -> String {
        self.fails_with_input(arguments, "")
    }

    /// Standard error of a command that must fail with `input` on standard input.
    pub fn fails_with_input(&self, arguments: &[&str], input: &str) -> String {
        let outcome = self.run_with_input(arguments, input);
        assert!(!outcome.success, "kubectl {arguments:?} succeeded:\n{}", outcome.stdout);
        outcome.stderr
    }

    /// Applies manifests given as text.
    pub fn apply(&self, manifests: &str) -> String {
        self.ok_with_input(&["apply", "-f", "-"], manifests)
    }
}
