//! Events are one kind in two API groups.

use crate::api::{Api, names, version};
use serde_json::{Value, json};

const CORE: &str = "/api/v1/namespaces/default/events";
const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/default/events";

fn core_event(name: &str) -> Value {
    json!({
        "metadata": {"name": name}, "reason": "Tested", "message": "it works", "type": "Normal", "count": 2,
        "involvedObject": {"kind": "Pod", "namespace": "default", "name": "p"},
        "source": {"component": "test"},
    })
}

#[tokio::test]
async fn an_event_shows_in_both_groups() {
    let api = Api::new().await;
    let created = api.post(CORE, &core_event("a")).await.ok();
    let seen = api.get(&format!("{EVENTS}/a")).await.ok();
    assert_eq!(seen["apiVersion"], "events.k8s.io/v1");
    assert_eq!((&seen["note"], &seen["deprecatedCount"]), (&json!("it works"), &json!(2)));
    assert_eq!(seen["regarding"], created["involvedObject"]);
    assert_eq!(version(&seen), version(&created));

    let other = json!({
        "metadata": {"name": "b"}, "reason": "Tested", "note": "it works", "type": "Normal", "action": "Test",
        "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "example.com/test", "reportingInstance": "t",
        "regarding": {"kind": "Pod", "namespace": "default", "name": "p"},
    });
    api.post(EVENTS, &other).await.ok();
    let seen = api.get(&format!("{CORE}/b")).await.ok();
    assert_eq!((&seen["message"], &seen["reportingComponent"]), (&json!("it works"), &json!("example.com/test")));
    let list = api.get(&format!("{CORE}?fieldSelector=involvedObject.name=p")).await.ok();
    assert_eq!(names(&list), ["a", "b"]);
    let chunk = api.get(&format!("{EVENTS}?limit=1")).await.ok();
    let token = chunk["metadata"]["continue"].as_str().unwrap();
    let rest = api.get(&format!("{EVENTS}?limit=1&continue={token}")).await.ok();
    assert_eq!((names(&rest), &rest["items"][0]["note"]), (vec!["b"], &json!("it works")));
}

#[tokio::test]
async fn both_groups_can_be_watched() {
    let api = Api::new().await;
    let mut watch = api.watch(&format!("{EVENTS}?watch=true")).await;
    api.post(CORE, &core_event("a")).await.ok();
    let event = watch.next().await.unwrap();
    assert_eq!((&event["type"], &event["object"]["note"]), (&json!("ADDED"), &json!("it works")));
    api.delete(&format!("{CORE}/a")).await.ok();
    watch.expect(&[("DELETED", "a")]).await;
}
