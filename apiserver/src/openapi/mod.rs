//! `/openapi/v3`: a document per group and version, from the schema core and the table of kinds; and `/openapi/v2`, one
//! for all.
//!
//! The index names each document's URL with the hash of its content, so that clients may keep documents for ever
//! (KEP-2896). Documents are made when first asked for, once per set of kinds.

mod message;
mod parameters;
mod paths;
mod v2;
mod v3;

pub use paths::group_version;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use futures::FutureExt;
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use k8w_kinds::KindDef;
use k8w_kinds::schema::openapi::{self, CustomKind, Edition};
use serde_json::{Map, Value, json};

use crate::ApiServer;
use crate::body::Body;
use crate::call::Call;
use crate::document::Document;
use crate::query::Query;
use crate::routes::Answer;
use crate::status::Status;
use crate::version::GIT_VERSION;

const JSON: &str = "application/json";
/// Where the index is; documents are below it.
const ROOT: &str = "/openapi/v3";

/// What every document refers to beside its kinds.
const COMMON_TYPES: &[&str] =
    &[paths::RESOURCE_LIST, paths::DELETE_OPTIONS, paths::STATUS, paths::PATCH, paths::WATCH_EVENT];

/// `GET /openapi/v2`, `/openapi/v3` and what lies below the latter.
pub fn serve(server: Arc<ApiServer>, call: Call) -> BoxFuture<'static, Answer> {
    async move {
        let resources = server.current_resources().await?;
        let kinds: Vec<&KindDef> = resources.shown().collect();
        if call.info.path.trim_end_matches('/') == v2::PATH {
            return resources.openapi().v2.respond(&kinds, &call.parts.headers);
        }
        resources.openapi().respond(&kinds, &call.info.path, &call.query, &call.parts.headers)
    }
    .boxed()
}

/// The document of one group and version in both formats, each made when first asked for.
#[derive(Clone, Default)]
struct Version {
    json: OnceLock<Document>,
    protobuf: OnceLock<Document>,
}

impl Version {
    fn json(&self, group_version: &str, kinds: &[&KindDef]) -> &Document {
        self.json.get_or_init(|| {
            let kinds: Vec<&KindDef> =
                kinds.iter().copied().filter(|kind| paths::group_version(kind) == group_version).collect();
            Document::new(JSON, &document_of(&kinds, Edition::V3))
        })
    }

    fn protobuf(&self, json: &Document) -> &Document {
        self.protobuf.get_or_init(|| {
            let document = serde_json::from_slice(json.body()).unwrap_or_default();
            Document::of_bytes(v3::PROTOBUF, v3::DOCUMENT.encode(&document).into())
        })
    }
}

/// All documents of one set of kinds.
#[derive(Default)]
pub struct OpenApi {
    index: OnceLock<Document>,
    /// By group and version as paths name them: `api/v1`, `apis/apps/v1`.
    versions: OnceLock<BTreeMap<String, Version>>,
    v2: v2::OpenApiV2,
}

impl OpenApi {
    /// The answer to a GET of `path`. `kinds` must be the same at each call.
    ///
    /// # Errors
    /// 404 when there is no such document, 406 for a client that accepts it in neither format.
    pub fn respond(
        &self,
        kinds: &[&KindDef],
        path: &str,
        query: &Query,
        headers: &HeaderMap,
    ) -> Result<Response<Body>, Status> {
        let below = path.strip_prefix(ROOT).unwrap_or_default().trim_matches('/');
        if below.is_empty() {
            let index = self.index.get_or_init(|| self.make_index(kinds));
            return Ok(index.respond(headers));
        }
        let version = self.versions(kinds).get(below).ok_or_else(Status::no_such_resource)?;
        let json = version.json(below, kinds);
        let protobuf = wants_protobuf(headers, v3::PROTOBUF_ASKED, v3::PROTOBUF)?;
        let document = if protobuf { version.protobuf(json) } else { json };
        let mut response = document.respond(headers);
        // The hash is that of the content, whichever the format.
        match query.non_empty("hash") {
            None => {}
            Some(hash) if hash == json.hash() => {
                let forever = HeaderValue::from_static("public, immutable, max-age=31536000");
                response.headers_mut().insert(header::CACHE_CONTROL, forever);
            }
            Some(_) => {
                response = Response::new(Body::Empty);
                *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
                let location = HeaderValue::from_str(&url(below, json)).map_err(Status::internal)?;
                response.headers_mut().insert(header::LOCATION, location);
            }
        }
        Ok(response)
    }

