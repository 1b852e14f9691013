//! Mirrors Endpoints that were made by hand to EndpointSlices, which is what everyone reads.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointSubset, Endpoints};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::endpoint_slice::endpoints::{Family, Group};
use super::endpoint_slice::{HEADLESS, MANAGED_BY, SERVICE_NAME, TRIGGER_TIME, slices};
use crate::engine::{Controller, Turn, Wake};
use crate::plan::{self, Plan, Target};
use crate::pods;
use crate::resource::{ENDPOINT_SLICES, ENDPOINTS, Key};
use crate::selector::Labels;
use crate::world::{Delta, Object, World};

const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Addresses of one subset that are mirrored at most.
const MAX_ENDPOINTS_PER_SUBSET: usize = 1000;

pub struct EndpointSliceMirroring;

impl Controller for EndpointSliceMirroring {
    fn name(&self) -> &'static str {
        "endpointslicemirroring"
    }

    fn observe(&mut self, delta: &Delta, _: &World, wake: &mut Wake) {
        match &delta.object {
            Object::Service(service) => wake.now(Key::of(&service.metadata)),
            Object::Endpoints(endpoints) => wake.now(Key::of(&endpoints.metadata)),
            Object::EndpointSlice(slice) => {
                if let Some(service) = label(slice, SERVICE_NAME).filter(|_| label(slice, MANAGED_BY) == Some(MANAGER))
                {
                    wake.now(Key::new(slice.metadata.namespace.as_deref().unwrap_or_default(), service));
                }
            }
            _ => {}
        }
    }

    fn reconcile(&mut self, key: &Key, world: &World, _: &mut Turn<'_>) -> Plan {
        let mut plan = Plan::none();
        let slices = world.endpoint_slices.in_namespace(&key.namespace);
        let existing: Vec<&Arc<EndpointSlice>> = slices.filter(|slice| is_mirror(slice, key)).collect();
        let has_no_selector = |key: &Key| {
            let spec = world.services.by_key(key).and_then(|service| service.spec.as_ref());
            spec.is_some_and(|spec| spec.selector.as_ref().is_none_or(Labels::is_empty))
        };
        match world.endpoints.by_key(key).filter(|endpoints| has_no_selector(key) && is_mirrored(endpoints)) {
            Some(endpoints) => mirror(endpoints, &existing, &mut plan),
            None => existing.iter().for_each(|s| plan.delete(Target::exact(&ENDPOINT_SLICES, &s.metadata))),
        }
        plan
    }
}

fn label<'a>(slice: &'a EndpointSlice, name: &str) -> Option<&'a str> {
    slice.metadata.labels.as_ref()?.get(name).map(String::as_str)
}

fn is_mirror(slice: &EndpointSlice, key: &Key) -> bool {
    label(slice, SERVICE_NAME) == Some(&*key.name)
        && label(slice, MANAGED_BY) == Some(MANAGER)
        && !pods::is_deleting(&slice.metadata)
}

/// Neither told to be left alone, nor a lock of a leader election.
fn is_mirrored(endpoints: &Endpoints) -> bool {
    let meta = &endpoints.metadata;
    let skips = meta.labels.as_ref().and_then(|labels| labels.get(SKIP)).is_some_and(|skip| skip == "true");
    let is_lock = meta.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(LEADER));
    !skips && !is_lock && !pods::is_deleting(meta)
}

fn mirror(endpoints: &Endpoints, existing: &[&Arc<EndpointSlice>], plan: &mut Plan) {
    let namespace = endpoints.metadata.namespace.as_deref().unwrap_or_default();
    let labels = labels(endpoints);
    for family in [Family::V4, Family::V6] {
        let of_family: Vec<_> = existing.iter().filter(|s| s.address_type == family.address_type()).copied().collect();
        let groups = groups(endpoints, family);
        if groups.is_empty() {
            of_family.iter().for_each(|s| plan.delete(Target::exact(&ENDPOINT_SLICES, &s.metadata)));
            continue;
        }
        let changes = slices::fit(groups, of_family, &labels);
        for slice in changes.create {
            plan.step(plan::create(&ENDPOINT_SLICES, namespace, &dress(slice, endpoints, family, &labels)));
        }
        for slice in changes.update {
            plan.update(&ENDPOINT_SLICES, &dress(slice, endpoints, family, &labels), None);
        }
        for slice in changes.delete {
            plan.delete(Target::exact(&ENDPOINT_SLICES, &slice.metadata));
        }
    }
}

fn groups(endpoints: &Endpoints, family: Family) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for subset in endpoints.subsets.iter().flatten() {
        let ready = subset.addresses.iter().flatten().map(|address| endpoint(address, true));
        let not_ready = subset.not_ready_addresses.iter().flatten().map(|address| endpoint(address, false));
        let of_family = ready.chain(not_ready).filter(|e| e.addresses.iter().all(|address| family.holds(address)));
        let endpoints: Vec<Endpoint> = of_family.take(MAX_ENDPOINTS_PER_SUBSET).collect();
        if endpoints.is_empty() {
            continue;
        }
        let ports = ports(subset);
        match groups.iter_mut().find(|group| group.ports == ports) {
            Some(group) => group.endpoints.extend(endpoints),
            None => groups.push(Group { ports, endpoints }),
        }
    }
    groups
}

