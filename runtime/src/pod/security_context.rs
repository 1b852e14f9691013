//! What `securityContext` means where containers are components, of a pod and of its containers: THE table, field by field.
//!
//! A component has no user, no kernel and no files but those of its mounts, which the node's user opens for it. So most fields ask
//! for what holds anyway, or take away what is not there: with these ordinary charts run. What would be believed to hold and does
//! not is refused by name, with the reason. `docs/security-context.md` shows the table; tests hold both to the API's own types.

use k8s_openapi::api::core::v1 as core;
// The types of containers, of which the sandbox allows less than their policy does.
use k8w_kinds::pod_security::SE_LINUX_TYPES;

use super::plan::PodPlan;

/// Where a context stands, as a manifest has it.
const OF_POD: &str = "spec.securityContext";
const OF_CONTAINER: &str = "securityContext";

/// What adds nothing to what every component may do: ports below 1024 are its pod's own, and `kubectl debug` asks by itself to
/// trace processes, of which there are none.
const CAPABILITIES: &[&str] = &["NET_BIND_SERVICE", "SYS_PTRACE"];

/// What sets no kernel that a component has, and asks for what it may anyway.
const SYSCTLS: &[&str] = &["net.ipv4.ip_unprivileged_port_start"];

/// The contexts that apply to one container.
struct Contexts<'a> {
    pod: Option<&'a core::PodSecurityContext>,
    own: Option<&'a core::SecurityContext>,
}

/// Which of the API's types have a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    Pod,
    Container,
    Both,
}

/// One field beneath `securityContext`.
struct Row {
    field: &'static str,
    of: Of,
    /// What it means here, for the documentation.
    means: &'static str,
    refuses: Option<Refuses>,
}

/// Values of a field that keep a container from starting.
struct Refuses {
    /// Which, for the documentation.
    values: &'static str,
    why: &'static str,
    /// What is asked for in vain, by its full name.
    asks: fn(&Contexts) -> Option<String>,
}

const NO_PROFILES: &str = "no profile is loaded for a component";

