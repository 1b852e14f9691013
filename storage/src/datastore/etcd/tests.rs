//! The behaviour suite against a real etcd, one server per test, and what only a store elsewhere can do.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use futures::StreamExt;
use tempfile::TempDir;

use super::*;
use crate::datastore::{Error, suite};

/// A server that ends with the test.
struct Server {
    process: Child,
    _folder: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Two ports that are free now. Somebody else may take one before etcd does; then etcd ends and is started anew.
fn free_ports() -> (u16, u16) {
    let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (a, b) = (listen(), listen());
    (a.local_addr().unwrap().port(), b.local_addr().unwrap().port())
}

async fn start() -> Option<(String, Server)> {
    loop {
        let folder = tempfile::tempdir().unwrap();
        let (client, peer) = free_ports();
        let (client, peer) = (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
        let process = Command::new("etcd")
            .arg("--data-dir")
            .arg(folder.path())
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}")])
            // Short elections: etcd lets no lease be shorter than they are.
            .args(["--heartbeat-interval", "20", "--election-timeout", "200"])
            .env("ETCD_UNSUPPORTED_ARCH", std::env::consts::ARCH)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let process = match process {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                println!("skipped: there is no etcd on this machine (Debian: apt install etcd-server)");
                return None;
            }
            process => process.unwrap(),
        };
        let mut server = Server { process, _folder: folder };
        let deadline = Instant::now() + Duration::from_secs(60);
        while server.process.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "etcd does not answer");
            match Etcd::connect(&client, None).await {
                Ok(_) => return Some((client, server)),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }
}

async fn open() -> Option<(Arc<dyn Datastore>, Server)> {
    let (url, server) = start().await?;
    Some((Arc::new(Etcd::connect(&url, None).await.unwrap()), server))
}

suite::run!(open);

fn put(key: &str) -> Txn {
    let write = Write::Put { key: Bytes::copy_from_slice(key.as_bytes()), value: Bytes::new(), ttl_seconds: None };
    Txn { compares: vec![], writes: vec![write] }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_clients_see_each_others_writes_in_order() {
    let Some((url, _server)) = start().await else { return };
    let (a, b) = (Etcd::connect(&url, None).await.unwrap(), Etcd::connect(&url, None).await.unwrap());
    let from = a.revision().await.unwrap();
    let mut watch = a.watch(KeyRange::prefix("k"), from).await.unwrap();
    for i in 0..10 {
        let writer = if i % 2 == 0 { &a } else { &b };
        writer.txn(put(&format!("k{i}"))).await.unwrap();
    }
    for i in 0..10 {
        let Some(Ok(WatchItem::Events { events, .. })) = watch.next().await else { panic!("the watch has ended") };
        assert_eq!(events[0].key(), &format!("k{i}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_longer_than_a_page_are_whole() {
    let Some((store, _server)) = open().await else { return };
    for i in 0..KEYS_PER_PAGE * 2 + 10 {
        store.txn(put(&format!("k{i:04}"))).await.unwrap();
    }
    let all = ListRequest { range: KeyRange::prefix("k"), start_key: None, limit: 0, revision: None };
    assert_eq!(store.list(all.clone()).await.unwrap().items.len(), KEYS_PER_PAGE * 2 + 10);
    let some = store.list(ListRequest { limit: KEYS_PER_PAGE + 5, ..all }).await.unwrap();
    assert_eq!((some.items.len(), some.remaining), (KEYS_PER_PAGE + 5, KEYS_PER_PAGE + 5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_gone_is_unavailable_and_ends_watches() {
    let Some((store, server)) = open().await else { return };
    let revision = store.txn(put("k")).await.unwrap().revision();
    let mut watch = store.watch(KeyRange::prefix("k"), revision).await.unwrap();
    drop(server);
    assert!(matches!(watch.next().await, Some(Err(Error::Unavailable(_)))));
    assert!(watch.next().await.is_none());
    assert!(matches!(store.txn(put("k")).await, Err(Error::Unavailable(_))));
}

#[tokio::test]
async fn addresses_that_are_none_are_refused() {
    assert!(matches!(Etcd::connect("", None).await, Err(Error::Invalid(_))));
    assert!(matches!(Etcd::connect("http://[", None).await, Err(Error::Invalid(_))));
}

#[test]
fn versions_with_exact_progress_are_known() {
    for (version, exact) in
        [("3.4.23", false), ("3.4.25", true), ("3.5.7", false), ("3.5.8", true), ("3.6.0-rc.1", true)]
    {
        assert_eq!(has_exact_progress(version), exact, "{version}");
    }
}
