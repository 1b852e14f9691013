//! The API's health endpoints and its version.

use crate::cluster::{As, Cluster};

async fn text(cluster: &Cluster, path: &str) -> (u16, String) {
    let reply = cluster.get(As::Nobody, path).await;
    (reply.code, String::from_utf8(reply.body.to_vec()).unwrap())
}

#[tokio::test]
async fn anybody_may_ask_for_health() {
    let cluster = Cluster::new().await;
    for path in ["/healthz", "/livez", "/readyz"] {
        assert_eq!(text(&cluster, path).await, (200, "ok".to_owned()), "{path}");
    }
    assert_eq!(cluster.get(As::Nobody, "/version").await.code, 403);
}

#[tokio::test]
async fn checks_have_names() {
    let cluster = Cluster::new().await;
    let (code, report) = text(&cluster, "/readyz?verbose").await;
    assert_eq!(code, 200);
    assert_eq!(report, "[+]ping ok\n[+]log ok\n[+]etcd ok\n[+]informer-sync ok\nreadyz check passed\n");
    let (_, report) = text(&cluster, "/livez?verbose&exclude=etcd").await;
    assert_eq!(report, "[+]ping ok\n[+]log ok\n[+]etcd excluded: ok\nlivez check passed\n");
    let admin = |path: &'static str| cluster.get(As::Admin, path);
    assert_eq!(admin("/readyz/etcd").await.body, "ok");
    assert_eq!(admin("/readyz/nothing").await.code, 404);
}

#[tokio::test]
async fn the_version_is_kubernetes_own() {
    let cluster = Cluster::new().await;
    let version = cluster.get(As::User("jane", &["system:authenticated"]), "/version").await.ok();
    assert_eq!((&version["major"], &version["minor"]), (&"1".into(), &"36".into()));
    assert!(version["gitVersion"].as_str().unwrap().starts_with("v1.36.0+k8w."));
}
