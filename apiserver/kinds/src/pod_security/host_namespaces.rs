//! Pods share no namespaces with their node.

use super::{Check, Pod, Violation};

pub static CHECK: Check = Check::new(&[(0, v1_0)]);

fn v1_0(pod: &Pod) -> Option<Violation> {
    let shared = ["hostNetwork", "hostPID", "hostIPC"].into_iter().filter(|field| pod.flag(field) == Some(true));
    let shared: Vec<String> = shared.map(|field| format!("{field}=true")).collect();
    (!shared.is_empty()).then(|| Violation::new("host namespaces", shared.join(", ")))
}
