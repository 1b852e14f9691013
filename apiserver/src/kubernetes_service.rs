//! Where the Service `kubernetes` leads: to every API server on this datastore that is alive.
//!
//! Each server keeps its address in the datastore under a key that runs out, and writes all the addresses that it finds
//! there into the Service's Endpoints and EndpointSlices (Kubernetes' `--endpoint-reconciler-type=lease`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use k8w_kinds::core::endpoints::repack;
use k8w_kinds::field::Field;
use k8w_kinds::rules;
use k8w_storage::datastore::{self, Datastore, KeyRange, ListRequest, Txn, Write};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::ApiServer;
use crate::bootstrap::{self, Keep};
use crate::object_store;
use crate::status::Status;

pub(crate) const NAMESPACE: &str = "default";
pub(crate) const NAME: &str = "kubernetes";
const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// Where addresses are kept: beside the objects, which begin with `/registry/`.
const ADDRESSES: &str = "/masterleases/";
/// How long an address counts that is not renewed.
const ADDRESS_SECONDS: u64 = 15;
/// How often an address is renewed, and the others' are looked at.
const INTERVAL_MS: u64 = 10_000;
/// How long to wait before what failed is tried again.
const RETRY_MS: u64 = 1_000;
/// How long a server that stops tries to take its address away: it runs out by itself.
const LEAVE_MS: u64 = 1_000;

/// Keeps a server among the endpoints, for as long as it is polled.
pub(crate) async fn stay(server: &Arc<ApiServer>) {
    loop {
        let wait = match enter(server).await {
            Ok(()) => INTERVAL_MS,
            Err(error) => {
                tracing::warn!(%error, "the endpoints of the Service kubernetes cannot be written");
                RETRY_MS
            }
        };
        sleep(Duration::from_millis(wait)).await;
    }
}

/// Takes a server that stops from the endpoints.
pub(crate) async fn leave(server: &Arc<ApiServer>) {
    let left = timeout(Duration::from_millis(LEAVE_MS), async {
        write_address(server, |key| Write::Delete { key }).await?;
        reconcile(server).await
    });
    match left.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "an endpoint of the Service kubernetes cannot be taken away"),
        Err(_) => tracing::warn!("an endpoint of the Service kubernetes could not be taken away in time"),
    }
}

async fn enter(server: &Arc<ApiServer>) -> Result<(), Status> {
    if !can_be_endpoint(server.config.advertise.ip()) {
        return Ok(());
    }
    let renew = |key| Write::Put { key, value: "{}".into(), ttl_seconds: Some(ADDRESS_SECONDS) };
    write_address(server, renew).await?;
    reconcile(server).await
}

async fn write_address(server: &ApiServer, write: impl FnOnce(bytes::Bytes) -> Write) -> Result<(), Status> {
    let key = format!("{ADDRESSES}{}", server.config.advertise);
    let txn = Txn { compares: Vec::new(), writes: vec![write(key.into())] };
    server.datastore.txn(txn).await.map(|_| ()).map_err(Status::internal)
}

/// The addresses of the servers that are alive.
async fn addresses(datastore: &dyn Datastore) -> Result<BTreeSet<SocketAddr>, datastore::Error> {
    let range = KeyRange::prefix(ADDRESSES);
    let list = datastore.list(ListRequest { range, start_key: None, limit: 0, revision: None }).await?;
    let address = |key: &[u8]| std::str::from_utf8(key).ok()?.strip_prefix(ADDRESSES)?.parse().ok();
    let addresses = list.items.iter().filter_map(|item| address(&item.key));
    Ok(addresses.filter(|address: &SocketAddr| can_be_endpoint(address.ip())).collect())
}

/// Whether the API takes an address as an endpoint: not if it means something else to each pod.
fn can_be_endpoint(ip: IpAddr) -> bool {
    let (shown, mut errors) = (Value::from(ip.to_string()), Vec::new());
    rules::not_special(&Field::root(&shown), ip, &mut errors);
    errors.is_empty()
}

