//! ComponentStatuses: how the parts of the control plane are.

use serde_json::{Value, json};

use crate::api::names;
use crate::cluster::{As, Cluster};

const COMPONENTS: &str = "/api/v1/componentstatuses";

#[tokio::test]
async fn parts_are_well_for_as_long_as_they_run() {
    let cluster = Cluster::new().await;
    let status = async |name: &str| -> Value {
        let component = cluster.get(As::Admin, &format!("{COMPONENTS}/{name}")).await.ok();
        assert_eq!((&component["kind"], &component["metadata"]["name"]), (&json!("ComponentStatus"), &json!(name)));
        component["conditions"][0].clone()
    };
    assert_eq!(names(&cluster.get(As::Admin, COMPONENTS).await.ok()), ["etcd-0"]);
    let runs = cluster.server.runs_beside(&["scheduler", "controller-manager"]);
    assert_eq!(names(&cluster.get(As::Admin, COMPONENTS).await.ok()), ["controller-manager", "etcd-0", "scheduler"]);
    let one = cluster.get(As::Admin, &format!("{COMPONENTS}?fieldSelector=metadata.name%3Dscheduler")).await.ok();
    assert_eq!(names(&one), ["scheduler"]);
    let well = json!({"type": "Healthy", "status": "True", "message": "ok"});
    assert_eq!((status("etcd-0").await, status("scheduler").await), (well.clone(), well.clone()));
    drop(runs);
    assert_eq!(status("scheduler").await, json!({"type": "Healthy", "status": "False", "error": "stopped"}));
    assert_eq!(status("etcd-0").await, well);
    assert_eq!(cluster.get(As::Admin, &format!("{COMPONENTS}/kubelet")).await.error().0, 404);
    let reply = cluster.get(As::Admin, COMPONENTS).await;
    assert_eq!(reply.warnings(), ["299 - \"v1 ComponentStatus is deprecated in v1.19+\""]);
}
