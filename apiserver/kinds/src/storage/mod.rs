//! The kinds of `storage.k8s.io`.

pub mod csi_driver;
pub mod csi_node;
pub mod csi_storage_capacity;
pub mod storage_class;
pub mod volume_attachment;
pub mod volume_attributes_class;

use crate::field::{Field, FieldError};
use crate::names;

const DRIVER_NAME_MAX_BYTES: usize = 63;

/// The name of a driver of the container storage interface, in any case.
pub fn driver_name(field: &Field, errors: &mut Vec<FieldError>) {
    let name = field.text();
    if name.is_empty() {
        errors.push(field.required(""));
    }
    if name.len() > DRIVER_NAME_MAX_BYTES {
        errors.push(FieldError::too_long(&field.path, DRIVER_NAME_MAX_BYTES));
    }
    let wrong = names::dns_subdomain(&name.to_lowercase()).into_iter();
    errors.extend(wrong.map(|wrong| field.invalid(wrong)));
}

/// The name of whoever provides volumes, shown as it is compared: in lower case.
fn provisioner(field: &Field, errors: &mut Vec<FieldError>) {
    if field.is_empty() {
        return errors.push(field.required(""));
    }
    let name = field.text().to_lowercase();
    let wrong = names::qualified_name(&name).into_iter();
    errors.extend(wrong.map(|wrong| FieldError::invalid(&field.path, name.as_str(), wrong)));
}
