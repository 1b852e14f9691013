use expect_test::{Expect, expect};
use serde_json::Value;

use super::*;
use crate::registry;
use crate::testing::yaml;

fn level(text: &str) -> LevelVersion {
    let (level, minor) = text.split_once(':').unwrap_or((text, "36"));
    let level = if level == "baseline" { Level::Baseline } else { Level::Restricted };
    LevelVersion { level, version: Version::Minor(minor.parse().unwrap()) }
}

fn check(at: &str, pod: &str, expected: Expect) {
    let pod = yaml(pod);
    expected.assert_eq(&details(&evaluate(level(at), &Pod::new(&pod))));
}

#[test]
fn violations_of_the_baseline() {
    check(
        "baseline",
        r#"
        metadata: {annotations: {container.apparmor.security.beta.kubernetes.io/a: unconfined}}
        spec:
          hostNetwork: true
          hostPID: true
          securityContext:
            appArmorProfile: {type: Unconfined}
            seccompProfile: {type: Unconfined}
            seLinuxOptions: {type: spc_t, user: u}
            sysctls: [{name: kernel.msgmax}, {name: net.ipv4.tcp_rmem}]
            windowsOptions: {hostProcess: true}
          volumes: [{name: v, hostPath: {path: /}}]
          containers:
          - name: a
            ports: [{hostPort: 80}, {hostPort: 443}]
            livenessProbe: {httpGet: {host: example.com}}
            securityContext: {privileged: true, procMount: Unmasked, capabilities: {add: [NET_RAW, KILL]}}
          - name: b
            securityContext: {privileged: true, seccompProfile: {type: Unconfined}}
        "#,
        expect![[
            r#"forbidden AppArmor profiles (pod and annotation must not set AppArmor profile type to "Unconfined", "container.apparmor.security.beta.kubernetes.io/a="unconfined""), non-default capabilities (container "a" must not include "NET_RAW" in securityContext.capabilities.add), host namespaces (hostNetwork=true, hostPID=true), hostPath volumes (volume "v"), hostPort (container "a" uses hostPorts 443, 80), probe or lifecycle host (container "a" uses probe or lifecycle host "example.com"), privileged (containers "a", "b" must not set securityContext.privileged=true), procMount (container "a" must not set securityContext.procMount to "Unmasked"), seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type "spc_t"; user may not be set), seccompProfile (pod and container "b" must not set securityContext.seccompProfile.type to "Unconfined"), forbidden sysctls (kernel.msgmax), hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)"#
        ]],
    );
}

#[test]
fn what_restricted_adds() {
    let pod = "spec: {volumes: [{name: v, hostPath: {path: /}}, {name: w, nfs: {}}], containers: [{name: a}, {name: b, securityContext: {runAsUser: 0}}]}";
    check(
        "restricted",
        pod,
        expect![[
            r#"allowPrivilegeEscalation != false (containers "a", "b" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (containers "a", "b" must set securityContext.capabilities.drop=["ALL"]), restricted volume types (volumes "v", "w" use restricted volume types "hostPath", "nfs"), runAsNonRoot != true (pod or containers "a", "b" must set securityContext.runAsNonRoot=true), runAsUser=0 (container "b" must not set runAsUser=0), seccompProfile (pod or containers "a", "b" must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")"#
        ]],
    );
    check(
        "restricted:0",
        pod,
        expect![[
            r#"restricted volume types (volumes "v", "w" use restricted volume types "hostPath", "nfs"), runAsNonRoot != true (pod or containers "a", "b" must set securityContext.runAsNonRoot=true)"#
        ]],
    );
}

#[test]
fn versions_differ() {
    let unmasked = "spec: {hostUsers: false, containers: [{name: a, securityContext: {procMount: Unmasked}}]}";
    let refused = r#"procMount (container "a" must not set securityContext.procMount to "Unmasked")"#;
    check(
        "baseline:34",
        unmasked,
        expect![[r#"procMount (container "a" must not set securityContext.procMount to "Unmasked")"#]],
    );
    check("baseline:35", unmasked, expect![""]);
    let violations = evaluate(level("restricted"), &Pod::new(&yaml(unmasked)));
    assert!(details(&violations).contains(refused));
    let host = "spec: {containers: [{name: a, lifecycle: {preStop: {tcpSocket: {host: h}}}}]}";
    check("baseline:33", host, expect![""]);
    assert_ne!(evaluate(level("baseline:99"), &Pod::new(&yaml(host))), []);
    let seccomp = "metadata: {annotations: {seccomp.security.alpha.kubernetes.io/pod: unconfined}}";
    check(
        "baseline:18",
        seccomp,
        expect![[r#"seccompProfile (forbidden annotation seccomp.security.alpha.kubernetes.io/pod="unconfined")"#]],
    );
    check("baseline:19", seccomp, expect![""]);
}

/// Pods that Kubernetes itself lets in or keeps out, where a copy of them is at hand.
#[test]
fn every_reference_case_is_decided_alike() {
    let Ok(data) = std::env::var("K8W_REFERENCE_DATA") else {
        eprintln!("skipped: K8W_REFERENCE_DATA is not set");
        return;
    };
    let kind = registry::by_kind("", "v1", "Pod").unwrap();
    let mut cases = 0;
    for level in ["baseline", "restricted"] {
        for passes in [true, false] {
            let folder = if passes { "pass" } else { "fail" };
            let folder = std::path::Path::new(&data).join("pod-security").join(level).join(folder);
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let mut pod: Value = yaml(&std::fs::read_to_string(&path).unwrap());
                kind.schema().default(&mut pod);
                kind.strategy.default(&mut pod);
                let violations = evaluate(self::level(level), &Pod::new(&pod));
                assert_eq!(violations.is_empty(), passes, "{}: {violations:?}", path.display());
                cases += 1;
            }
        }
    }
    assert!(cases > 0);
}
