//! Quantities such as `500m`, `1Gi` and `2e3`, exact to a billionth (`resource.Quantity`).
//!
//! Finer parts are rounded up and larger amounts capped at 2^63-1, as Kubernetes does.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

const NANOS: i128 = 1_000_000_000;
/// Largest amount that is kept; more is cut to it.
const MAX_NANOS: i128 = i64::MAX as i128 * NANOS;
/// Digits of a number that are read; the amount is capped long before.
const MAX_DIGITS: usize = 64;

/// How a quantity is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `1Ki`, `1Mi` …
    Binary,
    /// `1m`, `1`, `1k`, `1M` …
    Decimal,
    /// `1e3`, `1e6` …
    Exponent,
}

/// An amount of something. Equality and order are those of the amount, however it is written.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

/// Why a text is no quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

impl Quantity {
    pub const ZERO: Quantity = Quantity { nanos: 0, format: Format::Decimal };

    /// A whole number.
    pub fn from_int(value: i64) -> Quantity {
        Quantity { nanos: i128::from(value) * NANOS, format: Format::Decimal }
    }

    /// A number of thousandths.
    pub fn from_milli(value: i64) -> Quantity {
        Quantity { nanos: i128::from(value) * (NANOS / 1000), format: Format::Decimal }
    }

    /// A number of bytes, written with binary suffixes.
    pub fn from_bytes(value: i64) -> Quantity {
        Quantity { format: Format::Binary, ..Quantity::from_int(value) }
    }

    /// The amount, rounded up to a whole number.
    pub fn value(&self) -> i64 {
        clamp(div_up(self.nanos, NANOS))
    }

    /// The amount in thousandths, rounded up.
    pub fn milli_value(&self) -> i64 {
        clamp(div_up(self.nanos, NANOS / 1000))
    }

    pub fn is_zero(&self) -> bool {
        self.nanos == 0
    }

    pub fn is_negative(&self) -> bool {
        self.nanos < 0
    }

    /// Whether the amount is a whole number.
    pub fn is_whole(&self) -> bool {
        self.nanos % NANOS == 0
    }

    /// How often `unit` goes into the amount, rounded up; 0 where there is no unit to speak of.
    pub fn in_units_of(&self, unit: Quantity) -> i64 {
        if unit.is_zero() { 0 } else { clamp(div_up(self.nanos, unit.nanos)) }
    }

    /// Rounds up to thousandths, the finest that resource lists keep.
    pub fn round_up_to_milli(self) -> Quantity {
        let milli = NANOS / 1000;
        Quantity { nanos: div_up(self.nanos, milli) * milli, ..self }
    }

    fn with(self, nanos: i128, other: Quantity) -> Quantity {
        let format = if self.nanos == 0 { other.format } else { self.format };
        Quantity { nanos: nanos.clamp(-MAX_NANOS, MAX_NANOS), format }
    }
}

impl std::ops::Add for Quantity {
    type Output = Quantity;
    fn add(self, other: Quantity) -> Quantity {
        self.with(self.nanos + other.nanos, other)
    }
}

impl std::ops::Sub for Quantity {
    type Output = Quantity;
    fn sub(self, other: Quantity) -> Quantity {
        self.with(self.nanos - other.nanos, other)
    }
}

impl std::ops::Neg for Quantity {
    type Output = Quantity;
    fn neg(self) -> Quantity {
        Quantity { nanos: -self.nanos, ..self }
    }
}

impl std::iter::Sum for Quantity {
    fn sum<I: Iterator<Item = Quantity>>(iter: I) -> Quantity {
        iter.fold(Quantity::ZERO, |a, b| a + b)
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Quantity) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Quantity) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Quantity) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

fn clamp(value: i128) -> i64 {
    value.clamp(i64::MIN.into(), i64::MAX.into()) as i64
}

/// Division that rounds away from zero, as Kubernetes' "round up" does.
fn div_up(value: i128, by: i128) -> i128 {
    let whole = value / by;
    if value % by == 0 { whole } else { whole + value.signum() * by.signum() }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Quantity, QuantityError> {
        let (negative, rest) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            Some(_) => (false, text),
            None => return Err(QuantityError::Format),
        };
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, suffix) = rest.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(QuantityError::Format);
        }
        let (base, exponent, format) = scale(suffix)?;
        let nanos = amount(whole, fraction, base, exponent).min(MAX_NANOS);
        Ok(Quantity { nanos: if negative { -nanos } else { nanos }, format })
    }
}

/// The base and exponent that a suffix multiplies by.
fn scale(suffix: &str) -> Result<(i128, i32, Format), QuantityError> {
    let decimal = |exponent| Ok((10, exponent, Format::Decimal));
    let binary = |exponent| Ok((2, exponent, Format::Binary));
    match suffix {
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "" => decimal(0),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E']).ok_or(suffix_error(suffix))?;
            let exponent: i32 = exponent.parse().map_err(|_| suffix_error(suffix))?;
            Ok((10, exponent, Format::Exponent))
        }
    }
}

fn suffix_error(suffix: &str) -> QuantityError {
    let letters = suffix.trim_start_matches(|c: char| "eEinumkKMGTP".contains(c));
    let digits = letters.strip_prefix(['+', '-']).unwrap_or(letters);
    if digits.bytes().all(|b| b.is_ascii_digit()) { QuantityError::Suffix } else { QuantityError::Format }
}

