//! Keeps one resource's objects flowing in: a list, then a watch from there, again and again.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::io::{AsyncBufRead, AsyncBufReadExt};
use http::HeaderValue;
use http::header::ACCEPT_ENCODING;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ListMeta, Status};
use kube::api::{ListParams, WatchParams};
use serde::de::{DeserializeSeed, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use crate::resource::Resource;
use crate::world::{Change, Object, Part};

const PAGE_OBJECTS: u32 = 500;
const WATCH_SECONDS: u32 = 290;
const FIRST_RETRY_MS: u64 = 50;
const MAX_RETRY_MS: u64 = 10_000;
/// How long changes gather where metadata alone is of interest: nobody waits for those, and one by one each would wake three
/// tasks on its way.
const GATHER: Duration = Duration::from_millis(5);

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

/// The object of a bookmark.
#[derive(Deserialize)]
struct Bookmark {
    metadata: ListMeta,
}

/// What one line of a watch says.
enum Event {
    Changed(Object),
    Gone(Object),
    Bookmark(Bookmark),
    Failed(Box<Status>),
}

/// Reads a line of a watch in one pass, its object as what the event's type makes of it.
struct EventOf<'i>(&'i Informer);

impl<'de> DeserializeSeed<'de> for EventOf<'_> {
    type Value = Event;

    fn deserialize<D: Deserializer<'de>>(self, line: D) -> Result<Event, D::Error> {
        line.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for EventOf<'_> {
    type Value = Event;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a type and an object, in this order")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut event: A) -> Result<Event, A::Error> {
        let Some(("type", kind)) = event.next_entry::<&str, &str>()? else {
            return Err(A::Error::missing_field("type"));
        };
        let Some("object") = event.next_key::<&str>()? else {
            return Err(A::Error::missing_field("object"));
        };
        match kind {
            "ADDED" | "MODIFIED" => event.next_value_seed(ObjectOf(self.0)).map(Event::Changed),
            "DELETED" => event.next_value_seed(ObjectOf(self.0)).map(Event::Gone),
            "BOOKMARK" => event.next_value().map(Event::Bookmark),
            _ => event.next_value().map(Event::Failed),
        }
    }
}

/// Reads an object as the informer wants it.
struct ObjectOf<'i>(&'i Informer);

impl<'de> DeserializeSeed<'de> for ObjectOf<'_> {
    type Value = Object;

    fn deserialize<D: Deserializer<'de>>(self, object: D) -> Result<Object, D::Error> {
        let ObjectOf(informer) = self;
        match informer.bare {
            true => Object::bare(&informer.resource, object),
            false => Object::decode(&informer.resource, object),
        }
    }
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
            for item in list.items.into_iter().flatten() {
                match ObjectOf(self).deserialize(&*item) {
                    Ok(object) => objects.push(object),
                    Err(error) => self.unreadable(error),
                }
            }
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
        let mut line = String::new();
        loop {
            if self.bare && stream.fill_buf().now_or_never().is_none() && stream.fill_buf().await.is_ok() {
                tokio::time::sleep(GATHER).await;
            }
            line.clear();
            match stream.read_line(&mut line).await {
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
    fn read(&self, line: &str, revision: &mut String) -> Result<Option<Change>, Failed> {
        let mut json = serde_json::Deserializer::from_str(line);
        let change = match EventOf(self).deserialize(&mut json) {
            Ok(Event::Changed(object)) => Change::Watched(object),
            Ok(Event::Gone(object)) => Change::WatchedGone(object),
            Ok(Event::Bookmark(bookmark)) => {
                *revision = bookmark.metadata.resource_version.unwrap_or_default();
                return Ok(None);
            }
            Ok(Event::Failed(status)) if status.code == Some(410) => return Err(Failed::Expired),
            Ok(Event::Failed(status)) => return Err(Failed::Other(status.message.unwrap_or_default())),
            Err(error) => {
                // Asking for it again would bring it again.
                self.unreadable(error);
                return Ok(None);
            }
        };
        if let Change::Watched(object) | Change::WatchedGone(object) = &change
            && let Some(seen) = &object.meta().resource_version
        {
            revision.clone_from(seen);
        }
        Ok(Some(change))
    }

    fn relisted(&self, objects: Vec<Object>, at: u64) -> Change {
        Change::Relisted { resource: self.resource.clone(), bare: self.bare, part: self.part, objects, at }
    }

    fn field_selector(&self) -> Option<String> {
        self.part.map(Part::field_selector)
    }

    fn unreadable(&self, error: serde_json::Error) {
        tracing::warn!(resource = %self.resource.plural, %error, "unreadable object");
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
