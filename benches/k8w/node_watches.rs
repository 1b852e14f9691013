//! Watches by node name, one for each of 5,000 nodes: pods created per second that each of them sees only its own of, and
//! how long until it does.

use anyhow::Result;
use http::{Method, StatusCode};
use tokio::time::Instant;

use crate::cluster;
use crate::load::{Load, expect};
use crate::stats::{median, milliseconds, quantile};
use crate::watchers::Watchers;

const NODES: usize = 5_000;
const PODS: usize = 1_000;
const PATH: &str = "/api/v1/namespaces/default/pods";

pub async fn measure() -> Result<()> {
    let load = Load::start().await?;
    cluster::default_account(&cluster::administrator(&load.cluster).await?, "default").await?;
    let without = create(&load, "before", None).await?;
    let paths = (0..NODES).map(|node| format!("{PATH}?watch=true&fieldSelector=spec.nodeName%3Dafter-{node}"));
    let mut watchers = Watchers::open(&load.server, paths).await?;
    let with = create(&load, "after", Some(&mut watchers)).await?;
    println!(
        "node-watches: with {NODES} watches by node name a pod is created in {} (p50), without in {}; its node has it after {} \
         (p50), {} (p99)",
        milliseconds(median(&with.answered)),
        milliseconds(median(&without.answered)),
        milliseconds(median(&with.delivered)),
        milliseconds(quantile(&with.delivered, 0.99)),
    );
    Ok(())
}

#[derive(Default)]
struct Times {
    answered: Vec<std::time::Duration>,
    /// From the request to the node's event.
    delivered: Vec<std::time::Duration>,
}

/// Creates pods one at a time, each on a node of its own, whose name begins with `prefix`. The nodes are but names: nobody runs the pods.
async fn create(load: &Load, prefix: &str, mut watchers: Option<&mut Watchers>) -> Result<Times> {
    let mut writer = load.connect().await?;
    let mut times = Times::default();
    for number in 0..PODS {
        let node = number * (NODES / PODS);
        let body = format!(
            r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"{prefix}-{number}"}},"spec":{{"nodeName":"{prefix}-{node}","containers":[{{"name":"c","image":"localhost/none"}}]}}}}"#
        );
        let begin = Instant::now();
        expect(StatusCode::CREATED, writer.send(Method::POST, PATH, body).await?)?;
        times.answered.push(begin.elapsed());
        if let Some(watchers) = watchers.as_deref_mut() {
            times.delivered.push(watchers.last_of(1).await? - begin);
        }
    }
    Ok(times)
}
