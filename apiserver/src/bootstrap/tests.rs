use k8w_storage::datastore::memory::Memory;
use k8w_storage::datastore::{self, Datastore, Txn};

use super::*;
use crate::Config;
use crate::watch_cache::storage_key;

fn config() -> Config {
    Config { advertise: "192.0.2.1:6443".parse().unwrap(), ..Config::default() }
}

#[tokio::test]
async fn a_second_start_writes_nothing() {
    let datastore: Arc<dyn Datastore> = Arc::new(Memory::new());
    ApiServer::start(config(), datastore.clone()).await.unwrap();
    let revision = datastore.revision().await.unwrap();
    assert!(revision > 0);
    ApiServer::start(config(), datastore.clone()).await.unwrap();
    assert_eq!(datastore.revision().await.unwrap(), revision);
}

/// Conformance: "Find Kubernetes Service in default Namespace"; "ServiceCIDR API" reads the range `kubernetes`.
#[tokio::test]
async fn a_cluster_has_its_namespaces_classes_and_service() {
    let server = ApiServer::start(config(), Arc::new(Memory::new())).await.unwrap();
    server.cache.catch_up().await.unwrap();
    for name in objects::NAMESPACES {
        let namespace = server.cache.get("", "namespaces", "", name).unwrap().value();
        assert_eq!(namespace["status"]["phase"], "Active", "{name}");
    }
    let service = server.cache.get("", "services", "default", "kubernetes").unwrap().value();
    assert_eq!(service["spec"]["clusterIP"], "10.96.0.1");
    let range = server.cache.get("networking.k8s.io", "servicecidrs", "", "kubernetes").unwrap().value();
    assert_eq!(range["spec"]["cidrs"], serde_json::json!(["10.96.0.0/16"]));
    assert_eq!(range["status"]["conditions"][0]["type"], "Ready");
    assert!(server.cache.get("node.k8s.io", "runtimeclasses", "", "wasmtime").is_some());
    assert!(server.cache.get("networking.k8s.io", "ingressclasses", "", "k8w").is_some());
    let flows = |plural: &str| server.cache.kind("flowcontrol.apiserver.k8s.io", plural).list(None).0.len();
    assert_eq!((flows("flowschemas"), flows("prioritylevelconfigurations")), (13, 8));
}

#[tokio::test]
async fn a_namespace_that_was_deleted_comes_back() {
    let server = ApiServer::start(config(), Arc::new(Memory::new())).await.unwrap();
    let key = storage_key("", "namespaces", "", "kube-node-lease");
    let delete = Txn { compares: vec![], writes: vec![datastore::Write::Delete { key }] };
    server.datastore.txn(delete).await.unwrap();
    server.cache.catch_up().await.unwrap();
    assert!(server.cache.get("", "namespaces", "", "kube-node-lease").is_none());
    namespaces(&server).await.unwrap();
    server.cache.catch_up().await.unwrap();
    assert!(server.cache.get("", "namespaces", "", "kube-node-lease").is_some());
}

#[tokio::test]
async fn servers_of_one_cluster_do_not_take_turns_at_what_it_needs() {
    let datastore: Arc<dyn Datastore> = Arc::new(Memory::new());
    let other = Config { advertise: "192.0.2.2:7443".parse().unwrap(), ..config() };
    let one = ApiServer::start(config(), datastore.clone()).await.unwrap();
    let other = ApiServer::start(other, datastore.clone()).await.unwrap();
    let revision = datastore.revision().await.unwrap();
    for server in [&one, &other, &one] {
        server.cache.catch_up().await.unwrap();
        restore(server).await.unwrap();
    }
    assert_eq!(datastore.revision().await.unwrap(), revision);
}

#[tokio::test]
async fn servers_of_one_cluster_may_start_at_the_same_time() {
    let datastore: Arc<dyn Datastore> = Arc::new(Memory::new());
    let start = || ApiServer::start(config(), datastore.clone());
    let started = tokio::join!(start(), start());
    started.0.unwrap();
    started.1.unwrap();
}

#[tokio::test]
async fn a_server_that_moved_says_so() {
    let datastore: Arc<dyn Datastore> = Arc::new(Memory::new());
    ApiServer::start(config(), datastore.clone()).await.unwrap();
    let moved = Config { advertise: "192.0.2.2:7443".parse().unwrap(), ..config() };
    let server = ApiServer::start(moved, datastore).await.unwrap();
    server.cache.catch_up().await.unwrap();
    let service = server.cache.get("", "services", "default", "kubernetes").unwrap().value();
    assert_eq!(service["spec"]["ports"][0]["targetPort"], 7443);
}

#[tokio::test]
async fn a_server_with_another_service_range_says_so_and_keeps_the_first() {
    let datastore: Arc<dyn Datastore> = Arc::new(Memory::new());
    ApiServer::start(config(), datastore.clone()).await.unwrap();
    let other = Config { service_cidr: "10.97.0.0/16".parse().unwrap(), ..config() };
    let server = ApiServer::start(other, datastore).await.unwrap();
    server.cache.catch_up().await.unwrap();
    let range = server.cache.get("networking.k8s.io", "servicecidrs", "", "kubernetes").unwrap().value();
    assert_eq!(range["spec"]["cidrs"], serde_json::json!(["10.96.0.0/16"]));
    let service = server.cache.get("", "services", "default", "kubernetes").unwrap().value();
    assert_eq!(service["spec"]["clusterIP"], "10.96.0.1");
    let dns = server.cache.get("", "services", "kube-system", "kube-dns").unwrap().value();
    assert_eq!(dns["spec"]["clusterIP"], "10.96.0.10");
    let told = server.cache.get("", "configmaps", "kube-system", "k8w-network").unwrap().value();
    assert_eq!(told["data"]["serviceCIDR"], "10.96.0.0/16");
    let events = server.cache.kind("", "events").list(Some("default")).0;
    let messages: Vec<_> = events.iter().map(|event| event.value()["message"].as_str().unwrap().to_owned()).collect();
    let message =
        "The default ServiceCIDR [10.96.0.0/16] does not match the controller flag configurations [10.97.0.0/16]";
    assert_eq!(messages, [message]);
    let involved = &events[0].value()["involvedObject"];
    assert_eq!((&involved["apiVersion"], &involved["kind"]), (&"networking.k8s.io/v1".into(), &"ServiceCIDR".into()));
    assert!(involved.get("namespace").is_none(), "{involved}");
}
