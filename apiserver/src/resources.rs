//! What is served right now: an immutable snapshot of all kinds, replaced as a whole when custom kinds come and go.

use crate::codec::Offer;
use crate::discovery::Discovery;
use crate::openapi::{self, OpenApi};
use crate::resource_metrics;
use crate::watch_cache::{Corrupt, KindCache, Record, WatchCache, encode, kind_prefix, storage_key};
use bytes::Bytes;
use k8w_kinds::kind::KindDef;
use k8w_storage::datastore::Revision;
use serde_json::Value;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

/// A kind's definition: from the table of built-in kinds, or made at run time from a CustomResourceDefinition.
#[derive(Clone)]
pub enum Def {
    BuiltIn(&'static KindDef),
    Custom(Arc<KindDef>),
}

impl Deref for Def {
    type Target = KindDef;

    fn deref(&self) -> &KindDef {
        match self {
            Def::BuiltIn(def) => def,
            Def::Custom(def) => def,
        }
    }
}

/// A kind that is served, and its objects.
pub struct Resource {
    pub def: Def,
    pub objects: Arc<KindCache>,
}

impl Deref for Resource {
    type Target = KindDef;

    fn deref(&self) -> &KindDef {
        &self.def
    }
}

impl Resource {
    /// What clients can have these objects as.
    pub fn offer(&self) -> Offer {
        match self.def {
            Def::BuiltIn(_) => Offer::BuiltIn,
            Def::Custom(_) => Offer::Custom,
        }
    }

    /// A kind with its objects in `cache`.
    pub fn new(def: Def, cache: &WatchCache) -> Resource {
        let objects = match &def.stored_as {
            None => cache.kind(&def.group, &def.plural),
            Some(stored) => cache.kind(&stored.group, &def.plural).view(stored.conversion.clone()),
        };
        Resource { def, objects }
    }

    pub fn is_custom(&self) -> bool {
        matches!(self.def, Def::Custom(_))
    }

    /// The API group under which the objects are stored.
    fn stored_group(&self) -> &str {
        self.stored_as.as_ref().map_or(&self.group, |stored| &stored.group)
    }

    /// Where all objects of the kind are stored.
    pub fn storage_prefix(&self) -> String {
        kind_prefix(self.stored_group(), &self.plural)
    }

    /// Where one object is stored.
    pub fn storage_key(&self, namespace: &str, name: &str) -> Bytes {
        storage_key(self.stored_group(), &self.plural, namespace, name)
    }

    /// An object as it is stored; it must not have a resource version any more.
    pub fn encode(&self, object: &Value) -> Bytes {
        match &self.stored_as {
            None => encode(object).into(),
            Some(stored) => {
                let mut object = object.clone();
                stored.conversion.to_stored(&mut object);
                encode(&object).into()
            }
        }
    }

    /// A stored object as it is served. `key` is its key below the kind.
    pub fn decode(&self, key: Bytes, stored: Bytes, revision: Revision) -> Result<Record, Corrupt> {
        let record = Record::new(key, stored, revision)?;
        match &self.stored_as {
            None => Ok(record),
            Some(stored) => record.converted(&*stored.conversion),
        }
    }
}

/// A snapshot of all kinds that are served.
#[derive(Default)]
pub struct Resources {
    all: Vec<Arc<Resource>>,
    by_plural: HashMap<String, Vec<Arc<Resource>>>,
    /// What clients are told about these kinds, made when first asked for.
    discovery: OnceLock<Discovery>,
    openapi: OpenApi,
}

impl Resources {
    /// In the order given, which is the order of discovery.
    pub fn new(defs: impl IntoIterator<Item = Def>, cache: &WatchCache) -> Self {
        Resources::of(defs.into_iter().map(|def| Arc::new(Resource::new(def, cache))))
    }

    fn of(all: impl IntoIterator<Item = Arc<Resource>>) -> Self {
        let mut resources = Resources::default();
        for resource in all {
            resources.by_plural.entry(resource.plural.to_string()).or_default().push(resource.clone());
            resources.all.push(resource);
        }
        resources
    }

    /// The same built-in kinds, with these custom ones behind them.
    pub fn with_custom(&self, custom: impl IntoIterator<Item = Arc<Resource>>) -> Self {
        let built_in = self.all.iter().filter(|resource| !resource.is_custom()).cloned();
        let next = Resources::of(built_in.chain(custom));
        let (old, new) = (self.by_version(), next.by_version());
        let openapi =
            self.openapi.keep(new.keys().cloned(), |group_version| old.get(group_version) == new.get(group_version));
        Resources { openapi, ..next }
    }

    /// The kinds of each group and version, as places in memory.
    fn by_version(&self) -> HashMap<String, Vec<*const KindDef>> {
        let mut versions: HashMap<_, Vec<_>> = HashMap::new();
        for kind in self.shown() {
            versions.entry(openapi::group_version(kind)).or_default().push(std::ptr::from_ref(kind));
        }
        versions
    }

    /// The discovery documents of these kinds; `server_address` is where clients reach us.
    pub fn discovery(&self, server_address: SocketAddr) -> &Discovery {
        self.discovery.get_or_init(|| Discovery::new(self.shown(), &server_address.to_string()))
    }

    /// The OpenAPI documents of these kinds.
    pub fn openapi(&self) -> &OpenApi {
        &self.openapi
    }

    /// The definitions alone.
    pub fn kinds(&self) -> impl Iterator<Item = &KindDef> {
        self.all.iter().map(|resource| &***resource)
    }

    /// What clients are told of: these kinds, and those that are not stored.
    pub fn shown(&self) -> impl Iterator<Item = &KindDef> {
        self.kinds().chain(resource_metrics::kinds())
    }

    pub fn all(&self) -> &[Arc<Resource>] {
        &self.all
    }

    /// The kind that objects with this `apiVersion` and `kind` have.
    pub fn by_kind(&self, group: &str, version: &str, kind: &str) -> Option<&Arc<Resource>> {
        let is =
            |resource: &&Arc<Resource>| resource.kind == kind && resource.group == group && resource.version == version;
        self.all.iter().find(is)
    }

    pub fn get(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        self.by_plural.get(plural)?.iter().find(|resource| resource.group == group && resource.version == version)
    }
}
