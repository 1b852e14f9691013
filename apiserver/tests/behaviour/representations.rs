//! <https://kubernetes.io/docs/reference/using-api/api-concepts/#alternate-representations-of-resources>

use crate::api::{Api, CONFIG_MAPS, Reply, config_map};
use crate::cluster::{As, Cluster};
use http::Request;
use k8w_apiserver::Body;
use serde_json::{Value, json};
use std::io::Read;

async fn get(api: &Api, path: &str, accept: &str) -> Reply {
    api.send(Request::get(path).header("accept", accept).body(Body::Empty).unwrap()).await
}

#[tokio::test]
async fn tables_have_rows_and_columns() {
    let api = Api::new().await;
    api.config_map("a", "1").await;
    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    for path in [CONFIG_MAPS.to_string(), format!("{CONFIG_MAPS}/a")] {
        let table = get(&api, &path, accept).await.ok();
        assert_eq!((&table["kind"], &table["apiVersion"]), (&json!("Table"), &json!("meta.k8s.io/v1")));
        assert_eq!(table["columnDefinitions"][0]["name"], "Name");
        assert_eq!(table["rows"][0]["cells"][0], "a");
        assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
        assert!(table["metadata"]["resourceVersion"].is_string());
    }
    let table = get(&api, &format!("{CONFIG_MAPS}?includeObject=Object"), accept).await.ok();
    assert_eq!(table["rows"][0]["object"]["data"]["key"], "1");
    let table = get(&api, &format!("{CONFIG_MAPS}?includeObject=None"), accept).await.ok();
    assert!(table["rows"][0]["object"].is_null());
}

#[tokio::test]
async fn metadata_can_be_had_alone() {
    let api = Api::new().await;
    api.config_map("a", "1").await;
    let accept = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
    let one = get(&api, &format!("{CONFIG_MAPS}/a"), accept).await.ok();
    assert_eq!((&one["kind"], &one["metadata"]["name"]), (&json!("PartialObjectMetadata"), &json!("a")));
    assert!(one["data"].is_null());
    let accept = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    let list = get(&api, CONFIG_MAPS, accept).await.ok();
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    assert_eq!(list["items"][0]["metadata"], one["metadata"]);
    assert!(list["items"][0]["data"].is_null());
}

/// The spelling of clients from before `meta.k8s.io/v1`.
#[tokio::test]
async fn alternate_representations_have_an_older_spelling() {
    let api = Api::new().await;
    api.config_map("a", "1").await;
    let accept = |kind: &str| format!("application/json;as={kind};v=v1beta1;g=meta.k8s.io");
    let table = get(&api, CONFIG_MAPS, &accept("Table")).await.ok();
    let version = json!("meta.k8s.io/v1beta1");
    assert_eq!((&table["kind"], &table["apiVersion"]), (&json!("Table"), &version));
    assert_eq!(table["rows"][0]["object"]["apiVersion"], version);
    let one = get(&api, &format!("{CONFIG_MAPS}/a"), &accept("PartialObjectMetadata")).await.ok();
    assert_eq!((&one["apiVersion"], &one["metadata"]["name"]), (&version, &json!("a")));
    let list = get(&api, CONFIG_MAPS, &accept("PartialObjectMetadataList")).await.ok();
    assert_eq!((&list["apiVersion"], &list["items"][0]["apiVersion"]), (&version, &version));
    let protobuf = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;v=v1beta1;g=meta.k8s.io";
    let list = get(&api, CONFIG_MAPS, protobuf).await;
    assert_eq!(&list.body[..4], b"k8s\0");
    assert!(list.body.windows(19).any(|window| window == b"meta.k8s.io/v1beta1"));
    let mut watch = Request::get(format!("{CONFIG_MAPS}?watch=true&timeoutSeconds=1"));
    watch = watch.header("accept", accept("PartialObjectMetadata"));
    let events = api.send(watch.body(Body::Empty).unwrap()).await;
    assert_eq!(events.json()["object"]["apiVersion"], version);
}

