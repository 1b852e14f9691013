//! Lists of 1,000 ConfigMaps per second.

use anyhow::Result;
use bytes::Bytes;
use http::{Method, Response, StatusCode};

use crate::compare::Client;
use crate::http2::Http2;
use crate::load::{Load, PATH, create, expect};

const OBJECTS: usize = 1_000;

pub async fn measure() -> Result<()> {
    let load = Load::start().await?;
    let mut connection = load.connect().await?;
    for number in 0..OBJECTS {
        create(&mut connection, &format!("cm-{number}")).await?;
    }
    let listed = Lister { connection }.list().await?;
    let what = format!("lists: {OBJECTS} ConfigMaps ({} KiB) listed", listed.body().len() >> 10);
    load.compare(&what, &listed, |connection, _| Lister { connection }).await
}

struct Lister {
    connection: Http2,
}

impl Lister {
    async fn list(&mut self) -> Result<Response<Bytes>> {
        expect(StatusCode::OK, self.connection.send(Method::GET, PATH, Bytes::new()).await?)
    }
}

impl Client for Lister {
    async fn request(&mut self) -> Result<()> {
        self.list().await.map(drop)
    }
}
