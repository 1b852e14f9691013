//! The objects beside roles that every cluster has.

use std::net::Ipv4Addr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ipnet::Ipv4Net;
use jiff::Timestamp;
use k8w_kinds::core::bootstrap_token::{CLUSTER_INFO, CLUSTER_INFO_NAMESPACE, KUBECONFIG};
use k8w_kinds::core::node::RUNS_WASM;
use k8w_kinds::core::service_account_token::{DAY_FORMAT, TRACKING};
use serde_json::{Value, json};

use crate::config::Config;
use crate::kubernetes_service::{NAME, NAMESPACE};

pub const NAMESPACES: &[&str] = &["default", "kube-system", "kube-public", "kube-node-lease"];

/// Namespaces come first: the others may live in them.
pub fn namespaces() -> Vec<Value> {
    let namespace = |name: &&str| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    NAMESPACES.iter().map(namespace).collect()
}

/// How pods reach the API server, at the first address of the range of Services.
pub fn kubernetes_service(config: &Config, range: Ipv4Net) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": NAME, "namespace": NAMESPACE,
            "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {"type": "ClusterIP", "clusterIP": service_ip(range), "sessionAffinity": "None",
            "ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": config.advertise.port()}]},
    })
}

/// Under which name clients look for cluster DNS, which nodes serve at its address; `None` where the range is too small for
/// that.
pub fn dns_service(range: Ipv4Net) -> Option<Value> {
    // Clients know it by what kubeadm calls it.
    Some(json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": {"k8s-app": "kube-dns",
            "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS"}},
        "spec": {"type": "ClusterIP", "clusterIP": range.hosts().nth(9)?, "ports": [
            {"name": "dns", "protocol": "UDP", "port": 53, "targetPort": 53},
            {"name": "dns-tcp", "protocol": "TCP", "port": 53, "targetPort": 53},
        ]},
    }))
}

fn service_ip(range: Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(range.network()).saturating_add(1))
}

/// Since when Secrets say when their tokens were last used.
pub fn token_tracking(now: Timestamp) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": TRACKING, "namespace": "kube-system"},
        "data": {"since": now.strftime(DAY_FORMAT).to_string()},
    })
}

/// What servers that extend the API need to know clients by ("Configure the Aggregation Layer" in the Kubernetes
/// documentation); `None` when clients have no certificates.
pub fn authentication(config: &Config) -> Option<Value> {
    let ca_pem = config.client_ca_pem.as_deref()?;
    let client_cas = [ca_pem, &config.client_cas.pem()].concat();
    let mut data = json!({"client-ca-file": client_cas});
    if !config.request_header_names.is_empty() {
        let list = |names: &[&str]| Value::from(json!(names).to_string());
        data["requestheader-client-ca-file"] = ca_pem.into();
        data["requestheader-allowed-names"] = json!(config.request_header_names).to_string().into();
        data["requestheader-username-headers"] = list(&["X-Remote-User"]);
        data["requestheader-uid-headers"] = list(&["X-Remote-Uid"]);
        data["requestheader-group-headers"] = list(&["X-Remote-Group"]);
        data["requestheader-extra-headers-prefix"] = list(&["X-Remote-Extra-"]);
    }
    let metadata = json!({"name": "extension-apiserver-authentication", "namespace": "kube-system"});
    Some(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}))
}

/// What nodes are told of the cluster's network; Services are in `range`.
pub fn network(config: &Config, range: Ipv4Net) -> Value {
    let data = json!({"clusterDomain": config.cluster_domain, "serviceCIDR": range.to_string(),
        "wasmCIDR": config.wasm_cidr.to_string()});
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "k8w-network", "namespace": "kube-system"}, "data": data})
}

/// What machines that want to join learn of the cluster, as kubeadm publishes it: where the API server is, and the CA that
/// signed its certificate. Bootstrap tokens sign it.
pub fn cluster_info(config: &Config) -> Option<Value> {
    let ca = STANDARD.encode(config.client_ca_pem.as_deref()?);
    let kubeconfig = format!(
        "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: {ca}\n    server: https://{}\n  name: \"\"\n\
         contexts: null\ncurrent-context: \"\"\nkind: Config\npreferences: {{}}\nusers: null\n",
        config.advertise
    );
    let metadata = json!({"name": CLUSTER_INFO, "namespace": CLUSTER_INFO_NAMESPACE});
    Some(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {KUBECONFIG: kubeconfig}}))
}

/// Classes that k8w itself implements, and Kubernetes' two built-in priorities.
pub fn classes() -> Vec<Value> {
    let priority = |name: &str, value: i64, description: &str| {
        json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name},
            "value": value, "description": description})
    };
    vec![
        json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "wasmtime"},
            "handler": "wasmtime", "scheduling": {"nodeSelector": {RUNS_WASM: "true"}}}),
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "spec": {"controller": "k8w.dev/ingress"},
            "metadata": {"name": "k8w", "annotations": {"ingressclass.kubernetes.io/is-default-class": "true"}}}),
        priority(
            "system-cluster-critical",
            2_000_000_000,
            "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
        ),
        priority(
            "system-node-critical",
            2_000_001_000,
            "Used for system critical pods that must not be moved from their current node.",
        ),
    ]
}
