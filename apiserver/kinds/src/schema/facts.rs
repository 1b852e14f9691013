//! What k8s-openapi's schemas lack: list and map types, merge keys, patch strategies, static defaults, unions and kinds.
//!
//! One text file per API group, one line per fact-bearing field, under a line that names the type:
//!
//! ```text
//! Container                                   a type, with facts of its own: atomic, kind=<group>/<version>, union=…
//!  args atomic                                x-kubernetes-list-type (atomic, set) or -map-type (atomic, granular)
//!  ports keys=containerPort,protocol merge=containerPort    list type map with its keys; merged by this key in a patch
//!  protocol ="TCP"                            default, as JSON
//! ```
//!
//! `required` and `optional` are said where k8s-openapi says otherwise; `merge`, `retainKeys` and `replace` are patch strategies; `merge=` also names the merge key.

use std::collections::HashMap;
use std::sync::OnceLock;

/// Package prefix of type names, and the facts about its types.
const FILES: [(&str, &str); 24] = [
    ("io.k8s.api.admissionregistration.v1.", include_str!("facts/admissionregistration.v1.txt")),
    ("io.k8s.api.apps.v1.", include_str!("facts/apps.v1.txt")),
    ("io.k8s.api.authentication.v1.", include_str!("facts/authentication.v1.txt")),
    ("io.k8s.api.authorization.v1.", include_str!("facts/authorization.v1.txt")),
    ("io.k8s.api.autoscaling.v1.", include_str!("facts/autoscaling.v1.txt")),
    ("io.k8s.api.autoscaling.v2.", include_str!("facts/autoscaling.v2.txt")),
    ("io.k8s.api.batch.v1.", include_str!("facts/batch.v1.txt")),
    ("io.k8s.api.certificates.v1.", include_str!("facts/certificates.v1.txt")),
    ("io.k8s.api.coordination.v1.", include_str!("facts/coordination.v1.txt")),
    ("io.k8s.api.core.v1.", include_str!("facts/core.v1.txt")),
    ("io.k8s.api.discovery.v1.", include_str!("facts/discovery.v1.txt")),
    ("io.k8s.api.events.v1.", include_str!("facts/events.v1.txt")),
    ("io.k8s.api.flowcontrol.v1.", include_str!("facts/flowcontrol.v1.txt")),
    ("io.k8s.api.networking.v1.", include_str!("facts/networking.v1.txt")),
    ("io.k8s.api.node.v1.", include_str!("facts/node.v1.txt")),
    ("io.k8s.api.policy.v1.", include_str!("facts/policy.v1.txt")),
    ("io.k8s.api.rbac.v1.", include_str!("facts/rbac.v1.txt")),
    ("io.k8s.api.resource.v1.", include_str!("facts/resource.v1.txt")),
    ("io.k8s.api.scheduling.v1.", include_str!("facts/scheduling.v1.txt")),
    ("io.k8s.api.storage.v1.", include_str!("facts/storage.v1.txt")),
    ("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.", include_str!("facts/apiextensions.v1.txt")),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.", include_str!("facts/meta.v1.txt")),
    ("io.k8s.apimachinery.pkg.version.", include_str!("facts/version.txt")),
    ("io.k8s.kube-aggregator.pkg.apis.apiregistration.v1.", include_str!("facts/apiregistration.v1.txt")),
];

/// The facts about one type.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TypeFacts {
    /// The words after the type's name.
    own: &'static str,
    /// Its fields, a line each.
    fields: &'static str,
}

impl TypeFacts {
    /// The facts about a type by its published name; empty where there are none.
    pub fn of(type_name: &str) -> TypeFacts {
        let Some(dot) = type_name.rfind('.') else { return TypeFacts::default() };
        let (package, short) = type_name.split_at(dot + 1);
        index().get(&(package, short)).copied().unwrap_or_default()
    }

    pub fn own(&self) -> impl Iterator<Item = &'static str> {
        self.own.split_ascii_whitespace()
    }

    /// Group and version, where the type is a kind.
    pub fn kind(&self) -> Option<(&'static str, &'static str)> {
        self.own().find_map(|word| word.strip_prefix("kind=")?.split_once('/'))
    }

    /// The words about one field; nothing where there are none.
    pub fn field(&self, name: &str) -> impl Iterator<Item = &'static str> {
        let line = self.fields.lines().find_map(|line| line.strip_prefix(' ')?.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_default().split_ascii_whitespace()
    }
}

fn index() -> &'static HashMap<(&'static str, &'static str), TypeFacts> {
    static INDEX: OnceLock<HashMap<(&'static str, &'static str), TypeFacts>> = OnceLock::new();
    INDEX.get_or_init(|| FILES.iter().flat_map(|(package, text)| types(package, text)).collect())
}

/// Splits a file into its types: a line that does not begin with a space begins a type.
fn types(package: &'static str, text: &'static str) -> Vec<((&'static str, &'static str), TypeFacts)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((head, after)) = rest.split_once('\n') {
        let mut end = 0;
        while after[end..].starts_with(' ') {
            end += after[end..].find('\n').map_or(after.len() - end, |newline| newline + 1);
        }
        let (short, own) = head.split_once(' ').unwrap_or((head, ""));
        found.push(((package, short), TypeFacts { own, fields: &after[..end] }));
        rest = &after[end..];
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_found_by_type_and_field() {
        let words = |t: &str, f: &str| TypeFacts::of(t).field(f).collect::<Vec<_>>().join("|");
        assert_eq!(words("io.k8s.api.core.v1.Container", "ports"), "keys=containerPort,protocol|merge=containerPort");
        assert_eq!(words("io.k8s.api.core.v1.ContainerPort", "protocol"), "=\"TCP\"");
        assert_eq!(words("io.k8s.api.core.v1.Container", "por"), "");
        assert_eq!(words("io.k8s.api.core.v1.Nothing", "ports"), "");
        assert_eq!(TypeFacts::of("io.k8s.api.core.v1.Pod").own().collect::<Vec<_>>(), ["kind=/v1"]);
        assert_eq!(index().len(), FILES.iter().map(|(p, t)| types(p, t).len()).sum::<usize>(), "a type is named twice");
    }

    #[test]
    fn every_word_is_understood() {
        let lists = ["atomic", "granular", "set", "merge", "replace", "retainKeys", "required", "optional"];
        for (package, text) in FILES {
            for ((_, short), facts) in types(package, text) {
                for word in facts.own() {
                    assert!(
                        word == "atomic" || word.starts_with("kind=") || word.starts_with("union="),
                        "{short}: {word}"
                    );
                }
                for line in facts.fields.lines() {
                    for word in line.split_ascii_whitespace().skip(1) {
                        let default = word.strip_prefix('=').map(serde_json::from_str::<serde_json::Value>);
                        let keys = word.strip_prefix("keys=").or(word.strip_prefix("merge="));
                        let known = default.is_some_and(|d| d.is_ok()) || keys.is_some_and(|k| !k.is_empty());
                        assert!(known || lists.contains(&word), "{package}{short}: {line}");
                    }
                }
            }
        }
    }
}
