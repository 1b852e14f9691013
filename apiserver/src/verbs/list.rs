//! `GET` of a collection, whole or in chunks.
//!
//! Lists come from the watch cache. Those that ask for one exact revision, and the later chunks of a chunked list, come
//! from the datastore's history, so that all chunks show the same moment.

use super::continuation::Continuation;
use super::get::{parse_version, reach};
use super::list_options::ListOptions;
use crate::ApiServer;
use crate::call::Call;
use crate::codec::{self, Accept, Shape};
use crate::component_statuses;
use crate::resources::{Def, Resource};
use crate::routes::Answer;
use crate::selector::Filter;
use crate::status::Status;
use crate::table::{self, Include, Style};
use crate::watch_cache::{Record, successor};
use bytes::Bytes;
use http::{StatusCode, header};
use k8w_kinds::schema::{Format, protobuf};
use k8w_storage::datastore::{Error, KeyRange, ListRequest, Revision};
use serde_json::{Value, json};
use std::sync::Arc;

const METADATA_LIST: &str = "PartialObjectMetadataList";

/// How many objects are read from the datastore at a time when a selector thins them out.
const PAGE_OBJECTS: usize = 500;

/// Part of a collection, or all of it.
pub struct Page {
    pub records: Vec<Arc<Record>>,
    pub revision: Revision,
    pub next: Option<Continuation>,
    /// How many are behind the last; unknown when a selector narrows.
    pub remaining: Option<usize>,
}

pub async fn serve(server: &ApiServer, resource: &Resource, call: Call) -> Answer {
    let accept = Accept::parse(call.header(header::ACCEPT), resource.offer())?;
    let page = read(server, resource, &call).await?;
    let bytes = encode(resource, &call, accept, page)?;
    Ok(codec::respond(&call, accept, StatusCode::OK, bytes))
}

/// What narrows the request.
///
/// # Errors
/// 400 for selectors that make no sense, and for a path that names one object and a selector that names another.
pub fn filter(resource: &Resource, call: &Call) -> Result<Filter, Status> {
    let namespace = &call.info.namespace;
    let namespace = (!namespace.is_empty()).then(|| namespace.clone());
    let selector = |name| call.query.get(name).unwrap_or_default();
    let filter = Filter::parse(namespace, selector("labelSelector"), selector("fieldSelector"), &resource.def)?;
    if call.info.names_object() { filter.named(&call.info.name) } else { Ok(filter) }
}

/// Reads what a list request asks for.
pub async fn read(server: &ApiServer, resource: &Resource, call: &Call) -> Result<Page, Status> {
    let options = ListOptions::parse(&call.query, false)?;
    let filter = filter(resource, call)?;
    if let Some(token) = options.continuation {
        let from = Continuation::decode(token)?;
        if options.version.is_some_and(|version| version != "0") {
            let why = "specifying resource version is not allowed when using continue";
            return Err(Status::bad_request(why));
        }
        return read_history(server, resource, &filter, options.limit, from.revision, Some(from.start)).await;
    }
    if options.exact {
        let revision = parse_version(options.version.unwrap_or_default())?;
        return read_history(server, resource, &filter, options.limit, Some(revision), None).await;
    }
    let reached = reach(server, options.version).await?;
    if component_statuses::is(resource) {
        let mut records = component_statuses::look(server, reached).await?;
        records.retain(|record| filter.matches(&resource.def, record));
        return Ok(Page { records, revision: reached, next: None, remaining: None });
    }
    Ok(read_cache(resource, &filter, options.limit, reached))
}

fn read_cache(resource: &Resource, filter: &Filter, limit: usize, reached: Revision) -> Page {
    let (mut records, changed) = match (filter.single_name(), &filter.namespace) {
        (Some(name), namespace) if namespace.is_some() == resource.namespaced => {
            let found = resource.objects.get(namespace.as_deref().unwrap_or_default(), name);
            (found.into_iter().collect(), 0)
        }
        (_, namespace) => resource.objects.list(namespace.as_deref()),
    };
    let revision = reached.max(changed);
    if filter.selects() {
        records.retain(|record| filter.matches(&resource.def, record));
    }
    let mut page = Page { records, revision, next: None, remaining: None };
    if limit > 0 && page.records.len() > limit {
        page.remaining = (!filter.selects()).then(|| page.records.len() - limit);
        page.records.truncate(limit);
        page.next = page.records.last().map(|last| after(last.key(), revision));
    }
    page
}

