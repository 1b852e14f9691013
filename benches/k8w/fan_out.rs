//! One change and 1,000 watchers: how long until the last of them has it.

use anyhow::Result;
use http::{Method, StatusCode};
use tokio::time::Instant;

use crate::load::{Load, PATH, config_map, create, expect};
use crate::stats::{median, milliseconds, quantile};
use crate::watchers::Watchers;

const WATCHERS: usize = 1_000;
const CHANGES: usize = 100;

pub async fn measure() -> Result<()> {
    let load = Load::start().await?;
    let mut writer = load.connect().await?;
    let made = create(&mut writer, "watched").await?;
    let version: serde_json::Value = serde_json::from_slice(made.body())?;
    let version = version["metadata"]["resourceVersion"].as_str().unwrap_or_default();
    let path = format!("{PATH}?watch=true&resourceVersion={version}");
    let mut watchers = Watchers::open(&load, (0..WATCHERS).map(|_| path.clone())).await?;
    let (mut answered, mut delivered) = (Vec::new(), Vec::new());
    for change in 0..CHANGES {
        let body = config_map("watched", &format!("{change:08}"));
        let begin = Instant::now();
        expect(StatusCode::OK, writer.send(Method::PUT, &format!("{PATH}/watched"), body).await?)?;
        answered.push(begin.elapsed());
        delivered.push(watchers.last_of(WATCHERS).await? - begin);
    }
    println!(
        "fan-out: {WATCHERS} watchers have a change after {} (p50), {} (p99); it is answered after {} (p50)",
        milliseconds(median(&delivered)),
        milliseconds(quantile(&delivered, 0.99)),
        milliseconds(median(&answered)),
    );
    Ok(())
}
