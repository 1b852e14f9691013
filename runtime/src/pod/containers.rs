//! The containers of a pod, whichever of its three lists they stand in.

use std::borrow::Cow;

use k8s_openapi::api::core::v1 as core;

/// All containers: init containers, main ones, and ephemeral ones, which are shown as ordinary containers.
pub fn all(spec: &core::PodSpec) -> impl Iterator<Item = Cow<'_, core::Container>> {
    let declared = spec.init_containers.iter().flatten().chain(&spec.containers).map(Cow::Borrowed);
    declared.chain(spec.ephemeral_containers.iter().flatten().map(|added| Cow::Owned(ordinary(added))))
}

/// The container of that name.
pub fn find<'a>(pod: &'a core::Pod, name: &str) -> Option<Cow<'a, core::Container>> {
    all(pod.spec.as_ref()?).find(|container| container.name == name)
}

/// The statuses of all containers.
pub fn statuses(status: &core::PodStatus) -> impl Iterator<Item = &core::ContainerStatus> {
    let lists = [&status.init_container_statuses, &status.container_statuses, &status.ephemeral_container_statuses];
    lists.into_iter().flat_map(|list| list.iter().flatten())
}

/// The status of the container of that name.
pub fn status<'a>(pod: &'a core::Pod, name: &str) -> Option<&'a core::ContainerStatus> {
    statuses(pod.status.as_ref()?).find(|status| status.name == name)
}

/// An ephemeral container, with the fields that it may have.
pub fn ordinary(added: &core::EphemeralContainer) -> core::Container {
    let added = added.clone();
    core::Container {
        args: added.args,
        command: added.command,
        env: added.env,
        env_from: added.env_from,
        image: added.image,
        image_pull_policy: added.image_pull_policy,
        name: added.name,
        security_context: added.security_context,
        stdin: added.stdin,
        stdin_once: added.stdin_once,
        termination_message_path: added.termination_message_path,
        termination_message_policy: added.termination_message_policy,
        tty: added.tty,
        volume_devices: added.volume_devices,
        volume_mounts: added.volume_mounts,
        working_dir: added.working_dir,
        ..Default::default()
    }
}
