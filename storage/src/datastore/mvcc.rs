//! The multi-version index: every key's versions and the order of changes, pure and in memory.
//!
//! ```text
//!   versions   key ──► [ version, version, … ]      oldest first; a version without a value is a deletion
//!   log        (revision, key), (revision, key), …  every change since the last compaction, in order
//! ```
//!
//! Values are shared ([`Bytes`]): an object's bytes exist once, whoever holds them.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::ops::Bound;

use bytes::Bytes;

use super::{Compare, Error, Event, KeyRange, KeyValue, Result, Revision, TxnOutcome, Write};

/// One key as one transaction left it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Version {
    pub mod_revision: Revision,
    /// Position among the writes of its transaction.
    pub position: u32,
    pub create_revision: Revision,
    /// `None`: the key was deleted.
    pub value: Option<Bytes>,
    /// When the store deletes the key, in milliseconds on the store's clock.
    pub expires_at_ms: Option<u64>,
}

impl Version {
    fn to_key_value(&self, key: &Bytes) -> Option<KeyValue> {
        self.value.as_ref().map(|value| KeyValue {
            key: key.clone(),
            value: value.clone(),
            create_revision: self.create_revision,
            mod_revision: self.mod_revision,
        })
    }

    fn to_event(&self, key: &Bytes, previous: Option<KeyValue>) -> Event {
        match self.to_key_value(key) {
            Some(kv) => Event::Put { kv, previous },
            None => Event::Delete { key: key.clone(), previous, revision: self.mod_revision },
        }
    }
}

/// One change, as history keeps it: what a journal stores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub key: Bytes,
    pub version: Version,
}

impl Record {
    /// About how much room it takes in memory or on disk.
    fn bytes(&self) -> u64 {
        const OVERHEAD_BYTES: usize = 40;
        (OVERHEAD_BYTES + self.key.len() + self.version.value.as_ref().map_or(0, Bytes::len)) as u64
    }
}

/// What applying a transaction's writes did.
pub(super) struct Applied {
    /// Revision of the changes, or the current one when nothing changed.
    pub revision: Revision,
    /// What each write replaced.
    pub previous: Vec<Option<KeyValue>>,
    pub records: Vec<Record>,
    /// What watchers are told.
    pub events: Vec<Event>,
}

/// A part of a range.
pub(super) struct Page {
    pub items: Vec<KeyValue>,
    /// Where the next page starts, when the range holds more.
    pub next: Option<Bytes>,
}

#[derive(Debug, Default)]
pub(super) struct Index {
    versions: BTreeMap<Bytes, Vec<Version>>,
    log: VecDeque<(Revision, Bytes)>,
    revision: Revision,
    compacted: Revision,
    bytes: u64,
}

impl Index {
    /// The newest revision.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// History below this revision is gone.
    pub fn compacted(&self) -> Revision {
        self.compacted
    }

    /// About how much room all records take.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes a record of earlier history; records come in the order in which they happened.
    pub fn restore(&mut self, record: Record) {
        self.note(&record);
        self.versions.entry(record.key).or_default().push(record.version);
    }

    /// Everything about a new version but the version itself.
    fn note(&mut self, record: &Record) {
        self.revision = self.revision.max(record.version.mod_revision);
        self.bytes += record.bytes();
        self.log.push_back((record.version.mod_revision, record.key.clone()));
    }

    /// The current values of the compared keys if one of them is not at the revision asked for.
    pub fn conflict(&self, compares: &[Compare]) -> Option<TxnOutcome> {
        let holds = |c: &Compare| self.newest(&c.key).map_or(0, |v| v.mod_revision) == c.mod_revision;
        if compares.iter().all(holds) {
            return None;
        }
        let current = compares.iter().map(|c| self.newest(&c.key)?.to_key_value(&c.key)).collect();
        Some(TxnOutcome::Conflict { revision: self.revision, current })
    }

    /// Applies writes under one new revision. Deleting a key that does not exist changes nothing.
    pub fn apply(&mut self, writes: Vec<Write>, now_ms: u64) -> Applied {
        let revision = self.revision + 1;
        let mut previous = Vec::with_capacity(writes.len());
        let mut records = Vec::with_capacity(writes.len());
        let mut events = Vec::with_capacity(writes.len());
        for (position, write) in writes.into_iter().enumerate() {
            let (key, value, ttl_seconds) = match write {
                Write::Put { key, value, ttl_seconds } => (key, Some(value), ttl_seconds),
                Write::Delete { key } => (key, None, None),
            };
            let versions = match value {
                Some(_) => self.versions.entry(key.clone()).or_default(),
                None => match self.versions.get_mut(&key) {
                    Some(versions) => versions,
                    None => {
                        previous.push(None);
                        continue;
                    }
                },
            };
            let replaced = versions.last().filter(|version| version.value.is_some());
            let before = replaced.and_then(|version| version.to_key_value(&key));
            previous.push(before.clone());
            if before.is_none() && value.is_none() {
                continue;
            }
            let version = Version {
                mod_revision: revision,
                position: position as u32,
                create_revision: replaced.map_or(revision, |version| version.create_revision),
                value,
                expires_at_ms: ttl_seconds.map(|ttl| now_ms.saturating_add(ttl.saturating_mul(1000))),
            };
            versions.push(version.clone());
            let record = Record { key, version };
            self.note(&record);
            events.push(record.version.to_event(&record.key, before));
            records.push(record);
        }
        Applied { revision: self.revision, previous, records, events }
    }

