//! Resource quantities as exact integers (`apimachinery/pkg/api/resource.Quantity`: decimal, binary and exponent
//! suffixes).

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

const NANO: i128 = 1_000_000_000;

/// The quantity in billionths, or `None` when it is not one. Fractions of a billionth round up.
pub fn nanos(quantity: &Quantity) -> Option<i128> {
    let text = quantity.0.trim();
    let split = text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-'))).unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let (negative, number) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.len() > 18 {
        return None;
    }
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let (up, down) = scale(suffix)?;
    let value = digits.checked_mul(up)?.checked_mul(NANO)?;
    let divisor = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?.checked_mul(down)?;
    let value = div_ceil(value, divisor);
    Some(if negative { -value } else { value })
}

/// The quantity as a whole number, rounded up and never below zero.
pub fn units(quantity: &Quantity) -> Option<u64> {
    nanos(quantity).and_then(|value| u64::try_from(div_ceil(value, NANO)).ok())
}

/// The quantity in thousandths, rounded up and never below zero.
pub fn millis(quantity: &Quantity) -> Option<u64> {
    nanos(quantity).and_then(|value| u64::try_from(div_ceil(value, NANO / 1_000)).ok())
}

/// `value / divisor`, rounded up; both not negative.
pub fn div_ceil(value: i128, divisor: i128) -> i128 {
    value / divisor + i128::from(value % divisor > 0)
}

/// The factor of a suffix, as a fraction.
fn scale(suffix: &str) -> Option<(i128, i128)> {
    Some(match suffix {
        "" => (1, 1),
        "n" => (1, NANO),
        "u" => (1, 1_000_000),
        "m" => (1, 1_000),
        "k" => (1_000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            let power = 10_i128.checked_pow(exponent.unsigned_abs())?;
            if exponent < 0 { (1, power) } else { (power, 1) }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_suffix() {
        let table = [
            ("1", 1_000),
            ("100m", 100),
            ("0.5", 500),
            ("1.5Gi", 1_610_612_736_000),
            ("2k", 2_000_000),
            ("1e3", 1_000_000),
            ("5E-1", 500),
            ("1n", 1),
        ];
        for (text, expected) in table {
            assert_eq!(millis(&Quantity(text.to_owned())), Some(expected), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_none() {
        for text in ["", "Gi", "1Zi", "abc", "1e999", "-1"] {
            assert_eq!(units(&Quantity(text.to_owned())), None, "{text}");
        }
    }
}
