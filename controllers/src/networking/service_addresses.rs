//! Keeps Services and IPAddresses in step: each cluster IP has its IPAddress, which names the Service, and no other is
//! left behind (KEP-1880, `ipallocator-repair-controller`).
//!
//! The API server writes both in one transaction; what is mended here was changed by somebody else, or is older than that.

use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::{IPAddress, IPAddressSpec, ParentReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8w_kinds::networking::ip_address::labels;

use super::service_cidr::is_configured;
use crate::engine::{Controller, Turn, Wake};
use crate::plan::{self, Note, NoteType, Plan, Regarding, Step, Target};
use crate::resource::{IP_ADDRESSES, Key, SERVICES};
use crate::time::{after, until};
use crate::world::{Delta, Object, World};

const COMPONENT: &str = "ipallocator-repair-controller";
/// Services and addresses are written together and watched apart: until the other has come.
const SETTLE: Duration = Duration::from_secs(5);
/// How long an address may be without its Service.
const GRACE: Duration = Duration::from_secs(60);

pub struct ServiceAddresses;

/// Keys are those of Services, and names of IPAddresses, which have no namespace.
impl Controller for ServiceAddresses {
    fn name(&self) -> &'static str {
        COMPONENT
    }

    fn observe(&mut self, delta: &Delta, _: &World, wake: &mut Wake) {
        for object in delta.before.iter().chain([&delta.object]) {
            match object {
                Object::Service(service) => {
                    wake.after(object.key(), SETTLE);
                    addresses(service).for_each(|address| wake.after(Key::new("", address), SETTLE));
                }
                // One that now names another Service is missed by the one that it named.
                Object::IPAddress(address) => {
                    wake.after(object.key(), SETTLE);
                    parent(address).into_iter().for_each(|service| wake.after(service, SETTLE));
                }
                _ => return,
            }
        }
    }

    fn reconcile(&mut self, key: &Key, world: &World, turn: &mut Turn<'_>) -> Plan {
        let mut plan = Plan::none();
        if key.namespace.is_empty() {
            if let Some(address) = world.ip_addresses.by_key(key) {
                clean(address, world, turn, &mut plan);
            }
        } else if let Some(service) = world.services.by_key(key) {
            addresses(service).for_each(|address| mend(service, address, world, &mut plan));
        }
        plan
    }
}

/// The cluster IPs of a Service; none of one that is headless or external.
fn addresses(service: &Service) -> impl Iterator<Item = &str> {
    let spec = service.spec.as_ref().filter(|spec| spec.type_.as_deref() != Some("ExternalName"));
    let all = spec.into_iter().flat_map(|spec| spec.cluster_ips.iter().flatten());
    all.map(String::as_str).filter(|address| !address.is_empty() && *address != "None")
}

/// Gives a Service the IPAddress that it should have for one of its addresses.
fn mend(service: &Service, address: &str, world: &World, plan: &mut Plan) {
    let Ok(parsed) = address.parse::<IpAddr>() else {
        let message = format!("Cluster IP {address} is not a valid IP; please recreate Service");
        return plan.note(note(service, "ClusterIPNotValid", "ClusterIPValidation", message));
    };
    let told = |reason, message| note(service, reason, "ClusterIPAllocation", message);
    let family = if parsed.is_ipv4() { "IPv4" } else { "IPv6" };
    if !is_configured(parsed, world) {
        let message = format!(
            "Cluster IP [{family}]: {address} is not within any configured Service CIDR; please recreate service"
        );
        return plan.note(told("ClusterIPOutOfRange", message));
    }
    let key = Key::of(&service.metadata);
    let Some(stored) = world.ip_addresses.get("", address) else {
        let message = format!("Cluster IP [{family}]: {address} is not allocated; repairing");
        plan.step(Step::CheckAlive(Target::new(&SERVICES, &service.metadata)));
        return plan.step(create(&key, address, Some(told("ClusterIPNotAllocated", message))));
    };
    let wrong = format!("the ClusterIP [{family}]: {address} for Service {key} has a wrong reference; repairing");
    let wrong = match parent(stored) {
        Some(parent) if parent == key && is_labelled(stored) => return,
        Some(parent) if parent == key => None,
        Some(parent) if world.services.by_key(&parent).is_some_and(|other| addresses(other).any(|a| a == address)) => {
            let message =
                format!("Cluster IP [{family}]:{address} was assigned to multiple services; please recreate service");
            return plan.note(told("ClusterIPAlreadyAllocated", message));
        }
        _ => Some(told("ClusterIPNotAllocated", wrong)),
    };
    plan.step(Step::CheckAlive(Target::new(&SERVICES, &service.metadata)));
    plan.delete(Target::exact(&IP_ADDRESSES, &stored.metadata));
    plan.step(create(&key, address, wrong));
}

