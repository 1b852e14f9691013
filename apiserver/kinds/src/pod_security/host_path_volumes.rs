//! Pods see no directories of their node.

use super::pod::called;
use super::{Check, Pod, Violation};
use crate::object::{get, text};

pub static CHECK: Check = Check::new(&[(0, v1_0)]);

fn v1_0(pod: &Pod) -> Option<Violation> {
    let volumes = pod.list(&["spec", "volumes"]).iter().filter(|volume| get(volume, &["hostPath"]).is_some());
    let names: Vec<&str> = volumes.map(|volume| text(volume, &["name"])).collect();
    (!names.is_empty()).then(|| Violation::new("hostPath volumes", called("volume", &names)))
}
