//! Which pods belong together although they don't say so: those of the same Services and of the same controller.

use k8s_openapi::api::core::v1::Pod;
use k8w_kinds::core::selection::{NO_LABELS, Selector};

use crate::selector;
use crate::world::{World, controller_of};

/// Selects the pod's kin; selects everything, by being empty, when the pod has none.
pub fn kin(pod: &Pod, world: &World) -> Selector {
    let labels = pod.metadata.labels.as_ref();
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let mut kin = Selector::default();
    if labels.is_none_or(|labels| labels.is_empty()) {
        return kin;
    }
    let selectors = world.services.in_namespace(namespace).filter_map(|s| s.spec.as_ref()?.selector.as_ref());
    for pairs in selectors.filter(|pairs| !pairs.is_empty() && selector::contains(labels, pairs)) {
        kin = kin.and(Selector::pairs(pairs));
    }
    let Some(owner) = controller_of(&pod.metadata) else { return kin };
    let owning = match owner.kind.as_str() {
        "ReplicaSet" => {
            let set = world.replica_sets.get(namespace, &owner.name).and_then(|set| set.spec.as_ref());
            set.map(|spec| Selector::of(Some(&spec.selector)))
        }
        "StatefulSet" => {
            let set = world.stateful_sets.get(namespace, &owner.name).and_then(|set| set.spec.as_ref());
            set.map(|spec| Selector::of(Some(&spec.selector)))
        }
        "ReplicationController" => {
            let set = world.replication_controllers.get(namespace, &owner.name).and_then(|set| set.spec.as_ref());
            set.and_then(|spec| spec.selector.as_ref()).map(Selector::pairs)
        }
        _ => None,
    };
    match owning {
        Some(owning) if owning.selects(labels.unwrap_or(&NO_LABELS)) => kin.and(owning),
        _ => kin,
    }
}
