//! Quantities (API reference: Quantity): `100m`, `1.5Gi`, `2e3`.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// The quantity in thousandths, rounded up; `None` if it isn't one or doesn't fit.
pub fn millis(quantity: &Quantity) -> Option<i64> {
    scaled(&quantity.0, 1_000)
}

/// The quantity in whole units, rounded up; `None` if it isn't one or doesn't fit.
pub fn units(quantity: &Quantity) -> Option<i64> {
    scaled(&quantity.0, 1)
}

/// `text * scale`, rounded up.
fn scaled(text: &str, scale: i128) -> Option<i64> {
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    // value = digits * numerator / denominator
    let digits: i128 = format!("0{whole}{fraction}").parse().ok()?;
    let (numerator, denominator) = factor(suffix)?;
    let denominator = denominator.checked_mul(10i128.checked_pow(u32::try_from(fraction.len()).ok()?)?)?;
    let value = digits.checked_mul(numerator)?.checked_mul(scale)?;
    let value = if negative { -value } else { value };
    let rounded_up = value.div_euclid(denominator) + i128::from(value.rem_euclid(denominator) != 0);
    i64::try_from(rounded_up).ok()
}

fn factor(suffix: &str) -> Option<(i128, i128)> {
    const KILO: i128 = 1_000;
    const KIBI: i128 = 1_024;
    Some(match suffix {
        "n" => (1, KILO.pow(3)),
        "u" => (1, KILO.pow(2)),
        "m" => (1, KILO),
        "" => (1, 1),
        "k" => (KILO, 1),
        "M" => (KILO.pow(2), 1),
        "G" => (KILO.pow(3), 1),
        "T" => (KILO.pow(4), 1),
        "P" => (KILO.pow(5), 1),
        "E" => (KILO.pow(6), 1),
        "Ki" => (KIBI, 1),
        "Mi" => (KIBI.pow(2), 1),
        "Gi" => (KIBI.pow(3), 1),
        "Ti" => (KIBI.pow(4), 1),
        "Pi" => (KIBI.pow(5), 1),
        "Ei" => (KIBI.pow(6), 1),
        exponent => {
            let power: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            let ten = 10i128.checked_pow(power.unsigned_abs())?;
            if power >= 0 { (ten, 1) } else { (1, ten) }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_notation_and_rounds_up() {
        let check = |text: &str| (units(&Quantity(text.into())), millis(&Quantity(text.into())));
        assert_eq!(check("2"), (Some(2), Some(2_000)));
        assert_eq!(check("100m"), (Some(1), Some(100)));
        assert_eq!(check("1.5Gi"), (Some(1_610_612_736), Some(1_610_612_736_000)));
        assert_eq!(check("0.5"), (Some(1), Some(500)));
        assert_eq!(check("2e3"), (Some(2_000), Some(2_000_000)));
        assert_eq!(check("5E"), (Some(5_000_000_000_000_000_000), None));
        assert_eq!(check("1u"), (Some(1), Some(1)));
        assert_eq!(check("-1500m"), (Some(-1), Some(-1_500)));
        assert_eq!(check(".5k"), (Some(500), Some(500_000)));
        for wrong in ["", "x", "1.2.3", "1Zi", "--1", "99999999999999999999999999999999999999999999"] {
            assert_eq!(check(wrong), (None, None), "{wrong}");
        }
    }
}
