//! What of `/proc` is masked stays masked; at the baseline, pods with users of their own may see it.

use super::pod::{Found, called, quoted};
use super::{Check, Pod, Violation};
use crate::object::text;

pub static BASELINE: Check = Check::new(&[(0, v1_0), (35, v1_35)]);
/// As strict as the baseline was before.
pub static RESTRICTED: Check = Check::instead_of(&[(35, v1_0)], &BASELINE);

fn v1_0(pod: &Pod) -> Option<Violation> {
    let mut found = Found::new();
    let bad = pod.bad_containers(|container| {
        let mount = text(container, &["securityContext", "procMount"]);
        let bad = !matches!(mount, "" | "Default");
        if bad {
            found.insert(mount);
        }
        bad
    });
    let detail =
        || format!("{} must not set securityContext.procMount to {}", called("container", &bad), quoted(&found));
    (!bad.is_empty()).then(|| Violation::new("procMount", detail()))
}

fn v1_35(pod: &Pod) -> Option<Violation> {
    if pod.has_own_users() { None } else { v1_0(pod) }
}