/// The Service that an address says it is of; `None` when it is of something else.
fn parent(address: &IPAddress) -> Option<Key> {
    let parent = &address.spec.parent_ref;
    let is_service = parent.group.as_deref().unwrap_or_default().is_empty() && parent.resource == SERVICES.plural;
    is_service.then(|| Key::new(parent.namespace.as_deref().unwrap_or_default(), &parent.name))
}

/// Whether an address is the API server's own to give.
pub fn is_labelled(address: &IPAddress) -> bool {
    let name = address.metadata.name.as_deref().unwrap_or_default();
    let has = |key: &str| address.metadata.labels.as_ref().and_then(|labels| labels.get(key)).map(String::as_str);
    labels(name).iter().all(|(key, value)| has(key) == Some(value))
}

fn create(service: &Key, address: &str, then: Option<Note>) -> Step {
    let labels = labels(address).map(|(key, value)| (key.to_owned(), value.to_owned()));
    let parent_ref = ParentReference {
        group: None,
        resource: SERVICES.plural.to_string(),
        namespace: Some(service.namespace.to_string()),
        name: service.name.to_string(),
    };
    let object = IPAddress {
        metadata: ObjectMeta { name: Some(address.into()), labels: Some(labels.into()), ..ObjectMeta::default() },
        spec: IPAddressSpec { parent_ref },
    };
    let (resource, object) = (IP_ADDRESSES.clone(), plan::to_value(&object));
    Step::Create { resource, namespace: String::new(), object, then, or_else: None }
}

/// Deletes an address of the API server's whose Service is gone or has another.
fn clean(address: &IPAddress, world: &World, turn: &Turn<'_>, plan: &mut Plan) {
    let meta = &address.metadata;
    let name = meta.name.as_deref().unwrap_or_default();
    if !is_labelled(address) {
        return;
    }
    let of = |parent: &Key| format!("IPAddress: {name} for Service {parent}");
    let (reason, message) = match parent(address) {
        None => {
            let message =
                format!("IPAddress {name} appears to have been modified, not referencing a Service: cleaning up");
            ("IPAddressNotAllocated", message)
        }
        Some(parent) => match world.services.by_key(&parent) {
            Some(service) if addresses(service).any(|held| held == name) => return,
            Some(_) => ("IPAddressWrongReference", format!("{} has a wrong reference; cleaning up", of(&parent))),
            None => {
                let made = meta.creation_timestamp.as_ref().map(|made| made.0);
                let left = made.map(|made| until(after(made, GRACE), turn.now)).unwrap_or_default();
                if !left.is_zero() {
                    return plan.requeue(left);
                }
                plan.step(Step::CheckAbsent(Target::named(&SERVICES, parent.clone(), None)));
                ("IPAddressNotAllocated", format!("{} appears to have leaked: cleaning up", of(&parent)))
            }
        },
    };
    let regarding = Regarding::new(&IP_ADDRESSES, meta);
    let (note_type, action) = (NoteType::Warning, "IPAddressAllocation");
    plan.step(Step::Delete {
        target: Target::exact(&IP_ADDRESSES, meta),
        propagation: None,
        grace_seconds: None,
        then: Some(Note { component: COMPONENT, regarding, note_type, reason, action, message }),
        or_else: None,
    });
}