/// The continuation behind an object.
fn after(key: &[u8], revision: Revision) -> Continuation {
    let start = String::from_utf8_lossy(&successor(key)).into_owned();
    Continuation { revision: Some(revision), start }
}

/// Reads from the datastore at a revision; without one at the newest.
async fn read_history(
    server: &ApiServer,
    resource: &Resource,
    filter: &Filter,
    limit: usize,
    revision: Option<Revision>,
    start: Option<String>,
) -> Result<Page, Status> {
    let kind = resource.storage_prefix();
    let range = KeyRange::prefix(match &filter.namespace {
        Some(namespace) => format!("{kind}{namespace}/"),
        None => kind.clone(),
    });
    let mut start_key = start.as_ref().map(|start| Bytes::from(format!("{kind}{start}")));
    let mut at = revision;
    let mut page = Page { records: Vec::new(), revision: 0, next: None, remaining: None };
    let page_size = if limit == 0 || filter.selects() { PAGE_OBJECTS.max(limit) } else { limit };
    loop {
        let request = ListRequest { range: range.clone(), start_key, limit: page_size, revision: at };
        let chunk = match server.datastore.list(request).await {
            Ok(chunk) => chunk,
            Err(Error::Compacted { .. }) => return Err(too_old(start)),
            Err(error) => return Err(error.into()),
        };
        (page.revision, at) = (chunk.revision, Some(chunk.revision));
        let (count, behind) = (chunk.items.len(), chunk.remaining);
        start_key = chunk.items.last().map(|last| successor(&last.key));
        for (index, item) in chunk.items.into_iter().enumerate() {
            let record = resource.decode(item.key.slice(kind.len()..), item.value, item.mod_revision);
            let record = record.map_err(Status::internal)?;
            if !filter.matches(&resource.def, &record) {
                continue;
            }
            page.records.push(Arc::new(record));
            if limit > 0 && page.records.len() == limit {
                let remaining = count - index - 1 + behind;
                if remaining > 0 {
                    page.next = page.records.last().map(|last| after(last.key(), page.revision));
                    page.remaining = (!filter.selects()).then_some(remaining);
                }
                return Ok(page);
            }
        }
        if behind == 0 {
            return Ok(page);
        }
    }
}

/// 410 with a token that goes on at the newest revision, for clients that can live with it.
fn too_old(start: Option<String>) -> Status {
    let Some(start) = start else { return Status::expired("The resourceVersion for the provided list is too old.") };
    let mut status = Status::expired(
        "The provided continue parameter is too old to display a consistent list result. You can start a new list \
         without the continue parameter, or use the continue token in this response to retrieve the remainder of the \
         results. Continuing with the provided token results in an inconsistent list - objects that were created, \
         modified, or deleted between the time the first chunk was returned and now may show up in the list.",
    );
    status.continuation = Some(Continuation { revision: None, start }.encode());
    status
}

