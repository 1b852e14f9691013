//! Numbers that may be given as a percentage of something.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Round {
    Up,
    Down,
}

/// The number, or that share of `total`; never below 0. What is neither counts as 0.
pub fn share(value: &IntOrString, total: i32, round: Round) -> i32 {
    match value {
        IntOrString::Int(count) => (*count).max(0),
        IntOrString::String(text) => {
            let percent: i64 = text.strip_suffix('%').and_then(|p| p.parse().ok()).unwrap_or(0).max(0);
            let hundredfold = percent.saturating_mul(i64::from(total.max(0)));
            let extra = if round == Round::Up { 99 } else { 0 };
            i32::try_from(hundredfold.saturating_add(extra) / 100).unwrap_or(i32::MAX)
        }
    }
}
