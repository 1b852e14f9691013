//! Keeps the Endpoints of a Service in step with the pods it selects, for clients from before EndpointSlices.

mod subsets;
#[cfg(test)]
mod tests;

use std::collections::HashSet;

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

#[derive(Default)]
pub struct EndpointsOfServices {
    /// Services that went, and whose Endpoints are still to go.
    gone: HashSet<Key>,
}

impl Controller for EndpointsOfServices {
    fn name(&self) -> &'static str {
        "endpoint"
    }

    fn observe(&mut self, delta: &Delta, world: &World, wake: &mut Wake) {
        match &delta.object {
            Object::Service(service) => {
                let key = Key::of(&service.metadata);
                if delta.gone {
                    self.gone.insert(key.clone());
                } else {
                    self.gone.remove(&key);
                }
                wake.now(key);
            }
            Object::Endpoints(endpoints) => wake.now(Key::of(&endpoints.metadata)),
            Object::Pod(pod) => endpoint_slice::wake_selecting(pod, delta, world, wake),
            _ => {}
        }
    }

    fn reconcile(&mut self, key: &Key, world: &World, turn: &mut Turn<'_>) -> Plan {
        match world.services.by_key(key) {
            Some(service) => reconcile(service, world, turn.now),
            None => self.forget(key, world),
        }
    }
}

impl EndpointsOfServices {
    /// Endpoints go with their Service, whoever made them; those that never had one stay, unless they were made here.
    fn forget(&mut self, key: &Key, world: &World) -> Plan {
        let mut plan = Plan::none();
        let Some(endpoints) = world.endpoints.by_key(key) else {
            self.gone.remove(key);
            return plan;
        };
        if (self.gone.contains(key) || is_ours(endpoints)) && !pods::is_deleting(&endpoints.metadata) {
            plan.delete(Target::exact(&ENDPOINTS, &endpoints.metadata));
        }
        plan
    }
}

fn is_ours(endpoints: &Endpoints) -> bool {
    let labels = endpoints.metadata.labels.as_ref();
    labels.and_then(|labels| labels.get(MANAGED_BY)).is_some_and(|manager| manager == MANAGER)
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
    let subsets = subsets::as_stored(subsets);
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
