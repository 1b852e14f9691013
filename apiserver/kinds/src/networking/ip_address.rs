//! IPAddress: an address of a Service, and whose it is.

use serde_json::Value;

use crate::field::{Field, FieldError};
use crate::kind::{Column, KindDef, Strategy};
use crate::object::{get, text};
use crate::{addresses, names, rules};

pub fn definition() -> KindDef {
    KindDef::builtin("networking.k8s.io", "v1", "IPAddress", "ipaddresses", "io.k8s.api.networking.v1.IPAddress")
        .cluster_scoped()
        .short_names(&["ip"])
        .columns(vec![Column::name(), Column::text("ParentRef", |address, _| parent(address).into())])
        .strategy(IpAddress)
}

/// The labels of an address that was taken for a Service (API reference: well-known labels).
pub fn labels(address: &str) -> [(&'static str, &'static str); 2] {
    let family = if address.contains(':') { "IPv6" } else { "IPv4" };
    [("ipaddress.kubernetes.io/ip-family", family), ("ipaddress.kubernetes.io/managed-by", "ipallocator.k8s.io")]
}

/// `services/default/kubernetes`, with the group where there is one.
fn parent(address: &Value) -> String {
    let Some(parent) = get(address, &["spec", "parentRef"]) else { return "<none>".to_owned() };
    let resource = match text(parent, &["group"]) {
        "" => text(parent, &["resource"]).to_owned(),
        group => format!("{}.{group}", text(parent, &["resource"])),
    };
    match text(parent, &["namespace"]) {
        "" => format!("{resource}/{}", text(parent, &["name"])),
        namespace => format!("{resource}/{namespace}/{}", text(parent, &["name"])),
    }
}

struct IpAddress;

impl Strategy for IpAddress {
    /// The name is the address, in canonical form.
    fn validate_name(&self, name: &str) -> Vec<String> {
        addresses::canonical(name)
    }

    fn validate(&self, address: &Value) -> Vec<FieldError> {
        let root = Field::root(address);
        let parent = root.get("spec");
        let parent = parent.get("parentRef");
        let mut errors = Vec::new();
        if !parent.is_set() {
            errors.push(parent.required(""));
            return errors;
        }
        rules::maybe_form(&parent.get("group"), names::dns_subdomain, &mut errors);
        rules::name(&parent.get("resource"), names::path_segment, &mut errors);
        rules::name(&parent.get("name"), names::path_segment, &mut errors);
        rules::maybe_form(&parent.get("namespace"), names::path_segment, &mut errors);
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.validate(new);
        let (new, old) = (Field::root(new), Field::root(old));
        let (new, old) = (new.get("spec"), old.get("spec"));
        rules::immutable(&new.get("parentRef"), &old.get("parentRef"), &mut errors);
        errors
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::testing::{check, check_row};

    #[test]
    fn names_are_addresses() {
        check(
            "ipaddresses",
            "{metadata: {name: a}, spec: {parentRef: {resource: services}}}",
            expect![[r#"
            metadata.name: Invalid value: "a": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
            spec.parentRef.name: Required value
        "#]],
        );
        check(
            "ipaddresses",
            "{metadata: {name: '2001:DB8::1'}, spec: {parentRef: {group: A, resource: 'a/b', namespace: '..', name: 'a%'}}}",
            expect![[r#"
                metadata.name: Invalid value: "2001:DB8::1": must be in canonical form ("2001:db8::1")
                spec.parentRef.group: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
                spec.parentRef.resource: Invalid value: "a/b": may not contain '/'
                spec.parentRef.name: Invalid value: "a%": may not contain '%'
                spec.parentRef.namespace: Invalid value: "..": may not be '..'
            "#]],
        );
        check_row(
            "ipaddresses",
            "{metadata: {name: 10.0.0.1}, spec: {parentRef: {resource: services, namespace: b, name: c}}}",
            expect!["Name=10.0.0.1 | ParentRef=services/b/c"],
        );
    }
}
