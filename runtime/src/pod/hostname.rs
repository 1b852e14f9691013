//! What a pod is called, and the files that say so (<https://kubernetes.io/docs/concepts/workloads/pods/pod-hostname/>).

use std::net::IpAddr;

use k8s_openapi::api::core::v1 as core;
use kube::ResourceExt;

use crate::engine::Hostname;

/// Longest host name with its domain that a kernel takes, and so the kubelet.
const MAX_FQDN_BYTES: usize = 64;

/// The host name does not fit: `FailedCreatePodSandBox`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "Failed to construct FQDN from pod hostname and cluster domain, FQDN {fqdn} is too long ({MAX_FQDN_BYTES} \
     characters is the max, {} characters requested)",
    fqdn.len()
)]
pub struct TooLong {
    fqdn: String,
}

/// What the manifest says of the pod's name.
pub fn of(spec: &core::PodSpec) -> Hostname {
    if let Some(given) = spec.hostname_override.clone() {
        return Hostname { name: Some(given), subdomain: None };
    }
    let said = |name: &Option<String>| name.clone().filter(|name| !name.is_empty());
    Hostname { name: said(&spec.hostname), subdomain: said(&spec.subdomain) }
}

/// The pod's own name, and the domain that its subdomain gives it.
fn parts(pod: &core::Pod, cluster_domain: &str) -> (String, Option<String>) {
    let hostname = pod.spec.as_ref().map(of).unwrap_or_default();
    hostname.of_pod(&pod.name_any(), &pod.namespace().unwrap_or_default(), cluster_domain)
}

/// What the pod calls itself.
///
/// # Errors
/// When it wants to be called by its full name and that is too long.
pub fn hostname(pod: &core::Pod, cluster_domain: &str) -> Result<String, TooLong> {
    let wants_fqdn = pod.spec.as_ref().and_then(|spec| spec.set_hostname_as_fqdn) == Some(true);
    match parts(pod, cluster_domain) {
        (name, Some(domain)) if wants_fqdn => {
            let fqdn = format!("{name}.{domain}");
            if fqdn.len() > MAX_FQDN_BYTES { Err(TooLong { fqdn }) } else { Ok(fqdn) }
        }
        (name, _) => Ok(name),
    }
}

/// `/etc/hosts`: the kubelet's own entries, the pod's, and its `hostAliases`.
pub fn hosts_file(pod: &core::Pod, cluster_domain: &str, ip: IpAddr) -> String {
    let mut text = "# Kubernetes-managed hosts file.\n".to_owned();
    text += "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n";
    text += "fe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n";
    text += &match parts(pod, cluster_domain) {
        (name, Some(domain)) => format!("{ip}\t{name}.{domain}\t{name}\n"),
        (name, None) => format!("{ip}\t{name}\n"),
    };
    let mut aliases = pod.spec.iter().flat_map(|spec| spec.host_aliases.iter().flatten()).peekable();
    if aliases.peek().is_some() {
        text += "\n# Entries added by HostAliases.\n";
    }
    for alias in aliases {
        text +=
            &format!("{}\t{}\n", alias.ip, alias.hostnames.iter().flatten().cloned().collect::<Vec<_>>().join("\t"));
    }
    text
}

/// Whether the manifest says something about the pod's names.
pub fn is_said(spec: &core::PodSpec) -> bool {
    let names = [&spec.hostname, &spec.subdomain, &spec.hostname_override];
    names.into_iter().any(Option::is_some) || spec.host_aliases.iter().flatten().next().is_some()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::{Value, json};

    use super::*;

    fn pod(name: &str, spec: Value) -> core::Pod {
        serde_json::from_value(json!({ "metadata": { "name": name, "namespace": "ns" }, "spec": spec })).unwrap()
    }

    #[test]
    fn a_pod_is_called_as_its_manifest_says() {
        let called = |name: &str, mut spec: Value| {
            spec["containers"] = json!([]);
            hostname(&pod(name, spec), "cluster.local").map_err(|error| error.to_string())
        };
        assert_eq!(called("web-0", json!({})).unwrap(), "web-0");
        assert_eq!(called(&format!("{}-x", "a".repeat(62)), json!({})).unwrap(), "a".repeat(62));
        assert_eq!(called("p", json!({ "hostname": "h", "subdomain": "sub" })).unwrap(), "h");
        let full = json!({ "hostname": "h", "subdomain": "sub", "setHostnameAsFQDN": true });
        assert_eq!(called("p", full.clone()).unwrap(), "h.sub.ns.svc.cluster.local");
        assert_eq!(called("p", json!({ "setHostnameAsFQDN": true })).unwrap(), "p");
        let mut long = full;
        long["hostname"] = json!("a".repeat(40));
        expect!["Failed to construct FQDN from pod hostname and cluster domain, FQDN aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.sub.ns.svc.cluster.local is too long (64 characters is the max, 65 characters requested)"]
            .assert_eq(&called("p", long).unwrap_err());
    }

    #[test]
    fn hosts_name_the_pod_and_its_aliases() {
        let spec = json!({ "containers": [], "hostname": "h", "subdomain": "sub", "hostAliases": [
            { "ip": "10.1.2.3", "hostnames": ["foo", "foo.example"] }, { "ip": "10.1.2.4", "hostnames": ["bar"] }] });
        expect![[r#"
            # Kubernetes-managed hosts file.
            127.0.0.1	localhost
            ::1	localhost ip6-localhost ip6-loopback
            fe00::0	ip6-localnet
            fe00::0	ip6-mcastprefix
            fe00::1	ip6-allnodes
            fe00::2	ip6-allrouters
            10.64.0.2	h.sub.ns.svc.cluster.local	h

            # Entries added by HostAliases.
            10.1.2.3	foo	foo.example
            10.1.2.4	bar
        "#]]
        .assert_eq(&hosts_file(&pod("p", spec), "cluster.local", "10.64.0.2".parse().unwrap()));
    }
}
