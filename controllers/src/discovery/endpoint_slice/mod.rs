//! Keeps a Service's EndpointSlices in step with the pods it selects (KEP-752).

pub mod endpoints;
mod hints;
pub mod owned;
pub mod slices;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use self::endpoints::Family;
use self::hints::Preference;
use crate::engine::{Controller, Turn, Wake};
use crate::plan::{Note, NoteType, Plan, Regarding};
use crate::pods;
use crate::resource::{Key, SERVICES};
use crate::selector::{self, Labels};
use crate::world::{Delta, Object, World};

pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslice-controller.k8s.io";
pub const HEADLESS: &str = "service.kubernetes.io/headless";
pub const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";

pub struct EndpointSlices;

impl Controller for EndpointSlices {
    fn name(&self) -> &'static str {
        "endpointslice"
    }

    fn observe(&mut self, delta: &Delta, world: &World, wake: &mut Wake) {
        match (&delta.object, &delta.before) {
            (Object::Service(service), _) => wake.now(Key::of(&service.metadata)),
            (Object::EndpointSlice(_), _) => owned::wake(delta, MANAGER, wake),
            (Object::Pod(pod), _) => wake_selecting(pod, delta, world, wake),
            (Object::Node(node), before) => {
                let now = if delta.gone { (None, false, 0) } else { hints::facts(node) };
                let before = match before {
                    Some(Object::Node(before)) => hints::facts(before),
                    _ if delta.gone => hints::facts(node),
                    _ => (None, false, 0),
                };
                let is_touched = |service: &&Arc<Service>| match Preference::of(service) {
                    Preference::ZoneByCapacity => now != before,
                    _ => now.0 != before.0,
                };
                let touched = world.services.iter().filter(|service| wanted(service).is_some()).filter(is_touched);
                wake.others(world, touched.map(|service| Key::of(&service.metadata)));
            }
            _ => {}
        }
    }

    fn reconcile(&mut self, key: &Key, world: &World, turn: &mut Turn<'_>) -> Plan {
        match world.services.by_key(key) {
            Some(service) => reconcile(service, world, turn.now),
            None => Plan::none(),
        }
    }
}

/// Wakes the Services that select the pod, or did before, if its endpoint changed.
pub fn wake_selecting(pod: &Arc<Pod>, delta: &Delta, world: &World, wake: &mut Wake) {
    let before = match &delta.before {
        Some(Object::Pod(before)) => Some(before),
        _ => None,
    };
    if !delta.gone && before.is_some_and(|before| same_endpoint(before, pod)) {
        return;
    }
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    for service in world.services.in_namespace(namespace) {
        let Some(wanted) = wanted(service) else { continue };
        let selects = |pod: &Arc<Pod>| selector::contains(pod.metadata.labels.as_ref(), wanted);
        if selects(pod) || before.is_some_and(selects) {
            wake.now(Key::of(&service.metadata));
        }
    }
}

/// Nothing has changed in the pod that an endpoint is made of.
fn same_endpoint(a: &Pod, b: &Pod) -> bool {
    let facts = |pod: &Pod| {
        let status = pod.status.clone().unwrap_or_default();
        (status.pod_ips, pods::is_ready(pod), pods::is_terminal(pod), pods::is_deleting(&pod.metadata))
    };
    facts(a) == facts(b) && a.metadata.labels == b.metadata.labels && pods::node_name(a) == pods::node_name(b)
}

/// The selector of a Service whose endpoints are ours to find.
pub fn wanted(service: &Service) -> Option<&Labels> {
    let spec = service.spec.as_ref()?;
    let is_alias = spec.type_.as_deref() == Some("ExternalName");
    spec.selector.as_ref().filter(|selector| !selector.is_empty() && !is_alias)
}

pub fn selected_pods<'a>(selected: &Labels, namespace: &str, world: &'a World) -> Vec<&'a Arc<Pod>> {
    let pods = world.pods.in_namespace(namespace);
    pods.filter(|pod| selector::contains(pod.metadata.labels.as_ref(), selected)).collect()
}

pub fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|s| s.cluster_ip.as_deref() == Some("None"))
}

pub fn reconcile(service: &Service, world: &World, now: Timestamp) -> Plan {
    let mut plan = Plan::none();
    let Some(selected) = wanted(service).filter(|_| !pods::is_deleting(&service.metadata)) else { return plan };
    let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
    let pods = selected_pods(selected, namespace, world);
    let existing = owned::of(&Key::of(&service.metadata), MANAGER, world);
    let is_headless = is_headless(service);
    let source = owned::Source { resource: &SERVICES, meta: &service.metadata, manager: MANAGER, is_headless };
    let families = Family::of(service);
    for family in &families {
        let mut groups = endpoints::groups(service, &pods, *family, world);
        let of_family: Vec<_> = existing.iter().filter(|s| s.address_type == family.address_type()).copied().collect();
        let hinted = hints::add(service, &mut groups, *family, world);
        if Preference::of(service) == Preference::ZoneByCapacity {
            plan.notes.extend(say_hinted(service, hinted, *family, &of_family));
        }
        let trigger = trigger_time(service, &pods).unwrap_or(now);
        source.fit(&mut plan, groups, of_family, *family, |annotations| {
            annotations.insert(TRIGGER_TIME.into(), trigger.to_string());
        });
    }
    let is_stray = |slice: &&&Arc<EndpointSlice>| !families.iter().any(|f| f.address_type() == slice.address_type);
    owned::delete(&mut plan, existing.iter().filter(is_stray).copied());
    plan
}

/// Says that a Service's hints begin, or why it has none.
fn say_hinted(
    service: &Service,
    hinted: Result<(), String>,
    family: Family,
    existing: &[&Arc<EndpointSlice>],
) -> Option<Note> {
    let mut known = existing.iter().flat_map(|slice| slice.endpoints.iter().flatten());
    let (note_type, reason, message) = match hinted {
        Ok(()) if known.any(|endpoint| endpoint.hints.is_some()) => return None,
        Ok(()) => {
            let message = format!("Topology Aware Hints has been enabled, addressType: {}", family.address_type());
            (NoteType::Normal, "TopologyAwareHintsEnabled", message)
        }
        Err(why) => (NoteType::Warning, "TopologyAwareHintsDisabled", why),
    };
    let regarding = Regarding::new(&SERVICES, &service.metadata);
    Some(Note { component: "endpoint-slice-controller", regarding, note_type, reason, action: "", message })
}

/// When the newest of the changes behind the endpoints happened: what programming latency is measured from.
pub fn trigger_time(service: &Service, pods: &[&Arc<Pod>]) -> Option<Timestamp> {
    let ready_changed = |pod: &&Arc<Pod>| pods::condition(pod, "Ready")?.last_transition_time.as_ref().map(|t| t.0);
    let created = service.metadata.creation_timestamp.as_ref().map(|t| t.0);
    pods.iter().filter_map(ready_changed).chain(created).max()
}
