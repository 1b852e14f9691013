//! Cluster IPs and node ports of Services.
//!
//! A cluster IP is taken by creating its IPAddress, which names the Service (KEP-1880).
//!
//! Both ranges have a lower band for addresses that users ask for and an upper one from which the server chooses first
//! (KEP-3070, KEP-3668).

mod repair;

pub(crate) use repair::keep_node_ports;

use super::{Claim, Plan};
use crate::ApiServer;
use crate::kubernetes_service::NAME;
use crate::object_store::{Write, timestamp};
use crate::status::Status;
use crate::watch_cache::{encode, storage_key};
use bytes::Bytes;
use ipnet::Ipv4Net;
use k8w_kinds::core::service::{HEALTH_PORT, needs_health_port};
use k8w_kinds::field::{FieldError, FieldPath};
use k8w_kinds::networking::ip_address;
use k8w_kinds::object;
use k8w_storage::datastore::{KeyRange, ListRequest};
use rand::Rng;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::Ipv4Addr;
use std::ops::Range;

const NETWORKING: &str = "networking.k8s.io";
const PORTS: &str = "/ranges/servicenodeports/";
/// How often a random number is tried before the whole range is read.
const RANDOM_TRIES: usize = 16;

pub(super) async fn plan(write: &Write<'_>, old: Option<&Value>, new: Option<&mut Value>) -> Result<Plan, Status> {
    let (server, resource) = (write.server, write.resource);
    let mut plan = Plan::default();
    let held: BTreeSet<Bytes> = old.map(claims).unwrap_or_default().into_keys().collect();
    let Some(service) = new else {
        plan.released = held.into_iter().collect();
        return Ok(plan);
    };
    let name = object::text(service, &["metadata", "name"]).to_string();
    let mut chosen = HashSet::new();
    choose_address(server, &mut plan, service, &mut chosen).await?;
    choose_ports(server, &mut plan, service, old.is_none(), &mut chosen).await?;

    let wanted = claims(service);
    let mut errors = Vec::new();
    for (key, wish) in &wanted {
        if held.contains(key) {
            continue;
        }
        errors.extend(out_of_range(server, wish));
        let value = match wish {
            Wish::Address { address, .. } => held_by(write, service, address),
            Wish::Port { .. } | Wish::HealthPort { .. } => owner(service),
        };
        plan.claims.push(Claim { key: key.clone(), value, taken: wish.taken(), chosen: chosen.contains(key) });
    }
    if !errors.is_empty() {
        return Err(Status::invalid(&resource.group, &resource.kind, &name, &errors));
    }
    plan.released = held.into_iter().filter(|key| !wanted.contains_key(key)).collect();
    Ok(plan)
}

/// Something that a Service says it has.
enum Wish {
    Address {
        all: Value,
        address: String,
    },
    Port {
        index: usize,
        port: i64,
    },
    /// Where load balancers ask about its health.
    HealthPort {
        port: i64,
    },
}

impl Wish {
    fn error(&self, why: String) -> FieldError {
        let spec = FieldPath::new("spec");
        match self {
            Wish::Address { all, .. } => FieldError::invalid(&spec.child("clusterIPs"), all.clone(), why),
            Wish::Port { index, port } => {
                let ports = spec.child("ports");
                FieldError::invalid(&ports.index(*index).child("nodePort"), *port, why)
            }
            Wish::HealthPort { port } => {
                let why = format!("failed to allocate requested HealthCheck NodePort {port}: {why}");
                FieldError::invalid(&spec.child("healthCheckNodePort"), *port, why)
            }
        }
    }

    fn taken(&self) -> FieldError {
        match self {
            Wish::Address { address, .. } => {
                self.error(format!("failed to allocate IP {address}: provided IP is already allocated"))
            }
            Wish::Port { .. } | Wish::HealthPort { .. } => self.error("provided port is already allocated".into()),
        }
    }
}

/// Everything that a Service holds, by key.
fn claims(service: &Value) -> BTreeMap<Bytes, Wish> {
    let mut claims = BTreeMap::new();
    if has_address(service) {
        for address in object::list(service, &["spec", "clusterIPs"]).iter().filter_map(Value::as_str) {
            let all = object::get(service, &["spec", "clusterIPs"]).cloned().unwrap_or_default();
            claims.insert(address_key(address), Wish::Address { all, address: address.to_string() });
        }
    }
    if has_node_ports(service) {
        for (index, entry) in object::list(service, &["spec", "ports"]).iter().enumerate() {
            let port = object::int(entry, &["nodePort"]);
            if port != 0 {
                claims.entry(port_key(port)).or_insert(Wish::Port { index, port });
            }
        }
    }
    let port = object::int(service, HEALTH_PORT);
    if needs_health_port(service) && port != 0 {
        claims.entry(port_key(port)).or_insert(Wish::HealthPort { port });
    }
    claims
}

