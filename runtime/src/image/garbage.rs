//! Which images go when the disk fills up, by the kubelet's rule
//! (<https://kubernetes.io/docs/concepts/architecture/garbage-collection/#container-image-lifecycle>).

use std::time::{Duration, Instant};

use k8w_storage::blob::Digest;

/// When images are collected, and which of them may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// `imageGCHighThresholdPercent`: how full the disk must be. At 100 all images stay.
    pub high_percent: u64,
    /// `imageGCLowThresholdPercent`: how full it is wanted to be afterwards.
    pub low_percent: u64,
    /// `imageMinimumGCAge`: one that came or was used more recently stays.
    pub min_age: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Policy { high_percent: 85, low_percent: 80, min_age: Duration::from_secs(120) }
    }
}

/// The file system that images lie on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    pub capacity_bytes: u64,
    pub available_bytes: u64,
}

/// An image that may have to go. What was before this process, nobody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub digest: Digest,
    pub size_bytes: u64,
    pub first_seen: Option<Instant>,
    pub last_used: Option<Instant>,
}

impl Policy {
    /// How much should be freed; nothing as long as the disk is not too full.
    pub fn excess_bytes(&self, disk: Disk) -> u64 {
        let percent = |percent: u64| disk.capacity_bytes / 100 * percent;
        let used = disk.capacity_bytes.saturating_sub(disk.available_bytes);
        match self.high_percent < 100 && used >= percent(self.high_percent) {
            true => used.saturating_sub(percent(self.low_percent)),
            false => 0,
        }
    }

    /// Those that go, the least recently used first, until `excess_bytes` are freed.
    pub fn choose(&self, mut candidates: Vec<Candidate>, excess_bytes: u64, now: Instant) -> Vec<Candidate> {
        let old = |then: Option<Instant>| then.is_none_or(|then| now.saturating_duration_since(then) >= self.min_age);
        candidates.retain(|image| old(image.first_seen) && old(image.last_used));
        candidates.sort_by_key(|image| (image.last_used, image.first_seen, image.digest));
        let mut freed_bytes = 0;
        candidates.retain(|image| {
            let goes = freed_bytes < excess_bytes;
            freed_bytes += image.size_bytes;
            goes
        });
        candidates
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_goes_below_the_high_threshold_and_then_all_above_the_low_one() {
        let excess = |available_bytes| Policy::default().excess_bytes(Disk { capacity_bytes: 1_000, available_bytes });
        assert_eq!([1_000, 151, 150, 100, 0].map(excess), [0, 0, 50, 100, 200]);
        assert_eq!(Policy::default().excess_bytes(Disk { capacity_bytes: 0, available_bytes: 0 }), 0);
        let full = Disk { capacity_bytes: 1_000, available_bytes: 0 };
        assert_eq!(Policy { high_percent: 100, ..Policy::default() }.excess_bytes(full), 0);
    }

    #[test]
    fn the_least_recently_used_go_first_and_the_young_never() {
        let start = Instant::now();
        let at = |seconds| Some(start + Duration::from_secs(seconds));
        let image = |name: &str, first_seen, last_used| Candidate {
            digest: Digest::of(name.as_bytes()),
            size_bytes: 10,
            first_seen: at(first_seen),
            last_used: at(last_used),
        };
        let all =
            [image("a", 0, 500), image("b", 0, 100), image("c", 0, 990), image("d", 950, 950), image("e", 0, 300)];
        let of = |images: &[Candidate], excess_bytes| {
            Policy::default().choose(images.to_vec(), excess_bytes, start + Duration::from_secs(1_000))
        };
        let chosen = |excess_bytes| of(&all, excess_bytes);
        assert_eq!(chosen(0), []);
        assert_eq!(chosen(1), [all[1]]);
        assert_eq!(chosen(11), [all[1], all[4]]);
        assert_eq!(chosen(1_000), [all[1], all[4], all[0]]);
        let unknown = Candidate { first_seen: None, last_used: None, ..all[2] };
        assert_eq!(of(&[all[1], unknown], 1), [unknown], "what was here before this process");
    }
}
