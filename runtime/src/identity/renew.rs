//! Replaces a node's certificates before they end, while it runs.

use std::time::Duration;

use jiff::Timestamp;
use rand::Rng;
use tokio_util::sync::CancellationToken;

use super::certificate::Facts;
use super::join::Joined;
use super::request::Purpose;
use super::{Error, Identity};

/// The part of its life after which a certificate is replaced, a kubelet's: somewhere in between, so that nodes that joined
/// together do not come together.
const RENEW_AFTER: std::ops::Range<f64> = 0.7..0.9;
/// The longest wait at a time: a machine that sleeps does not count how long.
const LOOK_EVERY: Duration = Duration::from_secs(3600);
/// Waits between tries.
const RETRY_MIN: Duration = Duration::from_secs(10);
const RETRY_MAX: Duration = Duration::from_secs(10 * 60);

/// Keeps both certificates of a node good until `shutdown`.
pub async fn run(joined: Joined, identity: Identity, shutdown: CancellationToken) {
    let keeping = async {
        tokio::join!(keep(&joined, &identity, Purpose::Client), keep(&joined, &identity, Purpose::Serving));
    };
    shutdown.run_until_cancelled(keeping).await;
}

async fn keep(joined: &Joined, identity: &Identity, purpose: Purpose) {
    let draw = || rand::rng().random_range(RENEW_AFTER);
    let (mut part, mut wait) = (draw(), RETRY_MIN);
    loop {
        let due = joined.facts(purpose).map_or(Timestamp::MIN, |facts| due(&facts, part));
        while let Some(wait) = wait_until(due, Timestamp::now()) {
            tokio::time::sleep(wait).await;
        }
        match renew(joined, identity, purpose).await {
            Ok(()) => (part, wait) = (draw(), RETRY_MIN),
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "a certificate of this node cannot be renewed yet"
                );
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(RETRY_MAX);
            }
        }
    }
}

async fn renew(joined: &Joined, identity: &Identity, purpose: Purpose) -> Result<(), Error> {
    let fresh = joined.renew(purpose).await?;
    let current = match purpose {
        Purpose::Client => &identity.client,
        Purpose::Serving => &identity.serving,
    };
    current.0.store(fresh.certified_key()?);
    Ok(())
}

/// When a certificate is to be replaced that lives for `part` of its time.
fn due(facts: &Facts, part: f64) -> Timestamp {
    let life = facts.ends.saturating_sub(facts.begins).max(0);
    let lived = (life as f64 * part) as i64;
    Timestamp::from_second(facts.begins.saturating_add(lived)).unwrap_or(Timestamp::MIN)
}

/// How long to wait before the clock is looked at again; `None` once it is time.
fn wait_until(due: Timestamp, now: Timestamp) -> Option<Duration> {
    let left = Duration::try_from(due.duration_since(now)).ok().filter(|left| !left.is_zero())?;
    Some(left.min(LOOK_EVERY))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_looked_at_until_it_is_time() {
        let now = Timestamp::from_second(1_000).unwrap();
        for (due, expected) in [
            (Timestamp::MIN, None),
            (now, None),
            (Timestamp::from_second(1_060).unwrap(), Some(Duration::from_secs(60))),
            (Timestamp::MAX, Some(LOOK_EVERY)),
        ] {
            assert_eq!(wait_until(due, now), expected, "{due}");
        }
    }

    #[test]
    fn a_certificate_is_replaced_before_it_ends() {
        let facts = |begins, ends| Facts { common_name: String::new(), names: Vec::new(), begins, ends };
        assert_eq!(due(&facts(1_000, 2_000), 0.7), Timestamp::from_second(1_700).unwrap());
        assert_eq!(due(&facts(1_000, 1_000), 0.9), Timestamp::from_second(1_000).unwrap());
        assert_eq!(due(&facts(2_000, 1_000), 0.9), Timestamp::from_second(2_000).unwrap());
    }
}
