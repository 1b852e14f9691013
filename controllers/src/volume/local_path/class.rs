//! Offers the directories of nodes as the cluster's default class, from the first node on that has some.

use std::collections::BTreeMap;

use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{PROVISIONER, directory};
use crate::engine::{Controller, Turn, Wake};
use crate::plan::{self, Plan};
use crate::resource::{Key, STORAGE_CLASSES};
use crate::volume::facts::{DEFAULT_CLASS, WAITS_FOR_CONSUMER};
use crate::world::{Delta, Object, World};

const NAME: &str = "local-path";

pub struct LocalPathClass;

impl Controller for LocalPathClass {
    fn name(&self) -> &'static str {
        "local-path-class"
    }

    fn observe(&mut self, delta: &Delta, _: &World, wake: &mut Wake) {
        let keeps = |object: &Object| matches!(object, Object::Node(node) if directory(node).is_some());
        // Who deletes the class is contradicted by nodes that come, not by those that report.
        if !delta.gone && keeps(&delta.object) && !delta.before.as_ref().is_some_and(keeps) {
            wake.now(Key::new("", NAME));
        }
    }

    fn reconcile(&mut self, key: &Key, world: &World, _: &mut Turn<'_>) -> Plan {
        let mut plan = Plan::none();
        if world.storage_classes.by_key(key).is_none() {
            plan.step(plan::create(&STORAGE_CLASSES, "", &class()));
        }
        plan
    }
}

fn class() -> StorageClass {
    let default = (DEFAULT_CLASS.to_owned(), "true".to_owned());
    StorageClass {
        metadata: ObjectMeta {
            name: Some(NAME.into()),
            annotations: Some(BTreeMap::from([default])),
            ..ObjectMeta::default()
        },
        provisioner: PROVISIONER.into(),
        reclaim_policy: Some("Delete".into()),
        volume_binding_mode: Some(WAITS_FOR_CONSUMER.into()),
        allow_volume_expansion: Some(true),
        ..StorageClass::default()
    }
}
