//! Discovery: which groups, versions and resources there are, generated from the table of kinds.
//!
//! Two forms of the same facts: one document per group and version (`/api`, `/apis`, `/apis/apps`, `/apis/apps/v1`; `/`
//! lists their paths), and
//! the aggregated one (KEP-3352) that answers `/api` and `/apis` in one go for clients that accept it. Documents are
//! made once per set of kinds and carry an ETag, so that a client that has them gets 304.

mod wire;

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
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::ApiServer;
use crate::body::Body;
use crate::call::Call;
use crate::codec::pretty;
use crate::document::Document;
use crate::routes::{self, Answer};
use crate::status::Status;
use wire::{
    ApiGroup, ApiGroupList, ApiResource, ApiResourceList, ApiVersions, GroupDiscovery, GroupDiscoveryList,
    GroupVersion, Name, ResourceDiscovery, ResponseKind, ServerAddress, SubresourceDiscovery, TypeMeta,
    VersionDiscovery,
};

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
        let versions = core.iter().flat_map(|group| group.versions.iter().map(|version| version.name)).collect();
        let addresses = [ServerAddress { client_cidr: "0.0.0.0/0", server_address }];
        let versions = ApiVersions { kind: "APIVersions", versions, server_addresses: addresses };
        plain.insert("/api".into(), Document::new(JSON, &versions));
        let list = named.iter().map(|group| group.summary()).collect();
        let list = ApiGroupList { type_meta: TypeMeta::v1("APIGroupList"), groups: list };
        plain.insert("/apis".into(), Document::new(JSON, &list));
        for group in &groups {
            if !group.name.is_empty() {
                let summary = ApiGroup { type_meta: Some(TypeMeta::v1("APIGroup")), ..group.summary() };
                plain.insert(format!("/apis/{}", group.name), Document::new(JSON, &summary));
            }
            for version in &group.versions {
                plain.insert(group.path(version), Document::new(JSON, &version.resource_list(group)));
            }
        }
        let mut paths: Vec<&str> = routes::paths().iter().map(|route| route.path).filter(|path| *path != "/").collect();
        paths.extend(plain.keys().map(String::as_str));
        paths.sort_unstable();
        paths.dedup();
        let index = Document::new(JSON, &json!({"paths": paths}));
        plain.insert(String::new(), index);
        let aggregated = |groups: &[&Group]| {
            let list = GroupDiscoveryList {
                type_meta: TypeMeta { kind: "APIGroupDiscoveryList", api_version: "apidiscovery.k8s.io/v2" },
                metadata: Name::default(),
                items: groups.iter().map(|group| group.aggregated()).collect(),
            };
            Document::new(AGGREGATED, &list)
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

    /// `metav1.APIGroup`; inside of a list its kind is left out.
    fn summary(&self) -> ApiGroup<'_> {
        let version =
            |version: &Version<'k>| GroupVersion { group_version: self.group_version(version), version: version.name };
        let versions: Vec<GroupVersion> = self.versions.iter().map(version).collect();
        ApiGroup { type_meta: None, name: self.name, preferred_version: versions.first().cloned(), versions }
    }

    /// `apidiscovery.k8s.io/v2` APIGroupDiscovery.
    fn aggregated(&self) -> GroupDiscovery<'_> {
        let version = |version: &Version<'k>| VersionDiscovery {
            version: version.name,
            resources: version.kinds.iter().map(|kind| aggregated_resource(kind)).collect(),
            freshness: "Current",
        };
        let versions = self.versions.iter().map(version).collect();
        GroupDiscovery { metadata: Name { name: self.name }, versions }
    }
}

impl Version<'_> {
    /// `metav1.APIResourceList`.
    fn resource_list(&self, group: &Group) -> ApiResourceList<'_> {
        ApiResourceList {
            type_meta: TypeMeta::v1("APIResourceList"),
            group_version: group.group_version(self),
            resources: self.kinds.iter().flat_map(|kind| plain_resources(kind)).collect(),
        }
    }
}

/// Clients compare this hash before and after an upgrade to see whether the stored version moved.
fn storage_version_hash(kind: &KindDef) -> String {
    let stored = kind.stored_as.as_ref();
    let (group, version) = stored.map_or((&kind.group, &kind.version), |stored| (&stored.group, &stored.version));
    let hash = Sha256::digest(format!("{group}/{version}/{}", kind.kind));
    STANDARD.encode(&hash[..8])
}

/// The resource and its subresources as `metav1.APIResource`.
fn plain_resources(kind: &KindDef) -> Vec<ApiResource<'_>> {
    let resource = ApiResource {
        name: kind.plural.clone(),
        singular_name: &kind.singular,
        namespaced: kind.namespaced,
        group: "",
        version: "",
        kind: &kind.kind,
        verbs: kind.verbs,
        short_names: &kind.short_names,
        categories: &kind.categories,
        storage_version_hash: kind.verbs.contains(&"get").then(|| storage_version_hash(kind)),
    };
    let subresources = kind.subresources.iter().map(|sub| {
        let own = (&*kind.group, &*kind.version);
        let (group, version, name) = sub.gvk.unwrap_or((own.0, own.1, &kind.kind));
        // The group and version are written only where they differ from the list's own.
        let (group, version) = if (group, version) == own { ("", "") } else { (group, version) };
        ApiResource {
            name: format!("{}/{}", kind.plural, sub.name).into(),
            singular_name: "",
            namespaced: kind.namespaced,
            group,
            version,
            kind: name,
            verbs: sub.verbs,
            short_names: &[],
            categories: &[],
            storage_version_hash: None,
        }
    });
    std::iter::once(resource).chain(subresources).collect()
}

/// `apidiscovery.k8s.io/v2` APIResourceDiscovery.
fn aggregated_resource(kind: &KindDef) -> ResourceDiscovery<'_> {
    let own = (&*kind.group, &*kind.version, &*kind.kind);
    let response_kind = |(group, version, kind)| ResponseKind { group, version, kind };
    let subresource = |sub: &Subresource| SubresourceDiscovery {
        subresource: sub.name,
        response_kind: response_kind(sub.gvk.unwrap_or(own)),
        verbs: sub.verbs,
    };
    ResourceDiscovery {
        resource: &kind.plural,
        response_kind: response_kind(own),
        scope: if kind.namespaced { "Namespaced" } else { "Cluster" },
        singular_resource: &kind.singular,
        verbs: kind.verbs,
        short_names: &kind.short_names,
        categories: &kind.categories,
        subresources: kind.subresources.iter().map(subresource).collect(),
    }
}

#[cfg(test)]
mod tests;
