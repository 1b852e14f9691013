//! Says that ServiceCIDRs are ready, and keeps those that are deleted until no Service has an address of theirs alone
//! (KEP-1880).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde_json::json;

use super::service_addresses::is_labelled;
use crate::engine::{Controller, Turn, Wake};
use crate::plan::{self, Plan, Target, with_finalizer, without_finalizer};
use crate::pods::{has_finalizer, is_deleting};
use crate::resource::{Key, SERVICE_CIDRS};
use crate::time::{after, stamp, until};
use crate::world::{Delta, Object, World};

const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
/// Until then an API server may not have seen that nothing is to be taken from the range any more.
const GRACE: Duration = Duration::from_secs(10);

pub struct ServiceCidrs;

impl Controller for ServiceCidrs {
    fn name(&self) -> &'static str {
        "service-cidr-controller"
    }

    fn observe(&mut self, delta: &Delta, world: &World, wake: &mut Wake) {
        match &delta.object {
            Object::ServiceCIDR(range) => wake.now(Key::of(&range.metadata)),
            // What was waited for may be gone.
            Object::IPAddress(_) if delta.gone => {}
            _ => return,
        }
        // Another range, or an address less, may let one go.
        let leaving = world.service_cidrs.iter().filter(|range| is_deleting(&range.metadata));
        wake.others(world, leaving.map(|range| Key::of(&range.metadata)));
    }

    fn reconcile(&mut self, key: &Key, world: &World, turn: &mut Turn<'_>) -> Plan {
        let mut plan = Plan::none();
        let Some(range) = world.service_cidrs.by_key(key) else { return plan };
        let meta = &range.metadata;
        let ready = |status: &str, reason: &str, message: &str| Condition {
            type_: "Ready".into(),
            status: status.into(),
            reason: reason.into(),
            message: message.into(),
            last_transition_time: stamp(turn.now),
            observed_generation: None,
        };
        let Some(deleted) = &meta.deletion_timestamp else {
            if !has_finalizer(meta, FINALIZER) {
                plan.step(with_finalizer(&SERVICE_CIDRS, meta, FINALIZER));
            }
            say(&mut plan, range, ready("True", "", "Kubernetes Service CIDR is ready"));
            return plan;
        };
        if !has_finalizer(meta, FINALIZER) {
            return plan;
        }
        if is_in_use(range, world) {
            let message = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new \
                           ServiceCIDR";
            say(&mut plan, range, ready("False", "Terminating", message));
            return plan;
        }
        let left = until(after(deleted.0, GRACE), turn.now);
        if left.is_zero() {
            plan.step(without_finalizer(&SERVICE_CIDRS, meta, FINALIZER));
        } else {
            plan.requeue(left);
        }
        plan
    }
}

/// Sets the condition, unless it says so already.
fn say(plan: &mut Plan, range: &ServiceCIDR, condition: Condition) {
    let conditions = range.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let is_same = |old: &Condition| old.status == condition.status && old.message == condition.message;
    if !conditions.filter(|old| old.type_ == condition.type_).any(is_same) {
        let status = json!({ "conditions": [plan::to_value(&condition)] });
        plan.patch_status(Target::new(&SERVICE_CIDRS, &range.metadata), json!({ "status": status }));
    }
}

/// Whether the address is in one of the ranges of a ServiceCIDR.
fn holds(range: &ServiceCIDR, address: IpAddr) -> bool {
    let cidrs = range.spec.iter().flat_map(|spec| spec.cidrs.iter().flatten());
    cidrs.filter_map(|cidr| cidr.parse::<IpNet>().ok()).any(|cidr| cidr.contains(&address))
}

/// Whether any ServiceCIDR holds the address: one that is deleted stays for as long as it is needed.
pub fn is_configured(address: IpAddr, world: &World) -> bool {
    world.service_cidrs.iter().any(|range| holds(range, address))
}

