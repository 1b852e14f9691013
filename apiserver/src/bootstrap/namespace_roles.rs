//! The Roles that `kube-system` and `kube-public` have in every cluster, and who holds them.

use serde_json::{Value, json};

use super::roles::Grant::{self, Events, Named, On};
use super::roles::{READ, metadata, subject};
use crate::authz::rbac::GROUP;
use crate::authz::rbac::rule::Rule;

struct NamespaceRole {
    namespace: &'static str,
    name: &'static str,
    grants: &'static [Grant],
    /// The binding's name; mostly the role's.
    binding: &'static str,
    /// As [`subject`] reads them.
    subjects: &'static [&'static str],
}

const fn role(
    namespace: &'static str,
    name: &'static str,
    subjects: &'static [&'static str],
    grants: &'static [Grant],
) -> NamespaceRole {
    NamespaceRole { namespace, name, grants, binding: name, subjects }
}

const ROLES: &[NamespaceRole] = &[
    NamespaceRole {
        binding: "system::extension-apiserver-authentication-reader",
        ..role(
            "kube-system",
            "extension-apiserver-authentication-reader",
            &["system:kube-controller-manager", "system:kube-scheduler"],
            &[Named(READ, "", "configmaps", "extension-apiserver-authentication")],
        )
    },
    role(
        "kube-system",
        "system:controller:bootstrap-signer",
        &["account:bootstrap-signer"],
        &[On(READ, "", "secrets")],
    ),
    role(
        "kube-system",
        "system:controller:cloud-provider",
        &["account:cloud-provider"],
        &[On("create get list watch", "", "configmaps")],
    ),
    role(
        "kube-system",
        "system:controller:token-cleaner",
        &["account:token-cleaner"],
        &[On("delete get list watch", "", "secrets"), Events],
    ),
    role(
        "kube-system",
        "system::leader-locking-kube-controller-manager",
        &["system:kube-controller-manager", "account:kube-controller-manager"],
        &[On("watch", "", "configmaps"), Named("get update", "", "configmaps", "kube-controller-manager")],
    ),
    role(
        "kube-system",
        "system::leader-locking-kube-scheduler",
        &["system:kube-scheduler", "account:kube-scheduler"],
        &[On("watch", "", "configmaps"), Named("get update", "", "configmaps", "kube-scheduler")],
    ),
    role(
        "kube-public",
        "system:controller:bootstrap-signer",
        &["account:bootstrap-signer"],
        &[On(READ, "", "configmaps"), Named("update", "", "configmaps", "cluster-info"), Events],
    ),
    // Whoever is to join has nothing but a token, which tells that what it reads is genuine.
    role(
        "kube-public",
        "kubeadm:bootstrap-signer-clusterinfo",
        &["system:anonymous"],
        &[Named("get", "", "configmaps", "cluster-info")],
    ),
    role("kube-system", "k8w:network", &["group:system:nodes"], &[Named("get", "", "configmaps", "k8w-network")]),
];

fn object(kind: &str, namespace: &str, name: &str) -> Value {
    let mut metadata = metadata(name);
    metadata["namespace"] = namespace.into();
    json!({"apiVersion": format!("{GROUP}/v1"), "kind": kind, "metadata": metadata})
}

pub fn roles() -> Vec<Value> {
    let role = |role: &NamespaceRole| {
        let mut object = object("Role", role.namespace, role.name);
        object["rules"] = json!(role.grants.iter().map(Grant::rule).collect::<Vec<Rule>>());
        object
    };
    ROLES.iter().map(role).collect()
}

pub fn role_bindings() -> Vec<Value> {
    let binding = |role: &NamespaceRole| {
        let mut object = object("RoleBinding", role.namespace, role.binding);
        object["roleRef"] = json!({"apiGroup": GROUP, "kind": "Role", "name": role.name});
        object["subjects"] = role.subjects.iter().map(subject).collect();
        object
    };
    ROLES.iter().map(binding).collect()
}
