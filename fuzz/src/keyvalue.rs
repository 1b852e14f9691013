//! `wasi:keyvalue`: buckets are maps of maps that cost what they hold, to the byte, and never more than their budget.

use std::collections::BTreeMap;

use k8w_runtime::host::keyvalue::Buckets;
use k8w_runtime::wasm::memory::Budget;

const LIMIT_BYTES: u64 = 1_000;
/// What an entry costs beside its key and value.
const ENTRY_BYTES: usize = 64;

type Model = BTreeMap<(u8, String), Vec<u8>>;

/// An input is a list of operations, four bytes each: what, on which bucket, which key, how much.
pub fn check(input: &[u8]) {
    let budget = Budget::new(LIMIT_BYTES, None);
    let buckets = Buckets::new(budget.clone());
    let mut model = Model::new();
    for &[what, bucket, key, amount] in input.as_chunks().0 {
        let bucket = bucket % 3;
        let (name, key) = (bucket.to_string(), String::from_utf8_lossy(&[key]).into_owned());
        let place = (bucket, key.clone());
        match what % 4 {
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
            _ => {
                let digit = vec![b'0' + amount % 10];
                let done = buckets.set(&name, key, digit.clone());
                assert_eq!(done.is_ok(), put(&mut model, place, digit));
            }
        }
        assert_eq!(budget.used_bytes() as usize, cost(&model));
    }
    for bucket in 0..3 {
        let name = bucket.to_string();
        let held: Vec<_> = model.iter().filter(|((of, _), _)| *of == bucket).collect();
        let keys: Vec<&String> = held.iter().map(|((_, key), _)| key).collect();
        let page = buckets.list_keys(&name, 1);
        assert_eq!(
            (page.keys.iter().collect::<Vec<_>>(), page.cursor),
            (keys.get(1..).unwrap_or_default().to_vec(), None)
        );
        let same =
            |((_, key), value): &(&(u8, String), &Vec<u8>)| buckets.read(&name, |all| all.get(key) == Some(value));
        assert!(held.iter().all(same));
    }
    drop(buckets);
    assert_eq!(budget.used_bytes(), 0);
}

/// Whether there was room, for the new value beside the old one.
fn put(model: &mut Model, place: (u8, String), value: Vec<u8>) -> bool {
    let fits = cost(model) + ENTRY_BYTES + place.1.len() + value.len() <= LIMIT_BYTES as usize;
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
    model.iter().map(|((_, key), value)| ENTRY_BYTES + key.len() + value.len()).sum()
}
