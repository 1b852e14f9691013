//! Pods take no ports of their node.

use std::collections::BTreeSet;

use super::pod::{called, plural, use_verb};
use super::{Check, Pod, Violation};
use crate::object::{int, list};

pub static CHECK: Check = Check::new(&[(0, v1_0)]);

fn v1_0(pod: &Pod) -> Option<Violation> {
    // In the order of their digits, as texts are.
    let mut ports = BTreeSet::new();
    let bad = pod.bad_containers(|container| {
        let taken = list(container, &["ports"]).iter().map(|port| int(port, &["hostPort"])).filter(|port| *port != 0);
        let taken: Vec<String> = taken.map(|port| port.to_string()).collect();
        let any = !taken.is_empty();
        ports.extend(taken);
        any
    });
    if bad.is_empty() {
        return None;
    }
    let (containers, verb, what) = (called("container", &bad), use_verb(bad.len()), plural("hostPort", ports.len()));
    let ports: Vec<String> = ports.into_iter().collect();
    Some(Violation::new("hostPort", format!("{containers} {verb} {what} {}", ports.join(", "))))
}
