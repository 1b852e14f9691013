//! The roles that every cluster has, and who holds them ("Default roles and role bindings" in the Kubernetes documentation).
//!
//! One row a role. Lists are words separated by spaces; the group `""` is the core group.

use k8w_kinds::machine_code::PATH as MACHINE_CODE;
use serde_json::{Value, json};

use super::controller_roles;
use crate::authz::rbac::GROUP;
use crate::authz::rbac::rule::Rule;

use Grant::{Events, Named, On, Urls};

/// Says that we look after an object, and that its missing permissions come back at the next start.
const LABEL: &str = "kubernetes.io/bootstrapping";
const LABEL_VALUE: &str = "rbac-defaults";
pub const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

pub const READ: &str = "get list watch";
const WRITE: &str = "create delete deletecollection patch update";
const READ_WRITE: &str = "create delete deletecollection get list patch update watch";

/// Who may join the cluster as a node: whose bootstrap token says so, as kubeadm makes them.
const JOINING: &str = "group:system:bootstrappers:kubeadm:default-node-token";

/// A few permissions.
pub enum Grant {
    /// Recording events, in both spellings.
    Events,
    /// Verbs, API group, resources.
    On(&'static str, &'static str, &'static str),
    /// Verbs, API group, resources, object names.
    Named(&'static str, &'static str, &'static str, &'static str),
    /// Verbs, paths.
    Urls(&'static str, &'static str),
}

struct Role {
    name: &'static str,
    /// The aggregated role that this one is a part of: `admin`, `edit`, `view` or nothing.
    part_of: &'static str,
    grants: &'static [Grant],
    /// Users, groups and service accounts, as [`subject`] reads them.
    subjects: &'static [&'static str],
}

