//! `wasi:keyvalue` in memory: buckets that all instances of a container share, gone when it ends.
//!
//! What a bucket holds counts as the container's memory. When the limit is reached a write is refused, and the guest goes
//! on.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use bindings::wasi::keyvalue::{atomics, batch, store};
use wasmtime::component::{HasSelf, Linker, Resource};
use wasmtime_wasi::ResourceTableError;

use crate::wasm::memory::Budget;
use crate::wasm::store::State;

mod bindings {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "k8w:host/keyvalue",
        imports: { default: tracing | trappable },
        with: { "wasi:keyvalue/store.bucket": super::Bucket },
        trappable_error_type: { "wasi:keyvalue/store.error" => super::Error },
    });
}

/// Keys of one answer to `list-keys`.
const MAX_KEYS_PER_PAGE: usize = 1_000;
/// What an entry costs beside its key and value, and a bucket beside its name.
const ENTRY_BYTES: usize = 64;
/// The longest name of a bucket: a guest's handle holds it.
const MAX_NAME_BYTES: usize = 1 << 10;
/// What `get-many` answers at most: a key may be asked for again and again.
const MAX_ANSWER_BYTES: usize = 16 << 20;

pub fn store(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    store::add_to_linker::<State, HasSelf<State>>(linker, |state| state)
}

pub fn atomics(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    atomics::add_to_linker::<State, HasSelf<State>>(linker, |state| state)
}

pub fn batch(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    batch::add_to_linker::<State, HasSelf<State>>(linker, |state| state)
}

/// A guest's handle of a bucket: its name.
pub struct Bucket(String);

/// Why an operation failed, in words for the guest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

impl From<ResourceTableError> for Error {
    fn from(error: ResourceTableError) -> Error {
        Error(error.to_string())
    }
}

type Entries = BTreeMap<String, Vec<u8>>;

/// What is under a key that was asked for, if anything.
type Found = Option<(String, Vec<u8>)>;

/// All buckets of one container.
#[derive(Debug)]
pub struct Buckets {
    budget: Arc<Budget>,
    entries: Mutex<BTreeMap<String, Entries>>,
}

