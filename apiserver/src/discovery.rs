//! Discovery: which groups, versions and resources there are, generated from the table of kinds.
//!
//! Two forms of the same facts: one document per group and version (`/api`, `/apis`, `/apis/apps`, `/apis/apps/v1`; `/`
//! lists their paths), and
//! the aggregated one (KEP-3352) that answers `/api` and `/apis` in one go for clients that accept it. Documents are
//! made once per set of kinds and carry an ETag, so that a client that has them gets 304.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{HeaderMap, Response, header};
use k8w_kinds::names::version_priority;
use k8w_kinds::{KindDef, Subresource};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::ApiServer;
use crate::body::Body;
use crate::call::Call;
use crate::codec::pretty;
use crate::document::Document;
use crate::routes::{self, Answer};
use crate::status::Status;

const JSON: &str = "application/json";
/// The only version of the aggregated form that is GA; clients name it literally like this.
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// Groups in the order that clients should prefer them in when they meet an ambiguous resource name
/// (`apiserver/pkg/server/…/priority`): the first ones listed here, then the others by name.
const GROUP_ORDER: &[&str] = &[
    "",
    "apiregistration.k8s.io",
    "apps",
    "events.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "scheduling.k8s.io",
    "coordination.k8s.io",
    "node.k8s.io",
    "discovery.k8s.io",
];

/// `GET /`, `/api`, `/apis` and what lies below the latter, down to a version's list of resources.
pub fn serve(server: Arc<ApiServer>, call: Call) -> BoxFuture<'static, Answer> {
    async move {
        let resources = server.current_resources().await?;
        let discovery = resources.discovery(server.config.advertise);
        let pretty = pretty::is_wanted(&call.query, &call.parts.headers);
        discovery.respond(&call.info.path, &call.parts.headers, pretty).ok_or_else(Status::no_such_resource)
    }
    .boxed()
}

/// All discovery documents of one set of kinds.
pub struct Discovery {
    /// By path, without a slash at its end.
    plain: HashMap<String, Document>,
    /// The aggregated form of `/api` and `/apis`.
    aggregated: HashMap<&'static str, Document>,
}

impl Discovery {
    /// `server_address` (`host:port`) is what `/api` tells clients to use.
    pub fn new<'k>(kinds: impl IntoIterator<Item = &'k KindDef>, server_address: &str) -> Discovery {
        let groups = Group::all(kinds);
        let (core, named): (Vec<&Group>, Vec<&Group>) = groups.iter().partition(|group| group.name.is_empty());
        let mut plain = HashMap::new();
        let mut put = |path: String, value: Value| plain.insert(path, Document::new(JSON, value));
        let core_versions = core.iter().flat_map(|group| group.versions.iter().map(|version| version.name));
        put(
            "/api".into(),
            json!({"kind": "APIVersions", "versions": core_versions.collect::<Vec<_>>(),
                "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": server_address}]}),
        );
        let list: Vec<Value> = named.iter().map(|group| group.summary()).collect();
        put("/apis".into(), json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": list}));
        for group in &groups {
            if !group.name.is_empty() {
                let mut summary = group.summary();
                summary["kind"] = "APIGroup".into();
                summary["apiVersion"] = "v1".into();
                put(format!("/apis/{}", group.name), summary);
            }
            for version in &group.versions {
                put(group.path(version), version.resource_list(group));
            }
        }
        let mut paths: Vec<&str> = routes::paths().iter().map(|route| route.path).filter(|path| *path != "/").collect();
        paths.extend(plain.keys().map(String::as_str));
        paths.sort_unstable();
        paths.dedup();
        let index = Document::new(JSON, json!({"paths": paths}));
        plain.insert(String::new(), index);
        let aggregated = |groups: &[&Group]| {
            let items: Vec<Value> = groups.iter().map(|group| group.aggregated()).collect();
            let list = json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {},
                "items": items});
            Document::new(AGGREGATED, list)
        };
        let aggregated = HashMap::from([("/api", aggregated(&core)), ("/apis", aggregated(&named))]);
        Discovery { plain, aggregated }
    }

    /// The answer to a GET of `path`, or `None` when it is not a discovery path.
    pub fn respond(&self, path: &str, headers: &HeaderMap, pretty: bool) -> Option<Response<Body>> {
        let path = path.trim_end_matches('/');
        let aggregated = self.aggregated.get(path).filter(|_| accepts_aggregated(headers));
        let document = aggregated.or_else(|| self.plain.get(path))?;
        Some(if pretty { document.indented().respond(headers) } else { document.respond(headers) })
    }
}

/// Clients list what they accept in the order of their preference, the aggregated form first.
fn accepts_aggregated(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|list| list.split(',')).any(|one| {
        let mut parameters: Vec<&str> = one.split(';').map(str::trim).filter(|part| !part.starts_with("q=")).collect();
        parameters.sort_unstable();
        let mut wanted: Vec<&str> = AGGREGATED.split(';').collect();
        wanted.sort_unstable();
        parameters == wanted
    })
}

struct Group<'k> {
    name: &'k str,
    /// The preferred one first.
    versions: Vec<Version<'k>>,
}

struct Version<'k> {
    name: &'k str,
    /// In the order of their plural names.
    kinds: Vec<&'k KindDef>,
}

