//! ConfigMaps replaced, patched and applied per second: each client changes the one value of a ConfigMap of its own.

use anyhow::Result;
use bytes::Bytes;
use http::{Method, Response, StatusCode};

use crate::compare::Client;
use crate::http2::Http2;
use crate::load::{Load, PATH, config_map, expect};

/// A way to change a ConfigMap.
pub struct Change {
    what: &'static str,
    method: Method,
    query: &'static str,
    content_type: &'static str,
    /// The body, of the ConfigMap's name and its new value.
    body: fn(&str, &str) -> String,
}

pub static UPDATE: Change = Change {
    what: "updates: ConfigMaps replaced",
    method: Method::PUT,
    query: "",
    content_type: "application/json",
    body: config_map,
};

pub static PATCH: Change = Change {
    what: "patches: ConfigMaps patched",
    method: Method::PATCH,
    query: "",
    content_type: "application/strategic-merge-patch+json",
    body: |_, value| format!(r#"{{"data":{{"key":"{value}"}}}}"#),
};

pub static APPLY: Change = Change {
    what: "applies: ConfigMaps applied",
    method: Method::PATCH,
    // With force: the one that created the ConfigMap owns the value at first.
    query: "?fieldManager=bench&force=true",
    content_type: "application/apply-patch+yaml",
    body: config_map,
};

pub async fn measure(change: &'static Change) -> Result<()> {
    let load = Load::start().await?;
    load.one_for_each_client().await?;
    let changer = |connection, client| Changer { connection, client, changes: 0, change };
    let changed = changer(load.connect().await?, 0).change().await?;
    load.compare(change.what, &changed, changer).await
}

struct Changer {
    connection: Http2,
    client: usize,
    changes: u64,
    change: &'static Change,
}

impl Changer {
    async fn change(&mut self) -> Result<Response<Bytes>> {
        self.changes += 1;
        let Change { method, query, content_type, body, .. } = self.change;
        let name = format!("cm-{}", self.client);
        let body = body(&name, &format!("{:08}", self.changes));
        let path = format!("{PATH}/{name}{query}");
        expect(StatusCode::OK, self.connection.send_as(method.clone(), &path, content_type, body).await?)
    }
}

impl Client for Changer {
    async fn request(&mut self) -> Result<()> {
        self.change().await.map(drop)
    }
}
