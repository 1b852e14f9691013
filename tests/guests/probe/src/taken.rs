//! How long calls took, as guests of every version say it.

/// How often one target is called before it is the next one's turn.
pub const ROUND: usize = 100;

/// A line for each target, with the nanoseconds of a call, mean and p99, of the second half of its calls.
pub fn told(targets: &[String], taken: Vec<Vec<u64>>) -> impl Iterator<Item = String> {
    targets.iter().zip(taken).map(|(target, mut taken)| {
        let mut counted = taken.split_off(taken.len() / 2);
        counted.sort_unstable();
        let mean = counted.iter().sum::<u64>() / counted.len().max(1) as u64;
        let p99 = counted.get(counted.len() * 99 / 100).copied().unwrap_or_default();
        format!("{target} {mean} {p99}")
    })
}
