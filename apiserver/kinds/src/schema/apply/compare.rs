//! What differs between two versions of an object, as sets of fields.

use std::cmp::Ordering;

use serde_json::{Map as JsonMap, Value};

use super::super::shape::List;
use super::path::PathElement;
use super::set::FieldSet;
use super::typed::{Parts, Typed, identity, member_element};
use super::{METADATA, UNTRACKED, UNTRACKED_METADATA};

/// The difference from one object to another. No path is in more than one of the sets.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    pub removed: FieldSet,
    pub modified: FieldSet,
    pub added: FieldSet,
}

/// What happened to a place as a whole.
#[derive(Clone, Copy, PartialEq)]
enum Change {
    None,
    Removed,
    Modified,
    Added,
}

pub(super) fn compare(typed: Typed<'_>, old: &Value, new: &Value) -> Comparison {
    place(typed, Some(old), Some(new)).1
}

/// Compares what fields of two objects can have owners, without those that are `kept`.
pub(super) fn compare_tracked(typed: Typed<'_>, old: &Value, new: &Value, kept: &[&str]) -> Comparison {
    let mut comparison = Comparison::default();
    let is_tracked = |name: &str| !UNTRACKED.contains(&name) && !kept.contains(&name);
    comparison.members(typed, old.as_object(), new.as_object(), is_tracked);
    let (place, field) = typed.member(METADATA);
    let mut metadata = Comparison::default();
    metadata.members(place, metadata_of(old), metadata_of(new), |name| !UNTRACKED_METADATA.contains(&name));
    comparison.put(&member_element(METADATA, field), (Change::None, metadata));
    comparison
}

fn metadata_of(object: &Value) -> Option<&JsonMap<String, Value>> {
    object.get(METADATA).and_then(Value::as_object)
}

impl Comparison {
    /// Fields that have another value now than before.
    pub fn changed(&self) -> FieldSet {
        self.modified.union(&self.added)
    }

    /// Takes in what was found at one element.
    fn put(&mut self, element: &PathElement, (change, below): (Change, Comparison)) {
        self.removed.put(element, change == Change::Removed, below.removed);
        self.modified.put(element, change == Change::Modified, below.modified);
        self.added.put(element, change == Change::Added, below.added);
    }

    fn members(
        &mut self,
        typed: Typed<'_>,
        old: Option<&JsonMap<String, Value>>,
        new: Option<&JsonMap<String, Value>>,
        is_wanted: impl Fn(&str) -> bool,
    ) {
        let mut old = old.into_iter().flatten().peekable();
        let mut new = new.into_iter().flatten().peekable();
        loop {
            let order = match (old.peek(), new.peek()) {
                (Some((o, _)), Some((n, _))) => o.cmp(n),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => break,
            };
            let old = if order.is_le() { old.next() } else { None };
            let new = if order.is_ge() { new.next() } else { None };
            let Some((name, _)) = old.or(new) else { break };
            let (old, new) = (old.map(|(_, value)| value), new.map(|(_, value)| value));
            if is_wanted(name) && old != new {
                let (below, field) = typed.member(name);
                self.put(&member_element(name, field), place(below, old, new));
            }
        }
    }

    fn items(&mut self, list: &List, old: &[Value], new: &[Value]) {
        let (old, new) = (by_identity(list, old), by_identity(list, new));
        let elements = old.iter().map(|(element, _)| element);
        let only_new = new.iter().map(|(element, _)| element).filter(|element| find(&old, element).is_empty());
        for element in elements.chain(only_new) {
            let item = Typed::new(&list.item.shape);
            let found = match (find(&old, element), find(&new, element)) {
                ([] | [_], [] | [_]) => {
                    place(item, find(&old, element).first().copied(), find(&new, element).first().copied())
                }
                // Items that are there more than once are owned together, as a whole.
                ([_, _, ..], []) => (Change::Removed, Comparison::default()),
                ([_, _, ..], [one]) => {
                    self.put(element, place(item, None, Some(one)));
                    (Change::Removed, Comparison::default())
                }
                ([], [_, _, ..]) => (Change::Added, Comparison::default()),
                ([one], [_, _, ..]) => {
                    self.put(element, place(item, Some(one), None));
                    (Change::Added, Comparison::default())
                }
                (old, new) if old == new => continue,
                _ => (Change::Modified, Comparison::default()),
            };
            self.put(element, found);
        }
    }
}

type Items<'v> = Vec<(PathElement, Vec<&'v Value>)>;

fn by_identity<'v>(list: &List, items: &'v [Value]) -> Items<'v> {
    let mut found: Items<'v> = Vec::with_capacity(items.len());
    for item in items {
        let Ok(element) = identity(list, item) else { continue };
        match found.iter_mut().find(|(other, _)| *other == element) {
            Some((_, same)) => same.push(item),
            None => found.push((element, vec![item])),
        }
    }
    found
}

fn find<'i, 'v>(items: &'i Items<'v>, element: &PathElement) -> &'i [&'v Value] {
    items.iter().find(|(other, _)| other == element).map_or(&[], |(_, same)| same)
}

fn place(typed: Typed<'_>, old: Option<&Value>, new: Option<&Value>) -> (Change, Comparison) {
    let whole = match (old, new) {
        (None, _) => Change::Added,
        (_, None) => Change::Removed,
        (Some(old), Some(new)) if old == new => return (Change::None, Comparison::default()),
        _ => Change::Modified,
    };
    let old = old.map(|value| (typed.parts(value), is_empty(value)));
    let new = new.map(|value| (typed.parts(value), is_empty(value)));
    let is_leaf = |side: &Option<(Parts<'_>, bool)>| matches!(side, None | Some((Parts::Leaf, _)) | Some((_, true)));
    if is_leaf(&old) && is_leaf(&new) {
        return (whole, Comparison::default());
    }
    // A scalar that becomes an object is modified as a whole; an object that changes inside is not.
    let turned = [&old, &new].iter().any(|side| matches!(side, Some((Parts::Leaf, false))));
    let change = if whole == Change::Modified && !turned { Change::None } else { whole };
    let (old, new) = (old.map(|(parts, _)| parts), new.map(|(parts, _)| parts));
    let mut comparison = Comparison::default();
    let (old_members, new_members) = (old.as_ref().and_then(Parts::members), new.as_ref().and_then(Parts::members));
    comparison.members(typed, old_members, new_members, |_| true);
    if let Some(list) = typed.list() {
        comparison.items(list, old.as_ref().map_or(&[], Parts::items), new.as_ref().map_or(&[], Parts::items));
    }
    (change, comparison)
}

/// Null stands for an object or list without anything in it.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(members) => members.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}