impl Buckets {
    /// None yet; what they will hold is reserved from `budget`.
    pub fn new(budget: Arc<Budget>) -> Buckets {
        Buckets { budget, entries: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Entries>> {
        self.entries.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// What a bucket holds; one that was never written to is empty.
    pub fn read<T>(&self, bucket: &str, read: impl FnOnce(&Entries) -> T) -> T {
        match self.lock().get(bucket) {
            Some(entries) => read(entries),
            None => read(&Entries::new()),
        }
    }

    /// # Errors
    /// When the budget leaves no room for the new value beside the old one.
    pub fn set(&self, bucket: &str, key: String, value: Vec<u8>) -> Result<(), Error> {
        self.put(&mut self.lock(), bucket, key, value)
    }

    fn put(
        &self,
        buckets: &mut BTreeMap<String, Entries>,
        bucket: &str,
        key: String,
        value: Vec<u8>,
    ) -> Result<(), Error> {
        // A bucket is held as long as it has entries.
        let name = if buckets.contains_key(bucket) { 0 } else { cost(bucket, &[]) };
        if !self.budget.try_reserve(name + cost(&key, &value)) {
            return Err(Error("the container's memory limit leaves no room for this value".to_owned()));
        }
        let replaced_key = cost(&key, &[]);
        let entries = buckets.entry(bucket.to_owned()).or_default();
        if let Some(old) = entries.insert(key, value) {
            self.budget.release(replaced_key + old.len() as u64);
        }
        Ok(())
    }

    pub fn delete(&self, bucket: &str, key: &str) {
        let mut buckets = self.lock();
        let Some(entries) = buckets.get_mut(bucket) else { return };
        if let Some(old) = entries.remove(key) {
            self.budget.release(cost(key, &old));
        }
        if entries.is_empty() {
            buckets.remove(bucket);
            self.budget.release(cost(bucket, &[]));
        }
    }

    /// What is held under some keys, each as often as it is asked for.
    ///
    /// # Errors
    /// When that is more than [`MAX_ANSWER_BYTES`].
    pub fn get_many(&self, bucket: &str, keys: Vec<String>) -> Result<Vec<Found>, Error> {
        let mut room = MAX_ANSWER_BYTES;
        self.read(bucket, |entries| {
            let found = keys.into_iter().map(|key| {
                let Some(value) = entries.get(&key) else { return Ok(None) };
                room = room.checked_sub(value.len()).ok_or_else(|| {
                    Error(format!("the values of these keys have more than {MAX_ANSWER_BYTES} bytes: ask for fewer"))
                })?;
                Ok(Some((key, value.clone())))
            });
            found.collect()
        })
    }

    /// Counts up and returns the sum. Numbers are decimal text, so that a guest can read them as well.
    ///
    /// # Errors
    /// When the value is no number, the sum would overflow, or the budget leaves no room.
    pub fn increment(&self, bucket: &str, key: String, delta: u64) -> Result<u64, Error> {
        let mut buckets = self.lock();
        let held = match buckets.get(bucket).and_then(|entries| entries.get(&key)) {
            None => 0,
            Some(value) => std::str::from_utf8(value)
                .ok()
                .and_then(|text| text.parse::<u64>().ok())
                .ok_or_else(|| Error(format!("the value of {key:?} is no number")))?,
        };
        let sum = held.checked_add(delta).ok_or_else(|| Error(format!("the value of {key:?} would overflow")))?;
        self.put(&mut buckets, bucket, key, sum.to_string().into_bytes())?;
        Ok(sum)
    }

    /// Keys in their order from the `cursor`-th on. Keys that come or go between two pages may be missed or seen twice.
    pub fn list_keys(&self, bucket: &str, cursor: u64) -> store::KeyResponse {
        let first = usize::try_from(cursor).unwrap_or(usize::MAX);
        self.read(bucket, |entries| {
            let keys: Vec<String> = entries.keys().skip(first).take(MAX_KEYS_PER_PAGE).cloned().collect();
            let next = first.saturating_add(keys.len());
            store::KeyResponse { cursor: (next < entries.len()).then_some(next as u64), keys }
        })
    }
}

impl Drop for Buckets {
    fn drop(&mut self) {
        let buckets = self.lock();
        let names = buckets.keys().map(|name| cost(name, &[])).sum::<u64>();
        let held = buckets.values().flatten().map(|(key, value)| cost(key, value)).sum::<u64>();
        self.budget.release(names + held);
    }
}

fn cost(key: &str, value: &[u8]) -> u64 {
    (ENTRY_BYTES + key.len() + value.len()) as u64
}

impl State {
    fn bucket(&self, bucket: &Resource<Bucket>) -> Result<&str, Error> {
        Ok(&self.table.get(bucket)?.0)
    }
}

impl store::Host for State {
    /// A bucket is there as soon as it is asked for.
    fn open(&mut self, identifier: String) -> Result<Resource<Bucket>, Error> {
        if identifier.len() > MAX_NAME_BYTES {
            return Err(Error(format!("the name of a bucket may have {MAX_NAME_BYTES} bytes at most")));
        }
        Ok(self.table.push(Bucket(identifier))?)
    }

    fn convert_error(&mut self, Error(why): Error) -> wasmtime::Result<store::Error> {
        Ok(store::Error::Other(why))
    }
}

impl store::HostBucket for State {
    fn get(&mut self, bucket: Resource<Bucket>, key: String) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.container.buckets.read(self.bucket(&bucket)?, |entries| entries.get(&key).cloned()))
    }

    fn set(&mut self, bucket: Resource<Bucket>, key: String, value: Vec<u8>) -> Result<(), Error> {
        self.container.buckets.set(self.bucket(&bucket)?, key, value)
    }

    fn delete(&mut self, bucket: Resource<Bucket>, key: String) -> Result<(), Error> {
        self.container.buckets.delete(self.bucket(&bucket)?, &key);
        Ok(())
    }

    fn exists(&mut self, bucket: Resource<Bucket>, key: String) -> Result<bool, Error> {
        Ok(self.container.buckets.read(self.bucket(&bucket)?, |entries| entries.contains_key(&key)))
    }

    fn list_keys(&mut self, bucket: Resource<Bucket>, cursor: Option<u64>) -> Result<store::KeyResponse, Error> {
        Ok(self.container.buckets.list_keys(self.bucket(&bucket)?, cursor.unwrap_or_default()))
    }

    fn drop(&mut self, bucket: Resource<Bucket>) -> wasmtime::Result<()> {
        self.table.delete(bucket)?;
        Ok(())
    }
}

impl atomics::Host for State {
    fn increment(&mut self, bucket: Resource<Bucket>, key: String, delta: u64) -> Result<u64, Error> {
        self.container.buckets.increment(self.bucket(&bucket)?, key, delta)
    }
}

impl batch::Host for State {
    fn get_many(&mut self, bucket: Resource<Bucket>, keys: Vec<String>) -> Result<Vec<Found>, Error> {
        self.container.buckets.get_many(self.bucket(&bucket)?, keys)
    }