    /// For another set of kinds with these groups and versions: with the documents of those of which nothing is new.
    pub fn keep(&self, versions: impl Iterator<Item = String>, is_same: impl Fn(&str) -> bool) -> OpenApi {
        let known = self.versions.get();
        let version = |group_version: &str| {
            known.filter(|_| is_same(group_version)).and_then(|known| known.get(group_version)).cloned()
        };
        let versions = versions.map(|group_version| {
            let version = version(&group_version).unwrap_or_default();
            (group_version, version)
        });
        OpenApi { versions: OnceLock::from(versions.collect::<BTreeMap<_, _>>()), ..OpenApi::default() }
    }

    fn versions(&self, kinds: &[&KindDef]) -> &BTreeMap<String, Version> {
        self.versions
            .get_or_init(|| kinds.iter().map(|kind| (paths::group_version(kind), Version::default())).collect())
    }

    fn make_index(&self, kinds: &[&KindDef]) -> Document {
        let entries = self.versions(kinds).iter().map(|(group_version, version)| {
            let url = url(group_version, version.json(group_version, kinds));
            (group_version.clone(), json!({"serverRelativeURL": url}))
        });
        Document::new(JSON, &json!({"paths": entries.collect::<Map<_, _>>()}))
    }
}

/// Whether a client prefers a message to JSON: the first clause that names a format of ours decides. Messages have a name
/// that is `asked` for and another that is `answered`.
///
/// # Errors
/// 406 when the client accepts neither.
fn wants_protobuf(headers: &HeaderMap, asked: &str, answered: &str) -> Result<bool, Status> {
    let Some(accept) = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()) else { return Ok(false) };
    let format = |clause: &str| match clause.split(';').next().unwrap_or_default().trim() {
        "" | "*/*" | "application/*" | JSON => Some(false),
        message if message == asked || message == answered => Some(true),
        _ => None,
    };
    let found = accept.split(',').find_map(format);
    found.ok_or_else(|| Status::not_acceptable(&[JSON, asked, answered]))
}

fn url(group_version: &str, document: &Document) -> String {
    format!("{ROOT}/{group_version}?hash={}", document.hash())
}

/// The document of one group and version, whose kinds these are.
fn document_of(kinds: &[&KindDef], edition: Edition) -> Value {
    let mut types: Vec<String> = COMMON_TYPES.iter().map(|name| name.to_string()).collect();
    for kind in kinds {
        types.extend(paths::types(kind));
    }
    types.sort();
    types.dedup();
    let types: Vec<&str> = types.iter().map(String::as_str).collect();
    let mut schemas = openapi::components(&types);
    for kind in kinds {
        if let Some(custom) = &kind.custom {
            let published = CustomKind {
                group: &kind.group,
                version: &kind.version,
                kind: &kind.kind,
                list_kind: &kind.list_kind,
                selectable_fields: kind.selectable_fields.iter().map(|field| &*field.path).collect(),
                schema: &custom.open_api_v3_schema,
            };
            schemas.extend(openapi::custom_components(edition, &published));
        }
    }
    let mut paths: Map<String, Value> = kinds.iter().flat_map(|kind| paths::of(kind)).collect();
    paths.extend(kinds.iter().map(|kind| paths::resource_list(kind)));
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": GIT_VERSION},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"BearerToken": {"type": "apiKey", "in": "header", "name": "authorization",
                "description": "Bearer Token authentication"}},
        },
        "security": [{"BearerToken": []}],
    })
}

#[cfg(test)]
mod tests;