fn endpoint(address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions { ready: Some(ready), ..EndpointConditions::default() }),
        hostname: address.hostname.clone().filter(|name| !name.is_empty()),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}

fn ports(subset: &EndpointSubset) -> Vec<EndpointPort> {
    let ports = subset.ports.iter().flatten().map(|port| EndpointPort {
        name: Some(port.name.clone().unwrap_or_default()),
        port: Some(port.port),
        protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".into())),
        app_protocol: port.app_protocol.clone(),
    });
    ports.collect()
}

/// The labels of the Endpoints, and those that say whose the slice is.
fn labels(endpoints: &Endpoints) -> Labels {
    let mut labels = endpoints.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    labels.insert(SERVICE_NAME.into(), endpoints.metadata.name.clone().unwrap_or_default());
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    labels
}

/// Completes a slice that is new or changed.
fn dress(mut slice: EndpointSlice, endpoints: &Endpoints, family: Family, labels: &Labels) -> EndpointSlice {
    if slice.metadata.name.is_none() {
        let name = endpoints.metadata.name.as_deref().unwrap_or_default();
        slice.metadata = ObjectMeta {
            generate_name: Some(format!("{name}-")),
            namespace: endpoints.metadata.namespace.clone(),
            owner_references: Some(vec![pods::controller_ref(&ENDPOINTS, &endpoints.metadata)]),
            ..ObjectMeta::default()
        };
        slice.address_type = family.address_type().into();
    }
    slice.metadata.labels = Some(labels.clone());
    let mut annotations = endpoints.metadata.annotations.clone().unwrap_or_default();
    annotations.retain(|name, _| name != TRIGGER_TIME && name != LAST_APPLIED);
    slice.metadata.annotations = Some(annotations).filter(|annotations| !annotations.is_empty());
    slice
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::EndpointSliceMirroring;
    use crate::testing::{Bench, text};

    fn check(spec: &str, metadata: &str, expect: Expect) {
        let yaml = format!(
            "
{{apiVersion: v1, kind: Service, metadata: {{namespace: ns, name: db}}, spec: {spec}}}
---
apiVersion: v1
kind: Endpoints
metadata: {{namespace: ns, name: db{metadata}}}
subsets: [{{addresses: [{{ip: 192.0.2.1}}, {{ip: '2001:db8::1'}}], notReadyAddresses: [{{ip: 192.0.2.2}}], ports: [{{port: 5432}}]}}]
"
        );
        let mut bench = Bench::new(EndpointSliceMirroring, &yaml);
        expect.assert_eq(&text(&bench.reconcile("ns", "db", "2024-01-01T00:00:00Z")));
    }

    /// Conformance: "EndpointSlice Mirroring".
    #[test]
    fn a_service_without_selector_gets_a_slice_for_each_family() {
        check(
            "{ports: [{port: 5432}]}",
            ", labels: {team: a}",
            expect![[r#"
            create endpointslices in ns: {"addressType":"IPv4","apiVersion":"discovery.k8s.io/v1","endpoints":[{"addresses":["192.0.2.1"],"conditions":{"ready":true}},{"addresses":["192.0.2.2"],"conditions":{"ready":false}}],"kind":"EndpointSlice","metadata":{"generateName":"db-","labels":{"endpointslice.kubernetes.io/managed-by":"endpointslicemirroring-controller.k8s.io","kubernetes.io/service-name":"db","team":"a"},"namespace":"ns","ownerReferences":[{"apiVersion":"v1","blockOwnerDeletion":true,"controller":true,"kind":"Endpoints","name":"db","uid":"db-uid"}]},"ports":[{"name":"","port":5432,"protocol":"TCP"}]}
            create endpointslices in ns: {"addressType":"IPv6","apiVersion":"discovery.k8s.io/v1","endpoints":[{"addresses":["2001:db8::1"],"conditions":{"ready":true}}],"kind":"EndpointSlice","metadata":{"generateName":"db-","labels":{"endpointslice.kubernetes.io/managed-by":"endpointslicemirroring-controller.k8s.io","kubernetes.io/service-name":"db","team":"a"},"namespace":"ns","ownerReferences":[{"apiVersion":"v1","blockOwnerDeletion":true,"controller":true,"kind":"Endpoints","name":"db","uid":"db-uid"}]},"ports":[{"name":"","port":5432,"protocol":"TCP"}]}
        "#]],
        );
    }

    #[test]
    fn others_are_left_alone() {
        check("{selector: {app: db}}", "", expect![[""]]);
        check("{}", ", labels: {endpointslice.kubernetes.io/skip-mirror: 'true'}", expect![[""]]);
        check("{}", ", annotations: {control-plane.alpha.kubernetes.io/leader: '{}'}", expect![[""]]);
    }
}
