use http::{HeaderValue, StatusCode, header};
use http_body_util::BodyExt;
use k8w_kinds::registry;
use serde_json::Value;

use super::*;

fn kinds() -> Vec<&'static KindDef> {
    registry::all().iter().collect()
}

fn accept(value: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(value))])
}

async fn get(headers: &HeaderMap) -> (Response<()>, Vec<u8>) {
    let (parts, body) = OpenApiV2::default().respond(&kinds(), headers).unwrap().into_parts();
    (Response::from_parts(parts, ()), body.collect().await.unwrap().to_bytes().to_vec())
}

async fn json() -> Value {
    serde_json::from_slice(&get(&HeaderMap::new()).await.1).unwrap()
}

#[tokio::test]
async fn clients_choose_the_format_and_keep_the_document() {
    for (header, content_type) in [
        ("application/json", JSON),
        ("*/*", JSON),
        (PROTOBUF_ASKED, PROTOBUF),
        ("application/com.github.proto-openapi.spec.v2.v1.0+protobuf, application/json", PROTOBUF),
    ] {
        let (response, _) = get(&accept(header)).await;
        assert_eq!(response.headers()[header::CONTENT_TYPE], content_type, "{header}");
        let mut headers = accept(header);
        headers.insert(header::IF_NONE_MATCH, response.headers()[header::ETAG].clone());
        assert_eq!(get(&headers).await.0.status(), StatusCode::NOT_MODIFIED);
    }
    let refused = OpenApiV2::default().respond(&kinds(), &accept("text/html")).err().unwrap();
    assert_eq!(refused.code, 406);
}

#[tokio::test]
async fn every_reference_leads_somewhere() {
    let document = json().await;
    let text = document.to_string();
    assert!(!text.contains("#/components/"));
    for reference in text.split("\"$ref\":\"#/definitions/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(document["definitions"].get(name).is_some(), "{name}");
    }
}

/// A message holds its fields one after the other: number, wire type, content.
fn fields(mut message: &[u8]) -> Vec<(u64, &[u8])> {
    fn number(message: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = message.split_first().unwrap();
            *message = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if *byte < 0x80 {
                break;
            }
        }
        value
    }
    let mut fields = Vec::new();
    while !message.is_empty() {
        let key = number(&mut message);
        assert_eq!(key & 7, 2, "only strings and messages are at the top");
        let length = usize::try_from(number(&mut message)).unwrap();
        let (content, rest) = message.split_at(length);
        fields.push((key >> 3, content));
        message = rest;
    }
    fields
}

#[tokio::test]
async fn the_message_holds_every_definition_and_path() {
    let (_, message) = get(&accept(PROTOBUF_ASKED)).await;
    let top = fields(&message);
    let part = |number: u64| top.iter().find(|(found, _)| *found == number).unwrap().1;
    assert_eq!(part(1), b"2.0");
    let document = json().await;
    let names = |number: u64, within: u64| -> Vec<String> {
        let named = fields(part(number)).into_iter().filter(|(found, _)| *found == within);
        named.map(|(_, pair)| String::from_utf8(fields(pair)[0].1.to_vec()).unwrap()).collect()
    };
    let keys = |name: &str| document[name].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(9, 1), keys("definitions"));
    assert_eq!(names(8, 2), keys("paths"));
}

/// The document without what is free to differ: descriptions, and the order of `required`.
fn comparable(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let kept = members.iter().filter(|(name, value)| *name != "description" || !value.is_string());
            let mut kept: serde_json::Map<_, _> = kept.map(|(name, value)| (name.clone(), comparable(value))).collect();
            if let Some(Value::Array(required)) = kept.get_mut("required") {
                required.sort_by_key(Value::to_string);
            }
            Value::Object(kept)
        }
        Value::Array(items) => Value::Array(items.iter().map(comparable).collect()),
        other => other.clone(),
    }
}

/// Definitions that differ, each with the reason.
const DIFFERING: [(&str, &str); 2] = [
    ("io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions", "names alpha and beta versions too, which are not served"),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent", "likewise"),
];

/// Every definition that is published is Kubernetes' own: compared where a copy of it is at hand (`K8W_REFERENCE_DATA`).
#[tokio::test]
async fn definitions_are_those_of_kubernetes() {
    let Ok(data) = std::env::var("K8W_REFERENCE_DATA") else {
        eprintln!("skipped: K8W_REFERENCE_DATA is not set");
        return;
    };
    let theirs: Value = serde_json::from_slice(&std::fs::read(format!("{data}/swagger.json")).unwrap()).unwrap();
    let ours = json().await;
    let mut differing = Vec::new();
    let definitions = ours["definitions"].as_object().unwrap();
    for (name, ours) in definitions {
        let (ours, theirs) = (comparable(ours), comparable(&theirs["definitions"][name]));
        if ours != theirs && !DIFFERING.iter().any(|(known, _)| known == name) {
            differing.push(format!("{name}\n  ours:   {ours}\n  theirs: {theirs}"));
        }
    }
    assert!(definitions.len() > 500, "only {} definitions were compared", definitions.len());
    assert!(differing.is_empty(), "{} differ:\n{}", differing.len(), differing.join("\n"));
}
