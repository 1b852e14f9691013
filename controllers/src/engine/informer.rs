//! Keeps one resource's objects flowing in: a list, then a watch from there, again and again.

use std::sync::Arc;
use std::time::Duration;

use futures::io::{AsyncBufRead, AsyncBufReadExt};
use http::HeaderValue;
use http::header::ACCEPT_ENCODING;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ListMeta, Status};
use kube::api::{ListParams, WatchParams};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use crate::resource::Resource;
use crate::world::{Change, Object, Part};

const PAGE_OBJECTS: u32 = 500;
const WATCH_SECONDS: u32 = 290;
const FIRST_RETRY_MS: u64 = 50;
const MAX_RETRY_MS: u64 = 10_000;

/// What to watch.
pub struct Informer {
    pub client: kube::Client,
    pub resource: Arc<Resource>,
    /// Metadata only.
    pub bare: bool,
    /// Only these objects.
    pub part: Option<Part>,
    pub changes: mpsc::Sender<Change>,
}

#[derive(Deserialize)]
struct List {
    metadata: ListMeta,
    items: Option<Vec<Box<RawValue>>>,
}

/// One line of a watch. The object is read once, as what its event makes of it.
#[derive(Deserialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

/// The object of a bookmark.
#[derive(Deserialize)]
struct Bookmark {
    metadata: ListMeta,
}

/// The engine has gone away, or the watch must start anew from a list.
enum Ended {
    Engine,
    Watch,
}

impl Informer {
    pub async fn run(self) {
        let mut retry = Retry::default();
        loop {
            match self.list().await {
                Ok((objects, revision)) => {
                    retry.reset();
                    let at = revision.parse().unwrap_or(0);
                    if !self.send(self.relisted(objects, at)).await
                        || matches!(self.watch(revision).await, Ended::Engine)
                    {
                        return;
                    }
                }
                Err(kube::Error::Api(status)) if status.code == 404 => {
                    // Not served (yet): the kind has no objects. The others must not wait for it.
                    if retry.is_first() && !self.send(self.relisted(Vec::new(), 0)).await {
                        return;
                    }
                }
                Err(error) => {
                    tracing::warn!(resource = %self.resource.plural, %error, "list failed, will be repeated");
                }
            }
            retry.wait().await;
        }
    }

    /// All objects, and the revision of the first page, which is the whole list's.
    async fn list(&self) -> kube::Result<(Vec<Object>, String)> {
        let request = kube::core::Request::new(self.resource.path(""));
        let mut params = ListParams::default().limit(PAGE_OBJECTS);
        params.field_selector = self.field_selector();
        let mut objects = Vec::new();
        loop {
            let page = if self.bare { request.list_metadata(&params) } else { request.list(&params) };
            let list: List = self.client.request(page.map_err(kube::Error::BuildRequest)?).await?;
            objects.extend(list.items.into_iter().flatten().filter_map(|item| self.decode(&item)));
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params.continue_token = Some(token),
                None => return Ok((objects, list.metadata.resource_version.unwrap_or_default())),
            }
        }
    }

    /// Watches from `revision`, resuming until the server no longer can.
    async fn watch(&self, mut revision: String) -> Ended {
        let mut retry = Retry::default();
        loop {
            match self.open(&revision).await {
                Ok(stream) => {
                    if let Some(ended) = self.follow(stream, &mut revision, &mut retry).await {
                        return ended;
                    }
                }
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 410) => return Ended::Watch,
                Err(error) => tracing::warn!(resource = %self.resource.plural, %error, "watch can't start"),
            }
            retry.wait().await;
        }
    }

    async fn open(&self, revision: &str) -> kube::Result<impl AsyncBufRead + use<>> {
        let request = kube::core::Request::new(self.resource.path(""));
        let mut params = WatchParams::default().timeout(WATCH_SECONDS);
        params.field_selector = self.field_selector();
        let built =
            if self.bare { request.watch_metadata(&params, revision) } else { request.watch(&params, revision) };
        let mut request = built.map_err(kube::Error::BuildRequest)?;
        // What is compressed would come in blocks, and not when it happens.
        request.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        self.client.request_stream(request).await
    }

    /// Passes on what the stream brings; `None` when it ended in a way that can be resumed.
    async fn follow(&self, stream: impl AsyncBufRead, revision: &mut String, retry: &mut Retry) -> Option<Ended> {
        let mut stream = std::pin::pin!(stream);
        let mut line = Vec::new();
        loop {
            line.clear();
            match stream.read_until(b'\n', &mut line).await {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(resource = %self.resource.plural, %error, "watch broke");
                    return None;
                }
            }
            let change = match self.read(&line, revision) {
                Ok(change) => change,
                Err(Failed::Expired) => return Some(Ended::Watch),
                Err(Failed::Other(why)) => {
                    tracing::warn!(resource = %self.resource.plural, why, "watch failed");
                    return None;
                }
            };
            retry.reset();
            if let Some(change) = change
                && !self.send(change).await
            {
                return Some(Ended::Engine);
            }
        }
    }

    /// The change that a line of a watch tells of, if it is one. `revision` follows.
    fn read(&self, line: &[u8], revision: &mut String) -> Result<Option<Change>, Failed> {
        let unreadable = |error: serde_json::Error| Failed::Other(error.to_string());
        let event: Event<'_> = serde_json::from_slice(line).map_err(unreadable)?;
        let change = match event.kind {
            "ADDED" | "MODIFIED" => self.decode(event.object).map(Change::Watched),
            "DELETED" => self.decode(event.object).map(Change::WatchedGone),
            "BOOKMARK" => {
                let bookmark = Bookmark::deserialize(event.object).map_err(unreadable)?;
                *revision = bookmark.metadata.resource_version.unwrap_or_default();
                None
            }
            _ => {
                let status = Status::deserialize(event.object).map_err(unreadable)?;
                let expired = status.code == Some(410);
                return Err(if expired { Failed::Expired } else { Failed::Other(status.message.unwrap_or_default()) });
            }
        };
        if let Some(Change::Watched(object) | Change::WatchedGone(object)) = &change
            && let Some(seen) = &object.meta().resource_version
        {
            revision.clone_from(seen);
        }
        Ok(change)
    }

    fn relisted(&self, objects: Vec<Object>, at: u64) -> Change {
        Change::Relisted { resource: (*self.resource).clone(), bare: self.bare, part: self.part, objects, at }
    }

    fn field_selector(&self) -> Option<String> {
        self.part.map(Part::field_selector)
    }

    fn decode(&self, object: &RawValue) -> Option<Object> {
        let decoded =
            if self.bare { Object::bare(&self.resource, object) } else { Object::decode(&self.resource, object) };
        decoded.inspect_err(|error| tracing::warn!(resource = %self.resource.plural, %error, "unreadable object")).ok()
    }

    async fn send(&self, change: Change) -> bool {
        self.changes.send(change).await.is_ok()
    }
}

/// Why a watch cannot go on.
enum Failed {
    /// Its revision is no longer kept.
    Expired,
    Other(String),
}

/// Waits that double until something works again.
#[derive(Default)]
struct Retry {
    failures: u32,
}

impl Retry {
    fn reset(&mut self) {
        self.failures = 0;
    }

    fn is_first(&self) -> bool {
        self.failures == 0
    }

    async fn wait(&mut self) {
        let wait_ms = FIRST_RETRY_MS.saturating_mul(1 << self.failures.min(16)).min(MAX_RETRY_MS);
        self.failures += 1;
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
    }
}