/// Writes what the datastore says.
async fn reconcile(server: &Arc<ApiServer>) -> Result<(), Status> {
    let addresses = addresses(&*server.datastore).await.map_err(Status::internal)?;
    server.cache.catch_up().await?;
    let wanted = objects(&addresses);
    let written = wanted.iter().map(|object| (object.clone(), Keep::Fields));
    bootstrap::write_all(server, written).await.map_err(Status::internal)?;
    let resources = server.resources.load_full();
    let Some(slices) = resources.get("discovery.k8s.io", "v1", "endpointslices") else { return Ok(()) };
    for record in slices.objects.list(Some(NAMESPACE)).0 {
        let mut wanted = wanted.iter().filter(|object| object["kind"] == "EndpointSlice");
        let wanted = wanted.any(|slice| slice["metadata"]["name"] == record.name());
        if is_own(record.name()) && !wanted {
            object_store::delete_own(server, slices, NAMESPACE, record.name()).await?;
        }
    }
    Ok(())
}

/// The Endpoints, and an EndpointSlice for each address family and port. Pure.
fn objects(addresses: &BTreeSet<SocketAddr>) -> Vec<Value> {
    let mut groups: BTreeMap<(&str, u16), Vec<IpAddr>> = BTreeMap::new();
    for address in addresses {
        let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
        groups.entry((family, address.port())).or_default().push(address.ip());
    }
    let port = |port: u16| json!({"name": "https", "protocol": "TCP", "port": port});
    let subset = |(&(_, number), ips): (&(&str, u16), &Vec<IpAddr>)| {
        let addresses: Vec<Value> = ips.iter().map(|ip| json!({"ip": ip})).collect();
        json!({"addresses": addresses, "ports": [port(number)]})
    };
    let endpoints = json!({
        "apiVersion": "v1", "kind": "Endpoints",
        // The slices are written here, not mirrored.
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        // As they are stored, so that what stays as it is is not written.
        "subsets": repack(&groups.iter().map(subset).collect::<Vec<_>>()),
    });
    let slices = groups.iter().enumerate().map(|(index, (&(family, number), ips))| {
        let endpoints: Vec<Value> =
            ips.iter().map(|ip| json!({"addresses": [ip], "conditions": {"ready": true}})).collect();
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": slice_name(index == 0, family, number), "namespace": NAMESPACE,
                "labels": {SERVICE_LABEL: NAME}},
            "addressType": family, "endpoints": endpoints, "ports": [port(number)],
        })
    });
    std::iter::once(endpoints).chain(slices).collect()
}

/// The first slice has the Service's name, as in Kubernetes, unless its family, which cannot change, is another one.
fn slice_name(first: bool, family: &str, port: u16) -> String {
    match (first, family) {
        (true, "IPv4") => NAME.to_owned(),
        _ => format!("{NAME}-{}-{port}", family.to_lowercase()),
    }
}

