//! Server-side apply: maps of labels against a naive model of ownership, and any two objects against what must always hold.

use std::collections::{BTreeMap, BTreeSet};

use crate::input::{object, object_and_rest};
use k8w_kinds::schema::Schema;
use k8w_kinds::schema::apply::{ApplyError, Manager, Operation, apply, track_update};
use serde_json::{Value, json};

/// See the module.
pub fn check(input: &[u8]) {
    match input.split_first() {
        Some((b'#', steps)) => agrees_with_the_model(steps),
        Some(_) => holds(input),
        None => {}
    }
}

fn manager(name: &str, operation: Operation) -> Manager {
    Manager {
        name: name.to_owned(),
        operation,
        api_version: "v1".to_owned(),
        subresource: String::new(),
        time: "2026-01-01T00:00:00Z".to_owned(),
    }
}

/// Two managers apply two configurations, the second with force.
fn holds(input: &[u8]) {
    let Some((schema, first, rest)) = object_and_rest(input) else {
        return;
    };
    let Some(second) = object(&schema, rest) else {
        return;
    };
    let (a, b) = (manager("a", Operation::Apply), manager("b", Operation::Apply));
    let Ok(live) = apply(&schema, None, &first, &a, false) else {
        return;
    };
    assert_eq!(apply(&schema, Some(&live), &first, &a, false).as_ref(), Ok(&live), "applying again changes nothing");
    let forced = match apply(&schema, Some(&live), &second, &b, true) {
        Ok(forced) => forced,
        Err(ApplyError::Conflicts(conflicts)) => panic!("force met {conflicts:?}"),
        Err(_) => return,
    };
    assert_eq!(apply(&schema, Some(&forced), &second, &b, false).as_ref(), Ok(&forced), "what one owns is no conflict");
    match apply(&schema, Some(&live), &second, &b, false) {
        Ok(merged) => assert_eq!(merged, forced, "without a conflict force changes nothing"),
        Err(ApplyError::Conflicts(conflicts)) => assert!(!conflicts.is_empty()),
        Err(error) => panic!("refused without force alone: {error}"),
    }
    let mut updated = forced.clone();
    track_update(&schema, Some(&forced), &mut updated, &manager("c", Operation::Update), &[]);
    assert_eq!(updated, forced, "an update that changes nothing owns nothing");
}

/// Each step is a byte: who, with or without force; and a byte for what is said of each of the keys.
fn agrees_with_the_model(steps: &[u8]) {
    const KEYS: [&str; 4] = ["a", "b", "c", "d"];
    let Some(schema) = Schema::builtin("io.k8s.api.core.v1.ConfigMap") else {
        return;
    };
    let (mut model, mut live) = (Model::default(), None);
    for step in steps.chunks_exact(2).take(16) {
        let (who, force) = (step[0] & 3, step[0] & 4 != 0);
        let said = KEYS.iter().enumerate().filter_map(|(at, key)| match step[1] >> (2 * at) & 3 {
            0 => None,
            value => Some((key.to_string(), value.to_string())),
        });
        let config: BTreeMap<String, String> = said.collect();
        let mut object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
        if !config.is_empty() {
            object["data"] = json!(config);
        }
        let result = apply(&schema, live.as_ref(), &object, &manager(&who.to_string(), Operation::Apply), force);
        assert_eq!(result.is_ok(), model.apply(who, &config, force));
        live = result.ok().or(live);
        let data = live.as_ref().and_then(|live: &Value| live.get("data")).cloned().unwrap_or(json!({}));
        assert_eq!(data, json!(model.values));
    }
}

/// Values, each owned by its appliers.
#[derive(Default)]
struct Model {
    values: BTreeMap<String, String>,
    owners: BTreeMap<String, BTreeSet<u8>>,
}

impl Model {
    /// Whether the configuration was taken.
    fn apply(&mut self, who: u8, config: &BTreeMap<String, String>, force: bool) -> bool {
        let conflicts = |(key, value): (&String, &String)| {
            self.values.get(key).is_some_and(|old| old != value) && self.owners[key].iter().any(|owner| *owner != who)
        };
        if !force && config.iter().any(conflicts) {
            return false;
        }
        for (key, value) in config {
            if self.values.insert(key.clone(), value.clone()).is_some_and(|old| old != *value) {
                self.owners.remove(key);
            }
            self.owners.entry(key.clone()).or_default().insert(who);
        }
        for (key, owners) in &mut self.owners {
            if !config.contains_key(key) && owners.remove(&who) && owners.is_empty() {
                self.values.remove(key);
            }
        }
        self.owners.retain(|_, owners| !owners.is_empty());
        true
    }
}
