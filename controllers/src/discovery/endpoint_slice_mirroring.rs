//! Mirrors Endpoints that were made by hand to EndpointSlices, which is what everyone reads.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointSubset, Endpoints};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};

use super::endpoint_slice::endpoints::{Family, Group, add};
use super::endpoint_slice::owned::{self, Source};
use super::endpoint_slice::{HEADLESS, TRIGGER_TIME};
use crate::engine::{Controller, Turn, Wake};
use crate::plan::{Note, NoteType, Plan, Regarding};
use crate::pods;
use crate::resource::{ENDPOINTS, Key};
use crate::selector::Labels;
use crate::world::{Delta, Object, World};

const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Addresses of one subset that are mirrored at most.
const MAX_ADDRESSES_PER_SUBSET: usize = 1000;

pub struct EndpointSliceMirroring;

impl Controller for EndpointSliceMirroring {
    fn name(&self) -> &'static str {
        "endpointslicemirroring"
    }

    fn observe(&mut self, delta: &Delta, _: &World, wake: &mut Wake) {
        match &delta.object {
            Object::Service(service) => wake.now(Key::of(&service.metadata)),
            Object::Endpoints(endpoints) => wake.now(Key::of(&endpoints.metadata)),
            Object::EndpointSlice(_) => owned::wake(delta, MANAGER, wake),
            _ => {}
        }
    }

    fn reconcile(&mut self, key: &Key, world: &World, _: &mut Turn<'_>) -> Plan {
        let mut plan = Plan::none();
        let existing = owned::of(key, MANAGER, world);
        let has_no_selector = |key: &Key| {
            let spec = world.services.by_key(key).and_then(|service| service.spec.as_ref());
            spec.is_some_and(|spec| spec.selector.as_ref().is_none_or(Labels::is_empty))
        };
        match world.endpoints.by_key(key).filter(|endpoints| has_no_selector(key) && is_mirrored(endpoints)) {
            Some(endpoints) => mirror(endpoints, &existing, &mut plan),
            None => owned::delete(&mut plan, existing.into_iter()),
        }
        plan
    }
}

/// Neither told to be left alone, nor a lock of a leader election.
fn is_mirrored(endpoints: &Endpoints) -> bool {
    let meta = &endpoints.metadata;
    let skips = meta.labels.as_ref().and_then(|labels| labels.get(SKIP)).is_some_and(|skip| skip == "true");
    let is_lock = meta.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(LEADER));
    !skips && !is_lock && !pods::is_deleting(meta)
}

fn mirror(endpoints: &Endpoints, existing: &[&Arc<EndpointSlice>], plan: &mut Plan) {
    let is_headless = endpoints.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(HEADLESS));
    let source = Source { resource: &ENDPOINTS, meta: &endpoints.metadata, manager: MANAGER, is_headless };
    let mut annotations = endpoints.metadata.annotations.clone().unwrap_or_default();
    annotations.retain(|name, _| name != TRIGGER_TIME && name != LAST_APPLIED);
    let too_many = |subset: &EndpointSubset| addresses(subset).count().saturating_sub(MAX_ADDRESSES_PER_SUBSET);
    let skipped: usize = endpoints.subsets.iter().flatten().map(too_many).sum();
    if skipped > 0 {
        plan.note(too_many_addresses(endpoints, skipped));
    }
    for family in [Family::V4, Family::V6] {
        let of_family: Vec<_> = existing.iter().filter(|s| s.address_type == family.address_type()).copied().collect();
        let groups = groups(endpoints, family);
        if groups.is_empty() {
            owned::delete(plan, of_family.into_iter());
            continue;
        }
        source.fit(plan, groups, of_family, family, |written| written.clone_from(&annotations));
    }
}

fn too_many_addresses(endpoints: &Endpoints, skipped: usize) -> Note {
    Note {
        component: "endpoint-slice-mirroring-controller",
        regarding: Regarding::new(&ENDPOINTS, &endpoints.metadata),
        note_type: NoteType::Warning,
        reason: "TooManyAddressesToMirror",
        action: "",
        message: format!(
            "A max of {MAX_ADDRESSES_PER_SUBSET} addresses can be mirrored to EndpointSlices per Endpoints subset. \
             {skipped} addresses were skipped"
        ),
    }
}