    fn set_many(&mut self, bucket: Resource<Bucket>, key_values: Vec<(String, Vec<u8>)>) -> Result<(), Error> {
        let bucket = self.bucket(&bucket)?;
        key_values.into_iter().try_for_each(|(key, value)| self.container.buckets.set(bucket, key, value))
    }

    fn delete_many(&mut self, bucket: Resource<Bucket>, keys: Vec<String>) -> Result<(), Error> {
        let bucket = self.bucket(&bucket)?;
        keys.iter().for_each(|key| self.container.buckets.delete(bucket, key));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_counts_as_memory_and_is_given_back() {
        let budget = Budget::new(365, None);
        let buckets = Buckets::new(budget.clone());
        buckets.set("a", "key".to_owned(), vec![0; 100]).unwrap();
        assert_eq!(budget.used_bytes(), 65 + 167, "the bucket and its entry");
        let refused = buckets.set("a", "key".to_owned(), vec![0; 100]).unwrap_err();
        assert_eq!(refused.to_string(), "the container's memory limit leaves no room for this value");
        buckets.set("a", "key".to_owned(), vec![0; 10]).unwrap();
        assert_eq!(budget.used_bytes(), 65 + 77);
        buckets.delete("a", "key");
        buckets.delete("a", "key");
        assert_eq!(budget.used_bytes(), 0);
        buckets.set("b", "key".to_owned(), vec![0; 100]).unwrap();
        drop(buckets);
        assert_eq!(budget.used_bytes(), 0);
    }

    #[test]
    fn one_call_is_not_answered_without_end() {
        let buckets = Buckets::new(Budget::new(1 << 30, None));
        buckets.set("b", "key".to_owned(), vec![0; 1 << 20]).unwrap();
        let many = |times| buckets.get_many("b", vec!["key".to_owned(); times]).map(|found| found.len());
        assert_eq!(many(16), Ok(16));
        assert_eq!(
            many(17).unwrap_err().to_string(),
            "the values of these keys have more than 16777216 bytes: ask for fewer"
        );
    }

    #[test]
    fn numbers_are_counted_up_and_nothing_else_is() {
        let buckets = Buckets::new(Budget::new(1 << 20, None));
        assert_eq!(buckets.increment("b", "n".to_owned(), 5), Ok(5));
        assert_eq!(buckets.increment("b", "n".to_owned(), 2), Ok(7));
        assert_eq!(buckets.read("b", |entries| entries["n"].clone()), b"7");
        assert!(buckets.increment("b", "n".to_owned(), u64::MAX).is_err());
        buckets.set("b", "n".to_owned(), b"x".to_vec()).unwrap();
        assert!(buckets.increment("b", "n".to_owned(), 1).is_err());
    }

    #[test]
    fn keys_are_listed_page_by_page() {
        let buckets = Buckets::new(Budget::new(1 << 20, None));
        for n in 0..=MAX_KEYS_PER_PAGE {
            buckets.set("b", format!("{n:05}"), Vec::new()).unwrap();
        }
        let first = buckets.list_keys("b", 0);
        assert_eq!((first.keys.len(), first.cursor), (MAX_KEYS_PER_PAGE, Some(MAX_KEYS_PER_PAGE as u64)));
        let last = buckets.list_keys("b", MAX_KEYS_PER_PAGE as u64);
        assert_eq!((last.keys.len(), last.cursor), (1, None));
        assert_eq!(buckets.list_keys("b", u64::MAX).keys.len(), 0);
        assert_eq!(buckets.list_keys("none", 0).keys.len(), 0);
    }
}
