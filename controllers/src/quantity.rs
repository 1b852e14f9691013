//! Quantities of typed objects as numbers.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8w_kinds::quantity;

/// The quantity in thousandths, rounded up; `None` if it isn't one.
pub fn millis(quantity: &Quantity) -> Option<i64> {
    parse(quantity).map(|q| q.milli_value())
}

/// The quantity in whole units, rounded up; `None` if it isn't one.
pub fn units(quantity: &Quantity) -> Option<i64> {
    parse(quantity).map(|q| q.value())
}

fn parse(quantity: &Quantity) -> Option<quantity::Quantity> {
    quantity.0.parse().ok()
}