    /// The newest version of a key that exists.
    fn newest(&self, key: &[u8]) -> Option<&Version> {
        self.versions.get(key)?.last().filter(|v| v.value.is_some())
    }

    /// One key at a revision.
    pub fn get(&self, key: &[u8], at: Revision) -> Option<KeyValue> {
        let (key, versions) = self.versions.get_key_value(key)?;
        version_at(versions, at)?.to_key_value(key)
    }

    /// The deadline of a key's newest version, with that version's revision.
    pub fn expiry(&self, key: &[u8]) -> Option<(u64, Revision)> {
        let version = self.newest(key)?;
        Some((version.expires_at_ms?, version.mod_revision))
    }

    /// Every deadline there is.
    pub fn expiries(&self) -> impl Iterator<Item = (u64, Bytes)> {
        let newest = self.versions.iter().filter_map(|(key, versions)| Some((key, versions.last()?)));
        newest.filter_map(|(key, version)| Some((version.expires_at_ms?, key.clone())))
    }

    /// Whether a revision can be read. Errors: `Compacted`, `FutureRevision` (against `newest`).
    pub fn readable(&self, at: Revision, newest: Revision) -> Result<()> {
        if at < self.compacted {
            return Err(Error::Compacted { requested: at, compacted: self.compacted });
        }
        if at > newest {
            return Err(Error::FutureRevision { requested: at, current: newest });
        }
        Ok(())
    }

    /// Up to `limit` keys of a range at a revision, from `start` on.
    pub fn page(&self, range: &KeyRange, start: &Bytes, limit: usize, at: Revision) -> Page {
        let mut items = Vec::new();
        for (key, versions) in self.range(range, start) {
            if items.len() == limit {
                return Page { items, next: Some(key.clone()) };
            }
            items.extend(version_at(versions, at).and_then(|v| v.to_key_value(key)));
        }
        Page { items, next: None }
    }

    /// How many keys a range has at a revision, from `start` on: visits at most `limit` of them.
    pub fn count(&self, range: &KeyRange, start: &Bytes, limit: usize, at: Revision) -> (usize, Option<Bytes>) {
        let mut count = 0;
        for (visited, (key, versions)) in self.range(range, start).enumerate() {
            if visited == limit {
                return (count, Some(key.clone()));
            }
            count += usize::from(version_at(versions, at).is_some_and(|v| v.value.is_some()));
        }
        (count, None)
    }

    fn range<'a>(
        &'a self,
        range: &'a KeyRange,
        start: &'a Bytes,
    ) -> impl Iterator<Item = (&'a Bytes, &'a Vec<Version>)> {
        let from: &[u8] = start.max(&range.start);
        self.versions
            .range::<[u8], _>((Bound::Included(from), Bound::Unbounded))
            .take_while(|(key, _)| range.contains(key))
    }

    /// Every change after `from` up to and including `to`, a transaction at a time.
    pub fn changes(&self, from: Revision, to: Revision) -> Vec<(Revision, Vec<Event>)> {
        let first = self.log.partition_point(|(revision, _)| *revision <= from);
        let mut changes: Vec<(Revision, Vec<Event>)> = Vec::new();
        for (revision, key) in self.log.range(first..).take_while(|(revision, _)| *revision <= to) {
            let Some(event) = self.event(key, *revision) else { continue };
            match changes.last_mut() {
                Some((last, events)) if last == revision => events.push(event),
                _ => changes.push((*revision, vec![event])),
            }
        }
        changes
    }

    fn event(&self, key: &Bytes, revision: Revision) -> Option<Event> {
        let versions = self.versions.get(key)?;
        let at = versions.partition_point(|v| v.mod_revision < revision);
        let version = versions.get(at)?;
        let previous = at.checked_sub(1).and_then(|before| versions[before].to_key_value(key));
        Some(version.to_event(key, previous))
    }

    /// The records up to a revision of at most `limit` keys from `start` on, and where to go on, if there is more.
    pub fn records(&self, start: &Bytes, limit: usize, up_to: Revision) -> (Vec<Record>, Option<Bytes>) {
        let mut records = Vec::new();
        for (visited, (key, versions)) in
            self.versions.range::<[u8], _>((Bound::Included(&start[..]), Bound::Unbounded)).enumerate()
        {
            if visited == limit {
                return (records, Some(key.clone()));
            }
            let versions = versions.iter().take_while(|version| version.mod_revision <= up_to);
            records.extend(versions.map(|version| Record { key: key.clone(), version: version.clone() }));
        }
        (records, None)
    }

    /// Forgets what is only visible below `revision`.
    pub fn compact(&mut self, revision: Revision) {
        self.compacted = self.compacted.max(revision);
        self.revision = self.revision.max(revision);
        let old = self.log.partition_point(|(at, _)| *at <= revision);
        let touched: HashSet<Bytes> = self.log.drain(..old).map(|(_, key)| key).collect();
        self.log.shrink_to(self.log.len() * 2);
        for key in touched {
            let Some(versions) = self.versions.get_mut(&key) else { continue };
            // The last version at or below the revision is what a read at the revision sees; a deletion shows nothing.
            let mut gone = versions.partition_point(|v| v.mod_revision <= revision).saturating_sub(1);
            if versions[gone].mod_revision <= revision && versions[gone].value.is_none() {
                gone += 1;
            }
            for version in versions.drain(..gone) {
                self.bytes -= Record { key: key.clone(), version }.bytes();
            }
            versions.shrink_to_fit();
            if versions.is_empty() {
                self.versions.remove(&key);
            }
        }
    }
}