fn encode(resource: &Resource, call: &Call, accept: Accept, page: Page) -> Result<Bytes, Status> {
    let mut metadata = json!({"resourceVersion": page.revision.to_string()});
    if let Some(next) = &page.next {
        metadata["continue"] = next.encode().into();
    }
    if let Some(remaining) = page.remaining {
        metadata["remainingItemCount"] = remaining.into();
    }
    let (records, format) = (&page.records, accept.format);
    match (accept.shape, format) {
        (Shape::Object, Format::Protobuf) => {
            let items = records.iter().map(|record| &**record.protobuf(&resource.def));
            let list = protobuf::list(&metadata, items);
            Ok(protobuf::envelope(&resource.api_version(), &resource.list_kind, &list).into())
        }
        (Shape::Object, _) => {
            let items = records.iter().map(|record| match resource.def {
                Def::BuiltIn(_) => Item::Untyped(record),
                Def::Custom(_) => Item::Whole(record),
            });
            let list = encode_items(&resource.list_kind, &resource.api_version(), &metadata, items);
            Ok(codec::write_json(format, list))
        }
        (Shape::MetadataList, Format::Protobuf) => {
            let items = records.iter().map(|record| &**record.metadata_only_protobuf());
            let list = match accept.meta_version {
                codec::META_V1BETA1 => protobuf::list_v1beta1(&metadata, items),
                _ => protobuf::list(&metadata, items),
            };
            Ok(protobuf::envelope(accept.meta_version, METADATA_LIST, &list).into())
        }
        (Shape::MetadataList, _) => {
            let items = records.iter().map(|record| Item::Metadata(record, accept.meta_version));
            Ok(codec::write_json(format, encode_items(METADATA_LIST, accept.meta_version, &metadata, items)))
        }
        (Shape::Metadata, _) => {
            let kind = &resource.list_kind;
            let why = "you requested PartialObjectMetadata, but the requested object is a list";
            Err(Status::not_convertible(format!("{why} (*{}.{kind})", resource.version)))
        }
        (Shape::Table, _) => {
            let include = Include::parse(call.query.get("includeObject"))?;
            let objects: Vec<Value> = records.iter().map(|record| record.value()).collect();
            let style = Style { api_version: accept.meta_version, include, with_columns: true };
            let table = table::table(&resource.def, objects, metadata, style);
            Ok(codec::write_json(format, serde_json::to_vec(&table).map_err(Status::internal)?.into()))
        }
    }
}

enum Item<'a> {
    Json(&'a [u8]),
    Whole(&'a Record),
    /// Without `apiVersion` and `kind`.
    Untyped(&'a Record),
    /// In this version.
    Metadata(&'a Record, &'static str),
}

impl Item<'_> {
    /// About how long it is, written; metadata is often most of what its object is.
    fn bytes(&self) -> usize {
        match self {
            Item::Json(json) => json.len(),
            Item::Whole(record) | Item::Untyped(record) | Item::Metadata(record, _) => record.stored().len(),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Item::Json(json) => out.extend_from_slice(json),
            Item::Whole(record) => record.write(out),
            Item::Untyped(record) => record.write_list_item(out),
            Item::Metadata(record, version) => record.write_metadata_only(out, version),
        }
    }
}

/// A list of objects that are JSON already.
fn encode_items<'a>(
    kind: &str,
    api_version: &str,
    metadata: &Value,
    items: impl Iterator<Item = Item<'a>> + Clone,
) -> Bytes {
    const AROUND_ITEM_BYTES: usize = 42;
    let size: usize = items.clone().map(|item| item.bytes() + AROUND_ITEM_BYTES).sum();
    let head = format!(r#"{{"kind":"{kind}","apiVersion":"{api_version}","metadata":{metadata},"items":["#);
    let mut out = Vec::with_capacity(head.len() + size);
    out.extend_from_slice(head.as_bytes());
    for (index, item) in items.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        item.write(&mut out);
    }
    out.extend_from_slice(b"]}");
    out.into()
}

/// A list of objects that were just removed, each as JSON.
pub fn encode_written(resource: &Resource, format: Format, revision: Revision, objects: &[Bytes]) -> Bytes {
    let metadata = json!({"resourceVersion": revision.to_string()});
    let (kind, version) = (&resource.list_kind, resource.api_version());
    if format != Format::Protobuf {
        let items = objects.iter().map(|json| Item::Json(json));
        return codec::write_json(format, encode_items(kind, &version, &metadata, items));
    }
    let message = |json: &Bytes| {
        let value: Value = serde_json::from_slice(json).unwrap_or_default();
        resource.schema().to_protobuf(&value).unwrap_or_default()
    };
    let items: Vec<Vec<u8>> = objects.iter().map(message).collect();
    let list = protobuf::list(&metadata, items.iter().map(Vec::as_slice));
    protobuf::envelope(&version, kind, &list).into()
}
