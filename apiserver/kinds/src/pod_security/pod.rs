//! A pod as the checks see it, and the words in which they speak of it.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::object::{get, list, text};

/// A Pod, or a workload's template for pods.
#[derive(Clone, Copy, Debug)]
pub struct Pod<'v> {
    object: &'v Value,
}

impl<'v> Pod<'v> {
    /// An object with the `metadata` and `spec` of a pod.
    pub fn new(object: &'v Value) -> Self {
        Pod { object }
    }

    pub(super) fn get(&self, path: &[&str]) -> Option<&'v Value> {
        get(self.object, path)
    }

    pub(super) fn flag(&self, field: &str) -> Option<bool> {
        self.get(&["spec", field]).and_then(Value::as_bool)
    }

    pub(super) fn list(&self, path: &[&str]) -> &'v [Value] {
        list(self.object, path)
    }

    pub(super) fn is_windows(&self) -> bool {
        text(self.object, &["spec", "os", "name"]) == "windows"
    }

    /// Whether the users of the pod are not those of its node (KEP-127).
    pub(super) fn has_own_users(&self) -> bool {
        self.flag("hostUsers") == Some(false)
    }

    /// Init containers, containers, ephemeral containers.
    pub(super) fn containers(&self) -> impl Iterator<Item = &'v Value> {
        let pod = self.object;
        ["initContainers", "containers", "ephemeralContainers"]
            .into_iter()
            .flat_map(move |name| list(pod, &["spec", name]))
    }

    /// The names of the containers that something is wrong with.
    pub(super) fn bad_containers(&self, mut is_bad: impl FnMut(&'v Value) -> bool) -> Vec<&'v str> {
        self.containers().filter(|container| is_bad(container)).map(|container| text(container, &["name"])).collect()
    }

    /// Whose `securityContext` is bad: `pod and containers "a", "b"`; `None` when nobody's is.
    pub(super) fn bad_contexts(&self, mut is_bad: impl FnMut(&'v Value) -> bool) -> Option<String> {
        let mut setters = Vec::new();
        if self.get(&["spec", "securityContext"]).is_some_and(&mut is_bad) {
            setters.push("pod".to_owned());
        }
        let containers = self.bad_containers(|container| get(container, &["securityContext"]).is_some_and(&mut is_bad));
        if !containers.is_empty() {
            setters.push(called("container", &containers));
        }
        (!setters.is_empty()).then(|| setters.join(" and "))
    }
}

/// `container "a"`, `containers "a", "b"`.
pub fn called(what: &str, names: &[&str]) -> String {
    format!("{} {}", plural(what, names.len()), quoted(names))
}

/// `"a", "b"`.
pub fn quoted<'a>(names: impl IntoIterator<Item = impl AsRef<str> + 'a>) -> String {
    names.into_iter().map(|name| format!("\"{}\"", name.as_ref())).collect::<Vec<_>>().join(", ")
}

/// The word for one, or for several.
pub fn plural(word: &str, count: usize) -> String {
    if count == 1 { word.to_owned() } else { format!("{word}s") }
}

/// `uses` or `use`.
pub fn use_verb(count: usize) -> &'static str {
    if count == 1 { "uses" } else { "use" }
}

/// Things that were found, each once and in order.
pub type Found<'v> = BTreeSet<&'v str>;