impl<'k> Group<'k> {
    fn all(kinds: impl IntoIterator<Item = &'k KindDef>) -> Vec<Group<'k>> {
        let mut groups: BTreeMap<&str, BTreeMap<&str, Vec<&KindDef>>> = BTreeMap::new();
        for kind in kinds {
            groups.entry(&kind.group).or_default().entry(&kind.version).or_default().push(kind);
        }
        let mut groups: Vec<Group> = groups
            .into_iter()
            .map(|(name, versions)| {
                let version = |(name, mut kinds): (&'k str, Vec<&'k KindDef>)| {
                    kinds.sort_by(|a, b| a.plural.cmp(&b.plural));
                    Version { name, kinds }
                };
                let mut versions: Vec<Version> = versions.into_iter().map(version).collect();
                versions.sort_by_key(|version| Reverse(version_priority(version.name)));
                Group { name, versions }
            })
            .collect();
        let place = |name: &str| GROUP_ORDER.iter().position(|known| *known == name).unwrap_or(GROUP_ORDER.len());
        groups.sort_by_key(|group| place(group.name));
        groups
    }

    fn path(&self, version: &Version) -> String {
        if self.name.is_empty() {
            format!("/api/{}", version.name)
        } else {
            format!("/apis/{}/{}", self.name, version.name)
        }
    }

    fn group_version(&self, version: &Version) -> String {
        if self.name.is_empty() { version.name.to_string() } else { format!("{}/{}", self.name, version.name) }
    }

    /// `metav1.APIGroup` without its kind.
    fn summary(&self) -> Value {
        let versions: Vec<Value> = self
            .versions
            .iter()
            .map(|version| json!({"groupVersion": self.group_version(version), "version": version.name}))
            .collect();
        json!({"name": self.name, "preferredVersion": versions.first(), "versions": versions})
    }

    /// `apidiscovery.k8s.io/v2` APIGroupDiscovery.
    fn aggregated(&self) -> Value {
        let versions: Vec<Value> = self
            .versions
            .iter()
            .map(|version| {
                let resources: Vec<Value> = version.kinds.iter().map(|kind| aggregated_resource(kind)).collect();
                json!({"version": version.name, "freshness": "Current", "resources": resources})
            })
            .collect();
        let metadata = if self.name.is_empty() { json!({}) } else { json!({"name": self.name}) };
        json!({"metadata": metadata, "versions": versions})
    }
}

impl Version<'_> {
    /// `metav1.APIResourceList`.
    fn resource_list(&self, group: &Group) -> Value {
        let resources: Vec<Value> = self.kinds.iter().flat_map(|kind| plain_resources(kind)).collect();
        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group.group_version(self),
            "resources": resources})
    }
}

/// Clients compare this hash before and after an upgrade to see whether the stored version moved.
fn storage_version_hash(kind: &KindDef) -> String {
    let hash = Sha256::digest(format!("{}/{}/{}", kind.group, kind.version, kind.kind));
    STANDARD.encode(&hash[..8])
}

/// The resource and its subresources as `metav1.APIResource`.
fn plain_resources(kind: &KindDef) -> Vec<Value> {
    let mut resource = json!({"name": kind.plural, "singularName": kind.singular, "namespaced": kind.namespaced,
        "kind": kind.kind, "verbs": kind.verbs});
    put_names(&mut resource, kind);
    if kind.verbs.contains(&"get") {
        resource["storageVersionHash"] = storage_version_hash(kind).into();
    }
    let subresources = kind.subresources.iter().map(|sub| {
        let mut resource = json!({"name": format!("{}/{}", kind.plural, sub.name), "singularName": "",
            "namespaced": kind.namespaced, "kind": kind.kind, "verbs": sub.verbs});
        if let Some((group, version, name)) = sub.gvk {
            resource["kind"] = name.into();
            // The group and version are written only where they differ from the list's own.
            if (group, version) != (&*kind.group, &*kind.version) {
                resource["group"] = group.into();
                resource["version"] = version.into();
            }
        }
        resource
    });
    std::iter::once(resource.clone()).chain(subresources).collect()
}

/// `apidiscovery.k8s.io/v2` APIResourceDiscovery.
fn aggregated_resource(kind: &KindDef) -> Value {
    let own = (&*kind.group, &*kind.version, &*kind.kind);
    let mut resource = json!({"resource": kind.plural, "singularResource": kind.singular, "verbs": kind.verbs,
        "scope": if kind.namespaced { "Namespaced" } else { "Cluster" }, "responseKind": response_kind(own)});
    put_names(&mut resource, kind);
    let subresource = |sub: &Subresource| json!({"subresource": sub.name, "responseKind": response_kind(sub.gvk.unwrap_or(own)), "verbs": sub.verbs});
    if !kind.subresources.is_empty() {
        resource["subresources"] = kind.subresources.iter().map(subresource).collect();
    }
    resource
}

fn response_kind((group, version, kind): (&str, &str, &str)) -> Value {
    json!({"group": group, "version": version, "kind": kind})
}

fn put_names(resource: &mut Value, kind: &KindDef) {
    let Some(resource): Option<&mut Map<String, Value>> = resource.as_object_mut() else { return };
    if !kind.short_names.is_empty() {
        resource.insert("shortNames".into(), json!(kind.short_names));
    }
    if !kind.categories.is_empty() {
        resource.insert("categories".into(), json!(kind.categories));
    }
}

#[cfg(test)]
mod tests;
