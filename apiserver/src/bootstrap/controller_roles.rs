//! The roles of Kubernetes' controllers, each held by the service account of its name in `kube-system`.
//!
//! k8w's own controllers share `system:kube-controller-manager`; these are for controllers that run beside it, and for
//! tools that look for them.

use k8w_kinds::core::service_account_token::TRACKING;

use super::roles::Grant::{self, Events, Named, On};
use super::roles::READ;

/// What names of these roles begin with; the service account's name follows.
pub const PREFIX: &str = "system:controller:";

const READ_UPDATE: &str = "get list update watch";
const LIST_WATCH: &str = "list watch";

/// The controller, and what it may do.
pub const ROLES: &[(&str, &[Grant])] = &[
    (
        "attachdetach-controller",
        &[
            On(LIST_WATCH, "", "persistentvolumeclaims persistentvolumes pods"),
            On(READ, "", "nodes"),
            On("patch update", "", "nodes/status"),
            On("create delete get list watch", "storage.k8s.io", "volumeattachments"),
            On(READ, "storage.k8s.io", "csidrivers csinodes"),
            Events,
        ],
    ),
    (
        "certificate-controller",
        &[
            On("delete get list watch", "certificates.k8s.io", "certificatesigningrequests"),
            On(
                "update",
                "certificates.k8s.io",
                "certificatesigningrequests/approval certificatesigningrequests/status",
            ),
            Named("approve", "certificates.k8s.io", "signers", "kubernetes.io/kube-apiserver-client-kubelet"),
            Named(
                "sign",
                "certificates.k8s.io",
                "signers",
                "kubernetes.io/kube-apiserver-client kubernetes.io/kube-apiserver-client-kubelet \
                 kubernetes.io/kubelet-serving kubernetes.io/legacy-unknown",
            ),
            On("create", "authorization.k8s.io", "subjectaccessreviews"),
            Events,
        ],
    ),
    (
        "clusterrole-aggregation-controller",
        &[On("escalate get list patch update watch", "rbac.authorization.k8s.io", "clusterroles")],
    ),
    (
        "cronjob-controller",
        &[
            On(READ_UPDATE, "batch", "cronjobs"),
            On("create delete get list patch update watch", "batch", "jobs"),
            On("update", "batch", "cronjobs/finalizers cronjobs/status"),
            On("delete list watch", "", "pods"),
            Events,
        ],
    ),
    (
        "daemon-set-controller",
        &[
            On(READ, "apps", "daemonsets"),
            On("update", "apps", "daemonsets/finalizers daemonsets/status"),
            On(READ, "extensions", "daemonsets"),
            On("update", "extensions", "daemonsets/finalizers daemonsets/status"),
            On(LIST_WATCH, "", "nodes"),
            On("create delete list patch watch", "", "pods"),
            On("create", "", "pods/binding"),
            On("create delete get list patch update watch", "apps", "controllerrevisions"),
            Events,
        ],
    ),
    (
        "deployment-controller",
        &[
            On(READ_UPDATE, "apps", "deployments"),
            On("update", "apps", "deployments/finalizers deployments/status"),
            On("create delete get list patch update watch", "apps", "replicasets"),
            On(READ_UPDATE, "extensions", "deployments"),
            On("update", "extensions", "deployments/finalizers deployments/status"),
            On("create delete get list patch update watch", "extensions", "replicasets"),
            On(READ_UPDATE, "", "pods"),
            Events,
        ],
    ),
    (
        "device-taint-eviction-controller",
        &[
            On("delete get list watch", "", "pods"),
            On("patch update", "", "pods/status"),
            On(READ, "resource.k8s.io", "deviceclasses devicetaintrules resourceclaims resourceslices"),
            Events,
        ],
    ),
    (
        "disruption-controller",
        &[
            On(READ, "apps", "deployments replicasets statefulsets"),
            On(READ, "extensions", "deployments replicasets"),
            On(READ, "", "replicationcontrollers"),
            On(READ, "policy", "poddisruptionbudgets"),
            On("update", "policy", "poddisruptionbudgets/status"),
            On("patch update", "", "pods/status"),
            On("get", "*", "*/scale"),
            Events,
        ],
    ),
    (
        "endpoint-controller",
        &[
            On(READ, "", "pods services"),
            On("create delete get list update watch", "", "endpoints"),
            On("create", "", "endpoints/restricted"),
            Events,
        ],
    ),
    (
        "endpointslice-controller",
        &[
            On(READ, "", "nodes pods services"),
            On("update", "", "services/finalizers"),
            On("create delete get list update watch", "discovery.k8s.io", "endpointslices"),
            Events,
        ],
    ),
    (
        "endpointslicemirroring-controller",
        &[
            On(READ, "", "endpoints services"),
            On("update", "", "endpoints/finalizers services/finalizers"),
            On("create delete get list update watch", "discovery.k8s.io", "endpointslices"),
            Events,
        ],
    ),
    (
        "ephemeral-volume-controller",
        &[
            On(READ, "", "pods"),
            On("update", "", "pods/finalizers"),
            On("create get list watch", "", "persistentvolumeclaims"),
            Events,
        ],
    ),
    (
        "expand-controller",
        &[
            On("get list patch update watch", "", "persistentvolumes"),
            On("patch update", "", "persistentvolumeclaims/status"),
            On(READ, "", "persistentvolumeclaims"),
            On("get", "", "services"),
            Events,
        ],
    ),
    ("generic-garbage-collector", &[On("delete get list patch update watch", "*", "*"), Events]),
    (
        "horizontal-pod-autoscaler",
        &[
            On(READ, "autoscaling", "horizontalpodautoscalers"),
            On("update", "autoscaling", "horizontalpodautoscalers/status"),
            On("get update", "*", "*/scale"),
            On(LIST_WATCH, "", "pods"),
            On(LIST_WATCH, "metrics.k8s.io", "pods"),
            On(READ, "custom.metrics.k8s.io", "*"),
            On(READ, "external.metrics.k8s.io", "*"),
            Events,
        ],
    ),
    (
        "job-controller",
        &[
            On("get list patch update watch", "batch", "jobs"),
            On("update", "batch", "jobs/finalizers jobs/status"),
            On("create delete list patch watch", "", "pods"),
            Events,
        ],
    ),
    (
        "legacy-service-account-token-cleaner",
        &[Named("get", "", "configmaps", TRACKING), On("delete patch", "", "secrets")],
    ),
    (
        "namespace-controller",
        &[
            On("delete get list watch", "", "namespaces"),
            On("update", "", "namespaces/finalize namespaces/status"),
            On("delete deletecollection get list watch", "*", "*"),
        ],
    ),
    (
        "node-controller",
        &[
            On("delete get list patch update watch", "", "nodes"),
            On("patch update", "", "nodes/status pods/status"),
            On("delete get list watch", "", "pods"),
            Events,
        ],
    ),
    (
        "persistent-volume-binder",
        &[
            On("create delete get list update watch", "", "persistentvolumes"),
            On("update", "", "persistentvolumeclaims/status persistentvolumes/status"),
            On(READ_UPDATE, "", "persistentvolumeclaims"),
            On("create delete get list watch", "", "pods"),
            On(READ, "storage.k8s.io", "storageclasses"),
            On(LIST_WATCH, "", "nodes"),
            On("watch", "", "events"),
            On("get", "", "services"),
            Events,
        ],
    ),
    (
        "pod-garbage-collector",
        &[On("delete list watch", "", "pods"), On(READ, "", "nodes"), On("patch", "", "pods/status")],
    ),
    ("pv-protection-controller", &[On(READ_UPDATE, "", "persistentvolumes"), Events]),
    ("pvc-protection-controller", &[On(READ_UPDATE, "", "persistentvolumeclaims"), On(READ, "", "pods"), Events]),
    (
        "replicaset-controller",
        &[
            On(READ_UPDATE, "apps", "replicasets"),
            On("update", "apps", "replicasets/finalizers replicasets/status"),
            On(READ_UPDATE, "extensions", "replicasets"),
            On("update", "extensions", "replicasets/finalizers replicasets/status"),
            On("create delete list patch watch", "", "pods"),
            Events,
        ],
    ),
    (
        "replication-controller",
        &[
            On(READ_UPDATE, "", "replicationcontrollers"),
            On("update", "", "replicationcontrollers/finalizers replicationcontrollers/status"),
            On("create delete list patch watch", "", "pods"),
            Events,
        ],
    ),
    (
        "resource-claim-controller",
        &[
            On(READ, "", "pods"),
            On("update", "", "pods/finalizers"),
            On("create delete get list watch", "resource.k8s.io", "resourceclaims"),
            On("patch update", "resource.k8s.io", "resourceclaims resourceclaims/status"),
            On("patch update", "", "pods/status"),
            Events,
        ],
    ),
    ("resourcequota-controller", &[On(LIST_WATCH, "*", "*"), On("update", "", "resourcequotas/status"), Events]),
    ("root-ca-cert-publisher", &[On("create update", "", "configmaps"), Events]),
    ("route-controller", &[On(LIST_WATCH, "", "nodes"), On("patch", "", "nodes/status"), Events]),
    (
        "selinux-warning-controller",
        &[
            On(READ, "", "persistentvolumeclaims persistentvolumes pods"),
            On(READ, "storage.k8s.io", "csidrivers"),
            Events,
        ],
    ),
    ("service-account-controller", &[On("create", "", "serviceaccounts"), Events]),
    (
        "service-cidrs-controller",
        &[
            On("get list patch update watch", "networking.k8s.io", "servicecidrs"),
            On("patch update", "networking.k8s.io", "servicecidrs/finalizers servicecidrs/status"),
            On(READ, "networking.k8s.io", "ipaddresses"),
            Events,
        ],
    ),
    (
        "service-controller",
        &[On(READ, "", "services"), On("patch update", "", "services/status"), On(LIST_WATCH, "", "nodes"), Events],
    ),
    (
        "statefulset-controller",
        &[
            On("create delete get list patch update watch", "", "pods"),
            On(READ, "apps", "statefulsets"),
            On("update", "apps", "statefulsets/finalizers statefulsets/status"),
            On("create delete get list patch update watch", "apps", "controllerrevisions"),
            On("create delete get list update watch", "", "persistentvolumeclaims"),
            On("update", "", "pods/finalizers"),
            Events,
        ],
    ),
    ("ttl-after-finished-controller", &[On("delete get list watch", "batch", "jobs"), Events]),
    ("ttl-controller", &[On("list patch update watch", "", "nodes"), Events]),
    (
        "validatingadmissionpolicy-status-controller",
        &[
            On(READ, "admissionregistration.k8s.io", "validatingadmissionpolicies"),
            On("get patch update", "admissionregistration.k8s.io", "validatingadmissionpolicies/status"),
            Events,
        ],
    ),
    (
        "volumeattributesclass-protection-controller",
        &[
            On(READ, "", "persistentvolumeclaims persistentvolumes"),
            On(READ_UPDATE, "storage.k8s.io", "volumeattributesclasses"),
            Events,
        ],
    ),
];