/// The addresses of a subset, each with whether it is ready; those that are come first.
fn addresses(subset: &EndpointSubset) -> impl Iterator<Item = (&EndpointAddress, bool)> {
    let ready = subset.addresses.iter().flatten().map(|address| (address, true));
    ready.chain(subset.not_ready_addresses.iter().flatten().map(|address| (address, false)))
}

fn groups(endpoints: &Endpoints, family: Family) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for subset in endpoints.subsets.iter().flatten() {
        let mirrored =
            addresses(subset).take(MAX_ADDRESSES_PER_SUBSET).filter(|(address, _)| family.holds(&address.ip));
        let endpoints: Vec<Endpoint> = mirrored.map(|(address, is_ready)| endpoint(address, is_ready)).collect();
        if endpoints.is_empty() {
            continue;
        }
        add(&mut groups, ports(subset), endpoints);
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

    #[test]
    fn only_its_own_mirror_goes_when_there_is_nothing_to_mirror() {
        let plan = |service: &str, endpoints: &str| {
            let slice = |name: &str, manager: &str| {
                format!(
                    "---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{namespace: ns, name: {name}, labels: {{kubernetes.io/service-name: db, endpointslice.kubernetes.io/managed-by: {manager}}}}}
addressType: IPv4
endpoints: []
"
                )
            };
            let slices = slice("mirror", super::MANAGER) + &slice("other", "somebody");
            let mut bench = Bench::new(EndpointSliceMirroring, &format!("{service}{endpoints}{slices}"));
            text(&bench.reconcile("ns", "db", "2024-01-01T00:00:00Z"))
        };
        let service = |spec: &str| {
            format!("{{apiVersion: v1, kind: Service, metadata: {{namespace: ns, name: db}}, spec: {spec}}}\n")
        };
        let endpoints = |more: &str, addresses: &str| {
            format!(
                "---\n{{apiVersion: v1, kind: Endpoints, metadata: {{namespace: ns, name: db{more}}}, subsets: [{{{addresses}ports: [{{port: 80}}]}}]}}\n"
            )
        };
        let (full, skip) =
            ("addresses: [{ip: 192.0.2.1}], ", ", labels: {endpointslice.kubernetes.io/skip-mirror: 'true'}");
        for (service, endpoints) in [
            (service("{}"), endpoints("", "")),
            (service("{}"), endpoints(skip, full)),
            (service("{selector: {app: db}}"), endpoints("", full)),
            (service("{}"), String::new()),
            (String::new(), endpoints("", full).replacen("---", "", 1)),
        ] {
            let plan = plan(&service, &endpoints);
            assert!(plan.starts_with("delete endpointslices ns/mirror at ") && plan.lines().count() == 1, "{plan}");
        }
        let headless = ", labels: {endpointslice.kubernetes.io/skip-mirror: 'no', service.kubernetes.io/headless: ''}";
        let mirrored = plan(&service("{}"), &endpoints(headless, full));
        assert!(
            mirrored.contains("create endpointslices") && mirrored.contains(r#"kubernetes.io/headless":"""#),
            "{mirrored}"
        );
    }

    #[test]
    fn of_a_subset_with_too_many_addresses_the_first_are_mirrored() {
        let addresses: Vec<String> = (0..1003).map(|n| format!("{{ip: 10.1.{}.{}}}", n / 256, n % 256)).collect();
        let yaml = format!(
            "
{{apiVersion: v1, kind: Service, metadata: {{namespace: ns, name: db}}, spec: {{}}}}
---
apiVersion: v1
kind: Endpoints
metadata: {{namespace: ns, name: db}}
subsets: [{{addresses: [{}], notReadyAddresses: [{{ip: 10.2.0.1}}], ports: [{{port: 5432}}]}}]
",
            addresses.join(", ")
        );
        let plan = Bench::new(EndpointSliceMirroring, &yaml).reconcile("ns", "db", "2024-01-01T00:00:00Z");
        let messages: Vec<&str> = plan.notes.iter().map(|note| note.message.as_str()).collect();
        let message = "A max of 1000 addresses can be mirrored to EndpointSlices per Endpoints subset. 4 addresses were \
                       skipped";
        assert_eq!((messages, plan.steps.len()), (vec![message], 10));
    }
}
