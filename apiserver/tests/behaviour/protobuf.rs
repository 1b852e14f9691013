//! <https://kubernetes.io/docs/reference/using-api/api-concepts/#protobuf-encoding>
//!
//! What Go clients speak unless told otherwise.

use crate::api::{Api, CONFIG_MAPS, Reply, config_map, deployment, pod, version};
use bytes::Bytes;
use futures::StreamExt;
use http::Request;
use http_body_util::BodyStream;
use k8w_apiserver::Body;
use k8w_kinds::schema::{Format, Schema, protobuf};
use serde_json::{Value, json};

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
/// What client-go sends.
const CLIENT_GO: &str = "application/vnd.kubernetes.protobuf,application/json";
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

fn encode(type_name: &str, object: &Value) -> Vec<u8> {
    let text = |name: &str| object[name].as_str().unwrap();
    let message = Schema::builtin(type_name).unwrap().to_protobuf(object).unwrap();
    protobuf::envelope(text("apiVersion"), text("kind"), &message)
}

fn decode(type_name: &str, body: &[u8]) -> Value {
    let decoded = Schema::builtin(type_name).unwrap().decode(body, Format::Protobuf);
    decoded.unwrap_or_else(|why| panic!("{why}: {body:?}")).value
}

fn decode_reply(type_name: &str, reply: &Reply) -> Value {
    assert_eq!(reply.headers["content-type"], PROTOBUF, "{:?}", reply.body);
    decode(type_name, &reply.body)
}

async fn send(api: &Api, method: &str, path: &str, accept: &str, body: Vec<u8>) -> Reply {
    let request = Request::builder().method(method).uri(path).header("accept", accept);
    let request = request.header("content-type", PROTOBUF).header("user-agent", "test/1");
    api.send(request.body(Body::from(Bytes::from(body))).unwrap()).await
}

async fn get(api: &Api, path: &str, accept: &str) -> Reply {
    api.send(Request::get(path).header("accept", accept).body(Body::Empty).unwrap()).await
}

#[tokio::test]
async fn objects_go_both_ways() {
    let api = Api::new().await;
    for (type_name, path, object) in [
        ("io.k8s.api.core.v1.ConfigMap", CONFIG_MAPS, config_map("a", "1")),
        ("io.k8s.api.core.v1.Pod", "/api/v1/namespaces/default/pods", pod("a")),
        ("io.k8s.api.apps.v1.Deployment", "/apis/apps/v1/namespaces/default/deployments", deployment("a", 0)),
    ] {
        let created = send(&api, "POST", path, CLIENT_GO, encode(type_name, &object)).await;
        assert_eq!(created.code, 201);
        let created = decode_reply(type_name, &created);
        let path = format!("{path}/a");
        let json = api.get(&path).await.ok();
        assert_eq!(created, json);
        assert_eq!(decode_reply(type_name, &get(&api, &path, CLIENT_GO).await), json);
        let mut changed = json.clone();
        changed["metadata"]["labels"] = json!({"changed": "yes"});
        let updated = send(&api, "PUT", &path, CLIENT_GO, encode(type_name, &changed)).await;
        assert_eq!(decode_reply(type_name, &updated), api.get(&path).await.ok());
        assert_eq!(api.get(&path).await.ok()["metadata"]["labels"]["changed"], "yes");
    }
}

#[tokio::test]
async fn lists_hold_the_same_as_in_json() {
    let api = Api::new().await;
    for name in ["a", "b", "c"] {
        api.config_map(name, "1").await;
    }
    let list = get(&api, &format!("{CONFIG_MAPS}?limit=2"), CLIENT_GO).await;
    let list = decode_reply("io.k8s.api.core.v1.ConfigMapList", &list);
    let mut json = api.get(&format!("{CONFIG_MAPS}?limit=2")).await.ok();
    assert_eq!(list["metadata"]["continue"], json["metadata"]["continue"]);
    assert_eq!((&list["kind"], &list["metadata"]["remainingItemCount"]), (&json!("ConfigMapList"), &json!(1)));
    json["metadata"] = list["metadata"].clone();
    assert_eq!(list, json);
}