/// Whether a Service has an address that this range holds, and none that stays.
fn is_in_use(range: &ServiceCIDR, world: &World) -> bool {
    let ours = world.ip_addresses.iter().filter(|address| is_labelled(address));
    let mut ours = ours.filter_map(|address| address.metadata.name.as_deref()?.parse::<IpAddr>().ok());
    let stays = |other: &&Arc<ServiceCIDR>| !is_deleting(&other.metadata);
    let is_kept = |address| world.service_cidrs.iter().filter(stays).any(|other| holds(other, address));
    ours.any(|address| holds(range, address) && !is_kept(address))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::resource::IP_ADDRESSES;
    use crate::testing::{Bench, text};
    use crate::world::Change;

    fn range(name: &str, cidr: &str, more: &str) -> String {
        format!(
            "---
apiVersion: networking.k8s.io/v1
kind: ServiceCIDR
metadata: {{name: {name}{more}}}
spec: {{cidrs: ['{cidr}']}}
"
        )
    }

    const ADDRESS: &str = "---
apiVersion: networking.k8s.io/v1
kind: IPAddress
metadata:
  name: 10.96.0.7
  labels: {ipaddress.kubernetes.io/ip-family: IPv4, ipaddress.kubernetes.io/managed-by: ipallocator.k8s.io}
spec: {parentRef: {resource: services, namespace: ns, name: s}}
";
    const LEAVING: &str =
        ", finalizers: [networking.k8s.io/service-cidr-finalizer], deletionTimestamp: '2024-01-01T00:00:55Z'";

    fn check(now: &str, world: &[String], expect: Expect) {
        let mut bench = Bench::new(ServiceCidrs, &world.concat());
        expect.assert_eq(&text(&bench.reconcile("", "r", now)));
    }

    #[test]
    fn a_range_is_held_and_ready() {
        check(
            "2024-01-01T00:01:00Z",
            &[range("r", "10.96.0.0/16", "")],
            expect![[r#"
            patch servicecidrs r at 1 : {"metadata":{"finalizers":["networking.k8s.io/service-cidr-finalizer"]}}
            patch servicecidrs r status: {"status":{"conditions":[{"lastTransitionTime":"2024-01-01T00:01:00Z","message":"Kubernetes Service CIDR is ready","reason":"","status":"True","type":"Ready"}]}}
        "#]],
        );
    }

    #[test]
    fn a_range_stays_as_long_as_an_address_is_in_no_other() {
        let leaving = || range("r", "10.96.0.0/16", LEAVING);
        let others = ADDRESS.replace("ipallocator.k8s.io", "others");
        check(
            "2024-01-01T00:01:00Z",
            &[leaving(), ADDRESS.into()],
            expect![[r#"
            patch servicecidrs r status: {"status":{"conditions":[{"lastTransitionTime":"2024-01-01T00:01:00Z","message":"There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR","reason":"Terminating","status":"False","type":"Ready"}]}}
        "#]],
        );
        check(
            "2024-01-01T00:01:00Z",
            &[leaving()],
            expect![[r#"
            look again in 5s
        "#]],
        );
        check(
            "2024-01-01T00:01:05Z",
            &[leaving()],
            expect![[r#"
            patch servicecidrs r at 1 : {"metadata":{"finalizers":[]}}
        "#]],
        );
        check(
            "2024-01-01T00:01:05Z",
            &[leaving(), others],
            expect![[r#"
            patch servicecidrs r at 1 : {"metadata":{"finalizers":[]}}
        "#]],
        );
        check(
            "2024-01-01T00:01:05Z",
            &[leaving(), ADDRESS.into(), range("s", "10.97.0.0/16", "")],
            expect![[r#"
            patch servicecidrs r status: {"status":{"conditions":[{"lastTransitionTime":"2024-01-01T00:01:05Z","message":"There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR","reason":"Terminating","status":"False","type":"Ready"}]}}
        "#]],
        );
        check(
            "2024-01-01T00:01:05Z",
            &[leaving(), ADDRESS.into(), range("s", "10.96.0.0/24", "")],
            expect![[r#"
            patch servicecidrs r at 1 : {"metadata":{"finalizers":[]}}
        "#]],
        );
        check(
            "2024-01-01T00:01:05Z",
            &[leaving(), ADDRESS.into(), range("s", "10.0.0.0/8", "")],
            expect![[r#"
            patch servicecidrs r at 1 : {"metadata":{"finalizers":[]}}
        "#]],
        );
    }

    #[test]
    fn the_last_address_or_another_range_lets_it_go() {
        let mut bench = Bench::new(ServiceCidrs, &(range("r", "10.96.0.0/16", LEAVING) + ADDRESS));
        let (key, uid) = (Key::new("", "10.96.0.7"), "10.96.0.7-uid".to_owned());
        assert!(bench.wakes(Change::Removed { resource: IP_ADDRESSES.clone(), key, uid }));
    }
}
