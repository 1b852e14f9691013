//! Names and lists as the group's rules have them.

use std::collections::BTreeSet;

use crate::field::{Field, FieldError};
use crate::names::{DNS_SUBDOMAIN_MAX_BYTES, dns_subdomain};

/// The part of an attribute's name after its domain.
const MAX_ID_BYTES: usize = 32;

pub use crate::storage::driver_name as driver;

/// The items of a list that may not have more of them. Where it does, nothing else is told of it.
pub fn many(
    list: &Field,
    max_items: usize,
    errors: &mut Vec<FieldError>,
    mut check: impl FnMut(Field, &mut Vec<FieldError>),
) {
    if list.len() > max_items {
        return errors.push(FieldError::too_many(&list.path, list.len(), max_items));
    }
    list.items().for_each(|item| check(item, errors));
}

/// The items of a list that differ in their keys.
pub fn unique(list: &Field, max_items: usize, errors: &mut Vec<FieldError>, key: impl Fn(&Field) -> String) {
    if list.len() > max_items {
        return;
    }
    let mut seen = BTreeSet::new();
    for item in list.items() {
        let key = key(&item);
        if seen.contains(&key) {
            errors.push(FieldError::duplicate(&item.path, key));
        } else {
            seen.insert(key);
        }
    }
}

/// The name of a pool: subdomains with slashes between.
pub fn pool(field: &Field, errors: &mut Vec<FieldError>) {
    if field.is_empty() {
        return errors.push(field.required(""));
    }
    if field.text().len() > DNS_SUBDOMAIN_MAX_BYTES {
        errors.push(FieldError::too_long(&field.path, DNS_SUBDOMAIN_MAX_BYTES));
    }
    for part in field.text().split('/') {
        errors.extend(dns_subdomain(part).into_iter().map(|wrong| FieldError::invalid(&field.path, part, wrong)));
    }
}

/// The name of an attribute: an identifier, perhaps with a domain. `at` is what it names, or where it stands.
pub fn qualified(name: &str, at: &Field, errors: &mut Vec<FieldError>) {
    match name.split('/').collect::<Vec<_>>()[..] {
        [name] => identifier(name, at, errors),
        [domain, name] => {
            if domain.is_empty() {
                errors.push(FieldError::invalid(&at.path, "", "the domain must not be empty"));
            } else {
                let domain = serde_json::Value::from(domain);
                driver(&Field::new(Some(&domain), at.path), errors);
            }
            if name.is_empty() {
                errors.push(FieldError::invalid(&at.path, "", "the name must not be empty"));
            } else {
                identifier(name, at, errors);
            }
        }
        // As in Kubernetes, for now.
        _ => {}
    }
}

/// A field that names an attribute with its domain.
pub fn fully_qualified(field: &Field, errors: &mut Vec<FieldError>) {
    qualified(field.text(), field, errors);
    if !field.text().contains('/') {
        errors.push(field.invalid("a fully qualified name must be a domain and a name separated by a slash"));
    }
}

fn identifier(name: &str, at: &Field, errors: &mut Vec<FieldError>) {
    if name.len() > MAX_ID_BYTES {
        errors.push(FieldError::too_long(&at.path, MAX_ID_BYTES));
    }
    let first = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !first || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        let detail = "a valid C identifier must start with alphabetic character or '_', followed by a string of \
                      alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for \
                      validation is '[A-Za-z_][A-Za-z0-9_]*')";
        errors.push(FieldError::invalid(&at.path, name, detail));
    }
}
