//! Names of the cluster: what is looked up is what a flat list of every full name says, by way of the search path.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use k8w_networking::{Lookup, Objects, Tables};
use serde_json::{Value, json};

const DOMAIN: &str = "cluster.local";

/// An input is a namespace and a name, a line each.
pub fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Some((namespace, name)) = text.split_once('\n') else { return };
    let found = tables().names.lookup(name, namespace, DOMAIN);
    assert_eq!(found, expected(name, namespace), "{name:?} in {namespace:?}");
    let shouted = tables().names.lookup(&name.to_ascii_uppercase(), namespace, DOMAIN);
    assert_eq!(shouted, found, "case does not matter");
    if let Lookup::Alias(target) = &found {
        assert_eq!(tables().names.lookup(target, namespace, DOMAIN), Lookup::NotCluster, "{target} is outside");
    }
}

/// What the zone says of the first candidate that is there.
fn expected(name: &str, namespace: &str) -> Lookup {
    if let Ok(address) = name.parse() {
        return Lookup::Addresses(vec![address]);
    }
    let name = name.to_ascii_lowercase();
    if let Some(full) = name.strip_suffix('.') {
        return in_zone(full);
    }
    let searched = [format!("{namespace}.svc.{DOMAIN}"), format!("svc.{DOMAIN}"), DOMAIN.to_owned()];
    let there = |lookup: &Lookup| !matches!(lookup, Lookup::NoSuchName | Lookup::NotCluster);
    let found = searched.iter().map(|domain| in_zone(&format!("{name}.{domain}"))).find(there);
    found.unwrap_or_else(|| in_zone(&name))
}

/// A full name, without the dot at its end.
fn in_zone(name: &str) -> Lookup {
    if name != DOMAIN && !name.ends_with(&format!(".{DOMAIN}")) {
        return Lookup::NotCluster;
    }
    let labels: Vec<&str> = name.split('.').collect();
    match labels[..] {
        [address, _, "pod", "cluster", "local"] => {
            spelled(address).map_or(Lookup::NoSuchName, |ip| Lookup::Addresses(vec![ip]))
        }
        _ => zone().get(name).cloned().unwrap_or(Lookup::NoSuchName),
    }
}

/// `10-64-0-5`.
fn spelled(label: &str) -> Option<IpAddr> {
    let octets: Vec<u8> = label
        .split('-')
        .map(|octet| octet.parse().ok().filter(|n: &u8| n.to_string() == octet))
        .collect::<Option<_>>()?;
    <[u8; 4]>::try_from(octets).ok().map(IpAddr::from)
}

fn zone() -> &'static BTreeMap<&'static str, Lookup> {
    static ZONE: OnceLock<BTreeMap<&str, Lookup>> = OnceLock::new();
    ZONE.get_or_init(|| {
        let at = |addresses: &[&str]| {
            Lookup::Addresses(addresses.iter().map(|ip| ip.parse().expect("an address")).collect())
        };
        [
            ("web.a.svc.cluster.local", at(&["10.96.0.7", "fd00::7"])),
            ("db.a.svc.cluster.local", at(&["10.64.0.5", "10.64.0.6"])),
            ("db-0.db.a.svc.cluster.local", at(&["10.64.0.5"])),
            ("db-1.db.a.svc.cluster.local", at(&["10.64.0.6"])),
            ("out.b.svc.cluster.local", Lookup::Alias("example.com".to_owned())),
        ]
        .into()
    })
}

fn tables() -> &'static Tables {
    static TABLES: OnceLock<Tables> = OnceLock::new();
    TABLES.get_or_init(|| {
        let services = [
            json!({"metadata": {"namespace": "a", "name": "web"}, "spec": {"clusterIPs": ["10.96.0.7", "fd00::7"]}}),
            json!({"metadata": {"namespace": "a", "name": "db"}, "spec": {"clusterIP": "None", "clusterIPs": ["None"]}}),
            json!({"metadata": {"namespace": "b", "name": "out"}, "spec": {"type": "ExternalName", "externalName": "example.com"}}),
        ];
        let endpoint = |n: u8| json!({"addresses": [format!("10.64.0.{}", n + 5)], "hostname": format!("db-{n}"), "conditions": {"ready": true}});
        let slice = json!({
            "metadata": {"namespace": "a", "name": "db", "labels": {"kubernetes.io/service-name": "db"}},
            "addressType": "IPv4",
            "endpoints": [endpoint(0), endpoint(1)],
            "ports": [],
        });
        let services = services.map(|service: Value| Arc::new(serde_json::from_value(service).expect("a Service")));
        let slices = [Arc::new(serde_json::from_value(slice).expect("an EndpointSlice"))];
        Tables::build(&Objects { services: &services, endpoint_slices: &slices, ..Objects::default() }, "node")
    })
}
