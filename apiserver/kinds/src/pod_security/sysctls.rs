//! Kernel parameters that concern others than the pod stay as they are.

use super::{Check, Pod, Violation};
use crate::object::text;

pub static CHECK: Check = Check::new(&[
    (0, |pod| check(pod, &[V1_0])),
    (27, |pod| check(pod, &[V1_0, V1_27])),
    (29, |pod| check(pod, &[V1_0, V1_27, V1_29])),
    (32, |pod| check(pod, &[V1_0, V1_27, V1_29, V1_32])),
]);

const V1_0: &[&str] = &[
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_syncookies",
];
const V1_27: &[&str] = &["net.ipv4.ip_local_reserved_ports"];
const V1_29: &[&str] = &[
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
];
const V1_32: &[&str] = &["net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"];

fn check(pod: &Pod, allowed: &[&[&str]]) -> Option<Violation> {
    let set = pod.list(&["spec", "securityContext", "sysctls"]).iter().map(|sysctl| text(sysctl, &["name"]));
    let bad: Vec<&str> = set.filter(|name| !allowed.iter().any(|names| names.contains(name))).collect();
    (!bad.is_empty()).then(|| Violation::new("forbidden sysctls", bad.join(", ")))
}
