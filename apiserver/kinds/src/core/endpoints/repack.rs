//! The one form in which subsets are stored: every address once beside the ports that it shares with the same others
//! (`RepackSubsets` in `k8s.io/kubernetes/pkg/api/endpoints`).

use std::collections::BTreeMap;

use serde_json::Value;

use crate::object::{int, list, text};

/// Who an address is of: two pods of one host are told apart by their UIDs.
type Address<'v> = (&'v str, &'v str);
/// Name, protocol, number and application protocol; `None` where a subset has no ports.
type Port<'v> = Option<(&'v str, &'v str, i64, &'v str)>;

/// Addresses times ports. More than that is stored as it was sent: it would take more memory than there is.
const MAX_PAIRS: usize = 1_000_000;

/// Kubernetes sorts ports and subsets by hashes of theirs; here they come in the order of their ports.
pub fn repack(subsets: &[Value]) -> Vec<Value> {
    let pairs = |subset: &Value| {
        let of = |name| list(subset, &[name]).len();
        (of("addresses") + of("notReadyAddresses")).saturating_mul(of("ports"))
    };
    if subsets.iter().map(pairs).fold(0, usize::saturating_add) > MAX_PAIRS {
        return subsets.to_vec();
    }
    let (mut addresses, mut ports) = (BTreeMap::<Address, &Value>::new(), BTreeMap::<Port, &Value>::new());
    let mut offered = BTreeMap::<Port, BTreeMap<Address, bool>>::new();
    for subset in subsets {
        let own = list(subset, &["ports"]);
        let keys = if own.is_empty() { vec![None] } else { own.iter().map(port).collect() };
        for (key, value) in keys.iter().zip(own) {
            ports.entry(*key).or_insert(value);
        }
        for (name, is_ready) in [("addresses", true), ("notReadyAddresses", false)] {
            for value in list(subset, &[name]) {
                let address = (text(value, &["ip"]), text(value, &["targetRef", "uid"]));
                addresses.entry(address).or_insert(value);
                for key in &keys {
                    // One that is said to be both is not ready.
                    let ready = offered.entry(*key).or_default().entry(address).or_insert(is_ready);
                    *ready = *ready && is_ready;
                }
            }
        }
    }
    // That some addresses are also named without ports says nothing.
    let mut shared = BTreeMap::<BTreeMap<Address, bool>, Vec<Port>>::new();
    for (key, addresses) in offered {
        let ports = shared.entry(addresses).or_default();
        ports.retain(Option::is_some);
        ports.push(key);
    }
    let by_ports: BTreeMap<Vec<Port>, BTreeMap<Address, bool>> =
        shared.into_iter().map(|(addresses, ports)| (ports, addresses)).collect();
    let subset = |(keys, offering): (Vec<Port>, BTreeMap<Address, bool>)| {
        let of = |is_ready| offering.iter().filter(move |(_, ready)| **ready == is_ready);
        let values = |is_ready| of(is_ready).filter_map(|(address, _)| addresses.get(address).map(|v| (*v).clone()));
        let parts = [
            ("addresses", values(true).collect::<Vec<_>>()),
            ("notReadyAddresses", values(false).collect()),
            ("ports", keys.iter().filter_map(|key| ports.get(key)).map(|port| (*port).clone()).collect()),
        ];
        let parts = parts.into_iter().filter(|(_, part)| !part.is_empty());
        Value::Object(parts.map(|(name, part)| (name.to_owned(), part.into())).collect())
    };
    by_ports.into_iter().map(subset).collect()
}

fn port(port: &Value) -> Port<'_> {
    let text = |name| text(port, &[name]);
    Some((text("name"), text("protocol"), int(port, &["port"]), text("appProtocol")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::yaml;

    #[test]
    fn subsets_have_one_form() {
        for (subsets, expected) in [
            ("[]", "[]"),
            // Addresses are sorted, and named once; ports, too.
            (
                "[{addresses: [{ip: 1.1.1.2}, {ip: 1.1.1.1}, {ip: 1.1.1.2, hostname: again}], ports: [{name: b, port: 2}, {name: a, port: 3}]}]",
                "[{addresses: [{ip: 1.1.1.1}, {ip: 1.1.1.2}], ports: [{name: a, port: 3}, {name: b, port: 2}]}]",
            ),
            // The same addresses under other ports, and other addresses under the same port.
            (
                "[{addresses: [{ip: 1.1.1.1}], ports: [{port: 2}]}, {addresses: [{ip: 1.1.1.1}], ports: [{port: 1}]}]",
                "[{addresses: [{ip: 1.1.1.1}], ports: [{port: 1}, {port: 2}]}]",
            ),
            (
                "[{addresses: [{ip: 1.1.1.2}], ports: [{port: 1}]}, {addresses: [{ip: 1.1.1.1}], ports: [{port: 1}]}]",
                "[{addresses: [{ip: 1.1.1.1}, {ip: 1.1.1.2}], ports: [{port: 1}]}]",
            ),
            // Only some of the ports are ready.
            (
                "[{addresses: [{ip: 1.1.1.1}], notReadyAddresses: [{ip: 1.1.1.1}], ports: [{port: 1}]}, {addresses: [{ip: 1.1.1.1}], ports: [{port: 2}]}]",
                "[{notReadyAddresses: [{ip: 1.1.1.1}], ports: [{port: 1}]}, {addresses: [{ip: 1.1.1.1}], ports: [{port: 2}]}]",
            ),
            (
                "[{addresses: [{ip: 1.1.1.1}]}, {addresses: [{ip: 1.1.1.1}], ports: [{port: 2}, {port: 1}]}]",
                "[{addresses: [{ip: 1.1.1.1}], ports: [{port: 1}, {port: 2}]}]",
            ),
            // Pods of one host, and an address without ports.
            (
                "[{addresses: [{ip: 1.1.1.1, targetRef: {uid: b}}, {ip: 1.1.1.1, targetRef: {uid: a}}]}, {addresses: [{ip: 1.1.1.1}], ports: [{port: 1}]}]",
                "[{addresses: [{ip: 1.1.1.1, targetRef: {uid: a}}, {ip: 1.1.1.1, targetRef: {uid: b}}]}, {addresses: [{ip: 1.1.1.1}], ports: [{port: 1}]}]",
            ),
        ] {
            let (subsets, expected) = (yaml(subsets), yaml(expected));
            let repacked = Value::from(repack(subsets.as_array().unwrap()));
            assert_eq!(repacked, expected);
            assert_eq!(Value::from(repack(repacked.as_array().unwrap())), expected, "once more");
        }
    }

    #[test]
    fn more_than_can_be_repacked_is_left_as_it_is() {
        let many = |name: &str, count: usize| vec![yaml(name); count];
        let subset =
            |addresses| json!([{"addresses": many("{ip: 1.1.1.1}", addresses), "ports": many("{port: 1}", 1_000)}]);
        let count = |subsets: Value| list(&repack(subsets.as_array().unwrap())[0], &["addresses"]).len();
        assert_eq!(count(subset(1_000)), 1);
        assert_eq!(count(subset(1_001)), 1_001);
    }
}