#[tokio::test]
async fn people_get_indented_json() {
    let api = Api::new().await;
    api.config_map("a", "1").await;
    let get = async |path: &str, agent: &str| {
        let request = Request::get(path).header("user-agent", agent).body(Body::Empty).unwrap();
        String::from_utf8(api.send(request).await.body.to_vec()).unwrap()
    };
    let one = format!("{CONFIG_MAPS}/a");
    for path in [CONFIG_MAPS, &one, &format!("{CONFIG_MAPS}/none"), "/api", "/apis/apps/v1", "/version"] {
        let text = get(path, "curl/8.5.0").await;
        assert!(text.starts_with("{\n  \"") && text.ends_with("\n}"), "{path}: {text}");
    }
    let plain = get(&one, "kubectl/v1.36.0").await;
    assert!(!plain.contains('\n') && plain == get(&format!("{one}?pretty=false"), "curl/8.5.0").await);
    let pretty = get(&format!("{one}?pretty=true"), "kubectl/v1.36.0").await;
    assert_eq!(serde_json::from_str::<Value>(&pretty).unwrap(), serde_json::from_str::<Value>(&plain).unwrap());
    assert!(
        get(&format!("{CONFIG_MAPS}?watch=true&timeoutSeconds=1&pretty=true"), "curl/8.5.0").await.lines().count() == 1
    );
}

/// Go escapes what HTML would take for its own; `kubectl rollout undo` compares the data of revisions as text.
#[tokio::test]
async fn json_is_written_as_go_writes_it() {
    let api = Api::new().await;
    let revisions = "/apis/apps/v1/namespaces/default/controllerrevisions";
    let revision = json!({"metadata": {"name": "a"}, "revision": 1, "data": {"args": ["a<b", "c&d"]}});
    let made = api.post(revisions, &revision).await;
    let text = String::from_utf8(made.body.to_vec()).unwrap();
    assert!(text.contains(r#""data":{"args":["a\u003cb","c\u0026d"]}"#), "{text}");
    assert_eq!(made.ok()["data"], revision["data"]);
    let message = get(&api, &format!("{revisions}/a"), "application/vnd.kubernetes.protobuf").await;
    let raw = br#"{"args":["a\u003cb","c\u0026d"]}"#;
    assert!(message.body.windows(raw.len()).any(|window| window == raw));
    let yaml = get(&api, &format!("{revisions}/a"), "application/yaml").await;
    assert!(String::from_utf8_lossy(&yaml.body).contains("a<b"));
}

#[tokio::test]
async fn answers_can_be_yaml() {
    let api = Api::new().await;
    api.config_map("a", "1").await;
    let reply = get(&api, &format!("{CONFIG_MAPS}/a"), "application/yaml").await;
    assert_eq!(reply.headers["content-type"], "application/yaml");
    let text = std::str::from_utf8(&reply.body).unwrap();
    assert!(text.contains("kind: ConfigMap\n") && text.contains("  name: a\n"), "{text}");
}

/// <https://kubernetes.io/docs/reference/using-api/api-concepts/#response-compression>: only large answers, only to
/// clients outside of this process, and only when they accept it.
#[tokio::test]
async fn large_answers_are_compressed() {
    let cluster = Cluster::new().await;
    for index in 0..3 {
        cluster.make(config_map(&format!("a{index}"), &"x".repeat(60 << 10))).await;
    }
    cluster.make(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "a"}})).await;
    let rule = json!({"verbs": ["list", "get"], "apiGroups": [""], "resources": ["configmaps"]});
    cluster.grant("system:serviceaccount:default:a", json!([rule])).await;
    let path = "/api/v1/namespaces/default/serviceaccounts/a/token";
    let token = cluster.post(As::Admin, path, &json!({"spec": {}})).await.ok()["status"]["token"].clone();
    let client = As::Token(token.as_str().unwrap());
    let get = async |who: As<'_>, path: &str| {
        cluster.send(who, "GET", path, &[("accept-encoding", "gzip, deflate")], Body::Empty).await
    };
    let plain = get(As::Admin, CONFIG_MAPS).await;
    assert!(plain.body.len() > 180 << 10 && !plain.headers.contains_key("content-encoding"));
    let list = get(client.clone(), CONFIG_MAPS).await;
    assert_eq!(
        (&list.headers["content-encoding"], &list.headers["vary"]),
        (&"gzip".parse().unwrap(), &"Accept-Encoding".parse().unwrap())
    );
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(&*list.body).read_to_end(&mut unpacked).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&unpacked).unwrap()["items"], plain.json()["items"]);
    let small = get(client.clone(), &format!("{CONFIG_MAPS}/a0")).await;
    assert!(!small.headers.contains_key("content-encoding"));
    let document = get(client, "/openapi/v2").await;
    assert_eq!(document.headers["content-encoding"], "gzip");
}

