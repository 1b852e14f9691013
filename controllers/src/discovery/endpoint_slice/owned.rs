//! The slices that one controller keeps for one Service: which they are, and the steps that bring them to what they should
//! hold.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::endpoints::{Family, Group};
use super::{HEADLESS, MANAGED_BY, SERVICE_NAME, slices};
use crate::engine::Wake;
use crate::plan::{self, Plan, Target};
use crate::pods;
use crate::resource::{ENDPOINT_SLICES, Key, Resource};
use crate::selector::Labels;
use crate::world::{Delta, Object, World};

/// What slices are made from: a Service, or the Endpoints of its name.
pub struct Source<'a> {
    pub resource: &'a Resource,
    pub meta: &'a ObjectMeta,
    /// Who keeps the slices.
    pub manager: &'static str,
    pub is_headless: bool,
}

/// Wakes the Service of a slice that this manager keeps, or kept before.
pub fn wake(delta: &Delta, manager: &str, wake: &mut Wake) {
    for object in delta.before.iter().chain([&delta.object]) {
        if let Object::EndpointSlice(slice) = object {
            let namespace = slice.metadata.namespace.as_deref().unwrap_or_default();
            service_of(slice, manager).into_iter().for_each(|service| wake.now(Key::new(namespace, service)));
        }
    }
}

/// The name of the Service that this manager keeps the slice for.
fn service_of<'a>(slice: &'a EndpointSlice, manager: &str) -> Option<&'a str> {
    let label = |name: &str| slice.metadata.labels.as_ref()?.get(name).map(String::as_str);
    label(SERVICE_NAME).filter(|_| label(MANAGED_BY) == Some(manager))
}

/// The slices of a Service that this manager keeps.
pub fn of<'a>(service: &Key, manager: &str, world: &'a World) -> Vec<&'a Arc<EndpointSlice>> {
    let slices = world.endpoint_slices.in_namespace(&service.namespace);
    let is_of = |slice: &&Arc<EndpointSlice>| service_of(slice, manager) == Some(&*service.name);
    slices.filter(is_of).filter(|slice| !pods::is_deleting(&slice.metadata)).collect()
}

impl Source<'_> {
    /// Fits the groups of one family into the slices that there are of it. `annotate` completes the annotations of those
    /// that are written.
    pub fn fit(
        &self,
        plan: &mut Plan,
        groups: Vec<Group>,
        existing: Vec<&Arc<EndpointSlice>>,
        family: Family,
        annotate: impl Fn(&mut BTreeMap<String, String>),
    ) {
        let labels = self.labels();
        // Those of an earlier source of this name go with it.
        let (existing, foreign): (Vec<_>, Vec<_>) = existing.into_iter().partition(|slice| self.owns(slice));
        let changes = slices::fit(groups, existing, &labels);
        let dress = |slice| self.dress(slice, family, &labels, &annotate);
        for slice in changes.create {
            let namespace = self.meta.namespace.as_deref().unwrap_or_default();
            plan.step(plan::create(&ENDPOINT_SLICES, namespace, &dress(slice)));
        }
        for slice in changes.update {
            plan.update(&ENDPOINT_SLICES, &dress(slice), None);
        }
        delete(plan, changes.delete.iter().chain(foreign));
    }

    fn owns(&self, slice: &EndpointSlice) -> bool {
        let owners = slice.metadata.owner_references.iter().flatten();
        owners.into_iter().any(|owner| Some(&owner.uid) == self.meta.uid.as_ref())
    }

    /// The source's labels, and those that say whose the slice is.
    fn labels(&self) -> Labels {
        let mut labels = self.meta.labels.clone().unwrap_or_default();
        labels.remove(HEADLESS);
        if self.is_headless {
            labels.insert(HEADLESS.into(), String::new());
        }
        labels.insert(SERVICE_NAME.into(), self.meta.name.clone().unwrap_or_default());
        labels.insert(MANAGED_BY.into(), self.manager.into());
        labels
    }

    /// Completes a slice that is new or changed.
    fn dress(
        &self,
        mut slice: EndpointSlice,
        family: Family,
        labels: &Labels,
        annotate: impl Fn(&mut BTreeMap<String, String>),
    ) -> EndpointSlice {
        if slice.metadata.name.is_none() {
            slice.metadata = ObjectMeta {
                generate_name: Some(format!("{}-", self.meta.name.as_deref().unwrap_or_default())),
                namespace: self.meta.namespace.clone(),
                owner_references: Some(vec![pods::controller_ref(self.resource, self.meta)]),
                ..ObjectMeta::default()
            };
            slice.address_type = family.address_type().into();
        }
        slice.metadata.labels = Some(labels.clone());
        let mut annotations = slice.metadata.annotations.take().unwrap_or_default();
        annotate(&mut annotations);
        slice.metadata.annotations = Some(annotations).filter(|annotations| !annotations.is_empty());
        slice
    }
}

/// Deletes slices that are still as they were seen.
pub fn delete<'a>(plan: &mut Plan, slices: impl Iterator<Item = &'a Arc<EndpointSlice>>) {
    slices.for_each(|slice| plan.delete(Target::exact(&ENDPOINT_SLICES, &slice.metadata)));
}
