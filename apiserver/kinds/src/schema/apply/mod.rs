//! Field ownership and server-side apply, with the semantics of structured-merge-diff (KEP-555).
//!
//! Every write says who wrote which fields. A plain write takes the fields it changes from all others; an apply owns
//! exactly the fields of its configuration, shares those that others set to the same value, and conflicts with those
//! that others set to another.

mod compare;
mod fields_v1;
mod invalid;
mod last_applied;
mod managers;
mod merge;
mod of_value;
mod path;
mod remove;
mod set;
mod typed;

use std::fmt;
use std::sync::OnceLock;

use serde_json::{Map as JsonMap, Value};

use super::{Schema, default};
use compare::{compare, compare_tracked};
use managers::Managers;
use of_value::{field_set, with_named_fields};
pub use path::PathElement;
pub use set::FieldSet;
use typed::Typed;

/// Who writes: the identity under which fields are owned in `metadata.managedFields`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manager {
    /// `fieldManager` of the request, or the first part of its user agent.
    pub name: String,
    pub operation: Operation,
    /// `apiVersion` the object was written in, such as `apps/v1`.
    pub api_version: String,
    /// Empty for the object itself.
    pub subresource: String,
    /// RFC 3339 in UTC, to the second. The caller's clock.
    pub time: String,
}

/// How a manager came to own its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    Apply,
    Update,
}

impl Operation {
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Apply => "Apply",
            Operation::Update => "Update",
        }
    }
}

/// A field that another manager owns with another value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The other manager, as Kubernetes names it: `"kubectl" using apps/v1`.
    pub manager: String,
    /// Path of the field: `.spec.replicas`.
    pub field: String,
}

impl Conflict {
    /// The message of the status cause (reason `FieldManagerConflict`).
    pub fn message(&self) -> String {
        format!("conflict with {}", self.manager)
    }
}

/// Why an apply was refused. Display is the message of Kubernetes' answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// 409 with reason `Conflict` and a cause for each. Sorted by manager.
    #[error("{}", Conflicts(.0))]
    Conflicts(Vec<Conflict>),
    /// 400: the configuration carries what an apply must not.
    #[error("{0}")]
    BadRequest(String),
    /// 500 in Kubernetes: the configuration does not fit the schema.
    #[error("{0}")]
    Invalid(String),
}

/// Display of all conflicts of one apply.
struct Conflicts<'c>(&'c [Conflict]);

impl fmt::Display for Conflicts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [only] = self.0 {
            return write!(f, "Apply failed with 1 conflict: {}: {}", only.message(), only.field);
        }
        write!(f, "Apply failed with {} conflicts: ", self.0.len())?;
        let mut manager = None;
        for (i, conflict) in self.0.iter().enumerate() {
            if manager != Some(&conflict.manager) {
                let newline = if i > 0 { "\n" } else { "" };
                write!(f, "{newline}conflicts with {}:", conflict.manager)?;
                manager = Some(&conflict.manager);
            }
            write!(f, "\n- {}", conflict.field)?;
        }
        Ok(())
    }
}

const METADATA: &str = "metadata";
/// Fields that have no owner.
const UNTRACKED: [&str; 3] = ["apiVersion", "kind", METADATA];
/// Fields of `metadata` that have none.
const UNTRACKED_METADATA: [&str; 9] = [
    "clusterName",
    "creationTimestamp",
    "generation",
    "managedFields",
    "name",
    "namespace",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// Records a create, update or patch in `metadata.managedFields` of `new`, given the object as it was.
///
/// Fields that changed move from their managers to `manager`; managers left with nothing are dropped; the time is
/// noted only when there was a change. Ownership that the request itself carries is taken over, except through a
/// subresource; `[]` or `[{}]` resets it. `kept` are fields of the object that this write leaves as they are whatever
/// `new` says, such as the status.
pub fn track_update(schema: &Schema, live: Option<&Value>, new: &mut Value, manager: &Manager, kept: &[&str]) {
    let on_object = manager.subresource.is_empty();
    let reset = on_object && Managers::is_reset(new);
    let mut managers = Managers::take(new);
    if !reset && (managers.0.is_empty() || !on_object) {
        managers = live.map(Managers::of).unwrap_or_default();
    }
    if live.is_none() || !managers.0.is_empty() {
        take_over(schema, live.unwrap_or_else(|| schema.zero()), new, &mut managers, manager, kept);
    }
    managers.write(new);
}

/// Gives the fields that differ between `old` and `new` to `manager`, without those that are `kept`.
fn take_over(schema: &Schema, old: &Value, new: &Value, managers: &mut Managers, manager: &Manager, kept: &[&str]) {
    let comparison = compare_tracked(Typed::new(&schema.0.node.shape), old, new, kept);
    for set in [&comparison.removed, &comparison.modified, &comparison.added] {
        managers.0.iter_mut().for_each(|entry| fields_v1::subtract(&mut entry.fields, set));
    }
    for set in [&comparison.modified, &comparison.added] {
        if !set.is_empty() {
            let entry = managers.entry(manager);
            fields_v1::add(&mut entry.fields, set);
            entry.touch(manager);
        }
    }
    managers.0.retain(|entry| !entry.fields.is_empty());
    managers.cap();
}

fn untracked() -> &'static FieldSet {
    static SET: OnceLock<FieldSet> = OnceLock::new();
    SET.get_or_init(|| {
        let field = |name: &str| PathElement::Field(name.into());
        let mut set = FieldSet::default();
        for name in UNTRACKED {
            set.insert(&[field(name)]);
        }
        for name in UNTRACKED_METADATA {
            set.insert(&[field(METADATA), field(name)]);
        }
        set
    })
}