#[tokio::test]
async fn an_autoscaler_is_one_object_in_both_versions() {
    let api = Api::new().await;
    let path = |version: &str| format!("/apis/autoscaling/{version}/namespaces/default/horizontalpodautoscalers");
    let autoscaler = json!({
        "apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "a"},
        "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}, "maxReplicas": 3,
            "targetCPUUtilizationPercentage": 50},
    });
    assert_eq!(api.post(&path("v1"), &autoscaler).await.ok()["apiVersion"], "autoscaling/v1");
    let mut second = api.get(&format!("{}/a", path("v2"))).await.ok();
    assert_eq!(second["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 50);
    let memory = json!({"name": "memory", "target": {"type": "AverageValue", "averageValue": "1Gi"}});
    second["spec"]["metrics"].as_array_mut().unwrap().push(json!({"type": "Resource", "resource": memory}));
    api.put(&format!("{}/a", path("v2")), &second).await.ok();
    let first = api.get(&format!("{}/a", path("v1"))).await.ok();
    assert_eq!(first["spec"]["targetCPUUtilizationPercentage"], 50);
    let metrics = first["metadata"]["annotations"]["autoscaling.alpha.kubernetes.io/metrics"].as_str().unwrap();
    assert!(metrics.contains(r#""targetAverageValue":"1Gi""#), "{metrics}");
    // Written back by a client that knows nothing of it, it is still there.
    api.put(&format!("{}/a", path("v1")), &first).await.ok();
    assert_eq!(api.get(&format!("{}/a", path("v2"))).await.ok()["spec"]["metrics"], second["spec"]["metrics"]);
}

/// Conformance: "API metadata HTTP return".
#[tokio::test]
async fn what_has_no_table_is_not_acceptable_as_one() {
    let api = Api::new().await;
    let review = json!({"spec": {"user": "nobody", "nonResourceAttributes": {"path": "/", "verb": "get"}}});
    let request = Request::post("/apis/authorization.k8s.io/v1/subjectaccessreviews")
        .header("content-type", "application/json")
        .header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
        .body(Body::from(review.to_string()));
    let (code, reason, _) = api.send(request.unwrap()).await.error();
    assert_eq!((code, reason.as_str()), (406, "NotAcceptable"));
}

/// Clients leave out the rows of what is complete, if they like.
#[tokio::test]
async fn the_row_of_a_pod_that_has_ended_says_so() {
    let api = Api::new().await;
    let pods = "/api/v1/namespaces/default/pods";
    api.post(pods, &crate::api::pod("p")).await.ok();
    for (phase, reason) in [("Running", None), ("Succeeded", Some("Succeeded")), ("Failed", Some("Failed"))] {
        api.patch("merge", &format!("{pods}/p/status"), &json!({"status": {"phase": phase}})).await.ok();
        let table = get(&api, pods, "application/json;as=Table;v=v1;g=meta.k8s.io").await.ok();
        let condition = &table["rows"][0]["conditions"][0];
        assert_eq!(condition["reason"].as_str(), reason, "{table}");
        assert_eq!(condition["type"].as_str(), reason.map(|_| "Completed"));
    }
}
