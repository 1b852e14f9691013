//! `wasi:keyvalue`: buckets are maps of maps that cost what they hold, to the byte, and never more than their budget.

use std::collections::{BTreeMap, BTreeSet};

use k8w_runtime::host::keyvalue::Buckets;
use k8w_runtime::wasm::memory::Budget;

const LIMIT_BYTES: u64 = 1_000;
/// What an entry costs beside its key and value, and a bucket beside its name.
const ENTRY_BYTES: usize = 64;
/// Their names have one character.
const BUCKET_BYTES: usize = ENTRY_BYTES + 1;

type Model = BTreeMap<(u8, String), Vec<u8>>;

/// An input is a list of operations, four bytes each: what, on which bucket, which key, how much.
pub fn check(input: &[u8]) {
    let budget = Budget::new(LIMIT_BYTES, None);
    let buckets = Buckets::new(budget.clone());
    let mut model = Model::new();
    for &[what, bucket, key, amount] in input.as_chunks().0 {
        let bucket = bucket % 3;
        let (name, key) = (bucket.to_string(), named(key));
        let place = (bucket, key.clone());
        match what % 6 {
            0 => {
                let value = vec![amount; usize::from(amount)];
                let done = buckets.set(&name, key, value.clone());
                assert_eq!(done.is_ok(), put(&mut model, place, value));
            }
            1 => {
                buckets.delete(&name, &key);
                model.remove(&place);
            }
            2 => {
                let delta = if amount == u8::MAX { u64::MAX } else { u64::from(amount) };
                let expected =
                    sum(model.get(&place), delta).filter(|sum| put(&mut model, place, sum.to_string().into_bytes()));
                assert_eq!(buckets.increment(&name, key, delta).ok(), expected);
            }
            3 => {
                let digit = vec![b'0' + amount % 10];
                let done = buckets.set(&name, key, digit.clone());
                assert_eq!(done.is_ok(), put(&mut model, place, digit));
            }
            4 => {
                // Some of them twice.
                let keys: Vec<String> = [amount, amount / 2, amount].map(named).into_iter().chain([key]).collect();
                let expected = keys.iter().map(|key| {
                    let value = model.get(&(bucket, key.clone()));
                    value.map(|value| (key.clone(), value.clone()))
                });
                let expected: Vec<_> = expected.collect();
                assert_eq!(buckets.get_many(&name, keys), Ok(expected));
            }
            _ => {
                let cursor = usize::from(amount % 8);
                let held = model.keys().filter(|(of, _)| *of == bucket).map(|(_, key)| key.clone());
                let page = buckets.list_keys(&name, cursor as u64);
                assert_eq!((page.keys, page.cursor), (held.skip(cursor).collect(), None));
            }
        }
        assert_eq!(budget.used_bytes() as usize, cost(&model));
    }
    for ((bucket, key), value) in &model {
        assert!(buckets.read(&bucket.to_string(), |all| all.get(key) == Some(value)));
    }
    drop(buckets);
    assert_eq!(budget.used_bytes(), 0);
}

/// A key of some length, of any of four characters.
fn named(key: u8) -> String {
    ["a", "b", "\u{e9}", "\0"][usize::from(key % 4)].repeat(usize::from(key / 4))
}

/// Whether there was room, for the new value beside the old one.
fn put(model: &mut Model, place: (u8, String), value: Vec<u8>) -> bool {
    let bucket = if model.keys().any(|(bucket, _)| *bucket == place.0) { 0 } else { BUCKET_BYTES };
    let fits = cost(model) + bucket + ENTRY_BYTES + place.1.len() + value.len() <= LIMIT_BYTES as usize;
    if fits {
        model.insert(place, value);
    }
    fits
}

/// `None` for what is no number, and for what would be too large a one.
fn sum(value: Option<&Vec<u8>>, delta: u64) -> Option<u64> {
    let Some(value) = value else { return Some(delta) };
    String::from_utf8(value.clone()).ok()?.parse::<u64>().ok()?.checked_add(delta)
}

fn cost(model: &Model) -> usize {
    let buckets: BTreeSet<u8> = model.keys().map(|(bucket, _)| *bucket).collect();
    let entries: usize = model.iter().map(|((_, key), value)| ENTRY_BYTES + key.len() + value.len()).sum();
    buckets.len() * BUCKET_BYTES + entries
}
