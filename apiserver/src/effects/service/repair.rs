//! Compares the node ports that Services have with those that are taken, as kube-apiserver's
//! `portallocator-repair-controller` does.
//!
//! Both are written in one transaction; what is mended here comes from another range, another version or another hand.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use k8w_kinds::object;
use k8w_storage::datastore::{Compare, KeyRange, ListRequest, Revision, Txn, Write};
use serde_json::Value;
use tokio::time::sleep;

use super::{HEALTH_PORT, PORTS, has_node_ports, needs_health_port, owner, port_key, port_range};
use crate::ApiServer;
use crate::bootstrap::{self, Keep, Warning};
use crate::status::Status;
use crate::watch_cache::{Record, storage_key};

const COMPONENT: &str = "portallocator-repair-controller";
/// How often ports are compared, as in Kubernetes.
const INTERVAL_MS: u64 = 180_000;
/// How often a port is found without a Service before it is free again: the Service may be on its way.
const SIGHTINGS: u8 = 3;

/// Keeps what is taken and what Services have the same, for as long as it is polled.
pub(crate) async fn keep_node_ports(server: &Arc<ApiServer>) {
    let mut leaks = BTreeMap::new();
    loop {
        if let Err(error) = repair(server, &mut leaks).await {
            tracing::warn!(%error, "the node ports of Services cannot be compared with those that are taken");
        }
        sleep(Duration::from_millis(INTERVAL_MS)).await;
    }
}

async fn repair(server: &Arc<ApiServer>, leaks: &mut BTreeMap<u16, u8>) -> Result<(), Status> {
    server.cache.catch_up().await?;
    let (records, _) = server.cache.kind("", "services").list(None);
    let range = KeyRange::prefix(PORTS);
    let taken = server.datastore.list(ListRequest { range, start_key: None, limit: 0, revision: None }).await?.items;
    let port = |key: &[u8]| std::str::from_utf8(key).ok()?.strip_prefix(PORTS)?.parse().ok();
    let taken: BTreeMap<u16, Revision> =
        taken.iter().filter_map(|item| Some((port(&item.key)?, item.mod_revision))).collect();
    let services: Vec<Value> = records.iter().map(|record| record.value()).collect();
    let found = compare(&services, taken.keys().copied().collect(), &server.config.node_port_range, leaks);

    for &(port, index) in &found.missing {
        take(server, port, &records[index], owner(&services[index])).await?;
    }
    for port in &found.leaked {
        let key = port_key(port);
        let compares = vec![Compare { key: key.clone(), mod_revision: taken.get(port).copied().unwrap_or_default() }];
        server.datastore.txn(Txn { compares, writes: vec![Write::Delete { key }] }).await?;
    }
    let now = server.config.outside.now();
    let events = found.faults.iter().map(|fault| (warning(fault).about(&services[fault.service], now), Keep::Present));
    bootstrap::write_all(server, events).await.map_err(Status::internal)
}

/// Takes a port for a Service that has it, unless either has changed meanwhile.
async fn take(server: &ApiServer, port: u16, service: &Record, owner: Bytes) -> Result<(), Status> {
    let key = port_key(port);
    let compares = vec![
        Compare { key: key.clone(), mod_revision: 0 },
        Compare {
            key: storage_key("", "services", service.namespace(), service.name()),
            mod_revision: service.revision(),
        },
    ];
    let writes = vec![Write::Put { key, value: owner, ttl_seconds: None }];
    server.datastore.txn(Txn { compares, writes }).await?;
    Ok(())
}

/// What is wrong with a port of the Service at an index.
struct Fault {
    service: usize,
    port: u16,
    reason: &'static str,
    message: String,
}

#[derive(Default)]
struct Found {
    faults: Vec<Fault>,
    /// Ports that nobody has taken, with the index of the Service that has them.
    missing: Vec<(u16, usize)>,
    /// Ports that are to be free again.
    leaked: Vec<u16>,
}

