//! `metadata.managedFields`: which manager owns which fields.

use serde_json::{Map as JsonMap, Value};

use super::fields_v1;
use super::set::FieldSet;
use super::{Manager, Operation};
use crate::object;

/// Managers by plain updates that are told apart; the oldest beyond are merged.
const MAX_UPDATE_MANAGERS: usize = 10;
const ANCIENT: &str = "ancient-changes";

type Members = JsonMap<String, Value>;

/// One entry.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Everything but the fields, as stored.
    about: Members,
    /// `fieldsV1`.
    pub fields: Members,
}

impl Entry {
    fn new(manager: &Manager) -> Entry {
        let mut about = Members::new();
        about.insert("apiVersion".into(), manager.api_version.as_str().into());
        about.insert("fieldsType".into(), "FieldsV1".into());
        about.insert("manager".into(), manager.known_name().into());
        about.insert("operation".into(), manager.operation.as_str().into());
        if !manager.subresource.is_empty() {
            about.insert("subresource".into(), manager.subresource.as_str().into());
        }
        Entry { about, fields: Members::new() }
    }

    /// Reads an entry; `None` when it does not have the form that Kubernetes writes.
    fn read(entry: Value) -> Option<Entry> {
        let Value::Object(mut about) = entry else { return None };
        let fields = match about.remove("fieldsV1") {
            None => Members::new(),
            Some(Value::Object(fields)) => fields,
            Some(_) => return None,
        };
        let entry = Entry { about, fields };
        let valid = matches!(entry.text("operation"), "Apply" | "Update")
            && !entry.text("apiVersion").is_empty()
            && entry.text("fieldsType") == "FieldsV1";
        valid.then_some(entry)
    }

    fn write(mut self) -> Value {
        self.about.insert("fieldsV1".into(), Value::Object(self.fields));
        Value::Object(self.about)
    }

    fn text(&self, name: &str) -> &str {
        self.about.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    pub fn is(&self, manager: &Manager) -> bool {
        self.text("manager") == manager.known_name()
            && self.text("operation") == manager.operation.as_str()
            && self.text("subresource") == manager.subresource
            // An applier is the same in all versions.
            && (manager.operation == Operation::Apply || self.text("apiVersion") == manager.api_version)
    }

    pub fn set(&self) -> FieldSet {
        FieldSet::from_members(&self.fields)
    }

    /// Notes when, and in which version, the manager wrote last.
    pub fn touch(&mut self, manager: &Manager) {
        if self.text("apiVersion") != manager.api_version {
            self.about.insert("apiVersion".into(), manager.api_version.as_str().into());
        }
        self.about.insert("time".into(), manager.time.as_str().into());
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
    fn order(&self) -> [&str; 5] {
        ["operation", "time", "manager", "apiVersion", "subresource"].map(|name| self.text(name))
    }
}

impl Manager {
    fn known_name(&self) -> &str {
        if self.name.is_empty() { "unknown" } else { &self.name }
    }
}

/// All managers of an object.
#[derive(Clone, Debug, Default)]
pub(super) struct Managers(pub Vec<Entry>);

impl Managers {
    /// Reads `metadata.managedFields`; none when any entry is malformed.
    pub fn of(object: &Value) -> Managers {
        let entries = listed(object);
        Managers(entries.and_then(|entries| entries.iter().cloned().map(Entry::read).collect()).unwrap_or_default())
    }

    /// [`Managers::of`] an object that is to be written anyway: nothing is copied.
    pub fn take(object: &mut Value) -> Managers {
        let metadata = object.get_mut("metadata").and_then(Value::as_object_mut);
        let Some(Value::Array(entries)) = metadata.and_then(|metadata| metadata.remove("managedFields")) else {
            return Managers::default();
        };
        Managers(entries.into_iter().map(Entry::read).collect::<Option<_>>().unwrap_or_default())
    }

    /// Whether the object asks for its ownership to be forgotten: `[]` or `[{}]`.
    pub fn is_reset(object: &Value) -> bool {
        listed(object).is_some_and(|entries| match entries.as_slice() {
            [] => true,
            [only] => only.as_object().is_some_and(Members::is_empty),
            _ => false,
        })
    }

    /// Writes `metadata.managedFields`; managers without fields are dropped.
    pub fn write(mut self, object: &mut Value) {
        self.0.retain(|entry| !entry.fields.is_empty());
        self.0.sort_by(|a, b| a.order().cmp(&b.order()));
        let Some(object) = object.as_object_mut() else { return };
        let metadata = object.entry("metadata").or_insert_with(|| Value::Object(Members::new()));
        let Some(metadata) = metadata.as_object_mut() else { return };
        if self.0.is_empty() {
            metadata.remove("managedFields");
        } else {
            let entries = self.0.into_iter().map(Entry::write).collect();
            metadata.insert("managedFields".into(), Value::Array(entries));
        }
    }

    pub fn get(&self, manager: &Manager) -> Option<&Entry> {
        self.0.iter().find(|entry| entry.is(manager))
    }

    /// The entry of a manager, made when there is none.
    pub fn entry(&mut self, manager: &Manager) -> &mut Entry {
        let position = self.0.iter().position(|entry| entry.is(manager)).unwrap_or_else(|| {
            self.0.push(Entry::new(manager));
            self.0.len() - 1
        });
        &mut self.0[position]
    }

    pub fn others(&self, manager: &Manager) -> impl Iterator<Item = &Entry> {
        self.0.iter().filter(move |entry| !entry.is(manager))
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
            let version = self.0[i].text("apiVersion");
            let older = self.0[..i].iter().position(|e| e.is_update() && e.text("apiVersion") == version);
            match older {
                Some(older) if self.0[i].is_update() => {
                    let newer = self.0.remove(i);
                    let bucket = &mut self.0[older];
                    fields_v1::add(&mut bucket.fields, &newer.set());
                    bucket.about.insert("manager".into(), ANCIENT.into());
                    bucket.about.remove("subresource");
                    bucket.about.insert("time".into(), newer.text("time").into());
                    excess -= 1;
                }
                _ => i += 1,
            }
        }
    }
}

/// The entries as they are written, if there are any.
fn listed(object: &Value) -> Option<&Vec<Value>> {
    object::get(object, &["metadata", "managedFields"])?.as_array()
}