fn version_at(versions: &[Version], at: Revision) -> Option<&Version> {
    versions[..versions.partition_point(|v| v.mod_revision <= at)].last()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// What each revision looked like, kept whole: slow and obviously right.
    type Model = Vec<BTreeMap<u8, (u8, Revision)>>;

    fn write(key: u8, value: Option<u8>) -> Write {
        let key = Bytes::from(vec![key]);
        match value {
            Some(value) => Write::Put { key, value: Bytes::from(vec![value]), ttl_seconds: None },
            None => Write::Delete { key },
        }
    }

    fn everything() -> KeyRange {
        KeyRange::prefix("")
    }

    proptest! {
        /// Random puts and deletes with a compaction somewhere: every readable revision reads as it was.
        #[test]
        fn reads_as_a_copy_of_every_revision(
            ops in prop::collection::vec((0u8..6, prop::option::of(any::<u8>())), 1..60),
            compact_at in 0usize..60,
        ) {
            let mut index = Index::default();
            let mut model: Model = vec![BTreeMap::new()];
            for (key, value) in ops {
                let mut state = model.last().unwrap().clone();
                let applied = index.apply(vec![write(key, value)], 0);
                let before = state.get(&key).map(|(value, revision)| (vec![*value], *revision));
                prop_assert_eq!(applied.previous[0].as_ref().map(|kv| (kv.value.to_vec(), kv.mod_revision)), before);
                let changed = match value {
                    Some(value) => { state.insert(key, (value, applied.revision)); true }
                    None => state.remove(&key).is_some(),
                };
                if changed {
                    model.push(state);
                }
                prop_assert_eq!(applied.revision as usize, model.len() - 1);
            }
            let compacted = compact_at.min(model.len() - 1);
            index.compact(compacted as Revision);
            for (revision, state) in model.iter().enumerate().skip(compacted) {
                let page = index.page(&everything(), &Bytes::new(), usize::MAX, revision as Revision);
                let read: Vec<_> = page.items.iter().map(|kv| (kv.key[0], (kv.value[0], kv.mod_revision))).collect();
                let expected: Vec<_> = state.iter().map(|(key, value)| (*key, *value)).collect();
                prop_assert_eq!(read, expected);
                prop_assert_eq!(index.count(&everything(), &Bytes::new(), usize::MAX, revision as Revision).0, state.len());
            }
            // Replaying the changes since the compaction leads from the state there to the newest one.
            let mut replayed = model[compacted].clone();
            for (_, events) in index.changes(compacted as Revision, Revision::MAX) {
                for event in events {
                    match event {
                        Event::Put { kv, previous } => {
                            let old = replayed.insert(kv.key[0], (kv.value[0], kv.mod_revision));
                            prop_assert_eq!(previous.map(|kv| (kv.value[0], kv.mod_revision)), old);
                        }
                        Event::Delete { key, previous, .. } => {
                            let old = replayed.remove(&key[0]);
                            prop_assert_eq!(previous.map(|kv| (kv.value[0], kv.mod_revision)), old);
                        }
                    }
                }
            }
            prop_assert_eq!(&replayed, model.last().unwrap());
        }
    }

    #[test]
    fn compaction_leaves_exactly_the_records_that_something_sees() {
        let mut index = Index::default();
        index.apply(vec![write(1, Some(1))], 0);
        index.apply(vec![write(1, Some(2)), write(2, Some(1))], 0);
        index.apply(vec![write(2, None)], 0);
        index.apply(vec![write(1, Some(3))], 0);
        index.compact(3);
        let (left, next) = index.records(&Bytes::new(), 10, Revision::MAX);
        assert_eq!(index.bytes(), left.iter().map(Record::bytes).sum::<u64>());
        let left: Vec<_> = left.into_iter().map(|r| (r.key[0], r.version.mod_revision)).collect();
        assert_eq!((left, next), (vec![(1, 2), (1, 4)], None));
    }
}