/// Pure. `leaks` counts how often ports were found without a Service.
fn compare(services: &[Value], mut taken: BTreeSet<u16>, range: &Range<u16>, leaks: &mut BTreeMap<u16, u8>) -> Found {
    let (mut found, mut seen) = (Found::default(), BTreeSet::new());
    for (service, port) in
        services.iter().enumerate().flat_map(|(index, service)| ports(service).map(move |p| (index, p)))
    {
        let (reason, message) = if !range.contains(&port) {
            let range = port_range(range);
            ("PortOutOfRange", format!("Port {port} is not within the port range {range}; please recreate service"))
        } else if !seen.insert(port) {
            let message = format!("Port {port} was assigned to multiple services; please recreate service");
            ("PortAlreadyAllocated", message)
        } else if taken.remove(&port) {
            continue;
        } else {
            found.missing.push((port, service));
            ("PortNotAllocated", format!("Port {port} is not allocated; repairing"))
        };
        found.faults.push(Fault { service, port, reason, message });
    }
    // What a Service has outside of the range, or twice, is not free.
    let held: BTreeSet<u16> = services.iter().flat_map(ports).collect();
    taken.retain(|port| !held.contains(port));
    leaks.retain(|port, _| taken.contains(port));
    for port in taken {
        let sightings = leaks.entry(port).or_default();
        *sightings += 1;
        if *sightings >= SIGHTINGS {
            leaks.remove(&port);
            found.leaked.push(port);
        }
    }
    found
}

/// The node ports of a Service: one that serves several protocols counts once. At last the one where its health is asked for.
fn ports(service: &Value) -> impl Iterator<Item = u16> {
    let has_any = has_node_ports(service);
    let ports = object::list(service, &["spec", "ports"]).iter().filter(move |_| has_any);
    let ports = ports.filter_map(|port| {
        let number = u16::try_from(object::int(port, &["nodePort"])).ok().filter(|number| *number != 0)?;
        Some((number, object::text(port, &["protocol"])))
    });
    let mut seen: BTreeMap<u16, BTreeSet<&str>> = BTreeMap::new();
    let ports = ports.filter_map(move |(number, protocol)| {
        let protocols = seen.entry(number).or_default();
        let is_another_protocol = !protocols.is_empty() && !protocols.contains(protocol);
        protocols.insert(protocol);
        (!is_another_protocol).then_some(number)
    });
    let health = u16::try_from(object::int(service, HEALTH_PORT)).ok();
    ports.chain(health.filter(|number| *number != 0 && needs_health_port(service)))
}

