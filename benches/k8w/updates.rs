//! ConfigMaps replaced per second: each client changes the one value of a ConfigMap of its own.

use anyhow::Result;
use bytes::Bytes;
use http::{Method, Response, StatusCode};

use crate::compare::Client;
use crate::http2::Http2;
use crate::load::{Load, PATH, config_map, expect};

pub async fn measure() -> Result<()> {
    let load = Load::start().await?;
    load.one_for_each_client().await?;
    let mut first = Updater { connection: load.connect().await?, client: 0, updates: 0 };
    let updated = first.update().await?;
    let updater = |connection, client| Updater { connection, client, updates: 0 };
    load.compare("updates: ConfigMaps replaced", &updated, updater).await
}

struct Updater {
    connection: Http2,
    client: usize,
    updates: u64,
}

impl Updater {
    async fn update(&mut self) -> Result<Response<Bytes>> {
        self.updates += 1;
        let name = format!("cm-{}", self.client);
        let body = config_map(&name, &format!("{:08}", self.updates));
        expect(StatusCode::OK, self.connection.send(Method::PUT, &format!("{PATH}/{name}"), body).await?)
    }
}

impl Client for Updater {
    async fn request(&mut self) -> Result<()> {
        self.update().await.map(drop)
    }
}
