//! Gives Services of type LoadBalancer the addresses of nodes, which serve their ports, as k3s' ServiceLB does.
//!
//! A port of the nodes is one Service's: of several that want it, the oldest gets it, and the others wait for it.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{LoadBalancerIngress, LoadBalancerStatus, Node, Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};

use crate::discovery::endpoint_slice::{SERVICE_NAME, endpoints::Family};
use crate::engine::{Controller, Turn, Wake};
use crate::nodes::is_ready;
use crate::plan::{Note, NoteType, Plan, Regarding};
use crate::pods::is_deleting;
use crate::resource::{Key, SERVICES};
use crate::world::{Delta, Object, World};

/// `spec.loadBalancerClass` of Services that want this balancer by name; those that name none get it too.
pub const CLASS: &str = "k8w.dev/node-addresses";
/// A label of nodes that are to take no traffic from outside (API reference: well-known labels).
const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
const COMPONENT: &str = "service-controller";

pub struct ServiceLoadBalancers;

impl Controller for ServiceLoadBalancers {
    fn name(&self) -> &'static str {
        "service-lb-controller"
    }

    fn observe(&mut self, delta: &Delta, world: &World, wake: &mut Wake) {
        match (&delta.object, &delta.before) {
            (Object::Service(service), before) => {
                wake.now(Key::of(&service.metadata));
                let before = match before {
                    Some(Object::Service(before)) => held(before),
                    _ => BTreeSet::new(),
                };
                // A port that is given back may be what another waits for, one that is taken what another has.
                let moved: BTreeSet<_> = before.symmetric_difference(&held(service)).copied().collect();
                if !moved.is_empty() {
                    wake_all(world, wake, |other| !held(other).is_disjoint(&moved));
                }
            }
            (Object::Node(node), Some(Object::Node(before))) if !delta.gone && facts(before) == facts(node) => {}
            (Object::Node(_), _) => wake_all(world, wake, |_| true),
            (Object::EndpointSlice(slice), Some(Object::EndpointSlice(before)))
                if !delta.gone && serving(before).eq(serving(slice)) => {}
            (Object::EndpointSlice(slice), _) => {
                let namespace = slice.metadata.namespace.as_deref().unwrap_or_default();
                let service = slice.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_NAME));
                let service = service.and_then(|name| world.services.get(namespace, name));
                if let Some(service) = service.filter(|service| is_ours(service) && is_local(service)) {
                    wake.now(Key::of(&service.metadata));
                }
            }
            _ => {}
        }
    }

    fn reconcile(&mut self, key: &Key, world: &World, _: &mut Turn<'_>) -> Plan {
        match world.services.by_key(key) {
            Some(service) => reconcile(service, world),
            None => Plan::none(),
        }
    }
}

fn wake_all(world: &World, wake: &mut Wake, is_touched: impl Fn(&Service) -> bool) {
    let ours = world.services.iter().filter(|service| is_ours(service) && is_touched(service));
    wake.others(world, ours.map(|service| Key::of(&service.metadata)));
}

fn is_balanced(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|spec| spec.type_.as_deref() == Some("LoadBalancer"))
}

fn is_ours(service: &Service) -> bool {
    let class = service.spec.as_ref().and_then(|spec| spec.load_balancer_class.as_deref());
    is_balanced(service) && class.is_none_or(|class| class == CLASS)
}

fn is_local(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|spec| spec.external_traffic_policy.as_deref() == Some("Local"))
}

pub fn reconcile(service: &Service, world: &World) -> Plan {
    let mut plan = Plan::none();
    if is_deleting(&service.metadata) || (is_balanced(service) && !is_ours(service)) {
        return plan;
    }
    let shown = service.status.as_ref().and_then(|status| status.load_balancer.as_ref()?.ingress.clone());
    let shown = shown.unwrap_or_default();
    let addresses = if !is_balanced(service) {
        BTreeSet::new()
    } else if let Some(refusal) = refusal(service, world) {
        let message = format!("Error syncing load balancer: failed to ensure load balancer: {refusal}");
        plan.note(note(service, NoteType::Warning, "SyncLoadBalancerFailed", message));
        BTreeSet::new()
    } else {
        addresses(service, world)
    };
    let wanted: Vec<LoadBalancerIngress> = addresses.into_iter().map(ingress).collect();
    if wanted == shown {
        return plan;
    }
    if !wanted.is_empty() {
        plan.note(if shown.is_empty() {
            note(service, NoteType::Normal, "EnsuredLoadBalancer", "Ensured load balancer".into())
        } else {
            note(service, NoteType::Normal, "UpdatedLoadBalancer", "Updated load balancer with new hosts".into())
        });
    }
    let mut updated = service.clone();
    let ingress = Some(wanted).filter(|wanted| !wanted.is_empty());
    updated.status.get_or_insert_default().load_balancer = Some(LoadBalancerStatus { ingress });
    plan.update_status(&SERVICES, &updated);
    plan
}