fn out_of_range(server: &ApiServer, wish: &Wish) -> Option<FieldError> {
    match wish {
        Wish::Address { address, .. } => {
            let is_inside = |address: Ipv4Addr| ranges(server).iter().any(|range| range.contains(&address));
            (!address.parse::<Ipv4Addr>().is_ok_and(is_inside)).then(|| {
                let why = "the provided network does not match the current range";
                wish.error(format!("failed to allocate IP {address}: {why}"))
            })
        }
        Wish::Port { port, .. } | Wish::HealthPort { port } => {
            let range = &server.config.node_port_range;
            let inside = u16::try_from(*port).is_ok_and(|port| range.contains(&port));
            (!inside).then(|| {
                let range = port_range(range);
                wish.error(format!("provided port is not in the valid range. The range of valid ports is {range}"))
            })
        }
    }
}

/// The ranges that addresses are taken from, the cluster's own first: those of ServiceCIDRs that are ready, or of which
/// nobody has said anything yet. Before there is any, the one that the server was started with.
fn ranges(server: &ApiServer) -> Vec<Ipv4Net> {
    let (records, _) = server.cache.kind(NETWORKING, "servicecidrs").list(None);
    if records.is_empty() {
        return vec![server.config.service_cidr];
    }
    let (own, added): (Vec<_>, Vec<_>) = records.iter().partition(|record| record.name() == NAME);
    let ready = own.into_iter().chain(added).map(|record| record.value()).filter(|range| {
        let mut ready = object::list(range, &["status", "conditions"]).iter().filter(|c| c["type"] == "Ready");
        object::get(range, &["metadata", "deletionTimestamp"]).is_none() && ready.all(|c| c["status"] == "True")
    });
    let ranges = ready.flat_map(|range| {
        let parsed = object::list(&range, &["spec", "cidrs"]).iter().filter_map(|cidr| cidr.as_str()?.parse().ok());
        parsed.collect::<Vec<Ipv4Net>>()
    });
    ranges.collect()
}

/// Ports as users write them: with the last one.
fn port_range(range: &Range<u16>) -> String {
    format!("{}-{}", range.start, range.end.saturating_sub(1))
}

/// The IPAddress by which a Service holds an address.
fn held_by(write: &Write<'_>, service: &Value, address: &str) -> Bytes {
    let of = |field: &str| object::text(service, &["metadata", field]);
    let object = json!({
        "apiVersion": format!("{NETWORKING}/v1"), "kind": "IPAddress",
        "metadata": {
            "name": address, "uid": write.server.config.outside.uid(), "creationTimestamp": timestamp(write.now),
            "labels": BTreeMap::from(ip_address::labels(address)),
        },
        "spec": {"parentRef": {"resource": "services", "namespace": of("namespace"), "name": of("name")}},
    });
    encode(&object).into()
}

/// Whose a port is.
fn owner(service: &Value) -> Bytes {
    let of = |field: &str| object::text(service, &["metadata", field]);
    format!("{}/{}", of("namespace"), of("name")).into()
}

fn address_key(address: &str) -> Bytes {
    storage_key(NETWORKING, "ipaddresses", "", address)
}

fn port_key(port: impl std::fmt::Display) -> Bytes {
    format!("{PORTS}{port}").into()
}

fn service_type(service: &Value) -> &str {
    match object::text(service, &["spec", "type"]) {
        "" => "ClusterIP",
        other => other,
    }
}

fn is_headless(service: &Value) -> bool {
    object::text(service, &["spec", "clusterIP"]) == "None"
}

fn has_address(service: &Value) -> bool {
    service_type(service) != "ExternalName" && !is_headless(service)
}

fn has_node_ports(service: &Value) -> bool {
    matches!(service_type(service), "NodePort" | "LoadBalancer")
}

/// What is to be given node ports: load balancers can do without.
fn wants_node_ports(service: &Value) -> bool {
    let without = object::get(service, &["spec", "allocateLoadBalancerNodePorts"]) == Some(&Value::Bool(false));
    has_node_ports(service) && !(service_type(service) == "LoadBalancer" && without)
}

