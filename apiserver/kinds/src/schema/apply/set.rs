//! Sets of fields.

use std::cmp::Ordering;

use super::path::PathElement;

/// A set of paths into an object, as a tree.
///
/// A path may be in the set without what lies below it, and the other way around.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet {
    /// Sorted by element. None is without use: each is a member or has children.
    pub(super) entries: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub element: PathElement,
    /// Whether the path that ends here is in the set.
    pub member: bool,
    pub children: FieldSet,
}

impl FieldSet {
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds a path; an empty one is ignored.
    pub fn insert(&mut self, path: &[PathElement]) {
        let Some((first, rest)) = path.split_first() else { return };
        let entry = self.entry(first);
        if rest.is_empty() { entry.member = true } else { entry.children.insert(rest) }
    }

    pub fn contains(&self, path: &[PathElement]) -> bool {
        let Some((first, rest)) = path.split_first() else { return false };
        self.get(first).is_some_and(|entry| if rest.is_empty() { entry.member } else { entry.children.contains(rest) })
    }

    /// Calls `visit` with every path of the set.
    pub fn for_each(&self, visit: &mut impl FnMut(&[PathElement])) {
        self.walk(&mut Vec::new(), visit);
    }

    fn walk(&self, prefix: &mut Vec<PathElement>, visit: &mut impl FnMut(&[PathElement])) {
        for entry in &self.entries {
            prefix.push(entry.element.clone());
            if entry.member {
                visit(prefix);
            }
            entry.children.walk(prefix, visit);
            prefix.pop();
        }
    }

    /// Paths in either set.
    pub fn union(&self, other: &FieldSet) -> FieldSet {
        self.combine(other, true, true, |a, b| a || b)
    }

    /// Paths in both sets.
    pub fn intersection(&self, other: &FieldSet) -> FieldSet {
        self.combine(other, false, false, |a, b| a && b)
    }

    /// Paths in this set and not in the other. A path in the other says nothing about what lies below it.
    pub fn difference(&self, other: &FieldSet) -> FieldSet {
        self.combine(other, true, false, |a, b| a && !b)
    }

    /// Walks both sets in order. What only one side has is kept as told; `member` decides where both have a path.
    fn combine(&self, other: &FieldSet, keep_left: bool, keep_right: bool, member: fn(bool, bool) -> bool) -> FieldSet {
        let (mut left, mut right) = (self.entries.iter().peekable(), other.entries.iter().peekable());
        let mut entries = Vec::new();
        loop {
            let order = match (left.peek(), right.peek()) {
                (Some(l), Some(r)) => l.element.cmp(&r.element),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => break,
            };
            let l = if order.is_le() { left.next() } else { None };
            let r = if order.is_ge() { right.next() } else { None };
            match (l, r) {
                (Some(l), Some(r)) => {
                    let children = l.children.combine(&r.children, keep_left, keep_right, member);
                    push(&mut entries, l.element.clone(), member(l.member, r.member), children);
                }
                (Some(l), None) if keep_left => entries.push(l.clone()),
                (None, Some(r)) if keep_right => entries.push(r.clone()),
                _ => {}
            }
        }
        FieldSet { entries }
    }

    pub(super) fn get(&self, element: &PathElement) -> Option<&Entry> {
        self.position(element).ok().map(|i| &self.entries[i])
    }

    /// The entry of an element, made when there is none; the caller has to give it a use.
    pub(super) fn entry(&mut self, element: &PathElement) -> &mut Entry {
        let position = self.position(element).unwrap_or_else(|position| {
            let entry = Entry { element: element.clone(), member: false, children: FieldSet::default() };
            self.entries.insert(position, entry);
            position
        });
        &mut self.entries[position]
    }

    /// Adds what is known about one element, if it is anything.
    pub(super) fn put(&mut self, element: &PathElement, member: bool, children: FieldSet) {
        if !member && children.is_empty() {
            return;
        }
        match self.position(element) {
            Ok(i) => {
                let entry = &mut self.entries[i];
                entry.member |= member;
                entry.children = entry.children.union(&children);
            }
            Err(i) => self.entries.insert(i, Entry { element: element.clone(), member, children }),
        }
    }

    fn position(&self, element: &PathElement) -> Result<usize, usize> {
        // Sets are mostly built in order.
        match self.entries.last() {
            Some(last) if last.element < *element => Err(self.entries.len()),
            _ => self.entries.binary_search_by(|entry| entry.element.cmp(element)),
        }
    }
}

fn push(entries: &mut Vec<Entry>, element: PathElement, member: bool, children: FieldSet) {
    if member || !children.is_empty() {
        entries.push(Entry { element, member, children });
    }
}