#[tokio::test]
async fn errors_are_statuses() {
    let api = Api::new().await;
    let reply = get(&api, &format!("{CONFIG_MAPS}/none"), CLIENT_GO).await;
    let status = decode_reply(&format!("{META}.Status"), &reply);
    assert_eq!((reply.code, &status["reason"]), (404, &json!("NotFound")));
    assert_eq!(status["details"], json!({"name": "none", "kind": "configmaps"}));
    assert_eq!(status["message"], r#"configmaps "none" not found"#);
}

#[tokio::test]
async fn delete_options_and_its_answer() {
    let api = Api::new().await;
    let made = api.config_map("a", "1").await;
    let path = format!("{CONFIG_MAPS}/a");
    let options = |uid: &str| {
        let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}});
        encode(&format!("{META}.DeleteOptions"), &options)
    };
    assert_eq!(send(&api, "DELETE", &path, CLIENT_GO, options("other")).await.code, 409);
    let uid = made["metadata"]["uid"].as_str().unwrap();
    let reply = send(&api, "DELETE", &path, CLIENT_GO, options(uid)).await;
    let status = decode_reply(&format!("{META}.Status"), &reply);
    assert_eq!((&status["status"], &status["details"]["uid"]), (&json!("Success"), &made["metadata"]["uid"]));
    api.config_map("b", "1").await;
    let reply = send(&api, "DELETE", CONFIG_MAPS, CLIENT_GO, Vec::new()).await;
    let list = decode_reply("io.k8s.api.core.v1.ConfigMapList", &reply);
    assert_eq!(list["items"][0]["metadata"]["name"], "b");
}

/// One event of a stream: its type, and the object in its envelope.
fn event(frame: &[u8]) -> (String, Vec<u8>) {
    let length = u32::from_be_bytes(frame[..4].try_into().unwrap()) as usize;
    assert_eq!(frame.len(), length + 4);
    let (at, name_length) = (6, usize::from(frame[5]));
    let name = String::from_utf8(frame[at..at + name_length].to_vec()).unwrap();
    let body = frame.windows(4).position(|bytes| bytes == b"k8s\0").unwrap();
    (name, frame[body..].to_vec())
}

#[tokio::test]
async fn watches_are_streams_of_framed_events() {
    let api = Api::new().await;
    api.config_map("before", "1").await;
    let made = api.config_map("a", "1").await;
    let path = format!("{CONFIG_MAPS}?watch=true&resourceVersion={}&allowWatchBookmarks=true", version(&made) - 1);
    let request = Request::get(format!("{path}&timeoutSeconds=1")).header("accept", CLIENT_GO);
    let response = api.server.handle(request.body(Body::Empty).unwrap(), api.peer()).await;
    assert_eq!(response.headers()["content-type"], "application/vnd.kubernetes.protobuf;stream=watch");
    let mut frames = BodyStream::new(response.into_body());
    let mut next = async || frames.next().await.unwrap().unwrap().into_data().unwrap();
    let (name, body) = event(&next().await);
    assert_eq!((name.as_str(), decode("io.k8s.api.core.v1.ConfigMap", &body)), ("ADDED", made));
    let (name, body) = event(&next().await);
    let bookmark = decode("io.k8s.api.core.v1.ConfigMap", &body);
    assert_eq!((name.as_str(), &bookmark["kind"]), ("BOOKMARK", &json!("ConfigMap")));
    assert!(bookmark["metadata"]["resourceVersion"].is_string());
}

