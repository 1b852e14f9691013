//! Custom kinds: which there are right now, and what becomes of their definitions.
//!
//! ```text
//! definitions in the watch cache ──> refresh ──> ApiServer::resources    (what is served)
//!                                └─> control ──> their status, APIServices, deletion of their objects
//! ```
//!
//! Only the watch cache is read, never the write path of this server: any number of servers on one datastore serve the
//! same kinds. A request for a custom kind waits until the kinds are as new as the datastore, so that whoever defined a
//! kind can use it at once.

mod control;
mod termination;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8w_kinds::apiextensions::custom_resource::{self, Unserved};
use k8w_kinds::apiextensions::{GROUP, custom_resource_definition::status};
use k8w_kinds::object::{get, text};
use k8w_storage::datastore::Revision;
use serde_json::Value;

use crate::ApiServer;
use crate::request_info::RequestInfo;
use crate::resources::{Def, Resource, Resources};
use crate::status::Status;
use crate::watch_cache::{KindCache, WatchCache};

pub use control::start;

const PLURAL: &str = "customresourcedefinitions";

/// The custom kinds that were made of the definitions.
pub struct CustomKinds {
    definitions: Arc<KindCache>,
    made: Mutex<Made>,
}

#[derive(Default)]
struct Made {
    /// Of the definitions that were last looked at.
    revision: Option<Revision>,
    /// By name.
    kinds: BTreeMap<String, Kinds>,
}

/// What one definition defines.
struct Kinds {
    revision: Revision,
    definition: Arc<Value>,
    resources: Vec<Arc<Resource>>,
    unserved: Vec<Unserved>,
}

impl CustomKinds {
    pub fn new(cache: &WatchCache) -> CustomKinds {
        CustomKinds { definitions: cache.kind(GROUP, PLURAL), made: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Made> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All definitions, by name.
    fn definitions(&self) -> Vec<Arc<Value>> {
        self.lock().kinds.values().map(|kinds| kinds.definition.clone()).collect()
    }

    fn definition(&self, name: &str) -> Option<Arc<Value>> {
        self.lock().kinds.get(name).map(|kinds| kinds.definition.clone())
    }

    /// Why a version that a definition calls served is not.
    fn unserved(&self, group: &str, version: &str, plural: &str) -> Option<String> {
        let made = self.lock();
        let unserved = made.kinds.get(&format!("{plural}.{group}"))?.unserved.iter().find(|u| u.version == version)?;
        Some(unserved.reason.clone())
    }
}

impl crate::plugins::Kinds for ApiServer {
    fn served(&self) -> Arc<Resources> {
        self.refresh_kinds();
        self.resources.load_full()
    }
}

impl ApiServer {
    /// The kinds there are, at least as new as the moment before this call.
    pub async fn current_resources(&self) -> Result<Arc<Resources>, Status> {
        self.cache.catch_up().await?;
        self.refresh_kinds();
        Ok(self.resources.load_full())
    }

    /// The custom kind that a request is about.
    ///
    /// # Errors
    /// 404 when there is none, 500 when its version cannot be served.
    pub async fn custom_resource(&self, info: &RequestInfo) -> Result<Arc<Resource>, Status> {
        let resources = self.current_resources().await?;
        if let Some(resource) = resources.get(&info.group, &info.version, &info.resource) {
            return Ok(resource.clone());
        }
        match self.custom.unserved(&info.group, &info.version, &info.resource) {
            Some(reason) => Err(Status::internal(reason)),
            None => Err(Status::no_such_resource()),
        }
    }

    /// Brings the kinds that are served up to what the watch cache holds.
    fn refresh_kinds(&self) {
        let definitions = &self.custom.definitions;
        let mut made = self.custom.lock();
        if made.revision == Some(definitions.revision()) {
            return;
        }
        let (records, revision) = definitions.list(None);
        let mut old = std::mem::take(&mut made.kinds);
        let mut gone = Vec::new();
        let mut changed = false;
        for record in records {
            let name = record.name().to_owned();
            let kinds = match old.remove(&name) {
                Some(known) if known.revision == record.revision() => known,
                known => {
                    let definition = Arc::new(record.value());
                    match known {
                        Some(known) if defines_the_same(&known.definition, &definition) => {
                            Kinds { revision: record.revision(), definition, ..known }
                        }
                        known => {
                            changed = true;
                            gone.extend(known.into_iter().flat_map(|known| known.resources));
                            make(record.revision(), definition, &self.cache)
                        }
                    }
                }
            };
            made.kinds.insert(name, kinds);
        }
        changed |= !old.is_empty();
        gone.extend(old.into_values().flat_map(|kinds| kinds.resources));
        made.revision = Some(revision);
        if changed {
            let custom = made.kinds.values().flat_map(|kinds| kinds.resources.iter().cloned());
            self.resources.store(Arc::new(self.resources.load().with_custom(custom)));
        }
        gone.iter().for_each(|resource| resource.objects.end());
    }
}

/// Whether two states of a definition make the same kinds: its conditions say more than that.
fn defines_the_same(a: &Value, b: &Value) -> bool {
    let uid = |value| text(value, &["metadata", "uid"]).to_owned();
    uid(a) == uid(b)
        && a.get("spec") == b.get("spec")
        && get(a, &["status", "acceptedNames"]) == get(b, &["status", "acceptedNames"])
        && status::is_established(a) == status::is_established(b)
        && status::is_terminating(a) == status::is_terminating(b)
}

fn make(revision: Revision, definition: Arc<Value>, cache: &WatchCache) -> Kinds {
    let custom_resource::Kinds { served, unserved } = custom_resource::kinds(&definition);
    for Unserved { version, reason } in &unserved {
        tracing::warn!(definition = text(&definition, &["metadata", "name"]), version, reason, "not served");
    }
    let resources = served.into_iter().map(|kind| Arc::new(Resource::new(Def::Custom(Arc::new(kind)), cache)));
    Kinds { revision, resources: resources.collect(), unserved, definition }
}