const TABLE: &[Row] = &[
    Row {
        field: "allowPrivilegeEscalation",
        of: Of::Container,
        means: "`false` holds always, and `true` gives nothing: there are no privileges to gain",
        refuses: None,
    },
    Row {
        field: "appArmorProfile",
        of: Of::Both,
        means: "`RuntimeDefault` and `Unconfined`: the sandbox allows less than either",
        refuses: Some(Refuses {
            values: "`Localhost`",
            why: NO_PROFILES,
            asks: |contexts| {
                let own = contexts.own.and_then(|own| own.app_armor_profile.as_ref());
                let (at, profile) = effective(own, contexts.pod.and_then(|pod| pod.app_armor_profile.as_ref()))?;
                profile_asked(at, "appArmorProfile", &profile.type_)
            },
        }),
    },
    Row {
        field: "capabilities.add",
        of: Of::Container,
        means: "`NET_BIND_SERVICE` (every component may use all ports of its pod) and `SYS_PTRACE` (there is no process to trace)",
        refuses: Some(Refuses {
            values: "all others",
            why: "a component can be given none",
            asks: |contexts| {
                let capabilities = contexts.own.and_then(|own| own.capabilities.as_ref())?;
                let added = capabilities.add.iter().flatten().map(String::as_str);
                let vain: Vec<&str> = added.filter(|name| !CAPABILITIES.contains(name)).collect();
                (!vain.is_empty()).then(|| format!("{OF_CONTAINER}.capabilities.add {}", vain.join(" ")))
            },
        }),
    },
    Row {
        field: "capabilities.drop",
        of: Of::Container,
        means: "a component has none to drop. Whoever opens files for it may have some ([Files](#files))",
        refuses: None,
    },
    Row {
        field: "fsGroup",
        of: Of::Pod,
        means: "a component may write to its volumes without it, as it has no group; files that the node makes of ConfigMaps, \
                Secrets, tokens and the like are readable for their group. Nothing is given to the group on disk: other programs \
                on the node find files of volumes owned by the node's user",
        refuses: None,
    },
    Row {
        field: "fsGroupChangePolicy",
        of: Of::Pod,
        means: "there is no owner to change, so that both policies are the same",
        refuses: None,
    },
    Row {
        field: "privileged",
        of: Of::Container,
        means: "`false` holds always",
        refuses: Some(Refuses {
            values: "`true`",
            why: "a component has nothing of its node but what its manifest mounts",
            asks: |contexts| {
                let asked = contexts.own.is_some_and(|own| own.privileged == Some(true));
                asked.then(|| format!("{OF_CONTAINER}.privileged"))
            },
        }),
    },
    Row {
        field: "procMount",
        of: Of::Container,
        means: "`Default`: a component sees nothing of `/proc`",
        refuses: Some(Refuses {
            values: "`Unmasked`",
            why: "a component has no /proc",
            asks: |contexts| {
                let mount = contexts.own.and_then(|own| own.proc_mount.as_deref())?;
                (!matches!(mount, "" | "Default")).then(|| format!("{OF_CONTAINER}.procMount {mount}"))
            },
        }),
    },
    Row {
        field: "readOnlyRootFilesystem",
        of: Of::Container,
        means: "holds always: a component has no root file system, only mounts, and each has its own `readOnly`",
        refuses: None,
    },
    Row {
        field: "runAsGroup",
        of: Of::Both,
        means: "a component has no group: files are reached as the node's user ([Files](#files))",
        refuses: None,
    },
    Row {
        field: "runAsNonRoot",
        of: Of::Both,
        means: "a component has no user, but files are reached as the node's, which may be root ([Files](#files)). With \
                `runAsUser: 0` the container does not start, as in Kubernetes",
        refuses: None,
    },
    Row {
        field: "runAsUser",
        of: Of::Both,
        means: "a component has no user: files are reached as the node's ([Files](#files)). Where all containers of a pod name \
                the same one, their tokens are readable for their owner alone",
        refuses: None,
    },
    Row {
        field: "seLinuxChangePolicy",
        of: Of::Pod,
        means: "nothing is relabelled, so that there is nothing to choose",
        refuses: None,
    },
    Row {
        field: "seLinuxOptions",
        of: Of::Both,
        means: "a `level`, and the types that the Pod Security Standards allow: the sandbox allows less than they do. Volumes \
                keep the labels that they have",
        refuses: Some(Refuses {
            values: "other types, a `user`, a `role`",
            why: "a component has no label that a policy could speak of",
            asks: |contexts| {
                let own = contexts.own.and_then(|own| own.se_linux_options.as_ref());
                let (at, options) = effective(own, contexts.pod.and_then(|pod| pod.se_linux_options.as_ref()))?;
                let core::SELinuxOptions { level: _, role, type_, user } = options;
                let asked = [("role", role, &[""][..]), ("type", type_, SE_LINUX_TYPES), ("user", user, &[""])];
                list(asked.into_iter().filter_map(|(name, text, allowed)| {
                    let text = text.as_deref().unwrap_or_default();
                    (!allowed.contains(&text)).then(|| format!("{at}.seLinuxOptions.{name} {text}"))
                }))
            },
        }),
    },
    Row {
        field: "seccompProfile",
        of: Of::Both,
        means: "`RuntimeDefault` and `Unconfined`: a component makes no system calls, only calls of its host's functions",
        refuses: Some(Refuses {
            values: "`Localhost`",
            why: NO_PROFILES,
            asks: |contexts| {
                let own = contexts.own.and_then(|own| own.seccomp_profile.as_ref());
                let (at, profile) = effective(own, contexts.pod.and_then(|pod| pod.seccomp_profile.as_ref()))?;
                profile_asked(at, "seccompProfile", &profile.type_)
            },
        }),
    },
    Row {
        field: "supplementalGroups",
        of: Of::Pod,
        means: "a component has no groups: files are reached as the node's user ([Files](#files))",
        refuses: None,
    },
    Row {
        field: "supplementalGroupsPolicy",
        of: Of::Pod,
        means: "`Merge`: an image has no groups to add. The node rejects a pod with `Strict`, as Kubernetes has it of a node \
                without that feature",
        refuses: None,
    },
    Row {
        field: "sysctls",
        of: Of::Pod,
        means: "`net.ipv4.ip_unprivileged_port_start`: every component may use all ports of its pod",
        refuses: Some(Refuses {
            values: "all others",
            why: "a pod of components has no kernel of its own to set",
            asks: |contexts| {
                let mut sysctls = contexts.pod.into_iter().flat_map(|pod| pod.sysctls.iter().flatten());
                sysctls.find(|sysctl| !SYSCTLS.contains(&sysctl.name.as_str())).map(|_| format!("{OF_POD}.sysctls"))
            },
        }),
    },
    Row {
        field: "windowsOptions",
        of: Of::Both,
        means: "`hostProcess: false` holds always",
        refuses: Some(Refuses {
            values: "`gmsaCredentialSpec`, `gmsaCredentialSpecName`, `hostProcess: true`, `runAsUserName`",
            why: "this node is no Windows",
            asks: |contexts| {
                let of_pod = contexts.pod.and_then(|pod| pod.windows_options.as_ref());
                let own = contexts.own.and_then(|own| own.windows_options.as_ref());
                let both = [(OF_POD, of_pod), (OF_CONTAINER, own)];
                let options = both.into_iter().filter_map(|(at, options)| Some((at, options?)));
                list(
                    options.flat_map(|(at, options)| {
                        windows(options).map(move |name| format!("{at}.windowsOptions.{name}"))
                    }),
                )
            },
        }),
    },
];

