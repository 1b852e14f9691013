//! `metadata.managedFields`: which manager owns which fields.

use serde_json::{Map as JsonMap, Value};

use super::fields_v1;
use super::set::FieldSet;
use super::{Manager, Operation};

/// Managers by plain updates that are told apart; the oldest beyond are merged.
const MAX_UPDATE_MANAGERS: usize = 10;
const ANCIENT: &str = "ancient-changes";

type Members = JsonMap<String, Value>;

/// One entry, as stored.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry(pub Members);

impl Entry {
    fn new(manager: &Manager) -> Entry {
        let mut members = Members::new();
        members.insert("apiVersion".into(), manager.api_version.as_str().into());
        members.insert("fieldsType".into(), "FieldsV1".into());
        members.insert("fieldsV1".into(), Value::Object(Members::new()));
        members.insert("manager".into(), if manager.name.is_empty() { "unknown" } else { &manager.name }.into());
        members.insert("operation".into(), manager.operation.as_str().into());
        if !manager.subresource.is_empty() {
            members.insert("subresource".into(), manager.subresource.as_str().into());
        }
        Entry(members)
    }

    fn text(&self, name: &str) -> &str {
        self.0.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// Whether it has the form that Kubernetes writes.
    fn is_valid(&self) -> bool {
        matches!(self.text("operation"), "Apply" | "Update")
            && !self.text("apiVersion").is_empty()
            && self.text("fieldsType") == "FieldsV1"
            && self.0.get("fieldsV1").is_none_or(Value::is_object)
    }

    pub fn is(&self, manager: &Manager) -> bool {
        let name = if manager.name.is_empty() { "unknown" } else { &manager.name };
        self.text("manager") == name
            && self.text("operation") == manager.operation.as_str()
            && self.text("subresource") == manager.subresource
            // An applier is the same in all versions.
            && (manager.operation == Operation::Apply || self.text("apiVersion") == manager.api_version)
    }

    pub fn fields(&mut self) -> &mut Members {
        let fields = self.0.entry("fieldsV1").or_insert_with(|| Value::Object(Members::new()));
        if !fields.is_object() {
            *fields = Value::Object(Members::new());
        }
        match fields {
            Value::Object(members) => members,
            _ => unreachable!("it was just made an object"),
        }
    }

    pub fn set(&self) -> FieldSet {
        self.0.get("fieldsV1").map(FieldSet::from_fields_v1).unwrap_or_default()
    }

    fn is_update(&self) -> bool {
        self.text("operation") == "Update"
    }

    /// As conflicts name it: `"kubectl" with subresource "status" using apps/v1`.
    pub fn describe(&self) -> String {
        let mut text = format!("{:?}", self.text("manager"));
        if !self.text("subresource").is_empty() {
            text.push_str(&format!(" with subresource {:?}", self.text("subresource")));
        }
        if self.is_update() {
            text.push_str(&format!(" using {}", self.text("apiVersion")));
        }
        text
    }

    /// Kubernetes' order of entries.
    fn order(&self) -> (&str, &str, &str, &str, &str) {
        let [operation, time, manager, version, subresource] =
            ["operation", "time", "manager", "apiVersion", "subresource"].map(|name| self.text(name));
        (operation, time, manager, version, subresource)
    }
}

/// All managers of an object.
#[derive(Clone, Debug, Default)]
pub(super) struct Managers(pub Vec<Entry>);

impl Managers {
    /// Reads `metadata.managedFields`; none when any entry is malformed.
    pub fn of(object: &Value) -> Managers {
        let entries = object.pointer("/metadata/managedFields").and_then(Value::as_array);
        let read = |entry: &Value| entry.as_object().cloned().map(Entry).filter(Entry::is_valid);
        Managers(entries.and_then(|entries| entries.iter().map(read).collect()).unwrap_or_default())
    }

    /// Whether the object asks for its ownership to be forgotten: `[]` or `[{}]`.
    pub fn is_reset(object: &Value) -> bool {
        let entries = object.pointer("/metadata/managedFields").and_then(Value::as_array);
        entries.is_some_and(|entries| match entries.as_slice() {
            [] => true,
            [only] => only.as_object().is_some_and(Members::is_empty),
            _ => false,
        })
    }

    /// Writes `metadata.managedFields`.
    pub fn write(mut self, object: &mut Value) {
        self.0.retain_mut(|entry| !entry.fields().is_empty());
        self.0.sort_by(|a, b| a.order().cmp(&b.order()));
        let Some(object) = object.as_object_mut() else { return };
        let metadata = object.entry("metadata").or_insert_with(|| Value::Object(Members::new()));
        let Some(metadata) = metadata.as_object_mut() else { return };
        if self.0.is_empty() {
            metadata.remove("managedFields");
        } else {
            let entries = self.0.into_iter().map(|Entry(members)| Value::Object(members)).collect();
            metadata.insert("managedFields".into(), Value::Array(entries));
        }
    }

    /// The entry of a manager, made when there is none.
    pub fn entry(&mut self, manager: &Manager) -> &mut Entry {
        let position = self.0.iter().position(|entry| entry.is(manager)).unwrap_or_else(|| {
            self.0.push(Entry::new(manager));
            self.0.len() - 1
        });
        &mut self.0[position]
    }

    /// Merges the oldest updaters of each version into one while there are too many.
    pub fn cap(&mut self) {
        let mut excess = self.0.iter().filter(|e| e.is_update()).count().saturating_sub(MAX_UPDATE_MANAGERS);
        if excess == 0 {
            return;
        }
        self.0.sort_by(|a, b| a.order().cmp(&b.order()));
        let mut i = 0;
        while i < self.0.len() && excess > 0 {
            let older =
                self.0[..i].iter().position(|e| e.is_update() && e.text("apiVersion") == self.0[i].text("apiVersion"));
            match older {
                Some(older) if self.0[i].is_update() => {
                    let newer = self.0.remove(i);
                    let bucket = &mut self.0[older];
                    fields_v1::add(bucket.fields(), &newer.set());
                    bucket.0.insert("manager".into(), ANCIENT.into());
                    bucket.0.remove("subresource");
                    bucket.0.insert("time".into(), newer.0.get("time").cloned().unwrap_or_default());
                    excess -= 1;
                }
                _ => i += 1,
            }
        }
    }
}
