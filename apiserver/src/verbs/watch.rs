//! `GET` with `watch`: a stream of the changes of a collection.
//!
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes>

use super::get::{parse_version, reach};
use super::list;
use super::list_options::ListOptions;
use crate::ApiServer;
use crate::body::{Body, BodyError};
use crate::call::Call;
use crate::codec::{self, Accept, Shape};
use crate::resources::Resource;
use crate::routes::Answer;
use crate::status::Status;
use crate::table::{self, Include, Style};
use crate::watch_cache::{
    self, Delivery, EventType, Record, Subscription, WatchCache, frame, frame_metadata, frame_object,
};
use bytes::{Bytes, BytesMut};
use futures::stream;
use http::{HeaderValue, Response, header};
use http_body::Frame;
use http_body_util::StreamBody;
use k8w_kinds::schema::{Format, protobuf};
use rand::Rng;
use serde_json::{Value, json};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};

/// How long a watch lasts when the client does not say: this, and up to twice as long, so that not all end at once.
const DEFAULT_TIMEOUT_SECONDS: u64 = 1800;
/// How long a watch lasts at most.
const LONGEST_TIMEOUT_SECONDS: u64 = 24 * 3600;
/// How often a quiet watch is told how far it has got.
const BOOKMARK_INTERVAL_SECONDS: u64 = 60;
/// Events that are ready are sent together up to about this much.
const CHUNK_BYTES: usize = 64 << 10;

pub async fn serve(server: &ApiServer, resource: &Arc<Resource>, call: Call) -> Answer {
    let accept = Accept::parse_stream(call.header(header::ACCEPT), resource.offer())?;
    let include = Include::parse(call.query.get("includeObject"))?;
    let options = ListOptions::parse(&call.query, true)?;
    let bookmarks = options.bookmarks;
    let timeout = match options.timeout_seconds {
        None | Some(0) => rand::rng().random_range(DEFAULT_TIMEOUT_SECONDS..2 * DEFAULT_TIMEOUT_SECONDS),
        // One that is over already ends at once.
        Some(seconds) => u64::try_from(seconds).unwrap_or(0).min(LONGEST_TIMEOUT_SECONDS),
    };
    let started = start(server, resource, &call, &options).await?;
    let encoder = Encoder { resource: resource.clone(), accept, include, columns_sent: false };
    let body = match started {
        Ok(mut subscription) => {
            let deadline = Instant::now() + Duration::from_secs(timeout);
            let watch = Watch {
                initial: std::mem::take(&mut subscription.initial).into_iter(),
                initial_end: options.send_initial_events && bookmarks,
                subscription,
                cache: server.cache.clone(),
                encoder,
                bookmarks,
                due: Box::pin(sleep_until(if bookmarks { deadline.min(next_bookmark()) } else { deadline })),
                deadline,
                over: false,
            };
            let chunks = stream::unfold(watch, |mut watch| async move {
                let chunk = watch.next_chunk().await?;
                Some((Ok::<_, BodyError>(Frame::data(chunk)), watch))
            });
            Body::stream(StreamBody::new(chunks))
        }
        // A watch that cannot start at its revision is told so in the stream, as in Kubernetes.
        Err(status) => Body::from(encoder.error(&status)),
    };
    let mut response = Response::new(body);
    let content_type = match accept.format {
        Format::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
        Format::Json | Format::Yaml => "application/json",
    };
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    Ok(response)
}

/// The subscription, or why there can be none.
async fn start(
    server: &ApiServer,
    resource: &Resource,
    call: &Call,
    options: &ListOptions<'_>,
) -> Result<Result<Subscription, Status>, Status> {
    let filter = list::filter(resource, call)?;
    let reached = reach(server, options.version).await?;
    let from = match options.version {
        _ if options.send_initial_events => watch_cache::From::Now,
        None | Some("0") => watch_cache::From::After(reached),
        Some(version) => watch_cache::From::After(parse_version(version)?),
    };
    Ok(resource.objects.watch(resource.def.clone(), filter, from, reached))
}

/// A watch that is being streamed.
struct Watch {
    initial: std::vec::IntoIter<Arc<Record>>,
    /// A bookmark is due that says that the objects there were have all been sent.
    initial_end: bool,
    subscription: Subscription,
    cache: Arc<WatchCache>,
    encoder: Encoder,
    bookmarks: bool,
    /// When the next bookmark is due, or the end.
    due: Pin<Box<Sleep>>,
    deadline: Instant,
    over: bool,
}

impl Watch {
    /// The next bytes to send; `None` at the end.
    async fn next_chunk(&mut self) -> Option<Bytes> {
        if self.over {
            return None;
        }
        if !self.initial.as_slice().is_empty() {
            return Some(self.initial_chunk());
        }
        if std::mem::take(&mut self.initial_end) {
            return Some(self.encoder.bookmark(self.subscription.revision, true));
        }
        tokio::select! {
            biased;
            delivery = self.subscription.next() => match delivery {
                Some(delivery) => Some(self.chunk(delivery)),
                None if self.subscription.is_ended() => {
                    self.over = true;
                    None
                }
                None => {
                    self.over = true;
                    let status = Status::expired("too old resource version: the watch fell behind and was closed");
                    Some(self.encoder.error(&status))
                }
            },
            () = &mut self.due => {
                self.over = self.due.deadline() >= self.deadline;
                self.bookmarks.then(|| self.bookmark())
            }
        }
    }