/// A container's own value, or else that of its pod; with where it stands.
fn effective<'a, T>(own: Option<&'a T>, of_pod: Option<&'a T>) -> Option<(&'static str, &'a T)> {
    own.map(|own| (OF_CONTAINER, own)).or(of_pod.map(|of_pod| (OF_POD, of_pod)))
}

fn profile_asked(at: &str, field: &str, kind: &str) -> Option<String> {
    (!matches!(kind, "RuntimeDefault" | "Unconfined")).then(|| format!("{at}.{field} {kind}"))
}

fn windows(options: &core::WindowsSecurityContextOptions) -> impl Iterator<Item = &'static str> {
    let core::WindowsSecurityContextOptions {
        gmsa_credential_spec,
        gmsa_credential_spec_name,
        host_process,
        run_as_user_name,
    } = options;
    let asked = [
        ("gmsaCredentialSpec", gmsa_credential_spec.is_some()),
        ("gmsaCredentialSpecName", gmsa_credential_spec_name.is_some()),
        ("hostProcess", *host_process == Some(true)),
        ("runAsUserName", run_as_user_name.is_some()),
    ];
    asked.into_iter().filter_map(|(name, asked)| asked.then_some(name))
}

fn list(names: impl Iterator<Item = String>) -> Option<String> {
    let names: Vec<String> = names.collect();
    (!names.is_empty()).then(|| names.join(", "))
}

/// The rows of the table, as `docs/security-context.md` has them.
pub fn documentation() -> String {
    let rows = TABLE.iter().map(|row| {
        let of = match row.of {
            Of::Pod => "pod",
            Of::Container => "container",
            Of::Both => "both",
        };
        let refused = row.refuses.as_ref().map(|refuses| format!("{}: {}", refuses.values, refuses.why));
        format!("| `{}` | {of} | {} | {} |\n", row.field, row.means, refused.unwrap_or_default())
    });
    rows.collect()
}

/// What the contexts of a container ask for in vain, each with the reason.
pub fn refused<'a>(spec: &'a core::PodSpec, container: &'a core::Container) -> impl Iterator<Item = String> {
    let contexts = Contexts { pod: spec.security_context.as_ref(), own: container.security_context.as_ref() };
    TABLE.iter().filter_map(move |row| {
        let refuses = row.refuses.as_ref()?;
        (refuses.asks)(&contexts).map(|asked| format!("{asked} ({})", refuses.why))
    })
}

