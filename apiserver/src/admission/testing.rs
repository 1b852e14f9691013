//! A small cluster for tests of plugins: some stored objects, and writes that go through one plugin.

use std::sync::Arc;

use k8w_kinds::object::text;
use k8w_kinds::registry;
use k8w_storage::datastore::memory::Memory;
use k8w_storage::datastore::{Datastore, Txn, Write};
use serde_json::Value;

use crate::identity::UserInfo;
use crate::plugins::{Admission, AdmissionRequest, Kinds, Operation, Warnings};
use crate::resources::{Def, Resource, Resources};
use crate::status::Status;
use crate::watch_cache::{WatchCache, encode, storage_key};

pub struct World {
    pub cache: Arc<WatchCache>,
    kinds: Arc<Resources>,
    datastore: Arc<dyn Datastore>,
    user: UserInfo,
}

impl World {
    pub async fn new(objects: impl IntoIterator<Item = Value>) -> World {
        let datastore: Arc<dyn Datastore> = Arc::new(Memory::new());
        let cache = WatchCache::start(datastore.clone()).await.unwrap();
        let kinds = Arc::new(Resources::new(registry::all().iter().map(Def::BuiltIn), &cache));
        let user = UserInfo { name: "user".into(), ..UserInfo::default() };
        let world = World { cache, kinds, datastore, user };
        for object in objects {
            world.put(object).await;
        }
        world.cache.catch_up().await.unwrap();
        world
    }

    pub fn acting_as(mut self, user: UserInfo) -> World {
        self.user = user;
        self
    }

    /// Stores an object, past everything.
    pub async fn put(&self, object: Value) {
        let resource = self.resource(&object);
        let metadata = |field: &str| text(&object, &["metadata", field]).to_owned();
        let key = storage_key(&resource.group, &resource.plural, &metadata("namespace"), &metadata("name"));
        let write = Write::Put { key, value: encode(&object).into(), ttl_seconds: None };
        self.datastore.txn(Txn { compares: vec![], writes: vec![write] }).await.unwrap();
    }

    /// The object as the plugin lets it in.
    pub async fn create(&self, plugin: &dyn Admission, object: Value) -> Result<Value, Status> {
        self.run(plugin, Operation::Create, "", None, object).await
    }

    pub async fn update(&self, plugin: &dyn Admission, old: Value, new: Value) -> Result<Value, Status> {
        self.run(plugin, Operation::Update, "", Some(old), new).await
    }

    pub async fn update_status(&self, plugin: &dyn Admission, old: Value, new: Value) -> Result<Value, Status> {
        self.run(plugin, Operation::Update, "status", Some(old), new).await
    }

    pub async fn delete(&self, plugin: &dyn Admission, old: Value) -> Result<Value, Status> {
        self.run(plugin, Operation::Delete, "", Some(old), Value::Null).await
    }

    async fn run(
        &self,
        plugin: &dyn Admission,
        operation: Operation,
        subresource: &str,
        old: Option<Value>,
        mut object: Value,
    ) -> Result<Value, Status> {
        let named = old.clone().unwrap_or_else(|| object.clone());
        let resource = self.resource(&named);
        let warnings = Warnings::default();
        let mut request = AdmissionRequest {
            operation,
            resource: &resource,
            subresource,
            namespace: text(&named, &["metadata", "namespace"]),
            name: text(&named, &["metadata", "name"]),
            object: &mut object,
            old: old.as_ref(),
            user: &self.user,
            dry_run: false,
            view: &self.cache,
            kinds: self,
            warnings: &warnings,
        };
        plugin.admit(&mut request).await?;
        plugin.validate(&request).await?;
        Ok(object)
    }

    fn resource(&self, object: &Value) -> Resource {
        let api_version = text(object, &["apiVersion"]);
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let def = registry::by_kind(group, version, text(object, &["kind"])).unwrap();
        Resource { objects: self.cache.kind(&def.group, &def.plural), def: Def::BuiltIn(def) }
    }
}

impl Kinds for World {
    fn served(&self) -> Arc<Resources> {
        self.kinds.clone()
    }
}