#[tokio::test]
async fn metadata_alone_goes_as_protobuf_and_tables_do_not() {
    let api = Api::new().await;
    api.config_map("a", "1").await;
    let accept = format!("{PROTOBUF};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1");
    let reply = get(&api, CONFIG_MAPS, &accept).await;
    assert_eq!(reply.headers["content-type"], PROTOBUF);
    // The message has metadata and items where every list has them.
    let list = decode("io.k8s.api.core.v1.ConfigMapList", &reply.body);
    assert_eq!((&list["kind"], &list["apiVersion"]), (&json!("PartialObjectMetadataList"), &json!("meta.k8s.io/v1")));
    let expected = api.get(&format!("{CONFIG_MAPS}/a")).await.ok();
    assert_eq!(list["items"], json!([{"metadata": expected["metadata"]}]));
    let table = format!("{PROTOBUF};as=Table;g=meta.k8s.io;v=v1");
    assert_eq!(get(&api, CONFIG_MAPS, &table).await.error().0, 406);
    assert_eq!(get(&api, CONFIG_MAPS, &format!("{table},application/json")).await.ok()["kind"], "ConfigMapList");
}

#[tokio::test]
async fn an_object_is_not_a_list_of_metadata() {
    let api = Api::new().await;
    api.config_map("a", "1").await;
    let accept = |kind: &str| format!("application/json;as={kind};g=meta.k8s.io;v=v1");
    let one = get(&api, &format!("{CONFIG_MAPS}/a"), &accept("PartialObjectMetadataList")).await.error();
    let why = "you requested PartialObjectMetadataList, but the requested object is not a list (*v1.ConfigMap)";
    assert_eq!((one.0, one.1.as_str(), one.2.as_str()), (406, "NotAcceptable", why));
    let list = get(&api, CONFIG_MAPS, &accept("PartialObjectMetadata")).await.error();
    let why = "you requested PartialObjectMetadata, but the requested object is a list (*v1.ConfigMapList)";
    assert_eq!((list.0, list.2.as_str()), (406, why));
}

#[tokio::test]
async fn what_no_one_can_read_is_not_done() {
    let api = Api::new().await;
    let request = Request::post(CONFIG_MAPS).header("accept", "application/cbor");
    let request = request.header("content-type", "application/json").body(Body::from(config_map("a", "1").to_string()));
    let (code, reason, message) = api.send(request.unwrap()).await.error();
    assert_eq!((code, reason.as_str()), (406, "NotAcceptable"));
    assert_eq!(
        message,
        "only the following media types are accepted: application/json, application/yaml, \
         application/vnd.kubernetes.protobuf"
    );
    assert_eq!(api.get(&format!("{CONFIG_MAPS}/a")).await.code, 404);
    let cbor = Request::post(CONFIG_MAPS).header("content-type", "application/cbor").body(Body::from("x")).unwrap();
    assert_eq!(api.send(cbor).await.error().0, 415);
}

#[tokio::test]
async fn patches_are_not_written_in_it() {
    let api = Api::new().await;
    api.config_map("a", "1").await;
    let reply = send(&api, "PATCH", &format!("{CONFIG_MAPS}/a"), "application/json", Vec::new()).await;
    let (code, reason, message) = reply.error();
    assert_eq!((code, reason.as_str()), (415, "UnsupportedMediaType"));
    let expected = "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json";
    assert!(message.contains(expected), "{message}");
}

#[tokio::test]
async fn reviews_and_scales_too() {
    let api = Api::new().await;
    let path = "/apis/apps/v1/namespaces/default/deployments";
    api.post(path, &deployment("a", 2)).await.ok();
    let reply = get(&api, &format!("{path}/a/scale"), CLIENT_GO).await;
    let scale = decode_reply("io.k8s.api.autoscaling.v1.Scale", &reply);
    assert_eq!((&scale["kind"], &scale["spec"]["replicas"]), (&json!("Scale"), &json!(2)));
    let type_name = "io.k8s.api.authorization.v1.SelfSubjectAccessReview";
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}});
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let reply = send(&api, "POST", path, CLIENT_GO, encode(type_name, &review)).await;
    assert_eq!((reply.code, &decode_reply(type_name, &reply)["status"]["allowed"]), (201, &json!(true)));
    let table = "application/json;as=Table;g=meta.k8s.io;v=v1";
    assert_eq!(send(&api, "POST", path, table, encode(type_name, &review)).await.error().0, 406);
}
