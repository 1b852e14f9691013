//! One change and many watchers: how long until the last of them has it. The peer writes the same bytes to as many streams.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{Method, Response, StatusCode};
use tokio::time::Instant;

use crate::bare::{Answer, Answers};
use crate::http2::{Endpoint, Http2};
use crate::load::{Load, PATH, config_map, create, expect};
use crate::stats::{median, milliseconds, quantile};
use crate::watchers::Watchers;

/// As many as share one connection, and as fill five.
const WATCHERS: [usize; 2] = [200, 1_000];
const CHANGES: usize = 100;
const WARM_UP_CHANGES: usize = 10;
const OBJECT: &str = "watched";

pub async fn measure() -> Result<()> {
    let load = Load::start().await?;
    create(&mut load.connect().await?, OBJECT).await?;
    for watchers in WATCHERS {
        compare(&load, watchers).await?;
    }
    Ok(())
}

/// Changes the object here and there in turn.
async fn compare(load: &Load, watchers: usize) -> Result<()> {
    let mut writer = load.connect().await?;
    let changed = change(&mut writer, 0).await?;
    let object: serde_json::Value = serde_json::from_slice(changed.body())?;
    let version = object["metadata"]["resourceVersion"].as_str().context("the object has no version")?;
    let path = format!("{PATH}?watch=true&resourceVersion={version}");
    let event = format!("{{\"type\":\"MODIFIED\",\"object\":{}}}\n", String::from_utf8_lossy(changed.body()));
    let (_bare, peer) = load.bare_server(&Answers { answer: Answer::of(&changed), event: Some(event) })?;
    let mut ours = Fan::open(&load.server, &path, watchers).await?;
    let mut peers = Fan::open(&peer, &path, watchers).await?;
    for number in 1..=WARM_UP_CHANGES + CHANGES {
        if number == WARM_UP_CHANGES + 1 {
            ours.forget();
            peers.forget();
        }
        ours.change(number).await?;
        peers.change(number).await?;
    }
    let times = ours.delivered.iter().zip(&peers.delivered);
    let ratios: Vec<f64> = times.map(|(ours, peer)| ours.div_duration_f64(*peer)).collect();
    println!(
        "fan-out: {watchers} watchers have a change after {ours}; those of a bare server after {peers}; ratio {:.2} ({:.2} to {:.2})",
        median(&ratios),
        quantile(&ratios, 0.1),
        quantile(&ratios, 0.9),
    );
    Ok(())
}

/// A server's watchers, and who makes the changes.
struct Fan {
    writer: Http2,
    watchers: Watchers,
    count: usize,
    answered: Vec<Duration>,
    delivered: Vec<Duration>,
}

impl Fan {
    async fn open(server: &Endpoint, path: &str, count: usize) -> Result<Self> {
        let watchers = Watchers::open(server, (0..count).map(|_| path.to_owned())).await?;
        Ok(Fan { writer: Http2::open(server).await?, watchers, count, answered: Vec::new(), delivered: Vec::new() })
    }

    async fn change(&mut self, number: usize) -> Result<()> {
        let begin = Instant::now();
        change(&mut self.writer, number).await?;
        self.answered.push(begin.elapsed());
        self.delivered.push(self.watchers.last_of(self.count).await? - begin);
        Ok(())
    }

    fn forget(&mut self) {
        self.answered.clear();
        self.delivered.clear();
    }
}

impl fmt::Display for Fan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fan { answered, delivered, .. } = self;
        let (middle, tail) = (milliseconds(median(delivered)), milliseconds(quantile(delivered, 0.99)));
        write!(f, "{middle} (p50), {tail} (p99), answered after {}", milliseconds(median(answered)))
    }
}

async fn change(writer: &mut Http2, number: usize) -> Result<Response<Bytes>> {
    let body = config_map(OBJECT, &format!("{number:08}"));
    expect(StatusCode::OK, writer.send(Method::PUT, &format!("{PATH}/{OBJECT}"), body).await?)
}