fn note(service: &Service, reason: &'static str, action: &'static str, message: String) -> Note {
    let regarding = Regarding::new(&SERVICES, &service.metadata);
    Note { component: COMPONENT, regarding, note_type: NoteType::Warning, reason, action, message }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::testing::{Bench, text};

    const RANGE: &str = "
apiVersion: networking.k8s.io/v1
kind: ServiceCIDR
metadata: {name: kubernetes}
spec: {cidrs: [10.96.0.0/16]}
";
    const OURS: &str =
        "ipaddress.kubernetes.io/ip-family: IPv4, ipaddress.kubernetes.io/managed-by: ipallocator.k8s.io";
    const OF_S: &str = "{resource: services, namespace: ns, name: s}";
    const OF_T: &str = "{resource: services, namespace: ns, name: t}";
    const OF_GATEWAY: &str = "{group: g, resource: gateways, name: s}";

    fn service(name: &str, address: &str) -> String {
        format!(
            "---
apiVersion: v1
kind: Service
metadata: {{namespace: ns, name: {name}}}
spec: {{clusterIPs: ['{address}']}}
"
        )
    }

    fn address(parent: &str, labels: &str) -> String {
        format!(
            "---
apiVersion: networking.k8s.io/v1
kind: IPAddress
metadata: {{name: 10.96.0.7, creationTimestamp: '2024-01-01T00:00:30Z', labels: {{{labels}}}}}
spec: {{parentRef: {parent}}}
"
        )
    }

    fn check(key: (&str, &str), world: &[String], expect: Expect) {
        let mut bench = Bench::new(ServiceAddresses, &(RANGE.to_owned() + &world.concat()));
        let plan = bench.reconcile(key.0, key.1, "2024-01-01T00:02:00Z");
        let then = plan.steps.iter().filter_map(|step| match step {
            Step::Create { then, .. } | Step::Delete { then, .. } => then.as_ref(),
            _ => None,
        });
        let then: String = then.map(|note| format!("then {}: {}\n", note.reason, note.message)).collect();
        expect.assert_eq(&(text(&plan) + &then));
    }

    #[test]
    fn each_cluster_ip_has_an_address_that_names_its_service() {
        let own = ("ns", "s");
        check(own, &[service("s", "10.96.0.7"), address(OF_S, OURS)], expect![""]);
        check(own, &[service("s", "None")], expect![""]);
        check(
            own,
            &[service("s", "10.96.0.7")],
            expect![[r#"
            check alive services ns/s
            create ipaddresses in : {"apiVersion":"networking.k8s.io/v1","kind":"IPAddress","metadata":{"labels":{"ipaddress.kubernetes.io/ip-family":"IPv4","ipaddress.kubernetes.io/managed-by":"ipallocator.k8s.io"},"name":"10.96.0.7"},"spec":{"parentRef":{"name":"s","namespace":"ns","resource":"services"}}}
            then ClusterIPNotAllocated: Cluster IP [IPv4]: 10.96.0.7 is not allocated; repairing
        "#]],
        );
        check(
            own,
            &[service("s", "10.96.0.7"), address(OF_S, "")],
            expect![[r#"
            check alive services ns/s
            delete ipaddresses 10.96.0.7 at 3
            create ipaddresses in : {"apiVersion":"networking.k8s.io/v1","kind":"IPAddress","metadata":{"labels":{"ipaddress.kubernetes.io/ip-family":"IPv4","ipaddress.kubernetes.io/managed-by":"ipallocator.k8s.io"},"name":"10.96.0.7"},"spec":{"parentRef":{"name":"s","namespace":"ns","resource":"services"}}}
        "#]],
        );
        check(
            own,
            &[service("s", "10.96.0.7"), address(OF_GATEWAY, OURS)],
            expect![[r#"
            check alive services ns/s
            delete ipaddresses 10.96.0.7 at 3
            create ipaddresses in : {"apiVersion":"networking.k8s.io/v1","kind":"IPAddress","metadata":{"labels":{"ipaddress.kubernetes.io/ip-family":"IPv4","ipaddress.kubernetes.io/managed-by":"ipallocator.k8s.io"},"name":"10.96.0.7"},"spec":{"parentRef":{"name":"s","namespace":"ns","resource":"services"}}}
            then ClusterIPNotAllocated: the ClusterIP [IPv4]: 10.96.0.7 for Service ns/s has a wrong reference; repairing
        "#]],
        );
        check(
            own,
            &[service("s", "10.96.0.7"), address(OF_T, OURS)],
            expect![[r#"
            check alive services ns/s
            delete ipaddresses 10.96.0.7 at 3
            create ipaddresses in : {"apiVersion":"networking.k8s.io/v1","kind":"IPAddress","metadata":{"labels":{"ipaddress.kubernetes.io/ip-family":"IPv4","ipaddress.kubernetes.io/managed-by":"ipallocator.k8s.io"},"name":"10.96.0.7"},"spec":{"parentRef":{"name":"s","namespace":"ns","resource":"services"}}}
            then ClusterIPNotAllocated: the ClusterIP [IPv4]: 10.96.0.7 for Service ns/s has a wrong reference; repairing
        "#]],
        );
        check(
            own,
            &[service("s", "10.0.0.7")],
            expect![[r#"
            note Warning ClusterIPOutOfRange on s: Cluster IP [IPv4]: 10.0.0.7 is not within any configured Service CIDR; please recreate service
        "#]],
        );
        check(
            own,
            &[service("s", "ten")],
            expect![[r#"
            note Warning ClusterIPNotValid on s: Cluster IP ten is not a valid IP; please recreate Service
        "#]],
        );
        let twice = [service("s", "10.96.0.7"), address(OF_T, OURS), service("t", "10.96.0.7")];
        check(
            own,
            &twice,
            expect![[r#"
            note Warning ClusterIPAlreadyAllocated on s: Cluster IP [IPv4]:10.96.0.7 was assigned to multiple services; please recreate service
        "#]],
        );
    }

    #[test]
    fn an_address_that_nobody_has_goes_unless_it_is_new_or_somebody_elses() {
        let own = ("", "10.96.0.7");
        check(own, &[address(OF_S, OURS), service("s", "10.96.0.7")], expect![""]);
        check(own, &[address(OF_GATEWAY, "")], expect![""]);
        check(
            own,
            &[address(OF_GATEWAY, OURS)],
            expect![[r#"
            delete ipaddresses 10.96.0.7 at 2
            then IPAddressNotAllocated: IPAddress 10.96.0.7 appears to have been modified, not referencing a Service: cleaning up
        "#]],
        );
        check(
            own,
            &[address(OF_S, OURS), service("s", "10.96.0.8")],
            expect![[r#"
            delete ipaddresses 10.96.0.7 at 2
            then IPAddressWrongReference: IPAddress: 10.96.0.7 for Service ns/s has a wrong reference; cleaning up
        "#]],
        );
        check(
            own,
            &[address(OF_S, OURS)],
            expect![[r#"
            check absent services ns/s
            delete ipaddresses 10.96.0.7 at 2
            then IPAddressNotAllocated: IPAddress: 10.96.0.7 for Service ns/s appears to have leaked: cleaning up
        "#]],
        );
        check(
            own,
            &[address(OF_S, OURS).replace("00:00:30", "00:01:30")],
            expect![[r#"
            look again in 30s
        "#]],
        );
    }
}
