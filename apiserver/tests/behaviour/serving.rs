//! What holds for every request: compression, counting, clients in the same process.

use crate::api::{Api, CONFIG_MAPS, config_map};
use bytes::Bytes;
use http::Request;
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use k8w_apiserver::identity::Connection;
use k8w_apiserver::{Body, Peer, UserInfo};
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tower::ServiceExt;

#[tokio::test]
async fn large_answers_are_compressed_for_clients_outside() {
    let api = Api::new().await;
    api.post(CONFIG_MAPS, &config_map("large", &"x".repeat(200 << 10))).await.ok();
    api.config_map("small", "1").await;
    let user = Some(Arc::new(UserInfo { name: "tester".into(), ..UserInfo::default() }));
    let outside = Peer::new(Connection { address: Some(([127, 0, 0, 1], 1).into()), user, ..Connection::default() });
    for (name, peer, compressed) in [
        ("large", outside.clone(), true),
        ("small", outside, false),
        ("large", Peer::in_process(UserInfo::default()), false),
    ] {
        let request = Request::get(format!("{CONFIG_MAPS}/{name}")).header("accept-encoding", "gzip, br");
        let response = api.server.handle(request.body(Body::Empty).unwrap(), peer).await;
        assert_eq!(response.headers().contains_key("content-encoding"), compressed, "{name}");
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let mut text = String::new();
        match compressed {
            true => flate2::read::GzDecoder::new(&*bytes).read_to_string(&mut text).unwrap(),
            false => (&*bytes).read_to_string(&mut text).unwrap(),
        };
        assert!(text.contains(&format!(r#""name":"{name}""#)));
    }
}

#[tokio::test]
async fn requests_are_counted() {
    let api = Api::new().await;
    api.config_map("a", "1").await;
    api.get(&format!("{CONFIG_MAPS}/nothing")).await;
    let _watch = api.watch(&format!("{CONFIG_MAPS}?watch=true")).await;
    let reply = api.get("/metrics").await;
    let text = std::str::from_utf8(&reply.body).unwrap();
    for line in [
        r#"apiserver_request_total{verb="POST",group="",version="v1",resource="configmaps",subresource="",scope="namespace",code="201"} 1"#,
        r#"apiserver_request_total{verb="GET",group="",version="v1",resource="configmaps",subresource="",scope="resource",code="404"} 1"#,
        r#"apiserver_longrunning_requests{verb="WATCH",group="",version="v1",resource="configmaps",subresource="",scope="namespace"} 1"#,
        r#"apiserver_request_duration_seconds_count{verb="POST",group="",version="v1",resource="configmaps",subresource="",scope="namespace"} 1"#,
    ] {
        assert!(text.contains(line), "{text}");
    }
}

#[tokio::test]
async fn clients_in_the_process_need_no_socket() {
    let api = Api::new().await;
    api.config_map("a", "1").await;
    let service = api.server.in_process(UserInfo { name: "controller".into(), ..UserInfo::default() }, "controller");
    let request = Request::get(format!("{CONFIG_MAPS}/a")).body(Full::new(Bytes::new())).unwrap();
    let response = service.oneshot(request).await.unwrap();
    assert_eq!(response.status(), 200);
}

/// A client that has not finished sending may never look for the answer.
#[tokio::test]
async fn a_body_that_is_too_large_is_read_on_for_a_while() {
    let api = Api::new().await;
    for (megabytes, all) in [(8, true), (1_000, false)] {
        let read = Arc::new(AtomicUsize::new(0));
        let counted = read.clone();
        let frame = move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(&[b' '; 1 << 20])))
        };
        let body = Body::stream(StreamBody::new(futures::stream::iter((0..megabytes).map(frame))));
        let request = Request::post(CONFIG_MAPS).header("content-type", "application/json").body(body).unwrap();
        assert_eq!(api.send(request).await.code, 413);
        let read = read.load(Ordering::Relaxed);
        assert!(if all { read == megabytes } else { read < 100 }, "{read} of {megabytes}");
    }
}