/// Whether a configuration can be applied, as it was sent: it fits the schema, and says nothing of ownership.
///
/// # Errors
/// Everything that has no place in the schema or does not have its type.
pub fn check(schema: &Schema, config: &Value, api_version: &str) -> Result<(), ApplyError> {
    if config.pointer("/metadata/managedFields").is_some_and(|fields| !fields.is_null()) {
        return Err(ApplyError::BadRequest("metadata.managedFields must be nil".into()));
    }
    invalid::check(Typed::new(&schema.0.node.shape), config, api_version).map_err(ApplyError::Invalid)
}

/// Server-side apply: merges `config` into `live` and returns the new object with its `managedFields`.
///
/// `config` is as decoded from the request, without defaults and with its unknown fields; what the endpoint must not
/// write (status, on the object itself) is the caller's to take out.
///
/// # Errors
/// [`ApplyError::Conflicts`] unless `force`; [`ApplyError::Invalid`] when `config` does not fit the schema.
pub fn apply(
    schema: &Schema,
    live: Option<&Value>,
    config: &Value,
    manager: &Manager,
    force: bool,
) -> Result<Value, ApplyError> {
    check(schema, config, &manager.api_version)?;
    let typed = Typed::new(&schema.0.node.shape);
    let mut managers = live.map(Managers::of).unwrap_or_default();
    let (live, base) = match live {
        Some(live) => {
            let mut live = live.clone();
            Managers::default().write(&mut live);
            if managers.0.is_empty() {
                let name = "before-first-apply".to_owned();
                let before = Manager { name, operation: Operation::Update, ..manager.clone() };
                take_over(schema, schema.zero(), &live, &mut managers, &before, &[]);
            }
            (live, None)
        }
        None => {
            let mut base = schema.zero().clone();
            default::drop_nulls(&mut base);
            (schema.zero().clone(), Some(base))
        }
    };

    let failed = |message| ApplyError::Invalid(format!("failed to merge config: {message}"));
    let mut merged = merge::merge(typed, base.as_ref().unwrap_or(&live), config).map_err(failed)?;
    let before = managers.get(manager).map(managers::Entry::set);
    let owned = field_set(typed, config);
    if let Some(before) = &before {
        merged = prune(typed, merged, before, &owned, &managers, manager);
    }
    let comparison = compare(typed, &live, &merged);
    if !force {
        let by_client = match manager.name.as_str() {
            last_applied::MANAGER => last_applied::unchanged(typed, &live, &manager.api_version),
            _ => FieldSet::default(),
        };
        refuse_conflicts(&managers, manager, &comparison.changed().difference(&by_client))?;
    }
    for entry in managers.0.iter_mut().filter(|entry| !entry.is(manager)) {
        fields_v1::subtract(&mut entry.fields, &comparison.changed());
        fields_v1::subtract(&mut entry.fields, &comparison.removed);
    }

    let tracked = owned.difference(untracked());
    if before.as_ref() != Some(&tracked) || merged != live {
        let entry = managers.entry(manager);
        entry.fields = tracked.to_members();
        entry.touch(manager);
    }
    if manager.name == last_applied::MANAGER && manager.subresource.is_empty() {
        last_applied::sync(&mut merged, config);
    }
    managers.write(&mut merged);
    Ok(merged)
}

/// Takes out what the manager applied before and does not apply now, unless others own it.
fn prune(
    typed: Typed<'_>,
    merged: Value,
    before: &FieldSet,
    owned: &FieldSet,
    managers: &Managers,
    manager: &Manager,
) -> Value {
    let named = |set: &FieldSet| with_named_fields(typed, set);
    let fields_of = |value: &Value| named(&field_set(typed, value));
    // What is emptied on the way is still a field: an object that is owned as such stays with what nobody owns in it.
    let fields_without = |fields: &FieldSet| {
        remove::remove(typed, &merged, fields, Some(&Value::Null)).map(|left| fields_of(&left)).unwrap_or_default()
    };

    let before = named(before);
    let all = fields_of(&merged);
    let owned_by_any =
        managers.others(manager).map(managers::Entry::set).fold(owned.clone(), |all, set| all.union(&set));

    let kept = fields_without(&before).union(&named(&owned_by_any));
    let kept = fields_without(&all.difference(&kept));
    // What nobody owns stays too, unless it was the manager's.
    let gone = all.difference(&kept).intersection(&before);
    remove::remove(typed, &merged, &gone, None).unwrap_or_else(|| Value::Object(JsonMap::new()))
}

/// Says which of the changed fields other managers own.
fn refuse_conflicts(managers: &Managers, manager: &Manager, changed: &FieldSet) -> Result<(), ApplyError> {
    let mut conflicts = Vec::new();
    for entry in managers.others(manager) {
        entry.set().intersection(changed).for_each(&mut |path| {
            let field = path.iter().map(PathElement::to_string).collect();
            conflicts.push(Conflict { manager: entry.describe(), field });
        });
    }
    if conflicts.is_empty() {
        return Ok(());
    }
    conflicts.sort_by(|a, b| a.manager.cmp(&b.manager));
    Err(ApplyError::Conflicts(conflicts))
}

#[cfg(test)]
mod tests;