    fn initial_chunk(&mut self) -> Bytes {
        let mut chunk = BytesMut::new();
        for record in self.initial.by_ref() {
            chunk.extend_from_slice(&self.encoder.object(EventType::Added, &record));
            if chunk.len() >= CHUNK_BYTES {
                break;
            }
        }
        chunk.freeze()
    }

    /// An event, and those that are ready behind it. A lone one is sent without copying it.
    fn chunk(&mut self, first: Delivery) -> Bytes {
        let first = self.encoder.event(&first);
        let Some(second) = self.subscription.try_next() else { return first };
        // As long as the first one each.
        let events = 2 + self.subscription.waiting();
        let mut chunk = BytesMut::with_capacity((first.len() * events).min(first.len() + CHUNK_BYTES));
        chunk.extend_from_slice(&first);
        let mut next = Some(second);
        while let Some(delivery) = next {
            chunk.extend_from_slice(&self.encoder.event(&delivery));
            next = if chunk.len() < CHUNK_BYTES { self.subscription.try_next() } else { None };
        }
        chunk.freeze()
    }

    /// Everything up to the cache's revision has been handed to this watch; what of it is still here goes first.
    fn bookmark(&mut self) -> Bytes {
        self.due.as_mut().reset(self.deadline.min(next_bookmark()));
        let revision = self.cache.revision().max(self.subscription.revision);
        let mut chunk = BytesMut::new();
        while let Some(delivery) = self.subscription.try_next() {
            chunk.extend_from_slice(&self.encoder.event(&delivery));
        }
        chunk.extend_from_slice(&self.encoder.bookmark(revision, false));
        chunk.freeze()
    }
}

fn next_bookmark() -> Instant {
    Instant::now() + Duration::from_secs(BOOKMARK_INTERVAL_SECONDS)
}

/// Writes events in the format and shape that the client accepts.
struct Encoder {
    resource: Arc<Resource>,
    accept: Accept,
    include: Include,
    /// Tables say their columns once.
    columns_sent: bool,
}

impl Encoder {
    fn event(&mut self, (notice, event): &Delivery) -> Bytes {
        match (self.accept.shape, notice.change.object(*event)) {
            (Shape::Object, _) => notice.frame(*event, self.accept.format, &self.resource.def),
            (_, Some(record)) => self.object(*event, record),
            (_, None) => Bytes::new(),
        }
    }

    fn object(&mut self, event: EventType, record: &Record) -> Bytes {
        match (self.accept.shape, self.accept.format) {
            (Shape::Object, format) => frame_object(event, format, record, &self.resource.def),
            (Shape::Metadata | Shape::MetadataList, Format::Protobuf) => {
                let message = record.metadata_only_protobuf();
                let body = protobuf::envelope(self.accept.meta_version, codec::PARTIAL_OBJECT_METADATA, message);
                self.frame(event.name(), &body)
            }
            (Shape::Metadata | Shape::MetadataList, _) => frame_metadata(event, record, self.accept.meta_version),
            (Shape::Table, _) => {
                let metadata = json!({"resourceVersion": record.revision().to_string()});
                let table = self.table(vec![record.value()], metadata);
                self.frame(event.name(), &table)
            }
        }
    }

    fn table(&mut self, objects: Vec<Value>, metadata: Value) -> Vec<u8> {
        let with_columns = !std::mem::replace(&mut self.columns_sent, true);
        let style = Style { api_version: self.accept.meta_version, include: self.include, with_columns };
        let table = table::table(&self.resource.def, objects, metadata, style);
        serde_json::to_vec(&table).unwrap_or_default()
    }

    fn bookmark(&mut self, revision: u64, initial_end: bool) -> Bytes {
        let mut metadata = json!({"resourceVersion": revision.to_string()});
        if initial_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let format = self.accept.format;
        let object = match self.accept.shape {
            Shape::Table => self.table(Vec::new(), metadata).into(),
            Shape::Metadata | Shape::MetadataList => codec::write_metadata(self.accept, &metadata),
            Shape::Object => {
                let (kind, version) = (&self.resource.kind, self.resource.api_version());
                let object = json!({"kind": kind, "apiVersion": version, "metadata": metadata});
                codec::write(format, object.to_string().into(), self.resource.schema())
            }
        };
        self.frame("BOOKMARK", &object)
    }

    fn error(&self, status: &Status) -> Bytes {
        self.frame("ERROR", &codec::write_status(self.accept.format, status.to_json().into()))
    }

    fn frame(&self, event: &str, object: &[u8]) -> Bytes {
        frame(event, self.accept.format, object)
    }
}
