//! A Service's endpoints as the subsets of an Endpoints object: addresses that share their ports.

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Service};
use k8s_openapi::api::discovery::v1::Endpoint;
use k8w_kinds::core::endpoints::repack as repack_values;
use serde_json::Value;

use crate::discovery::endpoint_slice::{self, endpoints::Group};

/// Addresses that one Endpoints object holds at most.
pub const MAX_CAPACITY: usize = 1000;

/// Subsets in an order of their own, so that the same pods give the same object.
pub fn repack(groups: Vec<Group>, service: &Service) -> Vec<EndpointSubset> {
    let spec = service.spec.as_ref();
    let has_no_ports = spec.and_then(|s| s.ports.as_ref()).is_none_or(Vec::is_empty);
    let publishes_all = spec.is_some_and(|s| s.publish_not_ready_addresses == Some(true));
    let may_lack_ports = has_no_ports && endpoint_slice::is_headless(service);
    let groups = groups.into_iter().filter(|group| may_lack_ports || !group.ports.is_empty());
    let mut subsets: Vec<EndpointSubset> =
        groups.map(|group| subset(group, publishes_all)).filter(|subset| count(subset) > 0).collect();
    subsets.sort_by_cached_key(|subset| subset.ports.iter().flatten().map(port_order).collect::<Vec<_>>());
    subsets
}

/// The form in which the API server stores them: other ones would be written again and again.
pub fn as_stored(subsets: Vec<EndpointSubset>) -> Vec<EndpointSubset> {
    let values: Result<Vec<Value>, _> = subsets.iter().map(serde_json::to_value).collect();
    let stored = values.map(|values| Value::from(repack_values(&values))).and_then(serde_json::from_value);
    stored.unwrap_or(subsets)
}

fn port_order(port: &EndpointPort) -> (Option<String>, Option<String>, i32) {
    (port.name.clone(), port.protocol.clone(), port.port)
}

fn subset(group: Group, publishes_all: bool) -> EndpointSubset {
    let mut ready = Vec::new();
    let mut not_ready = Vec::new();
    for endpoint in group.endpoints {
        let conditions = endpoint.conditions.clone().unwrap_or_default();
        if conditions.terminating == Some(true) && !publishes_all {
            continue;
        }
        let side = if conditions.ready == Some(true) { &mut ready } else { &mut not_ready };
        side.extend(address(endpoint));
    }
    let mut ports: Vec<EndpointPort> = group
        .ports
        .into_iter()
        .filter_map(|port| {
            Some(EndpointPort {
                name: port.name.filter(|name| !name.is_empty()),
                port: port.port?,
                protocol: port.protocol,
                app_protocol: port.app_protocol,
            })
        })
        .collect();
    ports.sort_by_cached_key(port_order);
    EndpointSubset {
        addresses: sorted(ready),
        not_ready_addresses: sorted(not_ready),
        ports: Some(ports).filter(|ports| !ports.is_empty()),
    }
}

fn address(endpoint: Endpoint) -> Option<EndpointAddress> {
    Some(EndpointAddress {
        ip: endpoint.addresses.into_iter().next()?,
        hostname: endpoint.hostname,
        node_name: endpoint.node_name,
        target_ref: endpoint.target_ref,
    })
}

fn sorted(mut addresses: Vec<EndpointAddress>) -> Option<Vec<EndpointAddress>> {
    addresses.sort_by_cached_key(|a| (a.ip.clone(), a.target_ref.as_ref().and_then(|r| r.uid.clone())));
    Some(addresses).filter(|addresses| !addresses.is_empty())
}

fn ready(subset: &EndpointSubset) -> usize {
    subset.addresses.as_ref().map_or(0, Vec::len)
}

fn not_ready(subset: &EndpointSubset) -> usize {
    subset.not_ready_addresses.as_ref().map_or(0, Vec::len)
}

fn count(subset: &EndpointSubset) -> usize {
    ready(subset) + not_ready(subset)
}

