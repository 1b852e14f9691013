//! Roles and bindings, indexed by subject: who may do what is a look-up and a walk over a few rules.

use std::collections::HashMap;
use std::sync::Arc;

use k8w_kinds::core::service_account_token;
use serde::Deserialize;
use serde_json::Value;

use super::rule::Rule;
use crate::identity::{Attributes, UserInfo};

/// Names a Role (namespace and name) or a ClusterRole (empty namespace and name), likewise for bindings.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    pub namespace: String,
    pub name: String,
}

impl Key {
    pub fn of(object: &Value) -> Key {
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
        Key { namespace: text("namespace"), name: text("name") }
    }
}

/// A RoleBinding or (with an empty namespace) a ClusterRoleBinding.
#[derive(Debug)]
pub struct Binding {
    key: Key,
    role: Key,
    subjects: Vec<Subject>,
}

impl Binding {
    fn applies_in(&self, namespace: &str) -> bool {
        self.key.namespace.is_empty() || self.key.namespace == namespace
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Subject {
    User(String),
    Group(String),
}

/// `rbac.authorization.k8s.io/v1` RoleRef.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct RoleRef {
    pub kind: String,
    pub name: String,
}

impl RoleRef {
    /// The role that a binding in `namespace` refers to.
    pub fn key(&self, namespace: &str) -> Key {
        let namespace = if self.kind == "ClusterRole" { "" } else { namespace };
        Key { namespace: namespace.to_owned(), name: self.name.clone() }
    }
}

/// All roles and bindings. Objects come in any order; a binding whose role is missing grants nothing until it appears.
#[derive(Default)]
pub struct Index {
    roles: HashMap<Key, Arc<[Rule]>>,
    bindings: HashMap<Key, Arc<Binding>>,
    users: HashMap<String, Vec<Arc<Binding>>>,
    groups: HashMap<String, Vec<Arc<Binding>>>,
}

impl Index {
    /// A Role or ClusterRole was written.
    pub fn put_role(&mut self, role: &Value) {
        self.roles.insert(Key::of(role), rules_of(role).into());
    }

    pub fn remove_role(&mut self, key: &Key) {
        self.roles.remove(key);
    }

    /// A RoleBinding or ClusterRoleBinding was written.
    pub fn put_binding(&mut self, binding: &Value) {
        let key = Key::of(binding);
        self.remove_binding(&key);
        let role = role_ref(binding).key(&key.namespace);
        let subjects = binding["subjects"].as_array().into_iter().flatten();
        let subjects = subjects.filter_map(|subject| subject_of(subject, &key.namespace)).collect();
        let binding = Arc::new(Binding { key: key.clone(), role, subjects });
        for subject in &binding.subjects {
            let (table, name) = self.table_of(subject);
            table.entry(name.clone()).or_default().push(binding.clone());
        }
        self.bindings.insert(key, binding);
    }

    pub fn remove_binding(&mut self, key: &Key) {
        let Some(binding) = self.bindings.remove(key) else { return };
        for subject in &binding.subjects {
            let (table, name) = self.table_of(subject);
            if let Some(bindings) = table.get_mut(name) {
                bindings.retain(|other| !Arc::ptr_eq(other, &binding));
                if bindings.is_empty() {
                    table.remove(name);
                }
            }
        }
    }

    fn table_of<'s>(&mut self, subject: &'s Subject) -> (&mut HashMap<String, Vec<Arc<Binding>>>, &'s String) {
        match subject {
            Subject::User(name) => (&mut self.users, name),
            Subject::Group(name) => (&mut self.groups, name),
        }
    }

    /// The rules of a role, if it exists.
    pub fn role(&self, key: &Key) -> Option<&Arc<[Rule]>> {
        self.roles.get(key)
    }

    /// Whether any rule bound to the user allows the request.
    pub fn allows(&self, attributes: &Attributes<'_>) -> bool {
        let info = attributes.info;
        self.grants(attributes.user, &info.namespace)
            .any(|rules| rules.iter().any(|rule| rule.allows(attributes.verb, info)))
    }

    /// All rules bound to the user for `namespace` (empty: cluster-wide ones only).
    pub fn rules(&self, user: &UserInfo, namespace: &str) -> Vec<Rule> {
        self.grants(user, namespace).flat_map(|rules| rules.iter().cloned()).collect()
    }

    fn grants(&self, user: &UserInfo, namespace: &str) -> impl Iterator<Item = &Arc<[Rule]>> {
        let by_group = user.groups.iter().filter_map(|group| self.groups.get(group));
        let bindings = self.users.get(&user.name).into_iter().chain(by_group).flatten();
        bindings
            .filter(move |binding| binding.applies_in(namespace))
            .filter_map(|binding| self.roles.get(&binding.role))
    }
}

