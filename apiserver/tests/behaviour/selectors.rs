//! <https://kubernetes.io/docs/concepts/overview/working-with-objects/field-selectors/> and labels.

use crate::api::{Api, CONFIG_MAPS, config_map, names, pod};
use serde_json::json;

#[tokio::test]
async fn labels_select() {
    let api = Api::new().await;
    for (name, labels) in [("a", json!({"app": "web"})), ("b", json!({"app": "db", "new": ""})), ("c", json!({}))] {
        let mut object = config_map(name, "");
        object["metadata"]["labels"] = labels;
        api.post(CONFIG_MAPS, &object).await.ok();
    }
    let cases = [
        ("app=web", vec!["a"]),
        ("app!%3Dweb", vec!["b", "c"]),
        ("app%20in%20(web,db)", vec!["a", "b"]),
        ("app,!new", vec!["a"]),
        ("app%20notin%20(web)", vec!["b", "c"]),
    ];
    for (selector, expected) in cases {
        let list = api.get(&format!("{CONFIG_MAPS}?labelSelector={selector}")).await.ok();
        assert_eq!(names(&list), expected, "{selector}");
    }
    assert_eq!(api.get(&format!("{CONFIG_MAPS}?labelSelector=a%20b%20c")).await.code, 400);
}

#[tokio::test]
async fn fields_select() {
    let api = Api::new().await;
    let pods = "/api/v1/namespaces/default/pods";
    for (name, node) in [("a", "n1"), ("b", "n2")] {
        let mut object = pod(name);
        object["spec"]["nodeName"] = node.into();
        api.post(pods, &object).await.ok();
    }
    for (selector, expected) in [
        ("spec.nodeName=n1", vec!["a"]),
        ("spec.nodeName!=n1", vec!["b"]),
        ("metadata.name=b", vec!["b"]),
        ("metadata.name=b,spec.nodeName=n1", vec![]),
        ("status.phase=Pending", vec!["a", "b"]),
    ] {
        let list = api.get(&format!("{pods}?fieldSelector={selector}")).await.ok();
        assert_eq!(names(&list), expected, "{selector}");
    }
    let (code, _, message) = api.get(&format!("{pods}?fieldSelector=spec.foo=1")).await.error();
    assert_eq!((code, message.as_str()), (400, "field label not supported: spec.foo"));
}
