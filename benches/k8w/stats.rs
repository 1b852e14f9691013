//! Middle values and tails of samples.

use std::time::Duration;

/// The sample that `share` (0 to 1) of all samples do not exceed; the smallest value there is when there are none.
pub fn quantile<T: PartialOrd + Copy + Default>(samples: &[T], share: f64) -> T {
    let mut sorted = samples.to_vec();
    sorted.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    let last = sorted.len().saturating_sub(1);
    sorted.get((share * last as f64).round() as usize).copied().unwrap_or_default()
}

pub fn median<T: PartialOrd + Copy + Default>(samples: &[T]) -> T {
    quantile(samples, 0.5)
}

/// Where the median of all there could be lies, 19 times of 20: from one sample to another, whatever their distribution
/// (by their ranks, which a normal distribution approximates).
pub fn around_median<T: PartialOrd + Copy + Default>(samples: &[T]) -> (T, T) {
    let half = 0.98 / (samples.len().max(1) as f64).sqrt();
    (quantile(samples, (0.5 - half).max(0.0)), quantile(samples, (0.5 + half).min(1.0)))
}

/// Milliseconds with one decimal.
pub fn milliseconds(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1e3)
}