/// The rules of a Role or ClusterRole object.
pub fn rules_of(role: &Value) -> Vec<Rule> {
    Vec::<Rule>::deserialize(&role["rules"]).unwrap_or_default()
}

/// The role that a RoleBinding or ClusterRoleBinding object refers to.
pub fn role_ref(binding: &Value) -> RoleRef {
    RoleRef::deserialize(&binding["roleRef"]).unwrap_or_default()
}

fn subject_of(subject: &Value, binding_namespace: &str) -> Option<Subject> {
    let name = subject["name"].as_str()?;
    match subject["kind"].as_str()? {
        "User" => Some(Subject::User(name.to_owned())),
        "Group" => Some(Subject::Group(name.to_owned())),
        "ServiceAccount" => {
            let namespace = subject["namespace"].as_str().filter(|namespace| !namespace.is_empty());
            Some(Subject::User(service_account_token::user_name(namespace.unwrap_or(binding_namespace), name)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::request_info::RequestInfo;

    fn role(namespace: &str, name: &str, verb: &str) -> Value {
        json!({"metadata": {"namespace": namespace, "name": name},
            "rules": [{"verbs": [verb], "apiGroups": [""], "resources": ["pods"]}]})
    }

    fn binding(namespace: &str, name: &str, role_kind: &str, role: &str, subjects: Value) -> Value {
        json!({"metadata": {"namespace": namespace, "name": name}, "roleRef": {"kind": role_kind, "name": role},
            "subjects": subjects})
    }

    fn may(index: &Index, user: &str, groups: &[&str], verb: &'static str, namespace: &str) -> bool {
        let user = UserInfo {
            name: user.into(),
            groups: groups.iter().map(|group| group.to_string()).collect(),
            ..UserInfo::default()
        };
        let info = RequestInfo {
            verb,
            is_resource_request: true,
            resource: "pods".into(),
            namespace: namespace.into(),
            ..RequestInfo::default()
        };
        index.allows(&Attributes { user: &user, verb, info: &info })
    }

    fn sample() -> Index {
        let mut index = Index::default();
        // Bindings first: order must not matter.
        index.put_binding(&binding("", "all", "ClusterRole", "reader", json!([{"kind": "Group", "name": "readers"}])));
        index.put_binding(&binding(
            "a",
            "robot",
            "ClusterRole",
            "reader",
            json!([{"kind": "ServiceAccount", "name": "robot", "namespace": "b"}]),
        ));
        index.put_binding(&binding("a", "jane", "Role", "writer", json!([{"kind": "User", "name": "jane"}])));
        index.put_role(&role("", "reader", "get"));
        index.put_role(&role("a", "writer", "create"));
        index.put_role(&role("b", "writer", "delete"));
        index
    }

    #[test]
    fn who_may_do_what_where() {
        let index = sample();
        for (user, groups, verb, namespace, allowed) in [
            ("joe", &["readers"][..], "get", "", true),
            ("joe", &["readers"], "get", "a", true),
            ("joe", &["readers"], "create", "a", false),
            ("joe", &[], "get", "a", false),
            ("readers", &[], "get", "a", false),
            ("system:serviceaccount:b:robot", &[], "get", "a", true),
            ("system:serviceaccount:b:robot", &[], "get", "b", false),
            ("system:serviceaccount:a:robot", &[], "get", "a", false),
            ("jane", &[], "create", "a", true),
            ("jane", &[], "delete", "a", false),
            ("jane", &[], "create", "b", false),
            ("jane", &[], "create", "", false),
        ] {
            assert_eq!(
                may(&index, user, groups, verb, namespace),
                allowed,
                "{user} {groups:?} {verb} in {namespace:?}"
            );
        }
    }

    #[test]
    fn changes_take_effect() {
        let mut index = sample();
        index.put_role(&role("", "reader", "list"));
        assert!(!may(&index, "joe", &["readers"], "get", "a"));
        assert!(may(&index, "joe", &["readers"], "list", "a"));
        index.put_binding(&binding("", "all", "ClusterRole", "reader", json!([{"kind": "User", "name": "joe"}])));
        assert!(may(&index, "joe", &[], "list", "a"));
        assert!(!may(&index, "jim", &["readers"], "list", "a"));
        index.remove_binding(&Key { namespace: String::new(), name: "all".into() });
        assert!(!may(&index, "joe", &[], "list", "a"));
        index.remove_role(&Key { namespace: "a".into(), name: "writer".into() });
        assert!(!may(&index, "jane", &[], "create", "a"));
    }
}
