//! Permission bits of projected files, as the kubelet sets them for the users of a pod. A guest sees none of them; commands
//! that are run beside it (`kubectl exec`, `cp`) do.

use k8s_openapi::api::core::v1 as core;

/// What a pod's `fsGroup` may do with files of its volumes that are read-only: read them.
const READ_BY_GROUP: u32 = 0o440;

/// Of tokens and trust anchors: those of their volume, unless it is known who is to read them.
pub fn private(spec: &core::PodSpec, mode: u32) -> u32 {
    if one_user(spec).is_some() || fs_group(spec).is_some() { 0o600 } else { mode }
}

/// Of any file of a volume that is projected.
pub fn shared(spec: &core::PodSpec, mode: u32) -> u32 {
    if fs_group(spec).is_some() { mode | READ_BY_GROUP } else { mode }
}

fn fs_group(spec: &core::PodSpec) -> Option<i64> {
    spec.security_context.as_ref().and_then(|context| context.fs_group)
}

/// The user that all containers of a pod run as, if all of them say so and it is the same.
fn one_user(spec: &core::PodSpec) -> Option<i64> {
    let of_pod = spec.security_context.as_ref().and_then(|context| context.run_as_user);
    let user = |container: &core::Container| {
        container.security_context.as_ref().and_then(|context| context.run_as_user).or(of_pod)
    };
    let mut users = spec.init_containers.iter().flatten().chain(&spec.containers).map(user);
    let first = users.next().flatten()?;
    users.all(|user| user == Some(first)).then_some(first)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn tokens_are_for_who_is_known_to_read_them() {
        let (none, one, two) = (json!({}), json!({ "runAsUser": 1 }), json!({ "runAsUser": 2 }));
        let group = json!({ "fsGroup": 5 });
        let cases: &[(&Value, [&Value; 2], u32, u32)] = &[
            (&none, [&none, &none], 0o444, 0o400),
            (&one, [&none, &none], 0o600, 0o400),
            (&none, [&one, &one], 0o600, 0o400),
            (&none, [&one, &none], 0o444, 0o400),
            (&one, [&two, &none], 0o444, 0o400),
            (&one, [&two, &two], 0o600, 0o400),
            (&group, [&none, &none], 0o640, 0o440),
        ];
        for (pod, containers, token, other) in cases {
            let [init, main] = containers.map(|context| json!([{ "name": "c", "securityContext": context }]));
            let spec = json!({ "securityContext": pod, "initContainers": init, "containers": main });
            let spec: core::PodSpec = serde_json::from_value(spec).unwrap();
            let modes = (shared(&spec, private(&spec, 0o444)), shared(&spec, 0o400));
            assert_eq!(modes, (*token, *other), "{pod} {containers:?}");
        }
    }
}
