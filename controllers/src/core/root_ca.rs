//! Publishes the cluster's certificate authority to every namespace (KEP-1205): pods mount it beside their token.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;

use crate::engine::{Controller, Turn, Wake};
use crate::plan::{self, Plan};
use crate::pods::{annotation, is_deleting};
use crate::resource::{CONFIG_MAPS, Key};
use crate::world::{Delta, Object, World};

/// What the ConfigMap is called in every namespace.
pub const NAME: &str = "kube-root-ca.crt";
const DESCRIPTION: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints \
                           such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed \
                           across distributions of Kubernetes clusters.";

const DESCRIPTION_ANNOTATION: &str = "kubernetes.io/description";

pub struct RootCas {
    pem: String,
}

impl RootCas {
    /// Publishes this PEM bundle; nothing if it is empty.
    pub fn new(pem: &str) -> Self {
        Self { pem: pem.into() }
    }
}

impl Controller for RootCas {
    fn name(&self) -> &'static str {
        "root-ca-cert-publisher"
    }

    fn observe(&mut self, delta: &Delta, _: &World, wake: &mut Wake) {
        match &delta.object {
            Object::Namespace(namespace) if !delta.gone => wake.now(Key::of(&namespace.metadata)),
            Object::ConfigMap(map) => wake.now(Key::new("", map.metadata.namespace.as_deref().unwrap_or_default())),
            _ => {}
        }
    }

    fn reconcile(&mut self, key: &Key, world: &World, _: &mut Turn<'_>) -> Plan {
        let mut plan = Plan::none();
        let lives = world.namespaces.by_key(key).is_some_and(|n| !is_deleting(&n.metadata));
        if self.pem.is_empty() || !lives {
            return plan;
        }
        let wanted = BTreeMap::from([("ca.crt".to_owned(), self.pem.clone())]);
        match world.config_maps.get(&key.name, NAME) {
            Some(map) if map.data.as_ref() == Some(&wanted) && is_described(map) => {}
            Some(map) => {
                let map = ConfigMap { data: Some(wanted), binary_data: None, ..(**map).clone() };
                plan.update(&CONFIG_MAPS, &described(map), None);
            }
            None => {
                let mut map = ConfigMap { data: Some(wanted), ..ConfigMap::default() };
                map.metadata.name = Some(NAME.into());
                map.metadata.namespace = Some(key.name.to_string());
                plan.step(plan::create(&CONFIG_MAPS, &key.name, &described(map)));
            }
        }
        plan
    }
}

fn is_described(map: &ConfigMap) -> bool {
    annotation(&map.metadata, DESCRIPTION_ANNOTATION).is_some_and(|description| !description.is_empty())
}

fn described(mut map: ConfigMap) -> ConfigMap {
    let annotations = map.metadata.annotations.get_or_insert_default();
    annotations.insert(DESCRIPTION_ANNOTATION.into(), DESCRIPTION.into());
    map
}
