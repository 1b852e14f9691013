//! Says for whom each endpoint is meant: for its own zone or node (KEP-3015), or for zones by their share of the
//! cluster's CPU (KEP-2433).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointHints, ForNode, ForZone};

use super::endpoints::{Family, Group, ZONE};
use crate::nodes::is_ready;
use crate::quantity;
use crate::world::World;

const TOPOLOGY_MODE: &str = "service.kubernetes.io/topology-mode";
/// Nodes with these labels serve no pods worth counting.
const CONTROL_PLANE: [&str; 2] = ["node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"];
/// By how much a zone's endpoints may be busier than all are on average.
const MAX_OVERLOAD: f64 = 0.2;

/// What a Service wants its traffic to prefer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preference {
    Nothing,
    SameZone,
    SameNode,
    /// The zone, as far as its endpoints can take its share.
    ZoneByCapacity,
}

impl Preference {
    /// The annotation outweighs the field.
    pub fn of(service: &Service) -> Self {
        let mode = service.metadata.annotations.as_ref().and_then(|annotations| annotations.get(TOPOLOGY_MODE));
        if mode.is_some_and(|mode| mode.eq_ignore_ascii_case("auto")) {
            return Self::ZoneByCapacity;
        }
        match service.spec.as_ref().and_then(|spec| spec.traffic_distribution.as_deref()) {
            Some("PreferClose" | "PreferSameZone") => Self::SameZone,
            Some("PreferSameNode") => Self::SameNode,
            _ => Self::Nothing,
        }
    }
}

/// Gives the ready endpoints of one address family their hints.
///
/// # Errors
/// Why there are none although the Service asks for them, as Kubernetes' event words it.
pub fn add(service: &Service, groups: &mut [Group], family: Family, world: &World) -> Result<(), String> {
    let mut ready: Vec<&mut Endpoint> =
        groups.iter_mut().flat_map(|group| &mut group.endpoints).filter(is_taking).collect();
    match Preference::of(service) {
        Preference::Nothing => Ok(()),
        Preference::SameZone => {
            ready.iter_mut().for_each(|endpoint| endpoint.hints = own(endpoint, false));
            Ok(())
        }
        Preference::SameNode => {
            ready.iter_mut().for_each(|endpoint| endpoint.hints = own(endpoint, true));
            Ok(())
        }
        Preference::ZoneByCapacity => {
            let zones = zones(&ready, world).map_err(|why| format!("{why}, addressType: {}", family.address_type()))?;
            for (endpoint, zone) in ready.iter_mut().zip(zones) {
                endpoint.hints = Some(EndpointHints { for_zones: Some(vec![ForZone { name: zone }]), for_nodes: None });
            }
            Ok(())
        }
    }
}

fn is_taking(endpoint: &&mut Endpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) == Some(true)
}

fn own(endpoint: &Endpoint, with_node: bool) -> Option<EndpointHints> {
    let for_zones = endpoint.zone.clone().map(|name| vec![ForZone { name }]);
    let for_nodes = endpoint.node_name.clone().filter(|_| with_node).map(|name| vec![ForNode { name }]);
    (for_zones.is_some() || for_nodes.is_some()).then_some(EndpointHints { for_zones, for_nodes })
}

/// A zone for each endpoint: its own, but for those that zones with too many give to zones with too few.
fn zones(endpoints: &[&mut Endpoint], world: &World) -> Result<Vec<String>, String> {
    let desired = desired(endpoints.len(), world)?;
    let mut zones = Vec::with_capacity(endpoints.len());
    for endpoint in endpoints {
        let zone = endpoint.zone.clone().filter(|zone| !zone.is_empty());
        zones.push(zone.ok_or("One or more endpoints do not have a zone specified")?);
    }
    let mut surplus: BTreeMap<String, f64> = desired.into_iter().map(|(zone, share)| (zone, -share)).collect();
    for zone in &zones {
        *surplus.entry(zone.clone()).or_default() += 1.0;
    }
    // Each move brings two zones nearer to their share, so that fewer moves are made than there are endpoints.
    for _ in 0..zones.len() {
        let most = surplus.iter().max_by(|a, b| a.1.total_cmp(b.1)).map(|(zone, amount)| (zone.clone(), *amount));
        let least = surplus.iter().min_by(|a, b| a.1.total_cmp(b.1)).map(|(zone, amount)| (zone.clone(), *amount));
        let (Some((giver, more)), Some((taker, less))) = (most, least) else { break };
        if more < 1.0 && less > -1.0 {
            break;
        }
        let Some(moved) = zones.iter_mut().find(|zone| **zone == giver) else { break };
        *moved = taker.clone();
        surplus.insert(giver, more - 1.0);
        surplus.insert(taker, less + 1.0);
    }
    Ok(zones)
}

/// How many endpoints each zone should have.
fn desired(endpoints: usize, world: &World) -> Result<BTreeMap<String, f64>, String> {
    let mut cpu: BTreeMap<String, i64> = BTreeMap::new();
    for node in world.nodes.iter().filter(|node| counts(node)) {
        let (zone, millis) = (zone(node), cpu_millis(node));
        let Some(zone) = zone.filter(|_| millis > 0) else {
            cpu.clear();
            break;
        };
        *cpu.entry(zone.to_owned()).or_default() += millis;
    }
    let missing = "Insufficient Node information: allocatable CPU or zone not specified on one or more nodes";
    if cpu.len() < 2 {
        return Err(missing.into());
    }
    let numbers = format!("({endpoints} endpoints, {} zones)", cpu.len());
    if cpu.len() > endpoints {
        return Err(format!("Insufficient number of endpoints {numbers}"));
    }
    let total: i64 = cpu.values().sum();
    let share = |millis: i64| millis as f64 / total as f64 * endpoints as f64;
    let least = |share: f64| (share / (1.0 + MAX_OVERLOAD)).ceil();
    if cpu.values().map(|millis| least(share(*millis))).sum::<f64>() > endpoints as f64 {
        let why = "Unable to allocate minimum required endpoints to each zone without exceeding overload threshold";
        return Err(format!("{why} {numbers}"));
    }
    Ok(cpu.into_iter().map(|(zone, millis)| (zone, share(millis).max(least(share(millis))))).collect())
}

/// What of a node changes hints.
pub fn facts(node: &Node) -> (Option<&str>, bool, i64) {
    (zone(node), counts(node), cpu_millis(node))
}

fn zone(node: &Node) -> Option<&str> {
    node.metadata.labels.as_ref()?.get(ZONE).map(String::as_str).filter(|zone| !zone.is_empty())
}

fn counts(node: &Node) -> bool {
    let has = |name: &str| node.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(name));
    is_ready(node) && !CONTROL_PLANE.iter().any(|name| has(name))
}

fn cpu_millis(node: &Node) -> i64 {
    let allocatable = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
    allocatable.and_then(|amounts| quantity::millis(amounts.get("cpu")?)).unwrap_or(0)
}