/// Leaves [`MAX_CAPACITY`] addresses, ready ones before others and of each subset its share; says whether any went.
pub fn truncate(subsets: &mut Vec<EndpointSubset>) -> bool {
    let total_ready: usize = subsets.iter().map(ready).sum();
    let total_not_ready: usize = subsets.iter().map(not_ready).sum();
    if total_ready + total_not_ready <= MAX_CAPACITY {
        return false;
    }
    let too_many_ready = total_ready > MAX_CAPACITY;
    let (room, total) =
        if too_many_ready { (MAX_CAPACITY, total_ready) } else { (MAX_CAPACITY - total_ready, total_not_ready) };
    let mut left = room;
    for subset in subsets.iter_mut() {
        if too_many_ready {
            subset.not_ready_addresses = None;
        }
        let side = if too_many_ready { &mut subset.addresses } else { &mut subset.not_ready_addresses };
        let Some(addresses) = side else { continue };
        let share = (addresses.len() * room).div_ceil(total).min(left);
        addresses.truncate(share);
        left -= share;
        if share == 0 {
            *side = None;
        }
    }
    subsets.retain(|subset| count(subset) > 0);
    true
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_port_that_pods_of_several_groups_have_in_common_is_stored_by_itself() {
        let of = |subsets: Value| serde_json::from_value::<Vec<EndpointSubset>>(subsets).unwrap();
        let port = |name: &str, port: i32| json!({"name": name, "port": port, "protocol": "TCP"});
        let groups = of(json!([
            {"addresses": [{"ip": "10.64.0.1"}], "ports": [port("a", 80), port("b", 90)]},
            {"addresses": [{"ip": "10.64.0.2"}], "ports": [port("a", 81), port("b", 90)]},
        ]));
        let stored = of(json!([
            {"addresses": [{"ip": "10.64.0.1"}], "ports": [port("a", 80)]},
            {"addresses": [{"ip": "10.64.0.2"}], "ports": [port("a", 81)]},
            {"addresses": [{"ip": "10.64.0.1"}, {"ip": "10.64.0.2"}], "ports": [port("b", 90)]},
        ]));
        assert_eq!(as_stored(groups), stored);
        assert_eq!(as_stored(stored.clone()), stored);
    }

    /// How many addresses of a subset are ready, and how many are not.
    type Counts = (usize, usize);

    #[test]
    fn ready_addresses_stay_before_others_and_each_subset_has_its_share() {
        let addresses = |count: usize| {
            let one = EndpointAddress { ip: "10.64.0.1".into(), ..EndpointAddress::default() };
            Some(vec![one; count]).filter(|addresses| !addresses.is_empty())
        };
        // Before and after; `None` where nothing is cut.
        let cases: [(&[Counts], Option<&[Counts]>); 9] = [
            (&[], None),
            (&[(500, 0)], None),
            (&[(100, 900)], None),
            (&[(1001, 0)], Some(&[(1000, 0)])),
            (&[(0, 1001)], Some(&[(0, 1000)])),
            (&[(400, 1000)], Some(&[(400, 600)])),
            (&[(1200, 300)], Some(&[(1000, 0)])),
            (&[(600, 600), (600, 0)], Some(&[(500, 0), (500, 0)])),
            (&[(334, 0), (333, 1), (334, 0)], Some(&[(334, 0), (333, 0), (333, 0)])),
        ];
        for (before, after) in cases {
            let subset = |(ready, not_ready): &Counts| EndpointSubset {
                addresses: addresses(*ready),
                not_ready_addresses: addresses(*not_ready),
                ports: None,
            };
            let mut subsets: Vec<_> = before.iter().map(subset).collect();
            assert_eq!(truncate(&mut subsets), after.is_some(), "{before:?}");
            let counts: Vec<_> = subsets.iter().map(|subset| (ready(subset), not_ready(subset))).collect();
            assert_eq!(counts, after.unwrap_or(before), "{before:?}");
        }
    }
}
