//! Keeps the Endpoints of a Service in step with the pods it selects, for clients from before EndpointSlices.

mod subsets;
#[cfg(test)]
mod tests;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Endpoints, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::discovery::endpoint_slice::{self, HEADLESS, TRIGGER_TIME, endpoints, endpoints::Family};
use crate::engine::{Controller, Turn, Wake};
use crate::plan::{self, Plan, Target};
use crate::pods;
use crate::resource::{ENDPOINTS, Key};
use crate::selector::Labels;
use crate::world::{Delta, Object, World};

const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
const TRUNCATED: &str = "truncated";

pub struct EndpointsOfServices;

impl Controller for EndpointsOfServices {
    fn name(&self) -> &'static str {
        "endpoint"
    }

    fn observe(&mut self, delta: &Delta, world: &World, wake: &mut Wake) {
        match &delta.object {
            Object::Service(service) => wake.now(Key::of(&service.metadata)),
            Object::Endpoints(endpoints) => wake.now(Key::of(&endpoints.metadata)),
            Object::Pod(pod) => endpoint_slice::wake_selecting(pod, delta, world, wake),
            _ => {}
        }
    }

    fn reconcile(&mut self, key: &Key, world: &World, turn: &mut Turn<'_>) -> Plan {
        match world.services.by_key(key) {
            Some(service) => reconcile(service, world, turn.now),
            None => forget(key, world),
        }
    }
}

/// The Service is gone, and with it what was made for it; Endpoints that someone else made stay.
fn forget(key: &Key, world: &World) -> Plan {
    let mut plan = Plan::none();
    let is_ours = |found: &Endpoints| {
        let label = found.metadata.labels.as_ref().and_then(|labels| labels.get(MANAGED_BY));
        label.is_some_and(|manager| manager == MANAGER) && !pods::is_deleting(&found.metadata)
    };
    if let Some(endpoints) = world.endpoints.by_key(key).filter(|found| is_ours(found)) {
        plan.delete(Target::exact(&ENDPOINTS, &endpoints.metadata));
    }
    plan
}

fn reconcile(service: &Service, world: &World, now: Timestamp) -> Plan {
    let mut plan = Plan::none();
    let Some(selected) = endpoint_slice::wanted(service).filter(|_| !pods::is_deleting(&service.metadata)) else {
        return plan;
    };
    let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
    let pods = endpoint_slice::selected_pods(selected, namespace, world);
    let family = Family::of(service).first().copied().unwrap_or(Family::V4);
    let mut subsets = subsets::repack(endpoints::groups(service, &pods, family, world), service);
    let is_truncated = subsets::truncate(&mut subsets);
    let labels = labels(service);

    let existing = world.endpoints.by_key(&Key::of(&service.metadata));
    let mut wanted = existing.map_or_else(|| new(service), |existing| (**existing).clone());
    wanted.subsets = Some(subsets).filter(|subsets| !subsets.is_empty());
    wanted.metadata.labels = Some(labels);
    let annotations = wanted.metadata.annotations.get_or_insert_default();
    if is_truncated {
        annotations.insert(OVER_CAPACITY.into(), TRUNCATED.into());
    } else {
        annotations.remove(OVER_CAPACITY);
    }
    if existing.is_some_and(|existing| same(existing, &wanted)) {
        return plan;
    }
    let trigger = endpoint_slice::trigger_time(service, &pods).unwrap_or(now);
    wanted.metadata.annotations.get_or_insert_default().insert(TRIGGER_TIME.into(), trigger.to_string());
    match existing {
        Some(_) => plan.update(&ENDPOINTS, &wanted, None),
        None => plan.step(plan::create(&ENDPOINTS, namespace, &wanted)),
    }
    plan
}

fn new(service: &Service) -> Endpoints {
    let metadata = ObjectMeta {
        name: service.metadata.name.clone(),
        namespace: service.metadata.namespace.clone(),
        ..ObjectMeta::default()
    };
    Endpoints { metadata, subsets: None }
}

/// The Service's labels, and those that say what it is and whose the Endpoints are.
fn labels(service: &Service) -> Labels {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    if endpoint_slice::is_headless(service) {
        labels.insert(HEADLESS.into(), String::new());
    }
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    labels
}

fn same(existing: &Endpoints, wanted: &Endpoints) -> bool {
    let over = |e: &Endpoints| e.metadata.annotations.as_ref().and_then(|a| a.get(OVER_CAPACITY)).cloned();
    existing.subsets.as_deref().unwrap_or_default() == wanted.subsets.as_deref().unwrap_or_default()
        && existing.metadata.labels == wanted.metadata.labels
        && over(existing) == over(wanted)
}