/// Why a Service gets no addresses: an older one has one of its ports.
fn refusal(service: &Service, world: &World) -> Option<String> {
    let age =
        |service: &Service| (service.metadata.creation_timestamp.as_ref().map(|t| t.0), Key::of(&service.metadata));
    let mine: Vec<_> = ports(service).map(number).collect();
    let older = world.services.iter().filter(|other| is_ours(other) && age(other) < age(service));
    older.into_iter().find_map(|other| {
        let (port, protocol) = ports(other).map(number).find(|port| mine.contains(port))?;
        Some(format!("port {port}/{protocol} of the nodes belongs to service {}", Key::of(&other.metadata)))
    })
}

fn ports(service: &Service) -> impl Iterator<Item = &ServicePort> {
    service.spec.iter().flat_map(|spec| spec.ports.iter().flatten())
}

/// The ports of the nodes that a Service wants of this balancer.
fn held(service: &Service) -> BTreeSet<(i32, &str)> {
    ports(service).filter(|_| is_ours(service)).map(number).collect()
}

fn number(port: &ServicePort) -> (i32, &str) {
    (port.port, port.protocol.as_deref().unwrap_or("TCP"))
}

/// The addresses at which the Service can be reached: external ones where any node has one, of its address families.
fn addresses(service: &Service, world: &World) -> BTreeSet<String> {
    let families = Family::of(service);
    let serving = is_local(service).then(|| nodes_of_endpoints(service, world));
    let is_eligible =
        |node: &Facts<'_>| node.takes_traffic && serving.as_ref().is_none_or(|serving| serving.contains(node.name));
    let nodes: Vec<_> = world.nodes.iter().map(|node| facts(node)).filter(is_eligible).collect();
    let of_type = |type_: &str| -> BTreeSet<String> {
        let all = nodes.iter().flat_map(|node| &node.addresses).filter(|(of, _)| *of == type_);
        let all = all.filter(|(_, address)| families.iter().any(|family| family.holds(address)));
        all.map(|(_, address)| (*address).to_owned()).collect()
    };
    let external = of_type("ExternalIP");
    if external.is_empty() { of_type("InternalIP") } else { external }
}

/// Names of the nodes that have a ready endpoint of the Service.
fn nodes_of_endpoints<'a>(service: &Service, world: &'a World) -> BTreeSet<&'a str> {
    let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
    let slices = world.endpoint_slices.in_namespace(namespace).filter(|slice| {
        slice.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_NAME)) == service.metadata.name.as_ref()
    });
    slices.flat_map(|slice| serving(slice)).collect()
}

/// Names of the nodes that have a ready endpoint of the slice, once for each endpoint.
fn serving(slice: &EndpointSlice) -> impl Iterator<Item = &str> {
    let ready = |endpoint: &&Endpoint| endpoint.conditions.as_ref().and_then(|c| c.ready) != Some(false);
    slice.endpoints.iter().flatten().filter(ready).filter_map(|endpoint| endpoint.node_name.as_deref())
}

/// What of a node matters here.
#[derive(PartialEq)]
struct Facts<'a> {
    name: &'a str,
    takes_traffic: bool,
    /// Type and address.
    addresses: Vec<(&'a str, &'a str)>,
}

fn facts(node: &Node) -> Facts<'_> {
    let is_excluded = node.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(EXCLUDED));
    let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    Facts {
        name: node.metadata.name.as_deref().unwrap_or_default(),
        takes_traffic: is_ready(node) && !is_excluded && !is_deleting(&node.metadata),
        addresses: addresses.map(|address| (address.type_.as_str(), address.address.as_str())).collect(),
    }
}

fn ingress(address: String) -> LoadBalancerIngress {
    LoadBalancerIngress { ip: Some(address), ip_mode: Some("VIP".into()), ..LoadBalancerIngress::default() }
}

