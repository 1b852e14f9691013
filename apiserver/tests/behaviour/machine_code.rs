//! `/k8w.dev/machine-code`: nodes send components of any size, and whoever has a compiler answers.

use async_trait::async_trait;
use http::Response;
use http_body_util::BodyExt;
use k8w_apiserver::call::{BODY_LIMIT_BYTES, Call};
use k8w_apiserver::plugins::Compiler;
use k8w_apiserver::{Body, Status};

use crate::cluster::{As, Cluster};

const PATH: &str = "/k8w.dev/machine-code";

/// Says for whom, and how much it was sent.
struct Counter;

#[async_trait]
impl Compiler for Counter {
    async fn compile(&self, call: Call) -> Result<Response<Body>, Status> {
        let component = call.body.collect().await.map_err(Status::internal)?.to_bytes();
        let query = call.parts.uri.query().unwrap_or_default();
        Ok(Response::new(Body::from(format!("{} {query} {}", call.user.name, component.len()))))
    }
}

#[tokio::test]
async fn nodes_alone_have_components_compiled() {
    let cluster = Cluster::new().await;
    let node = As::User("system:node:a", &["system:nodes", "system:authenticated"]);
    let post = async |who: As<'_>, component: Vec<u8>| {
        cluster.send(who, "POST", &format!("{PATH}?digest=d"), &[], Body::from(component)).await
    };
    // Not every API server has a compiler.
    assert_eq!(post(node.clone(), vec![0]).await.code, 503);
    cluster.server.connect_compiler(Box::new(Counter));
    let large = BODY_LIMIT_BYTES + 1;
    let reply = post(node.clone(), vec![0; large]).await;
    assert_eq!((reply.code, reply.body.as_ref()), (200, format!("system:node:a digest=d {large}").as_bytes()));

    let groups = ["system:authenticated", "system:serviceaccounts"];
    for who in [As::Nobody, As::User("jane", &groups), As::User("system:node:a", &groups)] {
        assert_eq!(post(who, vec![0]).await.code, 403);
    }
    for (who, code) in [(node, 403), (As::Admin, 405)] {
        assert_eq!(cluster.get(who, PATH).await.code, code);
    }
}