/// Why a container may not run as the user that it names, in the kubelet's words; `None` when it may. One that names nobody
/// runs as nobody: there is no root in a component.
pub fn user_refusal(pod: &core::Pod, container: &core::Container) -> Option<String> {
    let of_pod = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
    let own = container.security_context.as_ref();
    let non_root = own.and_then(|own| own.run_as_non_root).or(of_pod.and_then(|pod| pod.run_as_non_root));
    let user = own.and_then(|own| own.run_as_user).or(of_pod.and_then(|pod| pod.run_as_user));
    (non_root == Some(true) && user == Some(0)).then(|| {
        let pod = PodPlan::of(pod).display();
        format!("container's runAsUser breaks non-root policy (pod: {pod:?}, container: {})", container.name)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use schemars::{JsonSchema, SchemaGenerator};
    use serde_json::{Value, json};

    use super::*;

    fn refused(of_pod: Value, own: Value) -> Vec<String> {
        let spec = json!({ "securityContext": of_pod, "containers": [{ "name": "c", "securityContext": own }] });
        let spec: core::PodSpec = serde_json::from_value(spec).unwrap();
        super::refused(&spec, &spec.containers[0]).collect()
    }

    /// The fields of a type, those of an object within it one by one where the table has them so.
    fn fields<T: JsonSchema>() -> BTreeSet<String> {
        let mut generator = SchemaGenerator::default();
        let schema = T::json_schema(&mut generator).to_value();
        let definitions = Value::Object(generator.take_definitions(true));
        let mut fields = BTreeSet::new();
        for (name, field) in schema["properties"].as_object().unwrap() {
            if !TABLE.iter().any(|row| row.field.starts_with(&format!("{name}."))) {
                fields.insert(name.clone());
                continue;
            }
            let text = field.to_string();
            let (_, reference) = text.split_once("#/$defs/").unwrap();
            let object = &definitions[reference.split('"').next().unwrap()];
            fields.extend(object["properties"].as_object().unwrap().keys().map(|inner| format!("{name}.{inner}")));
        }
        fields
    }

    #[test]
    fn the_table_has_every_field_of_the_api() {
        let (of_pod, own) = (fields::<core::PodSecurityContext>(), fields::<core::SecurityContext>());
        assert!(of_pod.contains("sysctls") && own.contains("capabilities.drop"), "{of_pod:?} {own:?}");
        let of = |field: &str| match (of_pod.contains(field), own.contains(field)) {
            (true, false) => Of::Pod,
            (false, true) => Of::Container,
            _ => Of::Both,
        };
        let expected: Vec<(&str, Of)> = of_pod.union(&own).map(|field| (field.as_str(), of(field))).collect();
        let mut rows: Vec<(&str, Of)> = TABLE.iter().map(|row| (row.field, row.of)).collect();
        rows.sort_by_key(|(field, _)| *field);
        assert_eq!(rows, expected);
    }

    #[test]
    fn the_documentation_shows_the_table() {
        let table = documentation();
        let shown = include_str!("../../../docs/security-context.md");
        assert!(shown.contains(&table), "docs/security-context.md should have:\n{table}");
    }

    /// Each value that is refused, and beside it what is not: by a container's own context and by that of its pod.
    #[test]
    fn each_row_that_refuses_names_what_is_asked_in_vain() {
        let none = || json!({});
        let cases = [
            (
                none(),
                json!({ "appArmorProfile": { "type": "Localhost", "localhostProfile": "mine" } }),
                "securityContext.appArmorProfile Localhost (no profile is loaded for a component)",
            ),
            (
                json!({ "appArmorProfile": { "type": "Localhost", "localhostProfile": "mine" } }),
                none(),
                "spec.securityContext.appArmorProfile Localhost (no profile is loaded for a component)",
            ),
            (
                none(),
                json!({ "capabilities": { "add": ["NET_BIND_SERVICE", "NET_ADMIN", "CHOWN"], "drop": ["ALL"] } }),
                "securityContext.capabilities.add NET_ADMIN CHOWN (a component can be given none)",
            ),
            (
                none(),
                json!({ "privileged": true }),
                "securityContext.privileged (a component has nothing of its node but what its manifest mounts)",
            ),
            (
                none(),
                json!({ "procMount": "Unmasked" }),
                "securityContext.procMount Unmasked (a component has no /proc)",
            ),
            (
                none(),
                json!({ "seLinuxOptions": { "type": "spc_t", "level": "s0" } }),
                "securityContext.seLinuxOptions.type spc_t (a component has no label that a policy could speak of)",
            ),
            (
                json!({ "seLinuxOptions": { "user": "u", "role": "r" } }),
                none(),
                "spec.securityContext.seLinuxOptions.role r, spec.securityContext.seLinuxOptions.user u (a component has no \
                 label that a policy could speak of)",
            ),
            (
                none(),
                json!({ "seccompProfile": { "type": "Localhost", "localhostProfile": "mine.json" } }),
                "securityContext.seccompProfile Localhost (no profile is loaded for a component)",
            ),
            (
                json!({ "seccompProfile": { "type": "Localhost", "localhostProfile": "mine.json" } }),
                none(),
                "spec.securityContext.seccompProfile Localhost (no profile is loaded for a component)",
            ),
            (
                json!({ "sysctls": [{ "name": "kernel.sem", "value": "1" }] }),
                none(),
                "spec.securityContext.sysctls (a pod of components has no kernel of its own to set)",
            ),
            (
                json!({ "windowsOptions": { "gmsaCredentialSpec": "{}", "gmsaCredentialSpecName": "s", "hostProcess": true } }),
                json!({ "windowsOptions": { "runAsUserName": "ContainerUser" } }),
                "spec.securityContext.windowsOptions.gmsaCredentialSpec, \
                 spec.securityContext.windowsOptions.gmsaCredentialSpecName, \
                 spec.securityContext.windowsOptions.hostProcess, securityContext.windowsOptions.runAsUserName (this node is no \
                 Windows)",
            ),
        ];
        for row in TABLE.iter().filter(|row| row.refuses.is_some()) {
            let has_case = cases.iter().any(|(_, _, why)| why.contains(&format!("securityContext.{}", row.field)));
            assert!(has_case, "nothing asks {} in vain", row.field);
        }
        for (of_pod, own, expected) in cases {
            assert_eq!(refused(of_pod, own), [expected]);
        }
    }

    /// What charts ask for, and every value that takes nothing away and promises nothing.
    #[test]
    fn what_holds_anyway_is_let_be() {
        let of_pod = json!({
            "appArmorProfile": { "type": "RuntimeDefault" }, "fsGroup": 1001, "fsGroupChangePolicy": "OnRootMismatch",
            "runAsGroup": 1001, "runAsNonRoot": true, "runAsUser": 1001, "seLinuxChangePolicy": "Recursive",
            "seLinuxOptions": { "level": "s0:c1,c2", "type": "container_t" },
            "seccompProfile": { "type": "RuntimeDefault" }, "supplementalGroups": [1, 2],
            "supplementalGroupsPolicy": "Merge", "sysctls": [{ "name": "net.ipv4.ip_unprivileged_port_start", "value": "0" }], "windowsOptions": { "hostProcess": false },
        });
        let own = json!({
            "allowPrivilegeEscalation": false, "appArmorProfile": { "type": "Unconfined" },
            "capabilities": { "add": ["NET_BIND_SERVICE", "SYS_PTRACE"], "drop": ["ALL"] }, "privileged": false,
            "procMount": "Default", "readOnlyRootFilesystem": true, "runAsGroup": 0, "runAsNonRoot": false,
            "runAsUser": 0, "seLinuxOptions": {}, "seccompProfile": { "type": "Unconfined" }, "windowsOptions": {},
        });
        let has = |value: &Value, field: &str| {
            let inner = field.split('.').try_fold(value, |value, name| value.get(name));
            inner.is_some()
        };
        for row in TABLE {
            let both = [(&of_pod, Of::Container), (&own, Of::Pod)];
            assert!(both.iter().all(|(value, other)| row.of == *other || has(value, row.field)), "{}", row.field);
        }
        assert_eq!(refused(of_pod.clone(), own), [""; 0]);
        assert_eq!(refused(of_pod, Value::Null), [""; 0]);
    }

    /// A container's own value goes before that of its pod.
    #[test]
    fn what_a_container_says_itself_goes_first() {
        let local = json!({ "type": "Localhost", "localhostProfile": "mine" });
        let of_pod =
            json!({ "seccompProfile": local, "appArmorProfile": local, "seLinuxOptions": { "type": "mine_t" } });
        let default = json!({ "type": "RuntimeDefault" });
        let own = json!({ "seccompProfile": default, "appArmorProfile": default, "seLinuxOptions": { "level": "s0" } });
        assert_eq!(refused(of_pod.clone(), own), [""; 0]);
        assert_eq!(refused(of_pod, json!({ "runAsUser": 1 })).len(), 3);
    }

    #[test]
    fn root_is_refused_where_it_is_forbidden() {
        let refused = |pod: Value, own: Value| {
            let spec = json!({ "securityContext": pod, "containers": [{ "name": "c", "securityContext": own }] });
            let pod = json!({ "metadata": { "name": "p", "namespace": "ns", "uid": "u" }, "spec": spec });
            let pod: core::Pod = serde_json::from_value(pod).unwrap();
            user_refusal(&pod, &pod.spec.as_ref().unwrap().containers[0])
        };
        let why = "container's runAsUser breaks non-root policy (pod: \"p_ns(u)\", container: c)";
        let non_root = || json!({ "runAsNonRoot": true });
        assert_eq!(refused(non_root(), json!({ "runAsUser": 0 })).as_deref(), Some(why));
        assert_eq!(refused(json!({ "runAsUser": 0 }), non_root()).as_deref(), Some(why));
        assert_eq!(refused(non_root(), json!({ "runAsNonRoot": false, "runAsUser": 0 })), None);
        assert_eq!(refused(json!({ "runAsUser": 0, "runAsNonRoot": true }), json!({ "runAsUser": 1 })), None);
        assert_eq!(refused(non_root(), json!({})), None);
    }
}
