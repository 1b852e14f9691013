//! Answers that count for a while.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// When there are more, those that count no longer are forgotten, and if there are none, all.
const MAX_ANSWERS: usize = 1024;

/// The hash of a question: nothing that proves who somebody is stays here.
pub(super) type Key = [u8; 32];

pub(super) struct Memory<V> {
    answers: Mutex<HashMap<Key, (Instant, V)>>,
}

impl<V> Default for Memory<V> {
    fn default() -> Self {
        Self { answers: Mutex::default() }
    }
}

impl<V: Clone> Memory<V> {
    /// The answer to a question, if it still counts.
    pub(super) fn get(&self, key: &Key) -> Option<V> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let (end, answer) = answers.get(key)?;
        (Instant::now() < *end).then(|| answer.clone())
    }

    pub(super) fn put(&self, key: Key, answer: V, counts_for: Duration) {
        let now = Instant::now();
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() >= MAX_ANSWERS {
            answers.retain(|_, (end, _)| now < *end);
        }
        if answers.len() >= MAX_ANSWERS {
            answers.clear();
        }
        answers.insert(key, (now + counts_for, answer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    fn key(number: usize) -> Key {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&number.to_be_bytes());
        key
    }

    #[test]
    fn an_answer_counts_until_its_end() {
        let memory = Memory::default();
        memory.put(key(1), 1, LONG);
        memory.put(key(2), 2, Duration::ZERO);
        assert_eq!((memory.get(&key(1)), memory.get(&key(2)), memory.get(&key(3))), (Some(1), None, None));
    }

    #[test]
    fn there_are_never_too_many() {
        let memory = Memory::default();
        for number in 0..3 * MAX_ANSWERS {
            memory.put(key(number), number, if number % 2 == 0 { LONG } else { Duration::ZERO });
            assert!(memory.answers.lock().unwrap().len() <= MAX_ANSWERS);
            assert!(number % 2 == 1 || memory.get(&key(number)) == Some(number));
        }
    }
}