fn warning(fault: &Fault) -> Warning {
    let suffix = format!("{}.{}", fault.reason.to_lowercase(), fault.port);
    Warning { component: COMPONENT, suffix, reason: fault.reason, message: fault.message.clone() }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use k8w_storage::datastore::memory::Memory;
    use serde_json::json;

    use super::*;
    use crate::Config;

    fn service(name: &str, kind: &str, ports: &[(u16, &str)]) -> Value {
        let ports: Vec<Value> =
            ports.iter().map(|(port, protocol)| json!({"nodePort": port, "protocol": protocol})).collect();
        let metadata = json!({"name": name, "namespace": "default", "uid": name});
        json!({"metadata": metadata, "spec": {"type": kind, "ports": ports}})
    }

    fn check(services: &[Value], taken: &[u16], rounds: usize, expect: Expect) {
        let (mut text, mut leaks) = (String::new(), BTreeMap::new());
        for _ in 0..rounds {
            let found = compare(services, taken.iter().copied().collect(), &(30000..30010), &mut leaks);
            for Fault { service, reason, message, .. } in &found.faults {
                text.push_str(&format!("{service}: {reason}: {message}\n"));
            }
            text.push_str(&format!("take {:?}, free {:?}\n", found.missing, found.leaked));
        }
        expect.assert_eq(&text);
    }

    #[test]
    fn ports_are_taken_once_for_the_services_that_have_them() {
        check(
            &[service("a", "NodePort", &[(30001, "TCP"), (30001, "UDP")])],
            &[30001],
            1,
            expect![[r#"
            take [], free []
        "#]],
        );
        check(
            &[service("a", "ClusterIP", &[(30001, "TCP")])],
            &[],
            1,
            expect![[r#"
            take [], free []
        "#]],
        );
        check(
            &[service("a", "LoadBalancer", &[(30001, "TCP")])],
            &[],
            1,
            expect![[r#"
            0: PortNotAllocated: Port 30001 is not allocated; repairing
            take [(30001, 0)], free []
        "#]],
        );
        check(
            &[service("a", "NodePort", &[(80, "TCP")])],
            &[80],
            4,
            expect![[r#"
            0: PortOutOfRange: Port 80 is not within the port range 30000-30009; please recreate service
            take [], free []
            0: PortOutOfRange: Port 80 is not within the port range 30000-30009; please recreate service
            take [], free []
            0: PortOutOfRange: Port 80 is not within the port range 30000-30009; please recreate service
            take [], free []
            0: PortOutOfRange: Port 80 is not within the port range 30000-30009; please recreate service
            take [], free []
        "#]],
        );
        let both = [service("a", "NodePort", &[(30001, "TCP")]), service("b", "NodePort", &[(30001, "TCP")])];
        check(
            &both,
            &[30001],
            1,
            expect![[r#"
            1: PortAlreadyAllocated: Port 30001 was assigned to multiple services; please recreate service
            take [], free []
        "#]],
        );
        check(
            &[service("a", "NodePort", &[(30001, "TCP"), (30001, "TCP")])],
            &[30001],
            1,
            expect![[r#"
            0: PortAlreadyAllocated: Port 30001 was assigned to multiple services; please recreate service
            take [], free []
        "#]],
        );
    }

    #[test]
    fn a_port_that_nobody_has_is_free_when_it_was_seen_often_enough() {
        check(
            &[service("a", "NodePort", &[(30001, "TCP")])],
            &[30001, 30002],
            4,
            expect![[r#"
            take [], free []
            take [], free []
            take [], free [30002]
            take [], free []
        "#]],
        );
    }

    #[tokio::test]
    async fn what_differs_is_mended_in_the_datastore() {
        let server = ApiServer::start(Config::default(), Arc::new(Memory::new())).await.unwrap();
        let spec = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30001}]});
        let service = json!({"apiVersion": "v1", "kind": "Service", "spec": spec,
            "metadata": {"name": "a", "namespace": "default"}});
        bootstrap::write_all(&server, std::iter::once((service, Keep::Present))).await.unwrap();
        let lose = Write::Delete { key: port_key(30001) };
        let leak = Write::Put { key: port_key(30002), value: "default/b".into(), ttl_seconds: None };
        server.datastore.txn(Txn { compares: vec![], writes: vec![lose, leak] }).await.unwrap();

        let mut leaks = BTreeMap::new();
        for _ in 0..SIGHTINGS {
            repair(&server, &mut leaks).await.unwrap();
        }
        let owner = server.datastore.get(&port_key(30001)).await.unwrap().0.unwrap().value;
        assert_eq!(owner, "default/a");
        assert!(server.datastore.get(&port_key(30002)).await.unwrap().0.is_none());
        server.cache.catch_up().await.unwrap();
        let event = server.cache.get("", "events", "default", "a.portnotallocated.30001").unwrap().value();
        assert_eq!(event["message"], "Port 30001 is not allocated; repairing");
        let service = server.cache.get("", "services", "default", "a").unwrap().value();
        let uid = &service["metadata"]["uid"];
        let involved = &event["involvedObject"];
        assert_eq!(
            *involved,
            json!({"apiVersion": "v1", "kind": "Service", "namespace": "default", "name": "a", "uid": uid,
            "resourceVersion": service["metadata"]["resourceVersion"]})
        );
    }
}