const fn role(name: &'static str, subjects: &'static [&'static str], grants: &'static [Grant]) -> Role {
    Role { name, part_of: "", grants, subjects }
}

const fn part(name: &'static str, part_of: &'static str, grants: &'static [Grant]) -> Role {
    Role { name, part_of, grants, subjects: &[] }
}

/// Roles that collect the rules of their parts, and of every user's own role labelled like them. Each contains the next.
/// The parts stand in the order in which the controller that sums them up takes them.
const AGGREGATED: &[(&str, &[&str])] =
    &[("admin", &["edit", "view", "admin"]), ("edit", &["edit", "view"]), ("view", &["view"])];

const ROLES: &[Role] = &[
    role("cluster-admin", &["group:system:masters"], &[On("*", "*", "*"), Urls("*", "*")]),
    role(
        "system:discovery",
        &["group:system:authenticated"],
        &[Urls("get", "/livez /readyz /healthz /version /version/ /openapi /openapi/* /api /api/* /apis /apis/*")],
    ),
    role(
        "system:basic-user",
        &["group:system:authenticated"],
        &[
            On("create", "authorization.k8s.io", "selfsubjectaccessreviews selfsubjectrulesreviews"),
            On("create", "authentication.k8s.io", "selfsubjectreviews"),
        ],
    ),
    // Kubernetes lets anonymous requests ask for the version too.
    role("system:health-viewer", &["group:system:unauthenticated"], &[Urls("get", "/livez /readyz /healthz")]),
    role(
        "system:public-info-viewer",
        &["group:system:authenticated"],
        &[Urls("get", "/livez /readyz /healthz /version /version/")],
    ),
    role(
        "system:monitoring",
        &["group:system:monitoring"],
        &[Urls("get", "/metrics /metrics/slis /livez /readyz /healthz /livez/* /readyz/* /healthz/*")],
    ),
    role(
        "system:service-account-issuer-discovery",
        &["group:system:serviceaccounts"],
        &[Urls(
            "get",
            "/.well-known/openid-configuration /.well-known/openid-configuration/ /openid/v1/jwks /openid/v1/jwks/",
        )],
    ),
    part("system:aggregate-to-admin", "admin", ADMIN),
    part("system:aggregate-to-edit", "edit", EDIT),
    part("system:aggregate-to-view", "view", VIEW),
    role(
        "system:auth-delegator",
        &[],
        &[
            On("create", "authentication.k8s.io", "tokenreviews"),
            On("create", "authorization.k8s.io", "subjectaccessreviews"),
        ],
    ),
    role(
        "system:kubelet-api-admin",
        &[],
        &[
            On(READ, "", "nodes"),
            On("proxy", "", "nodes"),
            On("*", "", "nodes/log nodes/metrics nodes/proxy nodes/stats nodes/configz nodes/healthz nodes/pods"),
        ],
    ),
    // Bound to nobody: what a node may do depends on the pods it runs, which is the Node authorizer's to decide.
    role("system:node", &[], NODE),
    role(
        "system:node-proxier",
        &["system:kube-proxy"],
        &[
            On("list watch", "", "services endpoints"),
            On(READ, "", "nodes"),
            Events,
            On("list watch", "discovery.k8s.io", "endpointslices"),
            On("list watch", "networking.k8s.io", "servicecidrs"),
        ],
    ),
    // The part of a node that routes: it follows what a node's agent must not see. The Secrets of the ingress are the agent's to
    // read, as only the Node authorizer tells them from others.
    role(
        "k8w:network",
        &["k8w:network"],
        &[
            On(READ, "", "services"),
            On("create patch", "", "events"),
            On("list watch", "discovery.k8s.io", "endpointslices"),
            On("list watch", "networking.k8s.io", "ingresses ingressclasses networkpolicies"),
            On("list watch", "", "namespaces nodes pods"),
        ],
    ),
    role("k8w:network-of-node", &["group:system:nodes"], &[Named("impersonate", "", "users", "k8w:network")]),
    // A node that is too small to compile.
    role("k8w:machine-code", &["group:system:nodes"], &[Urls("post", MACHINE_CODE)]),
    role(
        "system:node-bootstrapper",
        &[JOINING],
        &[On("create get list watch", "certificates.k8s.io", "certificatesigningrequests")],
    ),
    // A machine that joins looks whether there is a node of its name.
    role("kubeadm:get-nodes", &[JOINING], &[On("get", "", "nodes")]),
    role(
        "system:persistent-volume-provisioner",
        &[],
        &[
            On("create delete get list watch", "", "persistentvolumes"),
            On("get list update watch", "", "persistentvolumeclaims"),
            On(READ, "storage.k8s.io", "storageclasses"),
            On("watch", "", "events"),
            Events,
        ],
    ),
    role(
        "system:kube-dns",
        &["system:serviceaccount:kube-system:kube-dns"],
        &[On("list watch", "", "endpoints services")],
    ),
    role("system:kube-scheduler", &["system:kube-scheduler"], SCHEDULER),
    role(
        "system:volume-scheduler",
        &["system:kube-scheduler"],
        &[
            On("get list patch update watch", "", "persistentvolumeclaims persistentvolumes"),
            On(READ, "storage.k8s.io", "storageclasses"),
        ],
    ),
    role("system:node-problem-detector", &[], &[On("get", "", "nodes"), On("patch", "", "nodes/status"), Events]),
    role(
        "system:heapster",
        &[],
        &[On(READ, "", "events namespaces nodes pods"), On(READ, "extensions", "deployments")],
    ),
    role(
        "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
        &[JOINING],
        &[On("create", "certificates.k8s.io", "certificatesigningrequests/nodeclient")],
    ),
    role(
        "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
        &["group:system:nodes"],
        &[On("create", "certificates.k8s.io", "certificatesigningrequests/selfnodeclient")],
    ),
    role("system:certificates.k8s.io:kube-apiserver-client-approver", &[], KUBE_APISERVER_CLIENT),
    role("system:certificates.k8s.io:kube-apiserver-client-kubelet-approver", &[], KUBE_APISERVER_CLIENT_KUBELET),
    role("system:certificates.k8s.io:kubelet-serving-approver", &[], KUBELET_SERVING),
    role("system:certificates.k8s.io:legacy-unknown-approver", &[], LEGACY_UNKNOWN),
    role("system:kube-controller-manager", &["system:kube-controller-manager"], CONTROLLERS),
    role("system:kube-aggregator", &[], &[On(READ, "", "endpoints services")]),
];

/// Deciding about certificates of one signer.
const KUBE_APISERVER_CLIENT: &[Grant] =
    &[Named("approve", "certificates.k8s.io", "signers", "kubernetes.io/kube-apiserver-client")];
const KUBE_APISERVER_CLIENT_KUBELET: &[Grant] =
    &[Named("approve", "certificates.k8s.io", "signers", "kubernetes.io/kube-apiserver-client-kubelet")];
const KUBELET_SERVING: &[Grant] =
    &[Named("approve", "certificates.k8s.io", "signers", "kubernetes.io/kubelet-serving")];
const LEGACY_UNKNOWN: &[Grant] = &[Named("approve", "certificates.k8s.io", "signers", "kubernetes.io/legacy-unknown")];

const ADMIN: &[Grant] = &[
    On("create", "authorization.k8s.io", "localsubjectaccessreviews"),
    On(READ_WRITE, "rbac.authorization.k8s.io", "roles rolebindings"),
];

const EDIT: &[Grant] = &[
    On(READ, "", "pods/attach pods/exec pods/portforward pods/proxy secrets services/proxy"),
    On("impersonate", "", "serviceaccounts"),
    On(WRITE, "", "pods pods/attach pods/exec pods/portforward pods/proxy"),
    On("create", "", "pods/eviction"),
    On(
        WRITE,
        "",
        "configmaps events persistentvolumeclaims replicationcontrollers replicationcontrollers/scale secrets \
         serviceaccounts services services/proxy",
    ),
    On("create", "", "serviceaccounts/token"),
    On(
        WRITE,
        "apps",
        "daemonsets deployments deployments/rollback deployments/scale replicasets replicasets/scale statefulsets \
         statefulsets/scale",
    ),
    On(WRITE, "autoscaling", "horizontalpodautoscalers"),
    On(WRITE, "batch", "cronjobs jobs"),
    On(
        WRITE,
        "extensions",
        "daemonsets deployments deployments/rollback deployments/scale ingresses networkpolicies replicasets \
         replicasets/scale replicationcontrollers/scale",
    ),
    On(WRITE, "policy", "poddisruptionbudgets"),
    On(WRITE, "networking.k8s.io", "ingresses networkpolicies"),
    On(READ_WRITE, "coordination.k8s.io", "leases"),
    On(WRITE, "resource.k8s.io", "resourceclaims resourceclaimtemplates"),
];

const VIEW: &[Grant] = &[
    On(
        READ,
        "",
        "configmaps endpoints persistentvolumeclaims persistentvolumeclaims/status pods replicationcontrollers \
         replicationcontrollers/scale serviceaccounts services services/status",
    ),
    On(
        READ,
        "",
        "bindings events limitranges namespaces/status pods/log pods/status replicationcontrollers/status resourcequotas \
         resourcequotas/status",
    ),
    On(READ, "", "namespaces"),
    On(READ, "discovery.k8s.io", "endpointslices"),
    On(
        READ,
        "apps",
        "controllerrevisions daemonsets daemonsets/status deployments deployments/scale deployments/status replicasets \
         replicasets/scale replicasets/status statefulsets statefulsets/scale statefulsets/status",
    ),
    On(READ, "autoscaling", "horizontalpodautoscalers horizontalpodautoscalers/status"),
    On(READ, "batch", "cronjobs cronjobs/status jobs jobs/status"),
    On(
        READ,
        "extensions",
        "daemonsets daemonsets/status deployments deployments/scale deployments/status ingresses ingresses/status \
         networkpolicies replicasets replicasets/scale replicasets/status replicationcontrollers/scale",
    ),
    On(READ, "policy", "poddisruptionbudgets poddisruptionbudgets/status"),
    On(READ, "networking.k8s.io", "ingresses ingresses/status networkpolicies"),
    On(READ, "resource.k8s.io", "resourceclaims resourceclaims/status resourceclaimtemplates"),
];

const NODE: &[Grant] = &[
    On("create", "authentication.k8s.io", "tokenreviews"),
    On("create", "authorization.k8s.io", "localsubjectaccessreviews subjectaccessreviews"),
    On(READ, "", "services"),
    On("create get list watch", "", "nodes"),
    On("patch update", "", "nodes/status"),
    On("patch update", "", "nodes"),
    On("create patch update", "", "events"),
    On(READ, "", "pods"),
    On("create delete", "", "pods"),
    On("patch update", "", "pods/status"),
    On("create", "", "pods/eviction"),
    On(READ, "", "configmaps secrets"),
    On("get", "", "persistentvolumeclaims persistentvolumes"),
    On("get patch update", "", "persistentvolumeclaims/status"),
    On("get", "", "endpoints"),
    On("create get list watch", "certificates.k8s.io", "certificatesigningrequests"),
    On("create", "", "serviceaccounts/token"),
    On("get", "storage.k8s.io", "volumeattachments"),
    On(READ, "storage.k8s.io", "csidrivers"),
    On("create delete get patch update", "storage.k8s.io", "csinodes"),
    On("create delete get patch update", "coordination.k8s.io", "leases"),
    On(READ, "node.k8s.io", "runtimeclasses"),
    On("get", "resource.k8s.io", "resourceclaims"),
    On("deletecollection", "resource.k8s.io", "resourceslices"),
    On("create delete get list patch update watch", "resource.k8s.io", "resourceslices"),
    On(READ, "certificates.k8s.io", "clustertrustbundles"),
    On("get", "", "serviceaccounts"),
];

const SCHEDULER: &[Grant] = &[
    Events,
    On("create", "coordination.k8s.io", "leases"),
    Named("get list update watch", "coordination.k8s.io", "leases", "kube-scheduler"),
    On(READ, "", "nodes"),
    On("delete get list watch", "", "pods"),
    On("create", "", "bindings pods/binding"),
    On("patch update", "", "pods/status"),
    On(READ, "", "namespaces persistentvolumeclaims persistentvolumes replicationcontrollers services"),
    On(READ, "apps", "replicasets statefulsets"),
    On(READ, "extensions", "replicasets"),
    On(READ, "policy", "poddisruptionbudgets"),
    On(READ, "node.k8s.io", "runtimeclasses"),
    On(READ, "storage.k8s.io", "csidrivers csinodes csistoragecapacities storageclasses volumeattachments"),
    On("create", "authentication.k8s.io", "tokenreviews"),
    On("create", "authorization.k8s.io", "subjectaccessreviews"),
    On(READ, "resource.k8s.io", "deviceclasses resourceslices"),
    On("get list patch update watch", "resource.k8s.io", "resourceclaims resourceclaims/status"),
    On("get list patch update watch", "", "pods/finalizers"),
];

/// k8w's controllers share one identity. Reading is unlimited, because the garbage collector follows owners of any kind,
/// and it and the namespace controller delete objects of any kind; what is made and written is listed.
const CONTROLLERS: &[Grant] = &[
    On("delete deletecollection get list patch update watch", "*", "*"),
    On(
        "create",
        "",
        "configmaps endpoints events namespaces nodes persistentvolumeclaims persistentvolumes pods pods/eviction secrets \
         serviceaccounts serviceaccounts/token",
    ),
    On("create", "apps", "controllerrevisions replicasets"),
    On("create", "batch", "jobs"),
    On("create", "coordination.k8s.io", "leases"),
    On("create", "discovery.k8s.io", "endpointslices"),
    On("create", "events.k8s.io", "events"),
    On("create", "networking.k8s.io", "ipaddresses servicecidrs"),
    On("create", "storage.k8s.io", "storageclasses"),
    On("create", "authentication.k8s.io", "tokenreviews"),
    On("create", "authorization.k8s.io", "subjectaccessreviews"),
    Urls("get", "/api /api/* /apis /apis/* /healthz /version /metrics"),
];

impl Grant {
    pub(super) fn rule(&self) -> Rule {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let on = |verbs, group: &str, resources| Rule {
            verbs: words(verbs),
            api_groups: vec![group.to_owned()],
            resources: words(resources),
            ..Rule::default()
        };
        match self {
            Events => Rule {
                api_groups: vec![String::new(), "events.k8s.io".to_owned()],
                ..on("create patch update", "", "events")
            },
            On(verbs, group, resources) => on(verbs, group, resources),
            Named(verbs, group, resources, names) => {
                Rule { resource_names: words(names), ..on(verbs, group, resources) }
            }
            Urls(verbs, urls) => Rule { verbs: words(verbs), non_resource_urls: words(urls), ..Rule::default() },
        }
    }
}

/// The rules of the role `system:node`.
pub fn node_rules() -> Vec<Rule> {
    NODE.iter().map(Grant::rule).collect()
}

/// Every ClusterRole, aggregated ones with the rules that their parts add up to.
pub fn cluster_roles() -> Vec<Value> {
    let single = ROLES.iter().map(|role| {
        let rules: Vec<Rule> = role.grants.iter().map(Grant::rule).collect();
        let mut object = cluster_role(role.name, &rules);
        if !role.part_of.is_empty() {
            object["metadata"]["labels"][aggregation_label(role.part_of)] = "true".into();
        }
        object
    });
    let aggregated = AGGREGATED.iter().map(|(name, parts)| {
        let parts = parts.iter().flat_map(|part| ROLES.iter().filter(move |role| role.part_of == *part));
        let rules: Vec<Rule> = parts.flat_map(|role| role.grants).map(Grant::rule).collect();
        let mut object = cluster_role(name, &rules);
        object["aggregationRule"] =
            json!({"clusterRoleSelectors": [{"matchLabels": {aggregation_label(name): "true"}}]});
        // A user's role that adds to `edit` is meant to add to `admin` too.
        if let Some((larger, _)) = AGGREGATED.iter().rev().skip_while(|(other, _)| other != name).nth(1) {
            object["metadata"]["labels"][aggregation_label(larger)] = "true".into();
        }
        object
    });
    let controllers = controller_roles::ROLES.iter().map(|(name, grants)| {
        let rules: Vec<Rule> = grants.iter().map(Grant::rule).collect();
        cluster_role(&format!("{}{name}", controller_roles::PREFIX), &rules)
    });
    single.chain(aggregated).chain(controllers).collect()
}

/// Every ClusterRoleBinding; it is called like its role.
pub fn cluster_role_bindings() -> Vec<Value> {
    let bound = ROLES.iter().filter(|role| !role.subjects.is_empty() || role.name == "system:node").map(binding);
    let controllers = controller_roles::ROLES.iter().map(|(name, _)| {
        cluster_role_binding(
            &format!("{}{name}", controller_roles::PREFIX),
            vec![subject(&&*format!("account:{name}"))],
        )
    });
    bound.chain(controllers).collect()
}

fn aggregation_label(name: &str) -> String {
    format!("rbac.authorization.k8s.io/aggregate-to-{name}")
}

/// The metadata of what we look after.
pub(super) fn metadata(name: &str) -> Value {
    json!({"name": name, "labels": {LABEL: LABEL_VALUE}, "annotations": {AUTOUPDATE: "true"}})
}

fn cluster_role(name: &str, rules: &[Rule]) -> Value {
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": metadata(name), "rules": rules})
}

/// A subject of a binding: `group:<name>`, `account:<name>` (of `kube-system`), or the name of a user.
pub(super) fn subject(text: &&str) -> Value {
    match text.split_once(':') {
        Some(("group", name)) => json!({"apiGroup": GROUP, "kind": "Group", "name": name}),
        Some(("account", name)) => json!({"kind": "ServiceAccount", "name": name, "namespace": "kube-system"}),
        _ => json!({"apiGroup": GROUP, "kind": "User", "name": text}),
    }
}

fn binding(role: &Role) -> Value {
    cluster_role_binding(role.name, role.subjects.iter().map(subject).collect())
}

/// The binding of a role; it is called like the role.
fn cluster_role_binding(role: &str, subjects: Vec<Value>) -> Value {
    let mut object = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": metadata(role),
        "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": role}});
    if !subjects.is_empty() {
        object["subjects"] = subjects.into();
    }
    object
}
