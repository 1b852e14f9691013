//! What `securityContext` asks of a component (`docs/security-context.md`): charts that lock a pod down run, and what would be
//! believed to hold and does not is refused by name.

use k8w_testkit::eventually;

use crate::{HELLO, hello_pod, sandbox};

/// All that the restricted Pod Security Standard asks for, and all else that it lets a pod say.
#[test]
fn a_pod_of_the_restricted_standard_runs() {
    let t = sandbox();
    let restricted = "pod-security.kubernetes.io/enforce=restricted";
    t.kubectl.ok(&["label", "namespace", &t.namespace, restricted]);
    t.hello_image();
    let refused = t.kubectl.fails_with_input(&["apply", "-f", "-"], &hello_pod("plain", "", ""));
    assert!(refused.contains("violates PodSecurity \"restricted:latest\""), "{refused}");
    let own = "securityContext: {
        allowPrivilegeEscalation: false, appArmorProfile: {type: RuntimeDefault},
        capabilities: {drop: [ALL], add: [NET_BIND_SERVICE]}, privileged: false, procMount: Default,
        readOnlyRootFilesystem: true, runAsGroup: 1001, runAsNonRoot: true, runAsUser: 1001,
        seLinuxOptions: {type: container_t, level: 's0:c1,c2'}, seccompProfile: {type: RuntimeDefault},
        windowsOptions: {hostProcess: false}}";
    let of_pod = "hostUsers: false, hostNetwork: false, hostPID: false, hostIPC: false, securityContext: {
        appArmorProfile: {type: RuntimeDefault}, fsGroup: 1001, fsGroupChangePolicy: OnRootMismatch, runAsGroup: 1001,
        runAsNonRoot: true, runAsUser: 1001, seLinuxChangePolicy: Recursive,
        seLinuxOptions: {type: container_t, level: 's0:c1,c2'}, seccompProfile: {type: RuntimeDefault},
        supplementalGroups: [1002], supplementalGroupsPolicy: Merge, windowsOptions: {hostProcess: false},
        sysctls: [{name: net.ipv4.ip_unprivileged_port_start, value: '0'}]},
      terminationGracePeriodSeconds: 1, volumes: [{name: data, emptyDir: {}}]";
    let cli = t.cli_image();
    let init = format!("initContainers: [{{name: first, image: '{cli}', {own}}}]");
    let container = format!("{own}, volumeMounts: [{{name: data, mountPath: /data}}]");
    t.kubectl.apply(&hello_pod("restricted", &format!("{of_pod}, {init}"), &container));
    t.kubectl.ok(&["wait", "--for=condition=Ready", "pod/restricted", "--timeout=60s"]);
    // A group's volume can be written to by whoever mounts it.
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "written").unwrap();
    t.kubectl.ok(&["cp", file.path().to_str().unwrap(), "restricted:/data/file"]);
    assert_eq!(t.kubectl.ok(&["exec", "restricted", "--", "cat", "/data/file"]), "written");
}

#[test]
fn what_a_component_cannot_be_given_is_refused_by_name() {
    let t = sandbox();
    t.hello_image();
    let no_profile = "(no profile is loaded for a component)";
    let no_label = "(a component has no label that a policy could speak of)";
    let no_windows = "(this node is no Windows)";
    let cases = [
        (
            "seccomp",
            "",
            "seccompProfile: {type: Localhost, localhostProfile: mine.json}",
            "securityContext.seccompProfile Localhost",
            no_profile,
        ),
        (
            "seccomp-of-pod",
            "seccompProfile: {type: Localhost, localhostProfile: mine.json}",
            "",
            "spec.securityContext.seccompProfile Localhost",
            no_profile,
        ),
        (
            "app-armor",
            "",
            "appArmorProfile: {type: Localhost, localhostProfile: mine}",
            "securityContext.appArmorProfile Localhost",
            no_profile,
        ),
        (
            "app-armor-of-pod",
            "appArmorProfile: {type: Localhost, localhostProfile: mine}",
            "",
            "spec.securityContext.appArmorProfile Localhost",
            no_profile,
        ),
        (
            "se-linux",
            "",
            "seLinuxOptions: {type: mine_t, level: s0}",
            "securityContext.seLinuxOptions.type mine_t",
            no_label,
        ),
        (
            "se-linux-of-pod",
            "seLinuxOptions: {user: system_u}",
            "",
            "spec.securityContext.seLinuxOptions.user system_u",
            no_label,
        ),
        ("proc", "", "procMount: Unmasked", "securityContext.procMount Unmasked", "(a component has no /proc)"),
        (
            "windows",
            "",
            "windowsOptions: {runAsUserName: ContainerUser}",
            "securityContext.windowsOptions.runAsUserName",
            no_windows,
        ),
        (
            "windows-of-pod",
            "windowsOptions: {gmsaCredentialSpecName: mine}",
            "",
            "spec.securityContext.windowsOptions.gmsaCredentialSpecName",
            no_windows,
        ),
        (
            "privileged",
            "",
            "privileged: true",
            "securityContext.privileged",
            "(a component has nothing of its node but what its manifest mounts)",
        ),
        (
            "capable",
            "",
            "capabilities: {drop: [ALL], add: [NET_BIND_SERVICE, CHOWN]}",
            "securityContext.capabilities.add CHOWN",
            "(a component can be given none)",
        ),
        (
            "sysctl",
            "sysctls: [{name: kernel.shm_rmid_forced, value: '1'}]",
            "",
            "spec.securityContext.sysctls",
            "(a pod of components has no kernel of its own to set)",
        ),
    ];
    let pods = cases.map(|(name, of_pod, own, _, _)| {
        let users = if name == "proc" { "hostUsers: false, " } else { "" };
        hello_pod(name, &format!("{users}securityContext: {{{of_pod}}}"), &format!("securityContext: {{{own}}}"))
    });
    t.kubectl.apply(&pods.join("---"));
    for (name, _, _, field, why) in cases {
        let expected = format!("Pending CreateContainerConfigError wasm pods do not support {field} {why}");
        let waiting = "{.status.containerStatuses[0].state.waiting";
        let shown = format!("jsonpath={{.status.phase}} {waiting}.reason}} {waiting}.message}}");
        eventually(name, || match t.kubectl.ok(&["get", "pod", name, "-o", &shown]) {
            shown if shown == expected => Ok(()),
            shown => Err(shown),
        });
    }
}

/// Each container is held to its own context: the others of its pod start.
#[test]
fn a_container_goes_before_its_pod() {
    let t = sandbox();
    let image = t.hello_image();
    assert_eq!(image, HELLO);
    let of_pod = "securityContext: {seccompProfile: {type: Localhost, localhostProfile: mine.json}}";
    t.kubectl.apply(&hello_pod("own", of_pod, "securityContext: {seccompProfile: {type: RuntimeDefault}}"));
    t.kubectl.ok(&["wait", "--for=condition=Ready", "pod/own", "--timeout=60s"]);
}