fn note(service: &Service, note_type: NoteType, reason: &'static str, message: String) -> Note {
    let regarding = Regarding::new(&SERVICES, &service.metadata);
    Note { component: COMPONENT, regarding, note_type, reason, action: "", message }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::testing::{Bench, text};

    const NODES: &str = "
---
apiVersion: v1
kind: Node
metadata: {name: one}
status: {addresses: [{type: InternalIP, address: 10.0.0.1}, {type: Hostname, address: one}, {type: InternalIP, address: 'fd00::1'}], conditions: [{type: Ready, status: 'True'}]}
---
apiVersion: v1
kind: Node
metadata: {name: two}
status: {addresses: [{type: InternalIP, address: 10.0.0.2}], conditions: [{type: Ready, status: 'True'}]}
---
apiVersion: v1
kind: Node
metadata: {name: lost}
status: {addresses: [{type: InternalIP, address: 10.0.0.3}], conditions: [{type: Ready, status: Unknown}]}
---
apiVersion: v1
kind: Node
metadata: {name: apart, labels: {node.kubernetes.io/exclude-from-external-load-balancers: ''}}
status: {addresses: [{type: InternalIP, address: 10.0.0.4}], conditions: [{type: Ready, status: 'True'}]}
";

    fn service(name: &str, created: u8, spec: &str, status: &str) -> String {
        format!(
            "
---
apiVersion: v1
kind: Service
metadata: {{namespace: ns, name: {name}, creationTimestamp: 2024-01-01T00:00:0{created}Z}}
spec: {{ports: [{{port: 80}}], {spec}}}
status: {{{status}}}
"
        )
    }

    fn check(world: &[String], name: &str, expect: Expect) {
        let mut bench = Bench::new(ServiceLoadBalancers, &(world.concat() + NODES));
        expect.assert_eq(&text(&bench.reconcile("ns", name, "2024-01-01T00:01:00Z")));
    }

    #[test]
    fn a_service_has_the_addresses_of_ready_nodes() {
        let balanced = |spec: &str| service("web", 1, &format!("type: LoadBalancer{spec}"), "");
        check(
            &[balanced("")],
            "web",
            expect![[r#"
            note Normal EnsuredLoadBalancer on web: Ensured load balancer
            update services ns/web status: {"loadBalancer":{"ingress":[{"ip":"10.0.0.1","ipMode":"VIP"},{"ip":"10.0.0.2","ipMode":"VIP"}]}}
        "#]],
        );
        check(
            &[balanced(", ipFamilies: [IPv6]")],
            "web",
            expect![[r#"
            note Normal EnsuredLoadBalancer on web: Ensured load balancer
            update services ns/web status: {"loadBalancer":{"ingress":[{"ip":"fd00::1","ipMode":"VIP"}]}}
        "#]],
        );
        check(
            &[balanced(", loadBalancerClass: k8w.dev/node-addresses, ipFamilies: [IPv6]")],
            "web",
            expect![[r#"
            note Normal EnsuredLoadBalancer on web: Ensured load balancer
            update services ns/web status: {"loadBalancer":{"ingress":[{"ip":"fd00::1","ipMode":"VIP"}]}}
        "#]],
        );
        let others = "loadBalancer: {ingress: [{ip: 192.0.2.1}]}";
        check(
            &[service("web", 1, "type: LoadBalancer, loadBalancerClass: example.com/other", others)],
            "web",
            expect![""],
        );
        let external = NODES.replacen("type: Hostname, address: one", "type: ExternalIP, address: 203.0.113.1", 1);
        let mut bench = Bench::new(ServiceLoadBalancers, &(balanced("") + &external));
        expect![[r#"
            note Normal EnsuredLoadBalancer on web: Ensured load balancer
            update services ns/web status: {"loadBalancer":{"ingress":[{"ip":"203.0.113.1","ipMode":"VIP"}]}}
        "#]]
        .assert_eq(&text(&bench.reconcile("ns", "web", "2024-01-01T00:01:00Z")));
    }

    #[test]
    fn local_traffic_comes_only_where_an_endpoint_is() {
        let slice = "
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {namespace: ns, name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
endpoints: [{addresses: [10.64.0.1], nodeName: two}, {addresses: [10.64.0.2], nodeName: one, conditions: {ready: false}}]
";
        let local = service("web", 1, "type: LoadBalancer, externalTrafficPolicy: Local", "");
        check(
            &[local, slice.into()],
            "web",
            expect![[r#"
            note Normal EnsuredLoadBalancer on web: Ensured load balancer
            update services ns/web status: {"loadBalancer":{"ingress":[{"ip":"10.0.0.2","ipMode":"VIP"}]}}
        "#]],
        );
    }

    #[test]
    fn a_port_is_the_oldest_services() {
        let status = "loadBalancer: {ingress: [{ip: 10.0.0.1, ipMode: VIP}, {ip: 10.0.0.2, ipMode: VIP}]}";
        let both = [service("old", 1, "type: LoadBalancer", status), service("new", 2, "type: LoadBalancer", "")];
        check(&both, "old", expect![""]);
        check(
            &both,
            "new",
            expect![[r#"
            note Warning SyncLoadBalancerFailed on new: Error syncing load balancer: failed to ensure load balancer: port 80/TCP of the nodes belongs to service ns/old
        "#]],
        );
        let gone = Object::clone(&crate::testing::objects(&both[0])[0]);
        let mut bench = Bench::new(ServiceLoadBalancers, &(both.concat() + NODES));
        assert!(bench.wakes(crate::world::Change::WatchedGone(gone)));
        expect![[r#"
            note Normal EnsuredLoadBalancer on new: Ensured load balancer
            update services ns/new status: {"loadBalancer":{"ingress":[{"ip":"10.0.0.1","ipMode":"VIP"},{"ip":"10.0.0.2","ipMode":"VIP"}]}}
        "#]]
        .assert_eq(&text(&bench.reconcile("ns", "new", "2024-01-01T00:01:00Z")));
    }

    #[test]
    fn another_type_has_no_addresses() {
        let status = "loadBalancer: {ingress: [{ip: 10.0.0.1, ipMode: VIP}]}";
        check(
            &[service("web", 1, "type: ClusterIP", status)],
            "web",
            expect![[r#"
            update services ns/web status: {"loadBalancer":{}}
        "#]],
        );
    }
}