fn is_own(slice: &str) -> bool {
    slice == NAME || slice.starts_with("kubernetes-ipv4-") || slice.starts_with("kubernetes-ipv6-")
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use k8w_storage::datastore::memory::Memory;

    use super::*;
    use crate::Config;

    async fn server(advertise: &str, datastore: &Arc<dyn Datastore>) -> Arc<ApiServer> {
        let config = Config { advertise: advertise.parse().unwrap(), ..Config::default() };
        ApiServer::start(config, datastore.clone()).await.unwrap()
    }

    /// Slices and subsets as `name: addresses port`.
    async fn check(server: &ApiServer, expected: Expect) {
        server.cache.catch_up().await.unwrap();
        let line = |name: &str, addresses: Vec<&str>, port: &Value| format!("{name}: {} {port}\n", addresses.join(" "));
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let mut text = String::new();
        let endpoints = server.cache.get("", "endpoints", NAMESPACE, NAME).unwrap().value();
        for subset in list(&endpoints["subsets"]) {
            let addresses = list(&subset["addresses"]);
            let ips = addresses.iter().map(|address| address["ip"].as_str().unwrap()).collect();
            text.push_str(&line("endpoints", ips, &subset["ports"][0]["port"]));
        }
        for slice in server.cache.kind("discovery.k8s.io", "endpointslices").list(Some(NAMESPACE)).0 {
            assert_eq!(slice.labels().get(SERVICE_LABEL).map(|name| &**name), Some(NAME));
            let value = slice.value();
            let endpoints = list(&value["endpoints"]);
            let ips = endpoints.iter().map(|endpoint| endpoint["addresses"][0].as_str().unwrap()).collect();
            text.push_str(&line(slice.name(), ips, &value["ports"][0]["port"]));
        }
        expected.assert_eq(&text);
    }

    /// Conformance: "kubernetes.default Endpoints and EndpointSlices"; "Kubernetes Service".
    #[tokio::test]
    async fn every_server_that_is_alive_is_an_endpoint() {
        let datastore: Arc<dyn Datastore> = Arc::new(Memory::new());
        let first = server("192.0.2.1:6443", &datastore).await;
        assert!(first.cache.get("", "services", NAMESPACE, NAME).is_some());
        enter(&first).await.unwrap();
        check(
            &first,
            expect![[r#"
                endpoints: 192.0.2.1 6443
                kubernetes: 192.0.2.1 6443
            "#]],
        )
        .await;
        let second = server("192.0.2.2:6443", &datastore).await;
        enter(&second).await.unwrap();
        let both = expect![[r#"
            endpoints: 192.0.2.1 192.0.2.2 6443
            kubernetes: 192.0.2.1 192.0.2.2 6443
        "#]];
        check(&first, both).await;
        leave(&first).await;
        check(
            &second,
            expect![[r#"
                endpoints: 192.0.2.2 6443
                kubernetes: 192.0.2.2 6443
            "#]],
        )
        .await;
    }

    #[tokio::test]
    async fn servers_of_one_host_have_ports_of_their_own() {
        let datastore: Arc<dyn Datastore> = Arc::new(Memory::new());
        let (first, second) = (server("192.0.2.1:6443", &datastore).await, server("192.0.2.1:6444", &datastore).await);
        let third = server("[2001:db8::1]:6443", &datastore).await;
        for server in [&first, &second, &third] {
            enter(server).await.unwrap();
        }
        check(
            &first,
            expect![[r#"
                endpoints: 192.0.2.1 2001:db8::1 6443
                endpoints: 192.0.2.1 6444
                kubernetes: 192.0.2.1 6443
                kubernetes-ipv4-6444: 192.0.2.1 6444
                kubernetes-ipv6-6443: 2001:db8::1 6443
            "#]],
        )
        .await;
        leave(&first).await;
        check(
            &second,
            expect![[r#"
                endpoints: 2001:db8::1 6443
                endpoints: 192.0.2.1 6444
                kubernetes: 192.0.2.1 6444
                kubernetes-ipv6-6443: 2001:db8::1 6443
            "#]],
        )
        .await;
        leave(&second).await;
        leave(&third).await;
        check(&second, expect![""]).await;
    }

    #[tokio::test]
    async fn an_address_that_means_nothing_to_others_keeps_nobody_away() {
        let datastore: Arc<dyn Datastore> = Arc::new(Memory::new());
        for unusable in ["0.0.0.0:6443", "[::]:6443", "127.0.0.1:6443", "169.254.1.1:6443"] {
            let useless = server(unusable, &datastore).await;
            enter(&useless).await.unwrap();
            write_address(&useless, |key| Write::Put { key, value: "{}".into(), ttl_seconds: Some(60) }).await.unwrap();
        }
        let good = server("192.0.2.1:6443", &datastore).await;
        enter(&good).await.unwrap();
        let one = expect![[r#"
            endpoints: 192.0.2.1 6443
            kubernetes: 192.0.2.1 6443
        "#]];
        check(&good, one).await;
    }

    #[tokio::test]
    async fn what_stays_as_it_is_is_not_written() {
        let datastore: Arc<dyn Datastore> = Arc::new(Memory::new());
        let server = server("192.0.2.1:6443", &datastore).await;
        enter(&server).await.unwrap();
        let revision = datastore.revision().await.unwrap();
        enter(&server).await.unwrap();
        // The address itself was renewed.
        assert_eq!(datastore.revision().await.unwrap(), revision + 1);
    }
}