/// The amount in billionths, rounded up; anything past the cap saturates.
fn amount(whole: &str, fraction: &str, base: i128, exponent: i32) -> i128 {
    let fraction = fraction.trim_end_matches('0');
    let digits = format!("{}{fraction}", whole.trim_start_matches('0'));
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return 0;
    }
    let fraction_digits = i32::try_from(fraction.len()).unwrap_or(i32::MAX);
    // The number is `digits` x 10^-fraction x base^exponent; billionths add 10^9.
    let mut tens = 9_i32.saturating_sub(fraction_digits);
    let twos = if base == 2 { exponent } else { 0 };
    if base == 10 {
        tens = tens.saturating_add(exponent);
    }
    if digits.len() > MAX_DIGITS || tens > 60 {
        return if tens < -(digits.len() as i32) { 1 } else { MAX_NANOS };
    }
    // Digits that end up below a billionth only matter for rounding up; keep the arithmetic within 128 bits.
    let mut value: i128 = 0;
    let mut inexact = false;
    let keep =
        if twos == 0 && tens < 0 { digits.len().saturating_sub(tens.unsigned_abs() as usize) } else { digits.len() };
    for (i, digit) in digits.bytes().enumerate() {
        if i < keep {
            value = value.saturating_mul(10).saturating_add(i128::from(digit - b'0'));
        } else {
            inexact |= digit != b'0';
        }
    }
    if twos == 0 && tens < 0 {
        return value.saturating_add(i128::from(inexact));
    }
    let value = value.saturating_mul(1_i128 << twos);
    if tens >= 0 {
        (0..tens).fold(value, |v, _| v.saturating_mul(10))
    } else {
        let (value, inexact) = (0..-tens).fold((value, false), |(v, rest), _| (v / 10, rest || v % 10 != 0));
        value + i128::from(inexact)
    }
}

impl fmt::Display for Quantity {
    /// The canonical form: no fraction, the largest suffix that keeps the number whole.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
        const DECIMAL: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
        if self.nanos == 0 {
            return f.write_str("0");
        }
        if self.format == Format::Binary && self.nanos.abs() >= 1024 * NANOS {
            let mut value = div_up(self.nanos, NANOS);
            let mut suffix = 0;
            while value % 1024 == 0 && suffix + 1 < BINARY.len() {
                value /= 1024;
                suffix += 1;
            }
            return write!(f, "{value}{}", BINARY[suffix]);
        }
        let mut value = self.nanos;
        let mut suffix = 0;
        while value % 1000 == 0 && suffix + 1 < DECIMAL.len() {
            value /= 1000;
            suffix += 1;
        }
        match (self.format, 3 * (suffix as i32) - 9) {
            (Format::Exponent, 0) => write!(f, "{value}"),
            (Format::Exponent, exponent) => write!(f, "{value}e{exponent}"),
            _ => write!(f, "{value}{}", DECIMAL[suffix]),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn canonical_forms() {
        let cases = [
            ("1000m", "1"),
            ("0.5", "500m"),
            ("1024Mi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("1000", "1k"),
            ("1e3", "1e3"),
            ("12e6", "12e6"),
            ("1E", "1E"),
            ("1Ki", "1Ki"),
            ("1023", "1023"),
            ("0.1Ki", "102400m"),
            ("100n", "100n"),
            ("0.1n", "1n"),
            ("-0.25", "-250m"),
            ("0", "0"),
            ("0Mi", "0"),
            ("+3", "3"),
            ("99999999999999999999", "9223372036854775807"),
            ("1.0Mi", "1Mi"),
            (".5", "500m"),
            ("5.", "5"),
            ("2048", "2048"),
            ("100E", "9223372036854775807"),
            ("1e-3", "1e-3"),
        ];
        for (text, canonical) in cases {
            assert_eq!(text.parse::<Quantity>().map(|q| q.to_string()).as_deref(), Ok(canonical), "{text}");
        }
    }

    #[test]
    fn units() {
        let quantity = |text: &str| text.parse::<Quantity>().unwrap();
        assert_eq!(quantity("1500m").in_units_of(quantity("1")), 2);
        assert_eq!(quantity("1Gi").in_units_of(quantity("1Mi")), 1024);
        assert_eq!(quantity("1").in_units_of(quantity("1m")), 1000);
        assert_eq!(quantity("1").in_units_of(Quantity::ZERO), 0);
    }

    #[test]
    fn what_is_no_quantity() {
        for text in ["", "-", ".", "1.2.3", "1 Gi", "Gi", "1i", "1KiB", "1ee3", "0x1", "1e", "١"] {
            assert!(text.parse::<Quantity>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn canonical_form_keeps_the_amount(value in -1_000_000_000_000_i64..1_000_000_000_000, suffix in "(n|u|m||k|M|Ki|Mi|e2)") {
            let quantity: Quantity = format!("{value}{suffix}").parse().unwrap();
            let again: Quantity = quantity.to_string().parse().unwrap();
            prop_assert_eq!(quantity, again);
            prop_assert_eq!(quantity.to_string(), again.to_string());
        }

        #[test]
        fn addition_is_exact(a in -1_000_000_i64..1_000_000, b in -1_000_000_i64..1_000_000) {
            let sum = Quantity::from_milli(a) + Quantity::from_milli(b);
            prop_assert_eq!(sum.milli_value(), a + b);
            prop_assert_eq!(sum - Quantity::from_milli(b), Quantity::from_milli(a));
        }

        #[test]
        fn parsing_never_panics(text in "[-+0-9.eEinumkKMGTPi ]{0,90}") {
            let _ = text.parse::<Quantity>();
        }
    }
}
