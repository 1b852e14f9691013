//! ConfigMaps patched per second: each client changes the one value of a ConfigMap of its own, by strategic merge patch.

use anyhow::Result;
use bytes::Bytes;
use http::{Response, StatusCode};

use crate::compare::Client;
use crate::http2::Http2;
use crate::load::{Load, PATH, expect};

const STRATEGIC: &str = "application/strategic-merge-patch+json";

pub async fn measure() -> Result<()> {
    let load = Load::start().await?;
    load.one_for_each_client().await?;
    let mut first = Patcher { connection: load.connect().await?, client: 0, patches: 0 };
    let patched = first.patch().await?;
    let patcher = |connection, client| Patcher { connection, client, patches: 0 };
    load.compare("patches: ConfigMaps patched", &patched, patcher).await
}

struct Patcher {
    connection: Http2,
    client: usize,
    patches: u64,
}

impl Patcher {
    async fn patch(&mut self) -> Result<Response<Bytes>> {
        self.patches += 1;
        let body = format!(r#"{{"data":{{"key":"{:08}"}}}}"#, self.patches);
        expect(StatusCode::OK, self.connection.patch(&format!("{PATH}/cm-{}", self.client), STRATEGIC, body).await?)
    }
}

impl Client for Patcher {
    async fn request(&mut self) -> Result<()> {
        self.patch().await.map(drop)
    }
}
