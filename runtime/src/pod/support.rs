//! What a wasm pod may not ask for on this node: THE table. What is in it is refused by name, so that nothing a
//! manifest says is parsed and then ignored.
//!
//! What `securityContext` may not ask for is in a table of its own ([`security_context`]). What is in neither and not honoured is
//! harmless, because a guest has no kernel to apply it to: `hostUsers`, and UDP `ports` (which only document).
//!
//! To support something: remove its row.

use std::net::IpAddr;

use k8s_openapi::api::core::v1 as core;

use super::{names, security_context};

type PodRule = (&'static str, fn(&core::PodSpec) -> bool);
type ContainerRule = (&'static str, fn(&core::Container) -> bool);

const POD: &[PodRule] = &[
    ("spec.hostNetwork", |spec| spec.host_network == Some(true)),
    ("spec.hostPID", |spec| spec.host_pid == Some(true)),
    ("spec.hostIPC", |spec| spec.host_ipc == Some(true)),
    (
        "spec.dnsConfig.options other than ndots, timeout, attempts, rotate, use-vc, no-aaaa, edns0, single-request(-reopen), trust-ad",
        |spec| names::options(spec).any(|(name, _)| !names::OPTIONS.contains(&name)),
    ),
    ("spec.resourceClaims", |spec| spec.resource_claims.iter().flatten().next().is_some()),
];

const CONTAINER: &[ContainerRule] = &[
    ("volumeDevices", |container| container.volume_devices.iter().flatten().next().is_some()),
    ("ports.hostIP that is no address", |container| {
        let mut ips = container.ports.iter().flatten().filter_map(|port| port.host_ip.as_deref());
        ips.any(|ip| !ip.is_empty() && ip.parse::<IpAddr>().is_err())
    }),
    ("ports.protocol SCTP", |container| {
        container.ports.iter().flatten().any(|port| port.protocol.as_deref() == Some("SCTP"))
    }),
    ("resources.claims", |container| {
        let claims = container.resources.as_ref().and_then(|resources| resources.claims.as_ref());
        claims.is_some_and(|claims| !claims.is_empty())
    }),
    ("lifecycle.stopSignal", |container| {
        container.lifecycle.as_ref().is_some_and(|lifecycle| lifecycle.stop_signal.is_some())
    }),
    ("volumeMounts.mountPropagation", |container| {
        let mut mounts = container.volume_mounts.iter().flatten();
        mounts.any(|mount| mount.mount_propagation.as_deref().is_some_and(|mode| mode != "None"))
    }),
    ("volumeMounts.recursiveReadOnly Enabled", |container| {
        let mut mounts = container.volume_mounts.iter().flatten();
        mounts.any(|mount| mount.recursive_read_only.as_deref() == Some("Enabled"))
    }),
];

/// The sentence that refuses a container, naming everything that it asks for in vain; `None` when it may run.
pub fn refusal(spec: &core::PodSpec, container: &core::Container) -> Option<String> {
    let pod = POD.iter().filter(|(_, asks)| asks(spec)).map(|(name, _)| (*name).to_owned());
    let own = CONTAINER.iter().filter(|(_, asks)| asks(container)).map(|(name, _)| (*name).to_owned());
    let refused: Vec<String> = pod.chain(security_context::refused(spec, container)).chain(own).collect();
    (!refused.is_empty()).then(|| format!("wasm pods do not support {}", refused.join(", ")))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::{Value, json};

    use super::*;

    fn check(spec: Value) -> Option<String> {
        let spec: core::PodSpec = serde_json::from_value(spec).unwrap();
        refusal(&spec, &spec.containers[0])
    }

    #[test]
    fn ordinary_pods_pass() {
        let spec = json!({ "dnsPolicy": "ClusterFirst", "hostNetwork": false, "securityContext": { "runAsNonRoot": true },
            "shareProcessNamespace": true,
            "containers": [{ "name": "c", "ports": [{ "containerPort": 80 }],
                "terminationMessagePath": "/dev/termination-log",
                "securityContext": { "capabilities": { "add": ["SYS_PTRACE"], "drop": ["ALL"] } },
                "lifecycle": { "postStart": { "exec": { "command": ["x"] } } },
                "readinessProbe": { "grpc": { "port": 80 } },
                "livenessProbe": { "httpGet": { "port": 80 } } }] });
        assert_eq!(check(spec), None);
    }

    #[test]
    fn everything_refused_is_named() {
        let spec = json!({ "hostPID": true, "dnsConfig": { "nameservers": ["1.2.3.4"], "options": [{ "name": "debug" }] },
            "containers": [{ "name": "c", "stdin": true, "tty": true, "securityContext": { "privileged": true },
                "ports": [{ "containerPort": 80, "hostPort": 80, "hostIP": "127.0.0.l" }],
                "volumeMounts": [{ "name": "v", "mountPath": "/v", "mountPropagation": "Bidirectional" }] }] });
        expect!["wasm pods do not support spec.hostPID, spec.dnsConfig.options other than ndots, timeout, attempts, rotate, use-vc, no-aaaa, edns0, single-request(-reopen), trust-ad, securityContext.privileged (a component has nothing of its node but what its manifest mounts), ports.hostIP that is no address, volumeMounts.mountPropagation"]
            .assert_eq(&check(spec).unwrap());
    }

    /// Each row of the table, by a pod that asks for it.
    #[test]
    fn each_row_has_a_pod_that_asks_for_it() {
        let pods = [
            json!({ "hostNetwork": true }),
            json!({ "hostPID": true }),
            json!({ "hostIPC": true }),
            json!({ "dnsConfig": { "options": [{ "name": "debug" }] } }),
            json!({ "resourceClaims": [{ "name": "r" }] }),
        ];
        let containers = [
            json!({ "volumeDevices": [{ "name": "v", "devicePath": "/dev/v" }] }),
            json!({ "ports": [{ "containerPort": 80, "hostIP": "x" }] }),
            json!({ "ports": [{ "containerPort": 80, "protocol": "SCTP" }] }),
            json!({ "resources": { "claims": [{ "name": "r" }] } }),
            json!({ "lifecycle": { "stopSignal": "SIGTERM" } }),
            json!({ "volumeMounts": [{ "name": "v", "mountPath": "/v", "mountPropagation": "Bidirectional" }] }),
            json!({ "volumeMounts": [{ "name": "v", "mountPath": "/v", "recursiveReadOnly": "Enabled" }] }),
        ];
        let named = |mut spec: Value, mut container: Value| {
            container["name"] = json!("c");
            spec["containers"] = json!([container]);
            check(spec).unwrap()
        };
        let refused = pods.into_iter().map(|spec| named(spec, json!({})));
        let refused = refused.chain(containers.into_iter().map(|container| named(json!({}), container)));
        let rows = POD.iter().map(|(name, _)| *name).chain(CONTAINER.iter().map(|(name, _)| *name));
        let expected: Vec<String> = rows.map(|name| format!("wasm pods do not support {name}")).collect();
        assert_eq!(refused.collect::<Vec<_>>(), expected);
    }
}
