//! What a server takes from outside: the time, and what nobody can foresee. A simulation gives its own, so that a seed
//! replays a run.

use jiff::Timestamp;
use std::fmt::Debug;

/// The clock and the dice of what is stored: timestamps, uids and generated names.
pub trait Outside: Debug + Send + Sync {
    fn now(&self) -> Timestamp;

    /// Bits that nobody can foresee.
    fn bits(&self) -> u128;

    /// The uid of a new object (RFC 9562, version 4).
    fn uid(&self) -> String {
        uuid::Builder::from_random_bytes(self.bits().to_be_bytes()).into_uuid().to_string()
    }
}

/// The machine's.
#[derive(Debug)]
pub struct Machine;

impl Outside for Machine {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn bits(&self) -> u128 {
        rand::random()
    }
}
