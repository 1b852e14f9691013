//! Amounts in the API's typed objects, read by the kinds' own rules and in the units that a node counts in.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8w_kinds::quantity::Quantity as Amount;

/// The amount, or `None` when the text is none or below zero.
pub fn amount(quantity: &Quantity) -> Option<Amount> {
    quantity.0.parse().ok().filter(|amount: &Amount| !amount.is_negative())
}

/// The amount as a whole number, rounded up.
pub fn units(quantity: &Quantity) -> Option<u64> {
    u64::try_from(amount(quantity)?.value()).ok()
}

/// The amount in thousandths, rounded up.
pub fn millis(quantity: &Quantity) -> Option<u64> {
    u64::try_from(amount(quantity)?.milli_value()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_counted_rounded_up_and_never_below_zero() {
        let both = |text: &str| (units(&Quantity(text.to_owned())), millis(&Quantity(text.to_owned())));
        assert_eq!(both("1.5Gi"), (Some(1_610_612_736), Some(1_610_612_736_000)));
        assert_eq!(both("100m"), (Some(1), Some(100)));
        assert_eq!(both("1n"), (Some(1), Some(1)));
        for none in ["", "1Zi", "-1"] {
            assert_eq!(both(none), (None, None), "{none}");
        }
    }
}
