//! The status of a claim: what it got, who uses it, and what drivers say of its devices.

use serde_json::Value;

use super::names::{driver, many, pool, unique};
use super::request::{self, MAX_ITEMS, RequestNames};
use super::{device, request::raw_object};
use crate::core::pod::node_selector;
use crate::field::{Field, FieldError};
use crate::object::{list, text};
use crate::{names, rules};

/// Consumers of one claim.
const MAX_RESERVED_FOR: usize = 256;
/// Conditions that a driver may set on a device.
const MAX_CONDITIONS: usize = 8;
const MAX_DATA_BYTES: usize = 10 * 1024;
const MAX_IPS: usize = 16;
const MAX_INTERFACE_NAME_BYTES: usize = 256;
const MAX_HARDWARE_ADDRESS_BYTES: usize = 128;

/// Rules of a change of the status of `claim`.
pub fn validate_update(claim: &Value, old: &Value) -> Vec<FieldError> {
    let (new_root, old_root) = (Field::root(claim), Field::root(old));
    let (status, before) = (new_root.get("status"), old_root.get("status"));
    let mut errors = Vec::new();
    let reserved = status.get("reservedFor");
    many(&reserved, MAX_RESERVED_FOR, &mut errors, |consumer, errors| {
        for name in ["resource", "name", "uid"] {
            rules::required(&consumer.get(name), errors);
        }
    });
    unique(&reserved, MAX_RESERVED_FOR, &mut errors, |consumer| consumer.get("uid").text().to_owned());
    let allocation = status.get("allocation");
    let allocated: Vec<String> = list(claim, &["status", "allocation", "devices", "results"]).iter().map(id).collect();
    let devices = status.get("devices");
    for device in devices.items() {
        device_status(&device, &allocated, &mut errors);
    }
    unique(&devices, usize::MAX, &mut errors, |device| device.value().map(id).unwrap_or_default());
    if !reserved.is_empty() && !allocation.is_set() {
        errors.push(reserved.forbidden("may not be specified when `allocated` is not set"));
    } else if new_root.get("metadata").get("deletionTimestamp").is_set() {
        let known = before.get("reservedFor");
        if reserved.items().any(|consumer| known.items().all(|known| known.value() != consumer.value())) {
            let detail = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
            errors.push(reserved.forbidden(detail));
        }
    }
    if allocation.is_set() && before.get("allocation").is_set() {
        rules::immutable(&allocation, &before.get("allocation"), &mut errors);
    } else if allocation.is_set() {
        let spec = new_root.get("spec");
        result(&allocation, &RequestNames::of(&spec.get("devices")), &mut errors);
    }
    errors
}

/// Which device it is, and which share of it.
fn id(device: &Value) -> String {
    let part = |name: &str| text(device, &[name]);
    let id = format!("{}/{}/{}", part("driver"), part("pool"), part("device"));
    match part("shareID") {
        "" => id,
        share => format!("{id}/{share}"),
    }
}

/// What was allocated, when it is.
fn result(allocation: &Field, names: &RequestNames, errors: &mut Vec<FieldError>) {
    let devices = allocation.get("devices");
    many(&devices.get("results"), MAX_ITEMS, errors, |result, errors| {
        names.reference(&result.get("request"), errors);
        device_names(&result, errors);
        device::binding_conditions(&result, errors);
        share(&result.get("shareID"), errors);
    });
    // Those of the class and those of the claim.
    many(&devices.get("config"), 2 * MAX_ITEMS, errors, |config, errors| {
        rules::one_of(&config.get("source"), &["FromClaim", "FromClass"], errors);
        names.references(&config.get("requests"), errors);
        request::configuration(&config, errors);
    });
    let selector = allocation.get("nodeSelector");
    if selector.is_set() {
        node_selector(&selector, errors);
    }
}

fn device_names(field: &Field, errors: &mut Vec<FieldError>) {
    driver(&field.get("driver"), errors);
    pool(&field.get("pool"), errors);
    rules::form(&field.get("device"), names::dns_label, errors);
}

fn share(field: &Field, errors: &mut Vec<FieldError>) {
    let Some(uid) = field.str() else { return };
    let dashes: Vec<usize> = uid.match_indices('-').map(|(i, _)| i).collect();
    let is_hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    let hex = uid.bytes().filter(|b| *b != b'-').all(is_hex);
    if uid.len() != 36 || dashes != [8, 13, 18, 23] || !hex {
        errors.push(field.invalid(
            "uid must be in RFC 4122 normalized form, `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` with lowercase hexadecimal \
             characters",
        ));
    }
}

fn device_status(device: &Field, allocated: &[String], errors: &mut Vec<FieldError>) {
    device_names(device, errors);
    share(&device.get("shareID"), errors);
    let id = device.value().map(id).unwrap_or_default();
    if !allocated.contains(&id) {
        errors.push(FieldError::invalid(&device.path, id, "must be an allocated device in the claim"));
    }
    let conditions = device.get("conditions");
    if conditions.len() > MAX_CONDITIONS {
        errors.push(FieldError::too_many(&conditions.path, conditions.len(), MAX_CONDITIONS));
    }
    rules::conditions(&conditions, errors);
    let data = device.get("data");
    if data.is_set() {
        raw_object(&data, MAX_DATA_BYTES, errors);
    }
    let network = device.get("networkData");
    for (name, max) in [("interfaceName", MAX_INTERFACE_NAME_BYTES), ("hardwareAddress", MAX_HARDWARE_ADDRESS_BYTES)] {
        let field = network.get(name);
        if field.text().len() > max {
            errors.push(FieldError::too_long(&field.path, max));
        }
    }
    let ips = network.get("ips");
    many(&ips, MAX_IPS, errors, |ip, errors| interface_address(&ip, errors));
    unique(&ips, MAX_IPS, errors, |ip| ip.text().to_owned());
}

/// An address with the length of its network's prefix, in the form in which it is written.
fn interface_address(field: &Field, errors: &mut Vec<FieldError>) {
    let text = field.text();
    match text.parse::<ipnet::IpNet>() {
        Err(_) => {
            errors.push(field.invalid("must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)"))
        }
        Ok(address) if address.to_string() != text => {
            errors.push(field.invalid(format!("must be in canonical form (\"{address}\")")));
        }
        Ok(_) => {}
    }
}