async fn choose_address(
    server: &ApiServer,
    plan: &mut Plan,
    service: &mut Value,
    chosen: &mut HashSet<Bytes>,
) -> Result<(), Status> {
    if service_type(service) == "ExternalName" || !object::text(service, &["spec", "clusterIP"]).is_empty() {
        return Ok(());
    }
    let mut picked = None;
    for range in ranges(server) {
        let base = u32::from(range.network());
        // The network and broadcast addresses are nobody's.
        let usable = 1..(u32::from(range.broadcast()) - base);
        let dynamic = (usable.end / 16).clamp(16, 256).min(usable.end)..usable.end;
        let name = |offset: u32| Ipv4Addr::from(base.saturating_add(offset)).to_string();
        picked = pick(server, address_key, [dynamic, usable], name, chosen).await?;
        if picked.is_some() {
            break;
        }
    }
    let Some(address) = picked else {
        return Err(Status::internal("failed to allocate a serviceIP: range is full"));
    };
    chosen.insert(address_key(&address));
    plan.fill(service, "/spec/clusterIPs", json!([address]));
    plan.fill(service, "/spec/clusterIP", address.into());
    Ok(())
}

async fn choose_ports(
    server: &ApiServer,
    plan: &mut Plan,
    service: &mut Value,
    is_new: bool,
    chosen: &mut HashSet<Bytes>,
) -> Result<(), Status> {
    // What the Service itself asks for is not free either.
    let mut taken: HashSet<Bytes> = claims(service).into_keys().collect();
    let wanted = wants_node_ports(service);
    let ports = object::list(service, &["spec", "ports"]).iter();
    let ports: Vec<(i64, i64)> =
        ports.map(|port| (object::int(port, &["port"]), object::int(port, &["nodePort"]))).collect();
    // A new Service has one node port for what it serves at one number by several protocols.
    let mut shared: BTreeMap<i64, i64> =
        ports.iter().rev().filter(|(_, node_port)| is_new && *node_port != 0).copied().collect();
    for (index, (number, node_port)) in ports.into_iter().enumerate() {
        if node_port != 0 || !wanted {
            continue;
        }
        let port = match shared.get(&number) {
            Some(port) => *port,
            None => {
                let port = choose_port(server, "nodePort", &mut taken).await?;
                chosen.insert(port_key(port));
                port
            }
        };
        if is_new {
            shared.insert(number, port);
        }
        plan.fill(service, &format!("/spec/ports/{index}/nodePort"), port.into());
    }
    if needs_health_port(service) && object::int(service, HEALTH_PORT) == 0 {
        let port = choose_port(server, "HealthCheck NodePort", &mut taken).await?;
        chosen.insert(port_key(port));
        plan.fill(service, "/spec/healthCheckNodePort", port.into());
    }
    Ok(())
}

async fn choose_port(server: &ApiServer, what: &str, taken: &mut HashSet<Bytes>) -> Result<i64, Status> {
    let range = &server.config.node_port_range;
    let (first, end) = (u32::from(range.start), u32::from(range.end));
    let dynamic = first + ((end - first) / 32).clamp(16, 128).min(end - first)..end;
    let picked = pick(server, |port| port_key(port), [dynamic, first..end], |port| port.to_string(), taken).await?;
    let Some(port) = picked.and_then(|port| port.parse::<i64>().ok()) else {
        return Err(Status::internal(format!("failed to allocate a {what}: range is full")));
    };
    taken.insert(port_key(port));
    Ok(port)
}

/// A number whose key does not exist, from the first band that has one.
async fn pick(
    server: &ApiServer,
    key: impl Fn(&str) -> Bytes,
    bands: [Range<u32>; 2],
    name: impl Fn(u32) -> String,
    taken: &HashSet<Bytes>,
) -> Result<Option<String>, Status> {
    for _ in 0..RANDOM_TRIES {
        if bands[0].is_empty() {
            break;
        }
        let candidate = name(rand::rng().random_range(bands[0].clone()));
        let key = key(&candidate);
        if !taken.contains(&key) && server.datastore.get(&key).await?.0.is_none() {
            return Ok(Some(candidate));
        }
    }
    let request = ListRequest { range: KeyRange::prefix(key("")), start_key: None, limit: 0, revision: None };
    let mut found: HashSet<Bytes> = server.datastore.list(request).await?.items.into_iter().map(|kv| kv.key).collect();
    found.extend(taken.iter().cloned());
    Ok(bands.into_iter().flatten().map(name).find(|candidate| !found.contains(&key(candidate))))
}
