//! ConfigMaps applied per second: each client changes the one value of a ConfigMap of its own, by server-side apply.

use anyhow::Result;
use bytes::Bytes;
use http::{Response, StatusCode};

use crate::compare::Client;
use crate::http2::Http2;
use crate::load::{Load, PATH, config_map, expect};

const APPLY: &str = "application/apply-patch+yaml";

pub async fn measure() -> Result<()> {
    let load = Load::start().await?;
    load.one_for_each_client().await?;
    let mut first = Applier { connection: load.connect().await?, client: 0, applies: 0 };
    let applied = first.apply().await?;
    let applier = |connection, client| Applier { connection, client, applies: 0 };
    load.compare("applies: ConfigMaps applied", &applied, applier).await
}

struct Applier {
    connection: Http2,
    client: usize,
    applies: u64,
}

impl Applier {
    async fn apply(&mut self) -> Result<Response<Bytes>> {
        self.applies += 1;
        let name = format!("cm-{}", self.client);
        let body = config_map(&name, &format!("{:08}", self.applies));
        // With force: the one that created the ConfigMap owns the value at first.
        let path = format!("{PATH}/{name}?fieldManager=bench&force=true");
        expect(StatusCode::OK, self.connection.patch(&path, APPLY, body).await?)
    }
}

impl Client for Applier {
    async fn request(&mut self) -> Result<()> {
        self.apply().await.map(drop)
    }
}
