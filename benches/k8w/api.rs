//! ConfigMaps created and read per second.

use anyhow::Result;
use bytes::Bytes;
use http::{Method, Response, StatusCode};

use crate::compare::Client;
use crate::http2::Http2;
use crate::load::{CLIENTS, Load, PATH, create, expect};

/// ConfigMaps that reads choose from.
const READ_FROM: u64 = 1_000;

pub async fn measure() -> Result<()> {
    let load = Load::start().await?;
    let mut first = Creator { connection: load.connect().await?, client: CLIENTS, created: 0 };
    let created = first.create().await?;
    for _ in 1..READ_FROM {
        first.request().await?;
    }
    let mut reader = Reader { connection: load.connect().await?, client: CLIENTS, read: 0 };
    let read = reader.read().await?;
    let creator = |connection, client| Creator { connection, client, created: 0 };
    load.compare("api: ConfigMaps created", &created, creator).await?;
    let reader = |connection, client| Reader { connection, client, read: 0 };
    load.compare("api: ConfigMaps read", &read, reader).await
}

/// Creates one ConfigMap after another.
struct Creator {
    connection: Http2,
    client: usize,
    created: u64,
}

impl Creator {
    async fn create(&mut self) -> Result<Response<Bytes>> {
        let name = format!("cm-{}-{:08}", self.client, self.created);
        self.created += 1;
        create(&mut self.connection, &name).await
    }
}

impl Client for Creator {
    async fn request(&mut self) -> Result<()> {
        self.create().await.map(drop)
    }
}

/// Reads what the first [`Creator`] created, one ConfigMap after another.
struct Reader {
    connection: Http2,
    client: usize,
    read: u64,
}

impl Reader {
    async fn read(&mut self) -> Result<Response<Bytes>> {
        // Every reader walks through all of them, from a place of its own.
        let number = (self.client as u64 * READ_FROM / CLIENTS as u64 + self.read) % READ_FROM;
        self.read += 1;
        let path = format!("{PATH}/cm-{CLIENTS}-{number:08}");
        expect(StatusCode::OK, self.connection.send(Method::GET, &path, Bytes::new()).await?)
    }
}

impl Client for Reader {
    async fn request(&mut self) -> Result<()> {
        self.read().await.map(drop)
    }
}
