//! The documents as they are written: members in the order of Kubernetes' own types (`metav1`, `apidiscovery.k8s.io/v2`).

use std::borrow::Cow;

use serde::Serialize;

#[derive(Serialize)]
pub struct TypeMeta {
    pub kind: &'static str,
    #[serde(rename = "apiVersion")]
    pub api_version: &'static str,
}

impl TypeMeta {
    pub fn v1(kind: &'static str) -> TypeMeta {
        TypeMeta { kind, api_version: "v1" }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiVersions<'k> {
    pub kind: &'static str,
    pub versions: Vec<&'k str>,
    #[serde(rename = "serverAddressByClientCIDRs")]
    pub server_addresses: [ServerAddress<'k>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerAddress<'k> {
    #[serde(rename = "clientCIDR")]
    pub client_cidr: &'static str,
    pub server_address: &'k str,
}

#[derive(Serialize)]
pub struct ApiGroupList<'k> {
    #[serde(flatten)]
    pub type_meta: TypeMeta,
    pub groups: Vec<ApiGroup<'k>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiGroup<'k> {
    #[serde(flatten)]
    pub type_meta: Option<TypeMeta>,
    pub name: &'k str,
    pub versions: Vec<GroupVersion<'k>>,
    pub preferred_version: Option<GroupVersion<'k>>,
}

#[derive(Serialize, Clone)]
#[serde(rename_all = "camelCase")]
pub struct GroupVersion<'k> {
    pub group_version: String,
    pub version: &'k str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiResourceList<'k> {
    #[serde(flatten)]
    pub type_meta: TypeMeta,
    pub group_version: String,
    pub resources: Vec<ApiResource<'k>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiResource<'k> {
    pub name: Cow<'k, str>,
    pub singular_name: &'k str,
    pub namespaced: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub group: &'k str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub version: &'k str,
    pub kind: &'k str,
    pub verbs: &'static [&'static str],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub short_names: &'k [Cow<'static, str>],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub categories: &'k [Cow<'static, str>],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_version_hash: Option<String>,
}

#[derive(Serialize)]
pub struct GroupDiscoveryList<'k> {
    #[serde(flatten)]
    pub type_meta: TypeMeta,
    pub metadata: Name<'k>,
    pub items: Vec<GroupDiscovery<'k>>,
}

/// All there is of an ObjectMeta.
#[derive(Serialize, Default)]
pub struct Name<'k> {
    #[serde(skip_serializing_if = "str::is_empty")]
    pub name: &'k str,
}

#[derive(Serialize)]
pub struct GroupDiscovery<'k> {
    pub metadata: Name<'k>,
    pub versions: Vec<VersionDiscovery<'k>>,
}

#[derive(Serialize)]
pub struct VersionDiscovery<'k> {
    pub version: &'k str,
    pub resources: Vec<ResourceDiscovery<'k>>,
    pub freshness: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourceDiscovery<'k> {
    pub resource: &'k str,
    pub response_kind: ResponseKind<'k>,
    pub scope: &'static str,
    pub singular_resource: &'k str,
    pub verbs: &'static [&'static str],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub short_names: &'k [Cow<'static, str>],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub categories: &'k [Cow<'static, str>],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subresources: Vec<SubresourceDiscovery<'k>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SubresourceDiscovery<'k> {
    pub subresource: &'k str,
    pub response_kind: ResponseKind<'k>,
    pub verbs: &'static [&'static str],
}

#[derive(Serialize)]
pub struct ResponseKind<'k> {
    pub group: &'k str,
    pub version: &'k str,
    pub kind: &'k str,
}
