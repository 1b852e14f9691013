//! Numbers that may be percentages (`intstr.IntOrString`).

use serde_json::Value;

/// Which way a share of a whole is rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Round {
    Up,
    Down,
}

/// The percentage that a text such as `25%` says; `None` for anything else.
pub fn percent(value: &Value) -> Option<i64> {
    let digits = value.as_str()?.strip_suffix('%')?;
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

/// The number that `value` stands for, a percentage being one of `total`; `None` where it is neither.
pub fn scaled(value: &Value, total: i64, round: Round) -> Option<i64> {
    if let Some(number) = value.as_i64() {
        return Some(number);
    }
    let product = percent(value)?.checked_mul(total)?;
    Some(match round {
        Round::Up => product.div_euclid(100) + i64::from(product.rem_euclid(100) != 0),
        Round::Down => product.div_euclid(100),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn shares_round_both_ways() {
        assert_eq!(scaled(&json!("25%"), 3, Round::Up), Some(1));
        assert_eq!(scaled(&json!("25%"), 3, Round::Down), Some(0));
        assert_eq!(scaled(&json!("100%"), 3, Round::Up), Some(3));
        assert_eq!(scaled(&json!(7), 3, Round::Up), Some(7));
        for wrong in [json!("7"), json!("%"), json!("-1%"), json!(null), json!("x%")] {
            assert_eq!(scaled(&wrong, 3, Round::Up), None);
        }
    }
}
